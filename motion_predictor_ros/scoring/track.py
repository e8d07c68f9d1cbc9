# SPDX-License-Identifier: Apache-2.0
"""Observed trajectory of a person: the truth for its predictions."""

from dataclasses import dataclass, field

import numpy as np

from motion_predictor_ros.conventions import NS_PER_S
from motion_predictor_ros.scoring.metrics import Horizons, Motion
from motion_predictor_ros.skeleton.frame import SkeletonFrame
from motion_predictor_ros.skeleton.resample import resample

MAX_GAP_S = 0.25
"""Largest distance of the observations that a position is interpolated from [s]."""


@dataclass
class Track:
    """All observations of one person."""

    frames: list[SkeletonFrame] = field(default_factory=list)

    def at(self, stamp_ns: int, horizons_s: Horizons) -> Motion | None:
        """Interpolate positions [m] after `stamp_ns`; None unless all of them were observed."""
        stamps_s = np.array([frame.stamp_ns - stamp_ns for frame in self.frames]) / NS_PER_S
        near = np.flatnonzero((stamps_s > -MAX_GAP_S) & (stamps_s < horizons_s[-1] + MAX_GAP_S))
        if len(near) < 2:
            return None
        positions = np.array([self.frames[index].positions for index in near])
        if np.isnan(positions).all(axis=(0, 2)).any():
            return None
        confidences = np.array([self.frames[index].confidences for index in near])
        values, observed, _ = resample(stamps_s[near], positions, confidences, horizons_s)
        return values if observed.all() else None
