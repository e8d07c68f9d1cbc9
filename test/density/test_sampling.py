# SPDX-License-Identifier: Apache-2.0
"""Probabilities of events over cached futures, in a world where the answer is known.

Futures x = f(z) with a lively flow f; what is usual, rho, is two uneven heaps of z; the person in
view has a q of their own between them. The event is a half space of x.
"""

import pytest
import torch
from cache_flow_models import cache_of, lively_flow
from torch import Tensor

from motion_predictor_ros.density.cache_flow.cache import FutureCache
from motion_predictor_ros.density.cache_flow.flow import Flow
from motion_predictor_ros.density.cache_flow.mixture import Mixture, Noise, powers_of
from motion_predictor_ros.density.sampling import (
    cache_sample_size,
    cached_log_density,
    draw,
    effective_sample_size,
    importance_weights,
)

RHO = Mixture(
    torch.tensor([[0.85, 0.15]]).double().log(),
    torch.tensor([[[-1.0, 0.0], [1.2, 0.5]]]).double(),
    torch.full((1, 2, 2), -0.4).double(),
)
Q = Mixture(
    torch.zeros(1, 1).double(),
    torch.tensor([[[0.2, 0.2]]]).double(),
    torch.full((1, 1, 2), -0.5).double(),
)


@pytest.fixture(scope='module')
def world() -> tuple[Flow, FutureCache, float]:
    torch.set_default_dtype(torch.float64)
    flow = lively_flow(latent=2, steps=8)
    z = RHO.sample(30_000, torch.Generator().manual_seed(0))[0]
    cache = cache_of(flow, flow.push_with_volume(z)[0], RHO.log_prob_shared(powers_of(z))[0])
    truth = flow.push_with_volume(Q.sample(100_000, torch.Generator().manual_seed(1))[0])[0]
    return flow, cache, float(event(truth, flow).double().mean())


def noise(count: int, seed: int = 2) -> Noise:
    return Noise.drawn((1, count, 2), Q.means, torch.Generator().manual_seed(seed))


def weights_of(cache: FutureCache) -> Tensor:
    return importance_weights(Q.log_prob_shared(cache.powers), cache.log_rho)


def event(x: Tensor, flow: Flow) -> Tensor:
    """Whether a future lies beyond the median of the person in view, along the heaps."""
    middle = flow.push_with_volume(Q.means[0])[0]
    return x[..., 0] > middle[0, 0]


def test_weights_give_the_known_probability(world: tuple[Flow, FutureCache, float]) -> None:
    flow, cache, truth = world
    weights = weights_of(cache)
    found = float(weights[0] @ event(cache.x, flow).double())
    assert 0.3 < truth < 0.7
    assert found == pytest.approx(truth, abs=0.02)


def test_normalised_densities_do_not(world: tuple[Flow, FutureCache, float]) -> None:
    flow, cache, truth = world
    wrong = cached_log_density(Q, cache, len(cache)).softmax(1)
    found = float(wrong[0] @ event(cache.x, flow).double())
    assert abs(found - truth) > 0.1


def test_draws_give_the_known_probability(world: tuple[Flow, FutureCache, float]) -> None:
    flow, cache, truth = world
    draws = draw('nearest', Q, cache, flow, noise(4000))
    assert float(event(draws.x, flow).double().mean()) == pytest.approx(truth, abs=0.03)
    expected = cached_log_density(Q, cache, len(cache))[0, draws.cached[0]]
    torch.testing.assert_close(draws.log_density[0], expected)


def test_draws_without_the_cache_have_the_density_of_their_place(
    world: tuple[Flow, FutureCache, float],
) -> None:
    flow, cache, truth = world
    draws = draw('flow', Q, cache, flow, noise(4000))
    assert float(event(draws.x, flow).double().mean()) == pytest.approx(truth, abs=0.03)
    z, log_det = flow.pull(draws.x[0, :50])
    expected = Q.log_prob(z[None])[0] + log_det
    torch.testing.assert_close(draws.log_density[0, :50], expected, atol=1e-3, rtol=0)


def test_frequencies_of_draws_follow_the_weights(
    world: tuple[Flow, FutureCache, float],
) -> None:
    """By cells of the plane: single futures are too many to count."""
    flow, cache, _ = world
    weights = weights_of(cache)
    cell = ((cache.z + 2.0) / 0.5).floor().clamp(0, 7) @ torch.tensor([8.0, 1.0]).double()
    expected = torch.zeros(64).double().index_add(0, cell.long(), weights[0])
    draws = draw('nearest', Q, cache, flow, noise(20_000, 3))
    found = cell.long()[draws.cached[0]].bincount(minlength=64).double() / 20_000
    assert float((found - expected).abs().sum() / 2) < 0.06
    uniform = cell.long().bincount(minlength=64).double() / len(cache)
    assert float((uniform - expected).abs().sum() / 2) > 0.3


def test_effective_sample_size_counts_equal_futures() -> None:
    weights = torch.tensor([[0.25, 0.25, 0.25, 0.25], [1.0, 0.0, 0.0, 0.0]])
    torch.testing.assert_close(effective_sample_size(weights), torch.tensor([4.0, 1.0]))


def test_where_q_equals_rho_all_futures_have_equal_weight() -> None:
    log_rho = torch.randn(100)
    weights = importance_weights(log_rho.expand(1, -1) + 5.0, log_rho)
    assert float(effective_sample_size(weights)) == pytest.approx(100.0)


def test_the_sample_size_is_that_of_the_first_futures(
    world: tuple[Flow, FutureCache, float],
) -> None:
    _, cache, _ = world
    whole = effective_sample_size(weights_of(cache))
    torch.testing.assert_close(cache_sample_size(Q, cache, len(cache)), whole)
    assert float(cache_sample_size(Q, cache, 100)) <= 100.0 < float(whole)
