# SPDX-License-Identifier: Apache-2.0
"""Volumes around one person: what travels from `volume` to `ros/outputs`.

Stage: volume.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float32

from motion_predictor_ros.skeleton.frame import Validity
from motion_predictor_ros.volume.calibration import CollisionCalibration
from motion_predictor_ros.volume.capsules import Bodies
from motion_predictor_ros.volume.grid import VoxelGrid
from motion_predictor_ros.volume.level_sets import body_distance


@dataclass(frozen=True)
class WindowVolume:
    """One window of time.

    Attributes:
        start_s, end_s: After the observation.
        grid: Of this window; later windows have larger voxels.
        covered: The keep-out volume.
        probability: That a body part is in the voxel at any time of the window; in a reachable
            set it is 1 wherever a body part can be.
        core: The body that the volume lies around.
        threshold: Lowest value of the field in the volume; NaN in a reachable set.
        other: Volume of the other promise on the same grid; None in a reachable set.
    """

    start_s: float
    end_s: float
    grid: VoxelGrid
    covered: Bool[np.ndarray, 'x y z']
    probability: Float32[np.ndarray, 'x y z']
    core: Bodies
    threshold: float = float('nan')
    other: Bool[np.ndarray, 'x y z'] | None = None

    @cached_property
    def bodies(self) -> Bodies:
        """Capsules around the core that hold the keep-out volume."""
        distance_m = body_distance(self.core, self.grid)
        farthest_m = np.max(distance_m, initial=0.0, where=self.covered)
        return self.core.inflated(float(farthest_m) + self.grid.padding_m)

    @property
    def volume_m3(self) -> float:
        """Space covered [m^3]."""
        return int(np.count_nonzero(self.covered)) * self.grid.size_m**3


@dataclass(frozen=True)
class SafetyVolume:
    """Keep-out volumes of one person. Not a safety certificate.

    Attributes:
        stamp_ns: Of the observation; windows count from it.
        validity: OK if it rests on futures; else why it is the reachable set.
        reason: The same for people to read; empty if OK.
        cause: The same as a key that is counted; empty if OK.
        promise: 'coverage': the whole body stays inside, jointly until `horizon_s`, with
            probability `level`; 'risk': at most the share `level` of the space that the body
            fills in a window lies outside; empty if nothing is promised.
        level: See `promise`; 0 if nothing is promised.
        approximate: Whether the calibration behind the promise is only nearly exact.
        calibration: Its name; empty if none is behind it.
        make_bodies: Returns `bodies`.
        effective_sample_size: How many recorded futures count; 0 in a reachable set.
        collision: Calibration of collision probabilities; None leaves them as they are counted.
    """

    person_id: str
    stamp_ns: int
    frame_id: str
    validity: Validity
    horizon_s: float
    windows: tuple[WindowVolume, ...]
    make_bodies: Callable[[], Bodies]
    reason: str = ''
    cause: str = ''
    promise: str = ''
    level: float = 0.0
    approximate: bool = False
    calibration: str = ''
    effective_sample_size: float = 0.0
    collision: CollisionCalibration | None = None

    @cached_property
    def bodies(self) -> Bodies:
        """Bodies for collision probabilities: all futures, or the reachable set as one of them."""
        return self.make_bodies()
