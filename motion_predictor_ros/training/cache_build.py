# SPDX-License-Identifier: Apache-2.0
"""Fill a cache with recorded futures ([CacheFlow] Alg. 1), and measure its novelty scale.

Futures are drawn as they were for training (subjects balanced, mirrored, at varied pace), except
that every kind of motion comes equally often. So are the contexts of rho: the weights W ~ q / rho
assume that both follow one distribution.
"""

import dataclasses
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from tqdm import tqdm

from motion_predictor_ros.config import from_mapping
from motion_predictor_ros.data.recordings import Recordings
from motion_predictor_ros.density.body_frame import HeadingFrame
from motion_predictor_ros.density.cache_flow.cache import FutureCache, RootPaths, compress_paths
from motion_predictor_ros.density.cache_flow.checkpoint import TrainedCacheFlow
from motion_predictor_ros.density.cache_flow.mixture import Mixture, powers_of
from motion_predictor_ros.density.cache_flow.model import CacheFlow
from motion_predictor_ros.density.cache_flow.neighbours import neighbours_among
from motion_predictor_ros.errors import CheckpointError, ConfigError
from motion_predictor_ros.training.cache_flow_recipe import CacheFlowRecipe
from motion_predictor_ros.training.future_data import Batch, FutureData, batch_generator

_CHUNK = 1000
_CONTEXTS = 512
_CODES = 16
_DRAWS = 50
_TAUS_S = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 1.2)
_HELD_OUT = 512


class _Rows(NamedTuple):
    """Results of one chunk of futures."""

    x: Float[Tensor, 'cached latent']
    z: Float[Tensor, 'cached latent']
    log_det: Float[Tensor, ' cached']
    clips: Int64[Tensor, ' cached']
    frames: Int64[Tensor, ' cached']
    ways: Float[Tensor, 'cached horizon xyz=3']
    velocities: Float[Tensor, 'cached xyz=3']
    past: Float[Tensor, 'cached time posed xyz=3']


@torch.inference_mode()
def build_cache(
    trained: TrainedCacheFlow,
    recordings: Recordings,
    size: int,
    *,
    even_kinds: bool = True,
    progress: bool = False,
) -> FutureCache:
    """Compute (z, x, log|det|, log rho) of `size` recorded futures.

    Args:
        even_kinds: Draw each kind of motion equally often, rare ones by their weight.

    Raises:
        CheckpointError: The checkpoint names no recipe.
        DataError: The recordings do not fit that recipe.
    """
    try:
        recipe = from_mapping(CacheFlowRecipe, trained.training['recipe'])
    except (KeyError, ConfigError) as error:
        raise CheckpointError(f'{trained.name} names no recipe to draw by: {error}') from error
    sampling = dataclasses.replace(recipe.sampling, even_kinds=even_kinds)
    recipe = dataclasses.replace(recipe, sampling=sampling)
    data = FutureData(recipe, recordings, next(trained.module.parameters()).device)
    # Whole chunks: a smaller cache is the beginning of a larger one.
    bar = tqdm(
        range(-(-size // _CHUNK)), unit='k', leave=False, disable=None if progress else True
    )
    chunks = [
        _compute(trained.module, data, batch_generator(recipe.flow.seed, 10**7 + index), index)
        for index in bar
    ]
    rows = _Rows(*(torch.cat(column)[:size] for column in zip(*chunks, strict=True)))
    log_rho = log_mean_density(trained.module.observe(chunks[0].past), rows.z)
    roots = None
    if isinstance(data.frame, HeadingFrame):
        roots = compress_paths(rows.ways, rows.velocities, _CODES, 0.0)
    figures, roots = _measured(trained.module, data, rows, roots)
    return FutureCache(
        z=rows.z,
        x=rows.x,
        log_det=rows.log_det,
        log_rho=log_rho,
        clips=rows.clips.int(),
        frames=rows.frames.int(),
        roots=roots,
        digest=trained.digest,
        figures=figures,
    )


def _compute(model: CacheFlow, data: FutureData, generator: torch.Generator, index: int) -> _Rows:
    batch, origins = data.draw_with_origins(_CHUNK, generator)
    x = model.latent(batch.past, batch.future)
    z, log_det = model.flow.pull(x)
    ends = origins.starts + (model.config.past - 1) * origins.steps
    ways, velocities = root_motion(batch, data.frame.root, model.config.period_s)
    # The first chunk is as random as any: its contexts will do for rho.
    past = batch.past[: _CONTEXTS if index == 0 else 0]
    return _Rows(x, z, log_det, origins.clips, ends.round().long(), ways, velocities, past)


def root_motion(
    batch: Batch, root: int, period_s: float
) -> tuple[Float[Tensor, 'batch horizon xyz=3'], Float[Tensor, 'batch xyz=3']]:
    """Return displacements of the root after the last observation [m], and its velocity [m/s]."""
    past, future = batch.past[:, :, root], batch.future[:, :, root]
    return future - past[:, -1:], (past[:, -1] - past[:, -2]) / period_s


def log_mean_density(
    contexts: Mixture, z: Float[Tensor, 'cached latent']
) -> Float[Tensor, ' cached']:
    """Return log rho: the mean over contexts of q(z | c) [nat]."""
    powers = powers_of(z)
    total = torch.full_like(z[:, 0], -torch.inf)
    for index in range(len(contexts.means)):
        one = Mixture(
            *(getattr(contexts, f.name)[index : index + 1] for f in dataclasses.fields(Mixture))
        )
        total = torch.logaddexp(total, one.log_prob_shared(powers)[0])
    return total - torch.tensor(float(len(contexts.means))).log()


def _measured(
    model: CacheFlow, data: FutureData, rows: _Rows, roots: RootPaths | None
) -> tuple[dict[str, Any], RootPaths | None]:
    """Measure on held-out people the distance to the nearest future, and the decay of speed."""
    count = min(_HELD_OUT, len(data.held_out.past))
    pick = torch.linspace(0, len(data.held_out.past) - 1, count).long()
    batch = Batch(data.held_out.past[pick], data.held_out.future[pick])
    q = model.observe(batch.past)
    z = q.sample(_DRAWS, batch_generator(1, 0)) if not rows.z.is_cuda else q.sample(_DRAWS)
    distance, nearest = neighbours_among(rows.z).nearest(z.flatten(0, 1))
    typical = distance.view(count, _DRAWS).median(dim=1).values
    figures: dict[str, Any] = {
        'typical_distance': float(typical.quantile(0.99)),
        'median_distance': float(typical.median()),
        'clips': [clip.key for clip in data.sampler.clips],
        'attribution': list(data.attribution),
    }
    if roots is None:
        return figures, None
    ways, velocity = root_motion(batch, data.frame.root, model.config.period_s)
    errors = {}
    for tau_s in _TAUS_S:
        candidate = dataclasses.replace(roots, tau_s=tau_s)
        guess = candidate.displacement(
            nearest.view(count, _DRAWS), velocity, model.config.period_s
        )
        errors[tau_s] = float((guess - ways[:, None]).norm(dim=3).mean())
    best = min(errors, key=lambda tau_s: errors[tau_s])
    figures['root_error_m'] = {str(tau_s): error for tau_s, error in errors.items()}
    packed = (roots.codes @ roots.basis[:-1] + roots.basis[-1]).view_as(rows.ways)
    figures['root_packing_m'] = float((packed - rows.ways).norm(dim=2).mean())
    return figures, dataclasses.replace(roots, tau_s=best)
