# SPDX-License-Identifier: Apache-2.0
"""CacheFlow without its flow: a Gaussian mixture over the latent x.

Same behaviours, same observation network, same number of modes; only f is the identity. It shows
the effect of the flow.
"""

import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from motion_predictor_ros.checkpoint import load_checkpoint
from motion_predictor_ros.density.cache_flow.checkpoint import TrainedCacheFlow
from motion_predictor_ros.density.cache_flow.mixture import ObservationMixture
from motion_predictor_ros.errors import CheckpointError
from motion_predictor_ros.training.cache_flow import chunks, header_of, vary_latent, vary_past
from motion_predictor_ros.training.cache_flow_recipe import CacheFlowRecipe
from motion_predictor_ros.training.future_data import FutureData, batch_generator

KIND = 'latent_mixture'


class LatentMixtureTask:
    """The mixture over x, on the frozen behaviours of a trained CacheFlow."""

    kind = KIND

    def __init__(
        self, name: str, recipe: CacheFlowRecipe, data: FutureData, base: TrainedCacheFlow
    ) -> None:
        torch.manual_seed(recipe.flow.seed)
        self.name, self.recipe, self.data, self.base = name, recipe, data, base
        self.module = _mixture(base).to(data.device)

    def header(self) -> dict[str, Any]:
        """Return the header: the mixture's configuration, and the model of its latents."""
        header = header_of(self.name, self.recipe, self.data)
        config = {**dataclasses.asdict(self.base.module.config), 'latents_of': self.base.digest}
        return {**header, 'config': config}

    def step(self, index: int) -> dict[str, float]:
        """Accumulate the gradients of one batch."""
        schedule = self.recipe.flow
        generator = batch_generator(schedule.seed, index)
        torch.manual_seed(int(torch.randint(2**31, (), generator=generator)))  # for dropout
        self.module.train()
        batch = self.data.draw(schedule.batch, generator)
        with torch.no_grad():
            x = self.base.module.latent(batch.past, batch.future)
            x = vary_latent(x, self.recipe, generator)
        past = vary_past(batch.past, self.recipe, generator)
        q = self.module(self.base.module.features(past))
        likelihood = q.log_prob(x[:, None])[:, 0].mean()
        (-likelihood).backward()
        return {'log_prob': float(likelihood.detach()) / x.shape[1]}

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
    checkpoint = load_checkpoint(path, KIND)
    owner = checkpoint.header.get('config', {}).get('latents_of')
    if owner != base.digest:
        raise CheckpointError(f'{path} was trained on the latents of {owner!r}, not {base.name!r}')
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
        6 * config.posed, config.hidden, config.modes, config.latent, config.dropout
    )
