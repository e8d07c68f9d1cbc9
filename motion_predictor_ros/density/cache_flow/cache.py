# SPDX-License-Identifier: Apache-2.0
"""The cache: recorded futures with everything that does not depend on the observation.

Stage: density. [CacheFlow] Alg. 1, as a structure of arrays in safetensors with a JSON header. A
cache holds for the checkpoint that it was computed with. The checkpoint's hash is in the header,
and a mismatch is an error.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int32
from torch import Tensor

from motion_predictor_ros.checkpoint import load_checkpoint, save_checkpoint
from motion_predictor_ros.density.cache_flow.checkpoint import TrainedCacheFlow
from motion_predictor_ros.density.cache_flow.mixture import powers_of
from motion_predictor_ros.density.cache_flow.neighbours import Neighbours, neighbours_among
from motion_predictor_ros.errors import CheckpointError, ConfigError
from motion_predictor_ros.resources import resolve_file

KIND = 'cache_flow_cache'

_HALVED = ('z', 'x', 'log_det', 'log_rho')
_ARRAYS = (*_HALVED, 'clips', 'frames')


@dataclass(frozen=True)
class FutureCache:
    """Recorded futures, one per row.

    Attributes:
        log_det: log|det dz/dx| [nat].
        log_rho: Density of the cached z themselves [nat].
        clips: Index into `figures['clips']`; with `frames`, where a future was recorded.
        frames: Of the recording, at which the observation ended.
        digest: Of the checkpoint it was computed with.
        figures: Measured when the cache was built: `typical_distance`, the 99th percentile over
            held-out people of the distance to the nearest cached z; `clips`; others for readers.
    """

    z: Float[Tensor, 'cached latent']
    x: Float[Tensor, 'cached latent']
    log_det: Float[Tensor, ' cached']
    log_rho: Float[Tensor, ' cached']
    clips: Int32[Tensor, ' cached']
    frames: Int32[Tensor, ' cached']
    digest: str
    figures: Mapping[str, Any]

    def __len__(self) -> int:
        return len(self.z)

    @cached_property
    def powers(self) -> Float[Tensor, 'power cached']:
        """[z^2, z, 1], in which the log-density of a Gaussian is linear."""
        return powers_of(self.z)

    @cached_property
    def neighbours(self) -> Neighbours:
        """Exact nearest neighbours among the z."""
        return neighbours_among(self.z)

    def save(self, path: Path, storage: str = 'float16') -> None:
        """Write the file; 'float16' halves it, rounding z by 5e-4 of its size."""
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        kind = {'float16': torch.float16, 'float32': torch.float32}[storage]
        stored = {k: v.to(kind) if k in _HALVED else v for k, v in arrays.items()}
        header = {'kind': KIND, 'checkpoint': self.digest, 'figures': dict(self.figures)}
        save_checkpoint(path, header, stored)


def load_cache(name: str, trained: TrainedCacheFlow) -> FutureCache:
    """Load a shipped cache by name, or a cache file by path, onto the model's device.

    Raises:
        CheckpointError: The file is missing, damaged, or was made with another checkpoint.
    """
    try:
        path = resolve_file(name, 'weights', '.safetensors')
    except ConfigError as error:
        raise CheckpointError(str(error)) from error
    checkpoint = load_checkpoint(path, KIND)
    bound = checkpoint.header.get('checkpoint')
    if bound != trained.digest:
        raise CheckpointError(
            f'{path} was made with checkpoint {bound!r}, but the model is {trained.name!r}; '
            'rebuild it: motion-predictor build-cache'
        )
    parameter = next(trained.module.parameters())
    tensors = {
        key: value.to(parameter.device, parameter.dtype if value.is_floating_point() else None)
        for key, value in checkpoint.tensors.items()
        if key in _ARRAYS  # older files hold recorded root motion too
    }
    _check(path, tensors, trained)
    figures = checkpoint.header.get('figures', {})
    return FutureCache(**tensors, digest=trained.digest, figures=figures)


def _check(path: Path, tensors: Mapping[str, Tensor], trained: TrainedCacheFlow) -> None:
    """Check shapes and values."""
    config = trained.module.config
    count = len(tensors['z']) if 'z' in tensors else 0
    rows = {'z': (config.latent,), 'x': (config.latent,), 'log_det': (), 'log_rho': ()}
    rows |= {'clips': (), 'frames': ()}
    for name, shape in rows.items():
        actual = tuple(tensors[name].shape) if name in tensors else None
        if actual != (count, *shape) or not count:
            raise CheckpointError(f'{path}: {name} is {actual}, expected {(count, *shape)}')
    finite = (bool(v.isfinite().all()) for v in tensors.values() if v.is_floating_point())
    if not all(finite):
        raise CheckpointError(f'{path} holds futures that are not finite')
