# SPDX-License-Identifier: Apache-2.0
"""Read ProbabilityVolumes back, from rclpy or from a bag.

Stage: volume. `ros/outputs/probability_volumes.py` writes them.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from motion_predictor_ros.errors import DataError
from motion_predictor_ros.skeleton.frame import Validity
from motion_predictor_ros.volume.grid import VoxelGrid
from motion_predictor_ros.volume.sparse import SparseWindow


@dataclass(frozen=True)
class PublishedVolume:
    """Published volumes of one person; attributes as in `SafetyVolume`."""

    person_id: str
    validity: Validity
    promise: str
    level: float
    horizon_s: float
    windows: tuple[SparseWindow, ...]


def decode_volumes(message: Any) -> tuple[PublishedVolume, ...]:
    """Return all people of a ProbabilityVolumeArray.

    Raises:
        DataError: Lengths do not fit, a voxel is outside its grid, or a code is unknown.
    """
    return tuple(_published(person) for person in message.persons)


def _published(person: Any) -> PublishedVolume:
    try:
        validity = Validity(person.validity)
    except ValueError as error:
        raise DataError(f'{person.person_id!r}: {error}') from error
    level, horizon_s = (round(float(value), 6) for value in (person.level, person.horizon))
    return PublishedVolume(
        person.person_id, validity, person.promise, level, horizon_s, decode_windows(person)
    )


def decode_windows(message: Any) -> tuple[SparseWindow, ...]:
    """Return the voxels of one person, by window.

    Raises:
        DataError: Lengths do not fit, or a voxel is outside its grid.
    """
    counts = np.asarray(message.window_voxels, dtype=np.int64)
    voxels = np.asarray(message.voxels, dtype=np.int64)
    probability = np.asarray(message.probabilities, dtype=np.float32)
    covered = np.asarray(message.covered, dtype=bool)
    origins, shapes = np.asarray(message.origins), np.asarray(message.shapes, dtype=np.int64)
    by_window = [message.window_starts, message.window_ends, message.voxel_sizes]
    by_window.append(message.thresholds)
    lengths = {int(counts.sum()), len(voxels), len(probability), len(covered)}
    if (
        len(lengths) > 1
        or any(len(values) != len(counts) for values in by_window)
        or not 3 * len(counts) == len(origins) == len(shapes)
    ):
        raise DataError(f'{message.person_id!r}: lengths of windows or voxels differ: {lengths}')
    ends = np.cumsum(counts)
    windows = []
    for index, (end, count) in enumerate(zip(ends, counts, strict=True)):
        x, y, z = origins[3 * index : 3 * index + 3].tolist()
        nx, ny, nz = shapes[3 * index : 3 * index + 3].tolist()
        grid = VoxelGrid((x, y, z), round(float(message.voxel_sizes[index]), 6), (nx, ny, nz))
        inside = voxels[end - count : end]
        if len(inside) and inside.max() >= nx * ny * nz:
            raise DataError(f'{message.person_id!r}: a voxel lies outside the grid {grid.shape}')
        windows.append(
            SparseWindow(
                float(message.window_starts[index]),
                float(message.window_ends[index]),
                grid,
                inside,
                probability[end - count : end],
                covered[end - count : end],
                float('nan') if message.cause else float(message.thresholds[index]),
            )
        )
    return tuple(windows)
