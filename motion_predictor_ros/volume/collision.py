# SPDX-License-Identifier: Apache-2.0
"""How likely a robot and a person meet: counted on the futures themselves.

Stage: volume. P = sum over futures of W 1[at any time the robot meets the future's body]. Neither
a threshold on voxel probabilities nor a sum of them gives this: a robot that fills ten voxels of
probability 0.1 may be hit with probability 0.1 or 1. Bodies already contain what they sweep until
the next pose; so do robots that move (`robot_motion`).

A few dozen futures are few, and vary less than people do: P is 0 of many a robot that people
meet. So futures count as well that pass near by, the less the farther, and a calibration maps this
score to how often people whom no model has seen met such robots (`CollisionCalibration`).
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64

from motion_predictor_ros.errors import DataError
from motion_predictor_ros.skeleton.frame import Validity
from motion_predictor_ros.volume import kernels
from motion_predictor_ros.volume.calibration import SOFTNESS_M
from motion_predictor_ros.volume.capsules import Bodies
from motion_predictor_ros.volume.types import SafetyVolume

_STEP_S = 0.05
_REACH_M = 0.4
"""Futures that pass farther away than this do not count."""
_TOUCH_M = 1e-9


def robot_collision_probability(
    volume: SafetyVolume,
    starts: Float64[np.ndarray, 'robot given link xyz=3'],
    ends: Float64[np.ndarray, 'robot given link xyz=3'],
    radii: Float64[np.ndarray, ' link'],
    given_s: Float64[np.ndarray, ' given'],
) -> Float64[np.ndarray, ' robot']:
    """Return how likely each of the robot's motions meets the person until the horizon.

    Where the volume has a calibration of collisions, the probability is calibrated; in a reachable
    set it is 1 where the robot meets it.

    Args:
        starts, ends: Of links [m], in the volume's frame.
        given_s: After the volume's stamp; before the first and after the last the robot waits.

    Raises:
        DataError: Times do not increase, a radius is negative, or numbers are not finite.
    """
    bodies = volume.bodies if volume.validity == Validity.OK else _held(volume.bodies)
    moving = robot_motion(starts, ends, radii, given_s, bodies.times_s)
    if len(given_s) == 1:
        radius = np.broadcast_to(radii, starts.shape[:3]).copy()
        moving = RobotMotion(starts, ends, radius)
    if volume.validity != Validity.OK or volume.collision is None:
        return np.minimum(collision_probability(bodies, moving), 1.0)
    away = clearances(bodies, moving)
    return volume.collision(nearness(away, bodies.weights))


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
    return replace(bodies.at(rows), times_s=times_s)


@dataclass(frozen=True)
class RobotMotion:
    """Configurations of a robot as capsules; a sphere is a capsule that ends where it starts.

    Attributes:
        starts, ends: [m] in the frame of the bodies, at the bodies' poses; one pose stands still.
        radii: [m].
    """

    starts: Float64[np.ndarray, 'robot pose link xyz=3']
    ends: Float64[np.ndarray, 'robot pose link xyz=3']
    radii: Float64[np.ndarray, 'robot pose link']

    def __post_init__(self) -> None:
        for name in ('starts', 'ends', 'radii'):
            value = getattr(self, name)
            if not np.isfinite(value).all():
                raise DataError(f'robot {name} must be finite [m]')
        if (self.radii < 0.0).any():
            raise DataError(f'robot radii must be >= 0 [m], got {self.radii.min()}')


def robot_motion(
    starts: Float64[np.ndarray, 'robot given link xyz=3'],
    ends: Float64[np.ndarray, 'robot given link xyz=3'],
    radii: Float64[np.ndarray, ' link'],
    given_s: Float64[np.ndarray, ' given'],
    times_s: Float64[np.ndarray, ' pose'],
) -> RobotMotion:
    """Interpolate a robot to the times of bodies; before the first and after the last it waits.

    Links are made thicker by what they move from half way since the last time until half way to
    the next, and from the observation to the first, by given times in between too: nothing is
    missed.
    Turns between given times are taken as straight lines: give times close enough.

    Raises:
        DataError: Times do not increase, or numbers are not finite.
    """
    if not (np.isfinite(given_s).all() and (np.diff(given_s) > 0).all() and len(given_s)):
        raise DataError(f'robot times must increase and be finite [s], got {given_s}')
    half = 0.5 * (times_s[1:] + times_s[:-1])
    first = np.concatenate([[min(0.0, times_s[0])], half])
    last = np.concatenate([half, times_s[-1:] + (times_s[-1:] - half[-1:] if len(half) else 0.0)])
    moved = [_at(places, given_s, times_s) for places in (starts, ends)]
    step = np.zeros(moved[0].shape[:3])
    for pose, (begin_s, end_s) in enumerate(zip(first, last, strict=True)):
        within = given_s[(given_s > begin_s) & (given_s < end_s)]
        for all_given, placed in zip((starts, ends), moved, strict=True):
            places = _at(all_given, given_s, np.concatenate([[begin_s], within, [end_s]]))
            away = np.linalg.norm(places - placed[:, pose : pose + 1], axis=-1)
            step[:, pose] = np.maximum(step[:, pose], away.max(axis=1))
    return RobotMotion(moved[0], moved[1], radii + step)


def _at(
    places: Float64[np.ndarray, 'robot given link xyz=3'],
    given_s: Float64[np.ndarray, ' given'],
    times_s: Float64[np.ndarray, ' time'],
) -> Float64[np.ndarray, 'robot time link xyz=3']:
    """Interpolate; before the first and after the last time nothing moves."""
    after = np.clip(np.searchsorted(given_s, times_s), 1, max(len(given_s) - 1, 1))
    last = np.minimum(after, len(given_s) - 1)
    span = np.maximum(given_s[last] - given_s[after - 1], 1e-12)
    part = np.clip((times_s - given_s[after - 1]) / span, 0.0, 1.0)[:, None, None]
    between: np.ndarray = (1.0 - part) * places[:, after - 1] + part * places[:, last]
    return between


def collision_probability(bodies: Bodies, robots: RobotMotion) -> Float64[np.ndarray, ' robot']:
    """Return how likely each robot and the person meet at any time.

    Raises:
        DataError: The robot is given at other times than the bodies.
    """
    probability: np.ndarray = (clearances(bodies, robots, _TOUCH_M) <= 0.0) @ bodies.weights
    return probability


def nearness(
    clearance_m: Float64[np.ndarray, 'robot future'], weights: Float64[np.ndarray, ' future']
) -> Float64[np.ndarray, ' robot']:
    """Return sum over futures of W (1[c <= 0] + exp(-max(c, 0) / h)) / 2, between 0 and 1."""
    near = np.exp(-np.maximum(clearance_m, 0.0) / SOFTNESS_M)
    score: np.ndarray = 0.5 * (near + (clearance_m <= 0.0)) @ weights
    return np.minimum(score, 1.0)


def clearances(
    bodies: Bodies, robots: RobotMotion, reach_m: float = _REACH_M
) -> Float64[np.ndarray, 'robot future']:
    """Return the distance of surfaces when they meet first or are nearest [m].

    Boxes around all, around each future and around each pose rule most out.

    Returns:
        At most `reach_m`.

    Raises:
        DataError: The robot is given at other times than the bodies.
    """
    poses = len(bodies.times_s)
    if robots.starts.shape[1] not in (1, poses):
        raise DataError(
            f'a robot is given at one time or at the {poses} of the bodies, '
            f'got {robots.starts.shape[1]}'
        )
    nearest = np.full((len(robots.starts), len(bodies.starts)), reach_m)
    kernels.find_clearances(
        bodies.starts, bodies.ends, bodies.radii,
        *_boxes(bodies.starts, bodies.ends, bodies.radii),
        robots.starts, robots.ends, robots.radii,
        *_boxes(robots.starts, robots.ends, robots.radii + reach_m),
        nearest,
    )  # fmt: skip
    return nearest


def _boxes(
    starts: Float64[np.ndarray, 'body pose capsule xyz=3'],
    ends: Float64[np.ndarray, 'body pose capsule xyz=3'],
    radii: Float64[np.ndarray, 'body pose capsule'],
) -> tuple[Float64[np.ndarray, 'body pose corners=6'], Float64[np.ndarray, 'body corners=6']]:
    """Return the lowest and highest corner of boxes around each pose, and around all poses."""
    reach = radii[..., None]
    low = (np.minimum(starts, ends) - reach).min(axis=2)
    high = (np.maximum(starts, ends) + reach).max(axis=2)
    whole = np.concatenate([low.min(axis=1), high.max(axis=1)], axis=-1)
    return np.concatenate([low, high], axis=-1), whole
