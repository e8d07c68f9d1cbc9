# SPDX-License-Identifier: Apache-2.0
"""Behaviours: the decoder is a GRU, the latent factorises."""

import pytest
import torch
from torch import distributions, nn

from motion_predictor_ros.density.cache_flow.behaviour import (
    BehaviourVAE,
    ConstantGRU,
    Factorisation,
    Posterior,
)


def test_constant_gru_is_a_gru() -> None:
    torch.manual_seed(0)
    ours, theirs = ConstantGRU(7, 5), nn.GRU(7, 5, batch_first=True)
    with torch.no_grad():
        theirs.weight_ih_l0.copy_(ours.input.weight)
        theirs.bias_ih_l0.copy_(ours.input.bias)
        theirs.weight_hh_l0.copy_(ours.state.weight)
        theirs.bias_hh_l0.copy_(ours.state.bias)
    constant = torch.randn(3, 7)
    expected, _ = theirs(constant[:, None].expand(3, 9, 7))
    torch.testing.assert_close(ours(constant, 9), expected)
    with torch.no_grad():
        torch.testing.assert_close(ours(constant, 9), expected)
    wrong, _ = theirs(constant[:, None].expand(3, 9, 7) + 0.1)
    assert not torch.allclose(ours(constant, 9), wrong)


def test_divergence_is_that_of_gaussians() -> None:
    torch.manual_seed(0)
    posterior = Posterior(torch.randn(4, 6), torch.randn(4, 6))
    own = distributions.Normal(posterior.mean, (0.5 * posterior.log_variance).exp())
    expected = distributions.kl_divergence(own, distributions.Normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(posterior.divergence(), expected)


def fitted() -> tuple[Factorisation, torch.Tensor]:
    torch.manual_seed(0)
    behaviours = torch.randn(500, 10) @ torch.randn(10, 10) + 3.0
    factorisation = Factorisation(10, 4)
    factorisation.fit_directions(behaviours)
    factorisation.fit_scale(behaviours)
    return factorisation, behaviours


def test_latents_are_white_and_come_back() -> None:
    factorisation, behaviours = fitted()
    x = factorisation.reduce(behaviours)
    torch.testing.assert_close(x.std(0), torch.ones(4))
    torch.testing.assert_close(factorisation.reduce(factorisation.expand(x)), x)
    basis = factorisation.basis
    torch.testing.assert_close(basis.T @ basis, torch.eye(4), atol=1e-12, rtol=0)


def test_a_reduced_posterior_is_that_of_reduced_samples() -> None:
    factorisation, behaviours = fitted()
    whole = Posterior(behaviours[:1], torch.linspace(-2.0, 2.0, 10)[None])
    drawn = factorisation.reduce(whole.sample(torch.randn(100_000, 10)))
    reduced = factorisation.reduce_posterior(whole)
    torch.testing.assert_close(reduced.mean[0], drawn.mean(0), atol=0.05, rtol=0)
    std = (0.5 * reduced.log_variance[0]).exp().detach()
    torch.testing.assert_close(std, drawn.std(0), atol=0, rtol=0.02)
    assert float(std.max() / std.min()) > 1.2  # not all alike


def test_principal_directions_keep_more_than_any_others() -> None:
    factorisation, behaviours = fitted()

    def lost(each: Factorisation) -> float:
        return float((each.expand(each.reduce(behaviours)) - behaviours).detach().norm())

    other = Factorisation(10, 4)
    with torch.no_grad():
        other.mean.copy_(factorisation.mean)
    assert lost(factorisation) < 0.8 * lost(other)


def test_decoding_starts_at_the_last_pose_and_depends_on_the_behaviour() -> None:
    torch.manual_seed(0)
    vae = BehaviourVAE(6, 2, 5, 8, 4)
    last, behaviour = torch.randn(3, 2, 6), torch.randn(3, 4)
    played = vae.decode(behaviour, last)
    assert played.shape == (3, 5, 6)
    with torch.no_grad():
        for parameter in vae.offset.parameters():
            parameter.zero_()
    still = last[:, -1:].expand(3, 5, 6)
    torch.testing.assert_close(vae.decode(behaviour, last), still)
    assert float((played - still).detach().abs().max()) > 1e-2
    assert vae.encode(torch.randn(3, 7, 6)).mean.shape == (3, 4)
    with pytest.raises(RuntimeError):
        vae.decode(behaviour, torch.randn(3, 3, 6))
