# SPDX-License-Identifier: Apache-2.0
"""Synthetic people who walk in circles and swing their limbs, for examples, trials and benches.

They only test whether messages are answered, not accuracy.
"""

import numpy as np
from jaxtyping import Float64

from motion_predictor_ros.skeleton.layout import SkeletonLayout

_HALF = {  # left side and middle of a person facing +x, z up [m]
    'pelvis': (0.0, 0.0, 0.95), 'chest': (-0.02, 0.0, 1.26), 'neck': (0.0, 0.0, 1.48),
    'head': (0.02, 0.0, 1.63), 'l_hip': (0.0, 0.09, 0.95), 'l_knee': (0.04, 0.1, 0.52),
    'l_ankle': (0.0, 0.1, 0.1), 'l_foot': (0.13, 0.11, 0.04), 'l_shoulder': (0.0, 0.18, 1.45),
    'l_elbow': (-0.03, 0.22, 1.16), 'l_wrist': (0.06, 0.2, 0.92),
}  # fmt: skip
_STRIDE_HZ = 0.9
_SWING_M = {'knee': 0.12, 'ankle': 0.25, 'foot': 0.25, 'elbow': 0.08, 'wrist': 0.2}
JOINT_NAMES = SkeletonLayout.load('body18').joint_names


def _standing() -> Float64[np.ndarray, 'joint xyz=3']:
    places = []
    for name in JOINT_NAMES:
        x, y, z = _HALF[f'l_{name[2:]}' if name.startswith('r_') else name]
        places.append((x, -y if name.startswith('r_') else y, z))
    return np.array(places)


def _swing() -> Float64[np.ndarray, ' joint']:
    """How far each joint swings forwards [m]; arms go against the legs."""
    parts = []
    for name in JOINT_NAMES:
        side = {'l': 1.0, 'r': -1.0}.get(name.partition('_')[0], 0.0)
        arm = -1.0 if name.endswith(('elbow', 'wrist')) else 1.0
        parts.append(side * arm * _SWING_M.get(name.rpartition('_')[2], 0.0))
    return np.array(parts)


STANDING = _standing()
"""Joints of body18 of a person who stands at the origin and faces +x, z up [m]."""

_SWINGS = _swing()


class Walker:
    """A person who walks in a circle."""

    def __init__(self, number: int) -> None:
        """Choose a place, a pace and a circle.

        Args:
            number: Another number is another person.
        """
        random = np.random.default_rng(number)
        self._centre = np.array([*random.uniform(-4, 4, size=2), 0.0])
        self._radius_m, self._speed_m_s = random.uniform(0.8, 2.0), random.uniform(0.4, 1.3)
        self._phase = float(random.uniform(0, 2 * np.pi))

    def pose(self, time_s: float) -> Float64[np.ndarray, 'joint xyz=3']:
        """Return the joints of body18 at a time [m]."""
        stride = np.sin(2 * np.pi * _STRIDE_HZ * time_s + self._phase)
        body = STANDING.copy()
        body[:, 0] += stride * _SWINGS
        angle = self._phase + self._speed_m_s / self._radius_m * time_s
        cos, sin = np.cos(angle), np.sin(angle)
        ahead, left = np.array([-sin, cos, 0.0]), np.array([-cos, -sin, 0.0])
        place = self._centre - self._radius_m * left
        up = np.array([0.0, 0.0, 1.0])
        pose: Float64[np.ndarray, 'joint xyz=3'] = place + body @ np.stack([ahead, left, up])
        return pose
