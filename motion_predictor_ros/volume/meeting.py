# SPDX-License-Identifier: Apache-2.0
"""How likely a moving robot meets the person of one volume.

Stage: volume. Futures stand at given times. A reachable set does not: what can be reached until
the end of a window may be anywhere in it at any time of the window, and is held for as long.
"""

import numpy as np
from jaxtyping import Float64

from motion_predictor_ros.skeleton.frame import Validity
from motion_predictor_ros.volume.capsules import Bodies
from motion_predictor_ros.volume.collision import RobotMotion, collision_probability, robot_motion
from motion_predictor_ros.volume.safety_volume import SafetyVolume

_STEP_S = 0.05


def meeting_probability(
    volume: SafetyVolume,
    starts: Float64[np.ndarray, 'robot given link xyz=3'],
    ends: Float64[np.ndarray, 'robot given link xyz=3'],
    radii: Float64[np.ndarray, ' link'],
    given_s: Float64[np.ndarray, ' given'],
) -> Float64[np.ndarray, ' robot']:
    """Return how likely each of the robot's motions meets the person until the horizon.

    Args:
        starts, ends: Of links [m], in the volume's frame.
        given_s: After the volume's stamp; before the first and after the last the robot waits.

    Raises:
        DataError: Times do not increase, a radius is negative, or numbers are not finite.
    """
    bodies = volume.bodies if volume.validity == Validity.OK else _held(volume.bodies)
    moving = robot_motion(starts, ends, radii, given_s, bodies.times_s)
    if len(given_s) == 1:
        thick = np.broadcast_to(radii, starts.shape[:3]).copy()
        moving = RobotMotion(starts, ends, thick)
    return np.minimum(collision_probability(bodies, moving).probability, 1.0)


def _held(bodies: Bodies) -> Bodies:
    """Repeat what is reachable until each time, every 50 ms since the time before."""
    before_s = np.concatenate([[0.0], bodies.times_s[:-1]])
    counts = np.ceil((bodies.times_s - before_s) / _STEP_S - 1e-6).astype(int)
    rows = np.repeat(np.arange(len(counts)), counts)
    times_s = np.concatenate(
        [
            begin_s + (end_s - begin_s) * (np.arange(count) + 0.5) / count
            for begin_s, end_s, count in zip(before_s, bodies.times_s, counts, strict=True)
        ]
    )
    return Bodies(
        bodies.starts[:, rows],
        bodies.ends[:, rows],
        bodies.radii[:, rows],
        bodies.weights,
        times_s,
    )
