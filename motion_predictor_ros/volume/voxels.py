# SPDX-License-Identifier: Apache-2.0
"""Voxel probability: how likely a body part is in a voxel at any time of a window.

Stage: volume. P(v) = sum over futures of W 1[v touched by any capsule of the future]: each future
counts once, however long it stays. Conservative: radii are padded by half a voxel's diagonal, so
that a voxel that a capsule touches anywhere is never missed. The CPU has a compiled rasteriser
(`columns.py`); where the device is a GPU, the same arithmetic runs in torch (`rasteriser.py`).
"""

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, UInt64

from motion_predictor_ros.compiled import compiled
from motion_predictor_ros.volume.capsules import Bodies
from motion_predictor_ros.volume.columns import LANES, add_futures, cover
from motion_predictor_ros.volume.grid import VoxelGrid
from motion_predictor_ros.volume.nested import outermost
from motion_predictor_ros.volume.rasteriser import rasterise

_MARGIN = 1e-2
"""In voxels; above float32's rounding, so that leaving capsules out changes no voxel."""


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
    starts, ends, radii = _in_voxels(bodies, grid, padding_m)
    weights = bodies.weights.astype(np.float32)
    if device is not None and device.type != 'cpu':
        a, b, r, w = (torch.from_numpy(each).to(device) for each in (starts, ends, radii, weights))
        return rasterise(a, b, r, w, grid.shape).cpu().numpy()
    probability = np.zeros(grid.shape, dtype=np.float32)
    add_futures(starts, ends, radii, weights, _masks(grid), probability)
    return probability


def covered(
    bodies: Bodies,
    grid: VoxelGrid,
    *,
    padding_m: float | None = None,
    device: torch.device | None = None,
) -> Bool[np.ndarray, 'x y z']:
    """Return which voxels any of the capsules touches, whatever the futures weigh."""
    if device is not None and device.type != 'cpu':
        single = Bodies(
            bodies.starts.reshape(1, 1, -1, 3),
            bodies.ends.reshape(1, 1, -1, 3),
            bodies.radii.reshape(1, 1, -1),
            np.ones(1),
            bodies.times_s[:1],
        )
        return voxel_probability(single, grid, padding_m=padding_m, device=device) > 0.0
    starts, ends, radii = _in_voxels(bodies, grid, padding_m)
    starts, ends, radii = starts.reshape(-1, 3), ends.reshape(-1, 3), radii.ravel()
    outer = outermost(starts, ends, radii, _MARGIN)
    inside = np.zeros(grid.shape, dtype=np.bool_)
    cover(starts[outer], ends[outer], radii[outer], _masks(grid), inside)
    return inside


def _masks(grid: VoxelGrid) -> UInt64[np.ndarray, 'word x y']:
    nx, ny, nz = grid.shape
    return np.zeros((-(-nz // 64), nx, ny + LANES), dtype=np.uint64)


def _in_voxels(
    bodies: Bodies, grid: VoxelGrid, padding_m: float | None
) -> tuple[
    Float32[np.ndarray, 'future pose capsule xyz=3'],
    Float32[np.ndarray, 'future pose capsule xyz=3'],
    Float32[np.ndarray, 'future pose capsule'],
]:
    """Return starts, ends and padded radii in voxels, from the centre of the first one."""
    padding = grid.padding_m if padding_m is None else padding_m
    first = np.array(grid.origin) + 0.5 * grid.size_m
    shape = bodies.radii.shape
    starts, ends = (np.empty((*shape, 3), np.float32) for _ in range(2))
    radii = np.empty(shape, np.float32)
    _scale(
        bodies.starts, bodies.ends, bodies.radii, first, grid.size_m, padding, starts, ends, radii
    )
    return starts, ends, radii


@compiled
def _scale(
    starts: Float64[np.ndarray, 'future pose capsule xyz=3'],
    ends: Float64[np.ndarray, 'future pose capsule xyz=3'],
    radii: Float64[np.ndarray, 'future pose capsule'],
    first: Float64[np.ndarray, 'xyz=3'],
    size_m: float,
    padding_m: float,
    scaled_starts: Float32[np.ndarray, 'future pose capsule xyz=3'],
    scaled_ends: Float32[np.ndarray, 'future pose capsule xyz=3'],
    scaled_radii: Float32[np.ndarray, 'future pose capsule'],
) -> None:
    """Write places and padded radii in voxels."""
    futures, poses, capsules = radii.shape
    for future in range(futures):
        for pose in range(poses):
            for capsule in range(capsules):
                at = future, pose, capsule
                scaled_radii[at] = (radii[at] + padding_m) / size_m
                for axis in range(3):
                    place = future, pose, capsule, axis
                    scaled_starts[place] = (starts[place] - first[axis]) / size_m
                    scaled_ends[place] = (ends[place] - first[axis]) / size_m
