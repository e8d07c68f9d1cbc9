# SPDX-License-Identifier: Apache-2.0
"""The mixture's density is that of torch.distributions, by either way of computing it."""

import torch
from cache_flow_models import mixture
from torch import distributions

from motion_predictor_ros.density.cache_flow.mixture import Mixture, ObservationMixture, powers_of


def reference(q: Mixture, person: int) -> distributions.MixtureSameFamily:
    return distributions.MixtureSameFamily(
        distributions.Categorical(logits=q.log_weights[person]),
        distributions.Independent(
            distributions.Normal(q.means[person], q.log_sigmas[person].exp()), 1
        ),
    )


def test_density_is_that_of_a_mixture() -> None:
    q, z = mixture(), torch.randn(2, 50, 8)
    for person in range(2):
        expected = reference(q, person).log_prob(z[person])
        torch.testing.assert_close(q.log_prob(z)[person], expected)


def test_one_matrix_product_gives_the_same_density() -> None:
    q, z = mixture(), 2.0 * torch.randn(25_000, 8)  # more than a block
    shared = q.log_prob_shared(powers_of(z))
    for person in range(2):
        torch.testing.assert_close(shared[person], reference(q, person).log_prob(z))
    wrong = q.log_prob_shared(powers_of(z + 0.01))
    assert float((wrong - shared).abs().max()) > 1e-3


def test_far_away_the_density_stays_finite_in_single_precision() -> None:
    q = Mixture(*(each.float() for each in vars(mixture()).values()))
    far = torch.full((3, 8), 40.0, dtype=torch.float32)
    assert bool(q.log_prob_shared(powers_of(far)).isfinite().all())


def test_faint_places_are_as_exact_as_dense_ones() -> None:
    q, z = Mixture(*(each.float() for each in vars(mixture()).values())), torch.randn(300, 8)
    for reach in (1.0, 20.0):  # by the short way, and by the careful one
        places = (reach * z).float()
        single = q.log_prob_shared(powers_of(places)).double()
        double = Mixture(*(each.double() for each in vars(q).values()))
        exact = double.log_prob(places.double().expand(2, -1, -1))
        torch.testing.assert_close(single, exact, rtol=1e-5, atol=1e-4)


def test_draws_have_the_moments_of_the_mixture() -> None:
    q = mixture(latent=2)
    draws = q.sample(200_000, torch.Generator().manual_seed(0))
    for person in range(2):
        expected = reference(q, person)
        torch.testing.assert_close(draws[person].mean(0), expected.mean, atol=0.01, rtol=0)
        torch.testing.assert_close(draws[person].var(0), expected.variance, atol=0.02, rtol=0)


def test_every_observation_has_its_own_mixture_with_modes_apart() -> None:
    torch.manual_seed(0)
    q = ObservationMixture(6, 16, 5, 3)(torch.randn(4, 7, 6))
    torch.testing.assert_close(q.log_weights.exp().sum(1), torch.ones(4))
    assert not torch.allclose(q.means[0], q.means[1])
    assert float(torch.cdist(q.means[0], q.means[0]).max()) > 1.0
