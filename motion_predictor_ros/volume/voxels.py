# SPDX-License-Identifier: Apache-2.0
"""Voxel probability: how likely a body part is in a voxel at any time of a window.

Stage: volume. P(v) = sum over futures of W 1[v touched by any capsule of the future]: each future
counts once, however long it stays. Conservative: radii are padded by half a voxel's diagonal, so
that a voxel that a capsule touches anywhere is never missed. A capsule marks an interval of each
column along z, in a compiled loop; on a GPU, distances of voxel centres in torch say the same.
"""

import math

import numpy as np
import torch
from jaxtyping import Bool, Float32
from torch import Tensor

from motion_predictor_ros.volume import kernels
from motion_predictor_ros.volume.capsules import Bodies
from motion_predictor_ros.volume.grid import VoxelGrid

_AT_ONCE = 2**24
"""Most voxels of futures in a GPU's memory at once."""


def voxel_probability(
    bodies: Bodies,
    grid: VoxelGrid,
    *,
    padding_m: float | None = None,
    device: torch.device | None = None,
) -> Float32[np.ndarray, 'x y z']:
    """Return P of every voxel of the grid.

    Args:
        padding_m: Added to radii; None: half a voxel's diagonal. Zero marks the voxels whose
            centre is inside, which measures volumes without bias and misses touched voxels.
        device: Where to compute; None: the CPU.
    """
    padded = bodies.inflated(grid.padding_m if padding_m is None else padding_m)
    if device is not None and device.type != 'cpu':
        return _voxel_probability_torch(padded, grid, device)
    nx, ny, nz = grid.shape
    masks = np.zeros((-(-nz // 64), nx, ny + kernels.BLOCK), dtype=np.uint64)
    probability = np.zeros(grid.shape, dtype=np.float32)
    kernels.add_futures(
        padded.starts, padded.ends, padded.radii, padded.weights,
        grid.first_centre, grid.size_m, masks, probability,
    )  # fmt: skip
    return probability


def covered(
    bodies: Bodies,
    grid: VoxelGrid,
    *,
    padding_m: float | None = None,
    device: torch.device | None = None,
) -> Bool[np.ndarray, 'x y z']:
    """Return which voxels any of the capsules touches, whatever the futures weigh."""
    starts, ends = (places.reshape(1, 1, -1, 3) for places in (bodies.starts, bodies.ends))
    single = Bodies(starts, ends, bodies.radii.reshape(1, 1, -1), np.ones(1), bodies.times_s[:1])
    return voxel_probability(single, grid, padding_m=padding_m, device=device) > 0.0


def touched(body: Bodies, grid: VoxelGrid) -> Bool[np.ndarray, 'x y z']:
    """Return the voxels that a body touches; tested on voxels of half the size, never too few."""
    nx, ny, nz = grid.shape
    half = VoxelGrid(grid.origin, 0.5 * grid.size_m, (2 * nx, 2 * ny, 2 * nz))
    inside = covered(body, half).reshape(nx, 2, ny, 2, nz, 2)
    return np.asarray(inside.any(axis=(1, 3, 5)))


def in_voxels(
    bodies: Bodies, grid: VoxelGrid
) -> tuple[
    Float32[np.ndarray, 'future pose capsule xyz=3'],
    Float32[np.ndarray, 'future pose capsule xyz=3'],
    Float32[np.ndarray, 'future pose capsule'],
]:
    """Return starts, ends and radii in voxels, from the centre of the first one."""
    starts, ends = (
        ((places - grid.first_centre) / grid.size_m).astype(np.float32)
        for places in (bodies.starts, bodies.ends)
    )
    return starts, ends, (bodies.radii / grid.size_m).astype(np.float32)


def _voxel_probability_torch(
    bodies: Bodies, grid: VoxelGrid, device: torch.device
) -> Float32[np.ndarray, 'x y z']:
    """Return P as the distance from the nearest capsule of each future says, on a GPU."""
    weights = torch.from_numpy(bodies.weights.astype(np.float32)).to(device)
    starts, ends, radii = (
        torch.from_numpy(part).to(device).flatten(1, 2) for part in in_voxels(bodies, grid)
    )
    probability = weights.new_zeros(grid.shape)
    for part in torch.arange(len(weights)).split(max(1, _AT_ONCE // math.prod(grid.shape))):
        index = part.to(device)
        distance = capsule_distance_torch(starts[index], ends[index], radii[index], grid.shape)
        inside = (distance <= float(kernels.SLACK)).to(weights)
        probability += torch.einsum('f,fxyz->xyz', weights[index], inside)
    return probability.cpu().numpy()


def capsule_distance_torch(
    starts: Float32[Tensor, 'future capsule xyz=3'],
    ends: Float32[Tensor, 'future capsule xyz=3'],
    radii: Float32[Tensor, 'future capsule'],
    shape: tuple[int, int, int],
) -> Float32[Tensor, 'future x y z']:
    """Return how far voxel centres are from the nearest capsule's surface, negative inside.

    Args:
        starts, ends, radii: In voxels from the first one's centre.
    """
    axes = [torch.arange(count).to(starts) for count in shape]
    centres = torch.stack(torch.meshgrid(*axes, indexing='ij'), dim=-1)
    distance = starts.new_full((len(starts), *shape), torch.inf)
    for capsule in range(radii.shape[1]):
        start, end, radius = (part[:, capsule, None, None, None] for part in (starts, ends, radii))
        along, away = end - start, centres - start
        share = (away * along).sum(-1) / along.square().sum(-1).clamp_min(1e-12)
        away -= share.clamp(0.0, 1.0)[..., None] * along
        distance = torch.minimum(distance, away.norm(dim=-1) - radius)
    return distance
