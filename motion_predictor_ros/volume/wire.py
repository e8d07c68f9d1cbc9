# SPDX-License-Identifier: Apache-2.0
"""Read ProbabilityVolumes back, from rclpy or from a bag.

Stage: volume. `ros/encode_volumes` writes it.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from motion_predictor_ros.errors import DataError
from motion_predictor_ros.skeleton.frame import Validity
from motion_predictor_ros.volume.grid import VoxelGrid
from motion_predictor_ros.volume.sparse import SparseVolume, SparseWindow


@dataclass(frozen=True)
class PublishedVolume:
    """What was published of the space around one person.

    Attributes:
        validity: OK if it rests on futures; else it is the reachable set.
        level: Coverage aimed at, jointly over times and body parts; 0 where none is claimed.
        horizon_s: Until when.
    """

    person_id: str
    validity: Validity
    level: float
    horizon_s: float
    volume: SparseVolume


def decode_volumes(message: Any) -> tuple[PublishedVolume, ...]:
    """Return everybody in a ProbabilityVolumeArray.

    Raises:
        DataError: Lengths do not fit, a voxel is outside its grid, or a code is unknown.
    """
    return tuple(_published(each) for each in message.persons)


def _published(person: Any) -> PublishedVolume:
    try:
        validity = Validity(person.validity)
    except ValueError as error:
        raise DataError(f'{person.person_id!r}: {error}') from error
    level, horizon_s = (round(float(each), 6) for each in (person.level, person.horizon))
    return PublishedVolume(person.person_id, validity, level, horizon_s, decode_volume(person))


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
