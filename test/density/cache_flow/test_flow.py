# SPDX-License-Identifier: Apache-2.0
"""The flow is invertible, its log-determinant is that of its Jacobian, and densities add up."""

import math

import pytest
import torch
from cache_flow_models import lively_flow, mixture
from torch import Tensor

from motion_predictor_ros.density.cache_flow.flow import Flow, even_times, random_times


def points(count: int = 20, latent: int = 8) -> Tensor:
    return torch.randn(count, latent, generator=torch.Generator().manual_seed(3)).double()


def round_trip(flow: Flow) -> float:
    x = points()
    return float((flow.push_with_volume(flow.pull(x)[0])[0] - x).abs().max())


def test_f_undoes_its_inverse() -> None:
    flow = lively_flow()
    assert round_trip(flow) < 1e-5
    assert float((flow.push_with_volume(points())[0] - points()).norm(dim=1).mean()) > 0.1


def test_a_coarse_scheme_does_not_undo_its_inverse() -> None:
    flow = lively_flow(steps=1)
    flow.scheme = 'midpoint'
    assert round_trip(flow) > 1e-4


def test_log_determinant_is_that_of_the_jacobian() -> None:
    flow, x = lively_flow(), points(3)
    _, log_det = flow.pull(x)
    for row, expected in zip(x, log_det, strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda y: flow.pull(y[None])[0][0], row)
        found = torch.linalg.slogdet(jacobian).logabsdet
        assert float((found - expected).abs()) < 1e-5
    assert float(log_det.abs().max()) > 0.05  # a flow that ignored volume would fail


def test_the_trace_through_the_layers_is_that_of_the_jacobian() -> None:
    network, times = lively_flow().velocity.inner, torch.full((20,), 0.3)
    velocity, trace = network.with_trace(points(), times)
    torch.testing.assert_close(velocity, network(points(), times))
    jacobian = torch.func.vmap(torch.func.jacrev(lambda y: network(y[None], times[:1])[0]))
    exact = jacobian(points()).diagonal(dim1=1, dim2=2).sum(1)
    torch.testing.assert_close(trace, exact)
    assert float(trace.abs().max()) > 1e-2  # control


def test_volume_gained_one_way_is_lost_the_other() -> None:
    flow, z = lively_flow(), points()
    x, gained = flow.push_with_volume(z)
    _, lost = flow.pull(x)
    torch.testing.assert_close(gained + lost, torch.zeros(len(z)), atol=1e-5, rtol=0)


def test_a_flow_at_rest_leaves_points_and_volumes_as_they_are() -> None:
    flow = Flow(8, 16, 'rk4', 4).requires_grad_(False)
    x = points()
    assert float((flow.pull(x)[0] - x).abs().max()) > 1e-2
    flow.begin_at_rest()
    z, log_det = flow.pull(x)
    torch.testing.assert_close(z, x)
    torch.testing.assert_close(log_det, torch.zeros(len(x)))


def integral_2d(count_volume: bool) -> float:
    """Integrate p(x | c) over a square by quadrature."""
    flow, q = lively_flow(latent=2), mixture(people=1, latent=2)
    axis = torch.linspace(-8.0, 8.0, 201)
    x = torch.cartesian_prod(axis, axis)
    z, log_det = flow.pull(x, times=even_times(8))
    density = q.log_prob(z[None])[0] + (log_det if count_volume else 0.0)
    return float(density.exp().sum() * (axis[1] - axis[0]) ** 2)


def test_density_in_two_dimensions_integrates_to_one() -> None:
    assert integral_2d(count_volume=True) == pytest.approx(1.0, abs=1e-3)


def test_without_the_determinant_it_does_not() -> None:
    assert abs(integral_2d(count_volume=False) - 1.0) > 0.02


def integral_8d(count_volume: bool) -> float:
    """Integrate p(x | c) by importance sampling from a wide Gaussian around it."""
    flow, q = lively_flow(), mixture(people=1)
    generator = torch.Generator().manual_seed(5)
    pushed = flow.push_with_volume(q.sample(4000, generator)[0])[0]
    mean, spread = pushed.mean(0), 1.15 * torch.linalg.cholesky(torch.cov(pushed.T))
    proposal = torch.distributions.MultivariateNormal(mean, scale_tril=spread)
    x = mean + torch.randn(30_000, 8, generator=generator) @ spread.T
    z, log_det = flow.pull(x, times=even_times(4))
    density = q.log_prob(z[None])[0] + (log_det if count_volume else 0.0)
    return float((density - proposal.log_prob(x)).exp().mean())


def test_density_in_eight_dimensions_integrates_to_one() -> None:
    assert integral_8d(count_volume=True) == pytest.approx(1.0, abs=0.05)
    assert abs(integral_8d(count_volume=False) - 1.0) > 0.1


def test_matching_error_vanishes_for_the_right_velocity_alone() -> None:
    flow = Flow(2, 16, 'rk4', 8).requires_grad_(False)
    for parameter in flow.parameters():
        parameter.zero_()
    flow.velocity.out.bias.copy_(torch.tensor([1.0, -2.0]))
    z = points(5, 2)
    x = z + torch.tensor([1.0, -2.0])
    time = torch.linspace(0, 1, 5)
    assert float(flow.matching_error(z, x, time).max()) < 1e-24
    assert float(flow.matching_error(z, x + 1.0, time).min()) == pytest.approx(2.0)
    torch.testing.assert_close(flow.push_with_volume(z)[0], x)
    assert math.isclose(float(flow.pull(x)[1].abs().max()), 0.0, abs_tol=1e-12)


def test_random_times_run_from_zero_to_one_and_change() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = random_times(4, generator), random_times(4, generator)
    assert first[0] == second[0] == 0.0 and first[-1] == second[-1] == 1.0
    assert first == sorted(first) and len(first) == 5 and first != second
