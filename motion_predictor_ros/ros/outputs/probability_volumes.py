# SPDX-License-Identifier: Apache-2.0
"""Write volumes into ProbabilityVolumeArray; `volume/wire` reads them back."""

from array import array
from collections.abc import Sequence

import numpy as np

from motion_predictor_ros.msg import ProbabilityVolume, ProbabilityVolumeArray
from motion_predictor_ros.ros.encode import encode_header
from motion_predictor_ros.volume.sparse import sparse
from motion_predictor_ros.volume.types import SafetyVolume


def volumes_to_ros(
    volumes: Sequence[SafetyVolume],
    stamp_ns: int,
    frame_id: str,
    age_s: float,
    most: int,
    least: float,
) -> ProbabilityVolumeArray:
    """Write everybody's volume; stamp and frame are those of the observation.

    Args:
        most: Voxels of all people together, beyond which they are joined to larger ones.
        least: Probability below which voxels that are not covered are left out.
    """
    share = most // max(len(volumes), 1)
    return ProbabilityVolumeArray(
        header=encode_header(stamp_ns, frame_id),
        age_s=age_s,
        persons=[_person(volume, share, least) for volume in volumes],
    )


def _person(volume: SafetyVolume, most: int, least: float) -> ProbabilityVolume:
    few = sparse(volume, most, least)
    windows = few.windows
    return ProbabilityVolume(
        person_id=volume.person_id,
        validity=int(volume.validity),
        cause=volume.cause,
        reason=volume.reason,
        level=volume.level,
        horizon=volume.horizon_s,
        approximate=volume.approximate,
        calibration=volume.calibration,
        effective_sample_size=volume.effective_sample_size,
        origin=np.array(few.grid.origin, dtype=np.float64),
        voxel_size=few.grid.size_m,
        shape=np.array(few.grid.shape, dtype=np.uint32),
        window_starts=array('f', [each.start_s for each in windows]),
        window_ends=array('f', [each.end_s for each in windows]),
        window_voxels=array('I', [len(each.voxels) for each in windows]),
        voxels=_filled('I', [each.voxels.astype(np.uint32) for each in windows]),
        probabilities=_filled('f', [np.minimum(each.probability, 1.0) for each in windows]),
        covered=_filled('B', [each.covered for each in windows]),
    )


def _filled(kind: str, parts: list[np.ndarray]) -> 'array[float]':
    flat: array[float] = array(kind)
    for part in parts:
        flat.frombytes(part.tobytes())
    return flat
