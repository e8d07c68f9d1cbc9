# SPDX-License-Identifier: Apache-2.0
"""Read a ProbabilityVolume back, from rclpy or from a bag.

Stage: volume. `ros/encode_volumes` writes it.
"""

from typing import Any

import numpy as np

from motion_predictor_ros.errors import DataError
from motion_predictor_ros.volume.grid import VoxelGrid
from motion_predictor_ros.volume.sparse import SparseVolume, SparseWindow


def decode_volume(message: Any) -> SparseVolume:
    """Return the voxels of one person.

    Raises:
        DataError: Lengths do not fit, or a voxel is outside the grid.
    """
    x, y, z = (float(each) for each in message.origin)
    nx, ny, nz = (int(each) for each in message.shape)
    grid = VoxelGrid((x, y, z), float(message.voxel_size), (nx, ny, nz))
    counts = np.asarray(message.window_voxels, dtype=np.int64)
    voxels = np.asarray(message.voxels, dtype=np.int64)
    probability = np.asarray(message.probabilities, dtype=np.float32)
    covered = np.asarray(message.covered, dtype=bool)
    lengths = {int(counts.sum()), len(voxels), len(probability), len(covered)}
    if len(lengths) > 1 or not len(counts) == len(message.window_starts) == len(
        message.window_ends
    ):
        raise DataError(f'{message.person_id!r}: lengths of windows or voxels differ: {lengths}')
    if len(voxels) and voxels.max() >= nx * ny * nz:
        raise DataError(f'{message.person_id!r}: a voxel lies outside the grid of {grid.shape}')
    ends = np.cumsum(counts)
    windows = tuple(
        SparseWindow(
            float(message.window_starts[index]),
            float(message.window_ends[index]),
            *(each[end - count : end] for each in (voxels, probability, covered)),
        )
        for index, (end, count) in enumerate(zip(ends, counts, strict=True))
    )
    return SparseVolume(grid, windows)
