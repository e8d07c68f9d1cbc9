# SPDX-License-Identifier: Apache-2.0
"""Voxel probability: how likely a body part is in a voxel at any time of a window.

Stage: volume. P(v) = sum over futures of W 1[v touched by any capsule of the future]: each future
counts once, however long it stays. Conservative: radii are padded by half a voxel's diagonal, so
that a voxel that a capsule touches anywhere is never missed. The CPU has a compiled rasteriser
(`columns.py`); where the device is a GPU, the same arithmetic runs in torch (`rasteriser.py`).
"""

import numpy as np
import torch
from jaxtyping import Bool, Float32

from motion_predictor_ros.volume.capsules import Bodies
from motion_predictor_ros.volume.columns import LANES, add_futures
from motion_predictor_ros.volume.grid import VoxelGrid
from motion_predictor_ros.volume.rasteriser import rasterise


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
    padding = grid.padding_m if padding_m is None else padding_m
    starts, ends = (_in_voxels(each, grid) for each in (bodies.starts, bodies.ends))
    radii = ((bodies.radii + padding) / grid.size_m).astype(np.float32)
    weights = bodies.weights.astype(np.float32)
    if device is not None and device.type != 'cpu':
        a, b, r, w = (torch.from_numpy(each).to(device) for each in (starts, ends, radii, weights))
        return rasterise(a, b, r, w, grid.shape).cpu().numpy()
    nx, ny, nz = grid.shape
    probability = np.zeros(grid.shape, dtype=np.float32)
    masks = np.zeros((-(-nz // 64), nx, ny + LANES), dtype=np.uint64)
    add_futures(starts, ends, radii, weights, masks, probability)
    return probability


def covered(
    bodies: Bodies,
    grid: VoxelGrid,
    *,
    padding_m: float | None = None,
    device: torch.device | None = None,
) -> Bool[np.ndarray, 'x y z']:
    """Return which voxels any of the capsules touches, whatever the futures weigh."""
    single = Bodies(
        bodies.starts.reshape(1, 1, -1, 3),
        bodies.ends.reshape(1, 1, -1, 3),
        bodies.radii.reshape(1, 1, -1),
        np.ones(1),
        bodies.times_s[:1],
    )
    return voxel_probability(single, grid, padding_m=padding_m, device=device) > 0.0


def _in_voxels(
    places: np.ndarray, grid: VoxelGrid
) -> Float32[np.ndarray, 'future pose capsule xyz=3']:
    """Return places in voxels from the centre of the first one."""
    return ((places - np.array(grid.origin)) / grid.size_m - 0.5).astype(np.float32)
