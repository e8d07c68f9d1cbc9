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

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from motion_predictor_ros.errors import DataError
from motion_predictor_ros.runtime.jit import compiled
from motion_predictor_ros.skeleton.frame import Validity
from motion_predictor_ros.volume.calibration import SOFTNESS_M
from motion_predictor_ros.volume.capsules import Bodies
from motion_predictor_ros.volume.types import SafetyVolume

_STEP_S = 0.05


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
        thick = np.broadcast_to(radii, starts.shape[:3]).copy()
        moving = RobotMotion(starts, ends, thick)
    if volume.validity != Validity.OK or volume.collision is None:
        return np.minimum(collision_probability(bodies, moving).probability, 1.0)
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
    return Bodies(
        bodies.starts[:, rows],
        bodies.ends[:, rows],
        bodies.radii[:, rows],
        bodies.weights,
        times_s,
    )


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


@dataclass(frozen=True)
class Collision:
    """What was found for each configuration.

    Attributes:
        probability: That robot and person meet at any time.
        until: The same until each of the bodies' poses: never decreasing.
    """

    probability: Float64[np.ndarray, ' robot']
    until: Float64[np.ndarray, 'robot pose']


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
    moved = [_at(each, given_s, times_s) for each in (starts, ends)]
    step = np.zeros(moved[0].shape[:3])
    for pose, (begin_s, end_s) in enumerate(zip(first, last, strict=True)):
        within = given_s[(given_s > begin_s) & (given_s < end_s)]
        for all_given, own in zip((starts, ends), moved, strict=True):
            places = _at(all_given, given_s, np.concatenate([[begin_s], within, [end_s]]))
            away = np.linalg.norm(places - own[:, pose : pose + 1], axis=-1)
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


def collision_probability(bodies: Bodies, robots: RobotMotion) -> Collision:
    """Return how likely each configuration meets the person.

    Raises:
        DataError: The robot is given at other times than the bodies.
    """
    poses = len(bodies.times_s)
    if robots.starts.shape[1] not in (1, poses):
        raise DataError(
            f'a robot is given at one time or at the {poses} of the bodies, '
            f'got {robots.starts.shape[1]}'
        )
    first = first_contacts(
        bodies.starts, bodies.ends, bodies.radii, robots.starts, robots.ends, robots.radii
    )
    until = np.zeros((len(first), poses + 1))
    rows = np.arange(len(first))
    for future, weight in enumerate(bodies.weights):
        until[rows, first[:, future]] += weight
    until = until[:, :poses].cumsum(axis=1)
    return Collision(until[:, -1], until)


def nearness(
    clearance_m: Float64[np.ndarray, 'robot future'], weights: Float64[np.ndarray, ' future']
) -> Float64[np.ndarray, ' robot']:
    """Return sum over futures of W (1[c <= 0] + exp(-max(c, 0) / h)) / 2, between 0 and 1."""
    near = np.exp(-np.maximum(clearance_m, 0.0) / SOFTNESS_M)
    score: np.ndarray = 0.5 * (near + (clearance_m <= 0.0)) @ weights
    return np.minimum(score, 1.0)


def clearances(
    bodies: Bodies, robots: RobotMotion, reach_m: float = 8.0 * SOFTNESS_M
) -> Float64[np.ndarray, 'robot future']:
    """Return the smallest distance of surfaces at any time [m]; at most `reach_m`."""
    nearest: np.ndarray = _clearances(
        bodies.starts,
        bodies.ends,
        bodies.radii,
        robots.starts,
        robots.ends,
        robots.radii,
        reach_m,
    )
    return nearest


@compiled
def first_contacts(
    starts: Float64[np.ndarray, 'future pose capsule xyz=3'],
    ends: Float64[np.ndarray, 'future pose capsule xyz=3'],
    radii: Float64[np.ndarray, 'future pose capsule'],
    robot_starts: Float64[np.ndarray, 'robot robotpose link xyz=3'],
    robot_ends: Float64[np.ndarray, 'robot robotpose link xyz=3'],
    robot_radii: Float64[np.ndarray, 'robot robotpose link'],
) -> Int64[np.ndarray, 'robot future']:
    """Return the first pose at which robot and body meet; the number of poses if they do not.

    Boxes around all, around each future and around each pose rule most out.
    """
    futures, poses = starts.shape[:2]
    body_boxes, future_boxes = _boxes(starts, ends, radii)
    all_boxes, robot_boxes = _boxes(robot_starts, robot_ends, robot_radii)
    first = np.full((len(robot_starts), futures), poses)
    still = robot_starts.shape[1] == 1
    for robot in range(len(robot_starts)):
        for future in range(futures):
            if not _overlap(robot_boxes[robot], future_boxes[future]):
                continue
            for pose in range(poses):
                own = 0 if still else pose
                if not _overlap(all_boxes[robot, own], body_boxes[future, pose]):
                    continue
                if _meet(
                    starts[future, pose],
                    ends[future, pose],
                    radii[future, pose],
                    robot_starts[robot, own],
                    robot_ends[robot, own],
                    robot_radii[robot, own],
                    all_boxes[robot, own],
                ):
                    first[robot, future] = pose
                    break
    return first


