# SPDX-License-Identifier: Apache-2.0
"""Fill a cache with recorded futures ([CacheFlow] Alg. 1), and measure its novelty scale.

Futures are drawn as they were for training (subjects balanced, mirrored, at varied pace), except
that every kind of motion comes equally often. So are the contexts of rho: the weights W ~ q / rho
assume that both follow one distribution.
"""

import dataclasses
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from motion_predictor_ros.config import from_mapping
from motion_predictor_ros.data.recordings import Recordings
from motion_predictor_ros.density.cache_flow.cache import FutureCache
from motion_predictor_ros.density.cache_flow.checkpoint import TrainedCacheFlow
from motion_predictor_ros.density.cache_flow.mixture import Mixture, powers_of
from motion_predictor_ros.density.cache_flow.model import CacheFlow
from motion_predictor_ros.density.cache_flow.neighbours import neighbours_among
from motion_predictor_ros.errors import CheckpointError, ConfigError
from motion_predictor_ros.training.cache_flow import FutureData, batch_generator
from motion_predictor_ros.training.recipe import CacheFlowRecipe

_CHUNK = 1000
_CONTEXTS = 512
_DRAWS = 50
_HELD_OUT = 512


@torch.inference_mode()
def build_cache(
    trained: TrainedCacheFlow, recordings: Recordings, size: int, *, even_kinds: bool = True
) -> FutureCache:
    """Compute (z, x, log|det|, log rho) of `size` recorded futures.

    Args:
        even_kinds: Draw each kind of motion equally often, rare ones by their weight.

    Raises:
        CheckpointError: The checkpoint names no recipe.
        DataError: The recordings do not fit that recipe.
    """
    try:
        recipe = trained.training['recipe']
        recipe = from_mapping(CacheFlowRecipe, recipe, ignore_unknown=True)
    except (KeyError, ConfigError) as error:
        raise CheckpointError(f'{trained.name} names no recipe to draw by: {error}') from error
    sampling = dataclasses.replace(recipe.sampling, even_kinds=even_kinds)
    recipe = dataclasses.replace(recipe, sampling=sampling)
    data = FutureData(recipe, recordings, next(trained.module.parameters()).device)
    # Whole chunks: a smaller cache is the beginning of a larger one.
    bar = tqdm(range(-(-size // _CHUNK)), unit='k', leave=False, disable=None)
    chunks = [
        _compute(trained.module, data, batch_generator(recipe.flow.seed, 10**7 + index), index)
        for index in bar
    ]
    arrays = {
        name: torch.cat([chunk[name] for chunk in chunks])[:size]
        for name in ('z', 'x', 'log_det', 'clips', 'frames')
    }
    log_rho = log_mean_density(trained.module.observe(chunks[0]['past']), arrays['z'])
    figures = _measured(trained.module, data, arrays['z'])
    return FutureCache(**arrays, log_rho=log_rho, digest=trained.digest, figures=figures)


def _compute(
    model: CacheFlow, data: FutureData, generator: torch.Generator, index: int
) -> dict[str, Tensor]:
    """Return the arrays of one chunk of futures; of the first, observed poses for rho too."""
    batch, origins = data.draw_with_origins(_CHUNK, generator)
    x = model.latent(batch.past, batch.future)
    z, log_det = model.flow.pull(x)
    ends = origins.starts + (model.config.past - 1) * origins.steps
    arrays = {'z': z, 'x': x, 'log_det': log_det}
    arrays |= {'clips': origins.clips.int(), 'frames': ends.round().int()}
    # The first chunk is as random as any: its contexts will do for rho.
    return arrays | ({'past': batch.past[:_CONTEXTS]} if index == 0 else {})


def log_mean_density(
    contexts: Mixture, z: Float[Tensor, 'cached latent']
) -> Float[Tensor, ' cached']:
    """Return log rho: the mean over contexts of q(z | c) [nat]."""
    powers = powers_of(z)
    total = torch.full_like(z[:, 0], -torch.inf)
    for index in range(len(contexts.means)):
        person = contexts.rows([index])
        total = torch.logaddexp(total, person.log_prob_shared(powers)[0])
    return total - torch.tensor(float(len(contexts.means))).log()


def _measured(
    model: CacheFlow, data: FutureData, cached: Float[Tensor, 'cached latent']
) -> dict[str, Any]:
    """Measure on held-out people how far the nearest cached future is from a draw."""
    count = min(_HELD_OUT, len(data.held_out.past))
    pick = torch.linspace(0, len(data.held_out.past) - 1, count).long()
    q = model.observe(data.held_out.past[pick])
    z = q.sample(_DRAWS, batch_generator(1, 0)) if not cached.is_cuda else q.sample(_DRAWS)
    distance, _ = neighbours_among(cached).nearest(z.flatten(0, 1))
    typical = distance.view(count, _DRAWS).median(dim=1).values
    return {
        'typical_distance': float(typical.quantile(0.99)),
        'median_distance': float(typical.median()),
        'clips': [clip.key for clip in data.sampler.clips],
        'attribution': list(data.attribution),
    }
