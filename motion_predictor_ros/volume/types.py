# SPDX-License-Identifier: Apache-2.0
"""What is said of the space around one person: what travels from volume to ros/encode.

Stage: volume.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float32

from motion_predictor_ros.skeleton.frame import Validity
from motion_predictor_ros.volume.capsules import Bodies
from motion_predictor_ros.volume.grid import Patch, VoxelGrid


@dataclass(frozen=True)
class WindowVolume:
    """One window of time; masks are of the volume's grid.

    Attributes:
        start_s, end_s: After the observation.
        covered: The space to keep free.
        bodies: What is covered, as capsules.
        likely: Where a body part may be, and how likely; None in a reachable set.
    """

    start_s: float
    end_s: float
    covered: Bool[np.ndarray, 'x y z']
    bodies: Bodies
    likely: Patch | None = None

    @cached_property
    def probability(self) -> Float32[np.ndarray, 'x y z']:
        """That a body part is in the voxel at any time of the window.

        In a reachable set it is 1 wherever it can be.
        """
        if self.likely is None:
            return self.covered.astype(np.float32)
        return self.likely.within(self.covered.shape)


@dataclass(frozen=True)
class SafetyVolume:
    """One person's space to keep free. Not a safety certificate.

    Attributes:
        stamp_ns: Of the observation; windows count from it.
        validity: OK if it rests on futures; anything else is why it is the reachable set.
        reason: The same for people to read; empty if OK.
        cause: The same as a key that is counted; empty if OK.
        level: Coverage aimed at, jointly over times and body parts until `horizon_s`; 0 where none
            is claimed.
        approximate: Whether the calibration behind the level is only nearly exact.
        calibration: Its name; empty if none is behind it.
        bodies: What collision probabilities are counted on: all futures, or the reachable set as
            a single one.
        effective_sample_size: How many recorded futures count; 0 in a reachable set.
    """

    person_id: str
    stamp_ns: int
    frame_id: str
    validity: Validity
    reason: str
    cause: str
    level: float
    horizon_s: float
    approximate: bool
    calibration: str
    grid: VoxelGrid
    windows: tuple[WindowVolume, ...]
    bodies: Bodies
    effective_sample_size: float

    def volume_m3(self, index: int) -> float:
        """Return how much space one window covers [m^3]."""
        return np.count_nonzero(self.windows[index].covered) * self.grid.size_m**3