@compiled
def _clearances(
    starts: Float64[np.ndarray, 'future pose capsule xyz=3'],
    ends: Float64[np.ndarray, 'future pose capsule xyz=3'],
    radii: Float64[np.ndarray, 'future pose capsule'],
    robot_starts: Float64[np.ndarray, 'robot robotpose link xyz=3'],
    robot_ends: Float64[np.ndarray, 'robot robotpose link xyz=3'],
    robot_radii: Float64[np.ndarray, 'robot robotpose link'],
    reach: float,
) -> Float64[np.ndarray, 'robot future']:
    """Rule out by boxes what is farther apart than `reach`, or than what was found."""
    futures, poses, capsules = radii.shape
    body_boxes, future_boxes = _boxes(starts, ends, radii)
    pose_boxes, robot_boxes = _boxes(robot_starts, robot_ends, robot_radii + reach)
    nearest = np.full((len(robot_starts), futures), reach)
    still = robot_starts.shape[1] == 1
    for robot in range(len(robot_starts)):
        for future in range(futures):
            if not _overlap(robot_boxes[robot], future_boxes[future]):
                continue
            away = reach
            for pose in range(poses):
                own = 0 if still else pose
                if not _overlap(pose_boxes[robot, own], body_boxes[future, pose]):
                    continue
                for part in range(capsules):
                    for link in range(robot_radii.shape[2]):
                        square = squared_distance(
                            starts[future, pose, part],
                            ends[future, pose, part],
                            robot_starts[robot, own, link],
                            robot_ends[robot, own, link],
                        )
                        thick = radii[future, pose, part] + robot_radii[robot, own, link]
                        away = min(away, np.sqrt(square) - thick)
            nearest[robot, future] = away
    return nearest


@compiled
def _boxes(starts, ends, radii):  # type: ignore[no-untyped-def]
    """Return boxes around capsules of one pose, and around all poses."""
    boxes = np.empty((starts.shape[0], starts.shape[1], 6))
    whole = np.empty((len(starts), 6))
    for index in range(starts.shape[0]):
        for pose in range(starts.shape[1]):
            _box(starts[index, pose], ends[index, pose], radii[index, pose], boxes[index, pose])
        _join(boxes[index], whole[index])
    return boxes, whole


@compiled
def _box(starts, ends, radii, box):  # type: ignore[no-untyped-def]
    """Write the lowest and highest corner of a box around capsules."""
    for axis in range(3):
        low, high = np.inf, -np.inf
        for index in range(len(radii)):
            low = min(low, min(starts[index, axis], ends[index, axis]) - radii[index])
            high = max(high, max(starts[index, axis], ends[index, axis]) + radii[index])
        box[axis], box[3 + axis] = low, high


@compiled
def _join(boxes, box):  # type: ignore[no-untyped-def]
    """Write the box around boxes."""
    for axis in range(3):
        low, high = np.inf, -np.inf
        for index in range(len(boxes)):
            low, high = min(low, boxes[index, axis]), max(high, boxes[index, 3 + axis])
        box[axis], box[3 + axis] = low, high


@compiled
def _overlap(one, other):  # type: ignore[no-untyped-def]
    return (
        one[0] <= other[3]
        and other[0] <= one[3]
        and one[1] <= other[4]
        and other[1] <= one[4]
        and one[2] <= other[5]
        and other[2] <= one[5]
    )


@compiled
def _meet(starts, ends, radii, robot_starts, robot_ends, robot_radii, box):  # type: ignore[no-untyped-def]
    """Tell whether any capsule of one meets any of the other."""
    for part in range(len(radii)):
        radius = radii[part]
        if not (
            min(starts[part, 0], ends[part, 0]) - radius <= box[3]
            and max(starts[part, 0], ends[part, 0]) + radius >= box[0]
            and min(starts[part, 1], ends[part, 1]) - radius <= box[4]
            and max(starts[part, 1], ends[part, 1]) + radius >= box[1]
            and min(starts[part, 2], ends[part, 2]) - radius <= box[5]
            and max(starts[part, 2], ends[part, 2]) + radius >= box[2]
        ):
            continue
        for link in range(len(robot_radii)):
            reach = radius + robot_radii[link]
            square = squared_distance(
                starts[part], ends[part], robot_starts[link], robot_ends[link]
            )
            if square <= reach * reach:
                return True
    return False


@compiled
def squared_distance(a, b, c, d):  # type: ignore[no-untyped-def]
    """Return the squared distance of the segments ab and cd [m^2].

    Source: Ericson, Real-Time Collision Detection, 5.1.9.
    """
    ux, uy, uz = b[0] - a[0], b[1] - a[1], b[2] - a[2]
    vx, vy, vz = d[0] - c[0], d[1] - c[1], d[2] - c[2]
    wx, wy, wz = a[0] - c[0], a[1] - c[1], a[2] - c[2]
    uu, vv = ux * ux + uy * uy + uz * uz, vx * vx + vy * vy + vz * vz
    uv, uw = ux * vx + uy * vy + uz * vz, ux * wx + uy * wy + uz * wz
    vw = vx * wx + vy * wy + vz * wz
    across = uu * vv - uv * uv
    s = min(max((uv * vw - uw * vv) / across, 0.0), 1.0) if across > 1e-12 * uu * vv else 0.0
    t = (uv * s + vw) / vv if vv > 0.0 else 0.0
    if t < 0.0 or t > 1.0 or vv == 0.0:
        t = min(max(t, 0.0), 1.0)
        s = min(max((uv * t - uw) / uu, 0.0), 1.0) if uu > 0.0 else 0.0
    dx, dy, dz = wx + s * ux - t * vx, wy + s * uy - t * vy, wz + s * uz - t * vz
    return dx * dx + dy * dy + dz * dz
