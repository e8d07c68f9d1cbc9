# SPDX-License-Identifier: Apache-2.0
"""The cache: recorded futures with all that does not depend on who is watched.

Stage: density. [CacheFlow] Alg. 1, as a structure of arrays in safetensors with a JSON header. A
cache belongs to the one checkpoint it was computed with; with any other it would be silently
wrong, so the checkpoint's hash is in the header and a mismatch is an error.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int32, Int64
from torch import Tensor

from motion_predictor_ros.checkpoint import load_checkpoint, save_checkpoint
from motion_predictor_ros.density.cache_flow.checkpoint import TrainedCacheFlow
from motion_predictor_ros.density.cache_flow.mixture import powers_of
from motion_predictor_ros.density.cache_flow.neighbours import Neighbours, neighbours_among
from motion_predictor_ros.errors import CheckpointError, ConfigError
from motion_predictor_ros.resources import resolve_file


@dataclass(frozen=True)
class RootPaths:
    """Recorded displacements of the root after the last observation.

    Attributes:
        codes: Coordinates of each future's displacement in `basis`.
        basis: [m], rows are displacements over all horizons; the last row is their mean, and
            counts once for every future.
        velocities: [m/s] of the recorded root at the last observation, canonical frame.
        tau_s: How long a difference in speed lasts [s].
    """

    codes: Float[Tensor, 'cached code']
    basis: Float[Tensor, 'code+1 way']
    velocities: Float[Tensor, 'cached xyz=3']
    tau_s: float

    def displacement(
        self,
        index: Int64[Tensor, 'batch future'],
        velocity: Float[Tensor, 'batch xyz=3'],
        period_s: float,
    ) -> Float[Tensor, 'batch future horizon xyz=3']:
        """Return where the roots of people go when they do what was recorded [m].

        Args:
            velocity: [m/s] of each person's root at the last observation, canonical frame.
        """
        ways = self.codes[index] @ self.basis[:-1] + self.basis[-1]
        recorded = ways.unflatten(2, (-1, 3))
        surplus = velocity[:, None] - self.velocities[index]
        lag = self._lag(recorded.shape[2], period_s, velocity.device).to(velocity.dtype)
        return recorded + surplus[:, :, None] * lag

    def _lag(
        self, horizon: int, period_s: float, device: torch.device
    ) -> Float[Tensor, 'horizon 1']:
        steps = torch.arange(1, horizon + 1, dtype=torch.float64, device=device)
        return self.tau_s * (1.0 - torch.exp(-period_s * steps[:, None] / max(self.tau_s, 1e-9)))


def compress_paths(
    paths: Float[Tensor, 'cached horizon xyz=3'],
    velocities: Float[Tensor, 'cached xyz=3'],
    codes: int,
    tau_s: float,
) -> RootPaths:
    """Keep the `codes` strongest principal components of displacements [m]."""
    flat = paths.flatten(1)
    mean = flat.mean(0)
    covariance = (flat - mean).T @ (flat - mean)
    directions = torch.linalg.eigh(covariance.double()).eigenvectors.flip(1)[:, :codes].to(flat)
    basis = torch.cat([directions.T, mean[None]])
    return RootPaths((flat - mean) @ directions, basis, velocities, tau_s)


KIND = 'cache_flow_cache'

_HALVED = ('z', 'x', 'log_det', 'log_rho', 'root_codes', 'velocities')


@dataclass(frozen=True)
class FutureCache:
    """Recorded futures, one per row.

    Attributes:
        log_det: log|det dz/dx| [nat].
        log_rho: Density of the cached z themselves [nat].
        clips: Index into `figures['clips']`; with `frames`, where a future was recorded.
        frames: Of the recording, at which the observation ended.
        roots: Where the recorded roots went; None if the body frame knows no root.
        digest: Of the checkpoint it was computed with.
        figures: What was measured when the cache was made: `typical_distance`, the distance to
            the nearest cached z that 99 of 100 held-out people stay below; `clips`; the rest is
            for the reader.
    """

    z: Float[Tensor, 'cached latent']
    x: Float[Tensor, 'cached latent']
    log_det: Float[Tensor, ' cached']
    log_rho: Float[Tensor, ' cached']
    clips: Int32[Tensor, ' cached']
    frames: Int32[Tensor, ' cached']
    roots: RootPaths | None
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
        """Exact nearest neighbours among the z: boxes on a CPU, brute force on a GPU."""
        return neighbours_among(self.z)

    def save(self, path: Path, storage: str = 'float16') -> None:
        """Write the file; 'float16' halves it, rounding z by 5e-4 of its size."""
        arrays = {
            'z': self.z,
            'x': self.x,
            'log_det': self.log_det,
            'log_rho': self.log_rho,
            'clips': self.clips,
            'frames': self.frames,
        }
        if self.roots is not None:
            arrays |= {
                'root_codes': self.roots.codes,
                'root_basis': self.roots.basis,
                'velocities': self.roots.velocities,
            }
        kind = {'float16': torch.float16, 'float32': torch.float32}[storage]
        stored = {k: v.to(kind) if k in _HALVED else v for k, v in arrays.items()}
        tau_s = None if self.roots is None else self.roots.tau_s
        header = {
            'kind': KIND,
            'checkpoint': self.digest,
            'tau_s': tau_s,
            'figures': dict(self.figures),
        }
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
    }
    _check(path, tensors, trained)
    return FutureCache(
        z=tensors['z'],
        x=tensors['x'],
        log_det=tensors['log_det'],
        log_rho=tensors['log_rho'],
        clips=tensors['clips'],
        frames=tensors['frames'],
        roots=_roots(tensors, checkpoint.header),
        digest=trained.digest,
        figures=checkpoint.header.get('figures', {}),
    )


def _roots(tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> RootPaths | None:
    if 'root_codes' not in tensors:
        return None
    return RootPaths(
        tensors['root_codes'],
        tensors['root_basis'],
        tensors['velocities'],
        float(header['tau_s']),
    )


def _check(path: Path, tensors: Mapping[str, Tensor], trained: TrainedCacheFlow) -> None:
    """Refuse a file that the right hash but not the right arrays has."""
    config = trained.module.config
    count = len(tensors['z']) if 'z' in tensors else 0
    rows = {'z': (config.latent,), 'x': (config.latent,), 'log_det': (), 'log_rho': ()}
    rows |= {'clips': (), 'frames': ()}
    for name, shape in rows.items():
        found = tuple(tensors[name].shape) if name in tensors else None
        if found != (count, *shape) or not count:
            raise CheckpointError(f'{path}: {name} is {found}, expected {(count, *shape)}')
    finite = (bool(v.isfinite().all()) for v in tensors.values() if v.is_floating_point())
    if not all(finite):
        raise CheckpointError(f'{path} holds futures that are not finite')
