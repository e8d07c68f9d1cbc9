# SPDX-License-Identifier: Apache-2.0
"""Density models that CacheFlow is compared with, trained on the same windows.

conditional_vae   in the manner of DLow (ECCV 2020) and TPK (ICCV 2017): the observation
conditions encoder and decoder; samples are decoded from N(0, I)
latent_mixture    CacheFlow without its flow: the same behaviours, observation network and
number of modes, but f is the identity; shows the effect of the flow
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from motion_predictor_ros.checkpoint import load_checkpoint, load_model
from motion_predictor_ros.config import from_mapping
from motion_predictor_ros.density.body_frame import FuturePoses, PastPoses
from motion_predictor_ros.density.cache_flow.behaviour import ConstantGRU, Posterior
from motion_predictor_ros.density.cache_flow.checkpoint import TrainedCacheFlow
from motion_predictor_ros.density.cache_flow.mixture import ObservationMixture
from motion_predictor_ros.density.cache_flow.model import CacheFlowConfig, pose_features
from motion_predictor_ros.errors import CheckpointError
from motion_predictor_ros.training.cache_flow import (
    Batch,
    FutureData,
    FutureTask,
    Losses,
    chunks,
    evidence_figures,
    squared_error,
    vary_latent,
    vary_past,
)
from motion_predictor_ros.training.recipe import CacheFlowRecipe

VAE_KIND = 'conditional_vae'

_NOISE = 32
_DIVERGENCE = 2e-3
"""Weight of the KL divergence [m^2]; a smaller one makes samples diverse and wrong."""


class ConditionalVAE(nn.Module):
    """Futures from an observation and standard normal noise."""

    def __init__(self, config: CacheFlowConfig) -> None:
        super().__init__()
        self.config = config
        size, hidden = 3 * config.joints, config.hidden
        self.observer = nn.GRU(2 * size, hidden, batch_first=True)
        self.encoder = nn.GRU(size, hidden, batch_first=True)
        self.posterior = nn.Linear(2 * hidden, 2 * _NOISE)
        self.decoder = ConstantGRU(hidden + _NOISE, hidden)
        self.offset = nn.Linear(hidden, size)

    def observe(self, past: PastPoses) -> Float[Tensor, 'batch hidden']:
        """Encode the observation as one vector."""
        return self.observer(pose_features(past, self.config.period_s))[1][0]

    def encode(self, context: Float[Tensor, 'batch hidden'], future: FuturePoses) -> Posterior:
        """Return the noise that would have led to a future."""
        state = self.encoder(future.flatten(2))[1][0]
        mean, log_variance = self.posterior(torch.cat([context, state], dim=1)).chunk(2, dim=1)
        return Posterior(mean, log_variance.clamp(-10.0, 5.0))

    def decode(
        self,
        context: Float[Tensor, 'batch hidden'],
        noise: Float[Tensor, 'batch noise'],
        past: PastPoses,
    ) -> FuturePoses:
        """Return the future that noise leads to [m]."""
        states = self.decoder(torch.cat([context, noise], dim=1), self.config.future)
        return past[:, -1:] + self.offset(states).unflatten(2, (-1, 3))

    def sample(
        self, past: PastPoses, count: int, generator: torch.Generator
    ) -> Float[Tensor, 'batch future horizon posed xyz=3']:
        """Return `count` futures of each person [m]."""
        context = self.observe(past).repeat_interleave(count, dim=0)
        noise = torch.randn(len(context), _NOISE, generator=generator).to(context)
        decoded = self.decode(context, noise, past[:, -1:].repeat_interleave(count, dim=0))
        return decoded.unflatten(0, (len(past), count))


class ConditionalVAETask(FutureTask):
    """The conditional VAE with its data."""

    kind = VAE_KIND
    module: ConditionalVAE

    def __init__(self, name: str, recipe: CacheFlowRecipe, data: FutureData) -> None:
        super().__init__(name, recipe, data, recipe.behaviour)
        self.module = ConditionalVAE(recipe.model).to(data.device)

    def losses(self, batch: Batch, generator: torch.Generator, index: int) -> Losses:
        """Return the evidence lower bound."""
        context = self.module.observe(batch.past)
        posterior = self.module.encode(context, batch.future)
        noise = torch.randn(posterior.mean.shape, generator=generator).to(context)
        decoded = self.module.decode(context, posterior.sample(noise), batch.past)
        error = squared_error(decoded.flatten(2), batch.future.flatten(2))
        divergence = posterior.divergence().mean()
        return error + _DIVERGENCE * divergence, {'error': error, 'divergence': divergence}

    @torch.no_grad()
    def validate(self) -> tuple[dict[str, float], dict[str, Tensor]]:
        """Return the two terms of the evidence lower bound on held-out subjects."""
        errors, divergences = [], []
        for batch in chunks(self.data.held_out):
            context = self.module.observe(batch.past)
            posterior = self.module.encode(context, batch.future)
            decoded = self.module.decode(context, posterior.mean, batch.past)
            errors.append((decoded - batch.future).square().sum((2, 3)).mean(1))
            divergences.append(posterior.divergence())
        return evidence_figures(errors, divergences, _DIVERGENCE), {}


def load_conditional_vae(path: Path, device: torch.device) -> ConditionalVAE:
    """Load a trained conditional VAE.

    Raises:
        CheckpointError: The file is missing, damaged, or holds something else.
    """

    def build(config: Mapping[str, Any]) -> ConditionalVAE:
        return ConditionalVAE(from_mapping(CacheFlowConfig, config))

    return load_model(str(path), VAE_KIND, build, device).module


MIXTURE_KIND = 'latent_mixture'


class LatentMixtureTask(FutureTask):
    """The mixture over x, on the frozen behaviours of a trained CacheFlow."""

    kind, has_dropout = MIXTURE_KIND, True
    module: ObservationMixture

    def __init__(
        self, name: str, recipe: CacheFlowRecipe, data: FutureData, base: TrainedCacheFlow
    ) -> None:
        super().__init__(name, recipe, data, recipe.flow)
        self.base = base
        self.module = _mixture(base).to(data.device)

    def header(self) -> dict[str, Any]:
        """Return the header: the mixture's configuration, and the model of its latents."""
        config = {**dataclasses.asdict(self.base.module.config), 'latents_of': self.base.digest}
        return {**super().header(), 'config': config}

    def losses(self, batch: Batch, generator: torch.Generator, index: int) -> Losses:
        """Return the negative log-likelihood."""
        with torch.no_grad():
            x = self.base.module.latent(batch.past, batch.future)
            x = vary_latent(x, self.recipe, generator)
        past = vary_past(batch.past, self.recipe, generator)
        q = self.module(self.base.module.features(past))
        likelihood = q.log_prob(x[:, None])[:, 0].mean()
        return -likelihood, {'log_prob': likelihood / x.shape[1]}

    @torch.no_grad()
    def validate(self) -> tuple[dict[str, float], dict[str, Tensor]]:
        """Return the log-density per dimension of held-out futures."""
        self.module.eval()
        densities = []
        for batch in chunks(self.data.held_out):
            x = self.base.module.latent(batch.past, batch.future)
            q = self.module(self.base.module.features(batch.past))
            densities.append(q.log_prob(x[:, None])[:, 0] / x.shape[1])
        density = float(torch.cat(densities).mean())
        return {'score': -density, 'log_prob_per_dim': density}, {}


def load_latent_mixture(path: Path, base: TrainedCacheFlow) -> ObservationMixture:
    """Load a trained mixture.

    Raises:
        CheckpointError: The file is damaged, or was trained on another model's latents.
    """
    checkpoint = load_checkpoint(path, MIXTURE_KIND)
    base_digest = checkpoint.header.get('config', {}).get('latents_of')
    if base_digest != base.digest:
        raise CheckpointError(
            f'{path} was trained on the latents of {base_digest!r}, not {base.name!r}'
        )
    module = _mixture(base)
    try:
        module.load_state_dict({key: checkpoint.tensors[key] for key in module.state_dict()})
    except (KeyError, RuntimeError) as error:
        raise CheckpointError(f'{path} does not hold a latent mixture: {error}') from error
    device = next(base.module.parameters()).device
    return module.to(device).eval().requires_grad_(False)


def _mixture(base: TrainedCacheFlow) -> ObservationMixture:
    config = base.module.config
    return ObservationMixture(
        6 * config.joints, config.hidden, config.modes, config.latent, config.dropout
    )
