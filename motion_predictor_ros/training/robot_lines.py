# SPDX-License-Identifier: Apache-2.0
"""A robot's tool on a line past a person: clearances, and the field along the way.

The tool is a ball of radius r at p(t) = p_0 + v t e, e horizontal. Going on means to keep this
speed for the stopping time T = t_r + v / a. With the body a union of capsules that moves in
straight lines between frames,

    clearance = min over t in [0, T], capsules of distance(p(t), capsule(t)) - r - r_capsule

and a contact is a clearance of the true body of zero or less.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int64
from tqdm import tqdm

from motion_predictor_ros.errors import ConfigError
from motion_predictor_ros.runtime.jit import compiled
from motion_predictor_ros.training.volume_windows import Case
from motion_predictor_ros.volume.body import BodyShape
from motion_predictor_ros.volume.calibration import CollisionCalibration
from motion_predictor_ros.volume.collision import nearness
from motion_predictor_ros.volume.forecast import BodyForecast
from motion_predictor_ros.volume.level_sets import WindowField

STEP_S = 0.02
"""Between two looks at the clearance: 1 m/s and a person of 3 m/s pass within 2 mm of it."""

_SEED = 2

NEAREST_M = 0.25
"""The tool starts at least so far from the body part that it was placed beside."""


@dataclass(frozen=True)
class Robot:
    """What decides how early a robot has to stop.

    Attributes:
        reaction_s: Until it brakes.
        radius_m: Of the ball around its tool.
    """

    speed_m_s: float = 1.0
    reaction_s: float = 0.1
    deceleration_m_s2: float = 3.0
    radius_m: float = 0.12

    def __post_init__(self) -> None:
        if not (self.speed_m_s > 0.0 and self.deceleration_m_s2 > 0.0):
            raise ConfigError('speed [m/s] and deceleration [m/s^2] of the robot must be above 0')
        if not (self.reaction_s >= 0.0 and self.radius_m >= 0.0):
            raise ConfigError('reaction [s] and radius [m] of the robot must not be below 0')

    @property
    def stopping_s(self) -> float:
        """Return T = t_r + v / a [s]."""
        return self.reaction_s + self.speed_m_s / self.deceleration_m_s2

    @property
    def stopping_m(self) -> float:
        """Return v t_r + v^2 / (2 a) [m]."""
        return self.speed_m_s * (self.reaction_s + 0.5 * self.speed_m_s / self.deceleration_m_s2)

    @property
    def farthest_m(self) -> float:
        """Return how far from a body part the tool starts at most: 2.2 m, 3.2 m if T is 1 s."""
        return 1.45 + 1.75 * self.stopping_s


ROBOTS = (Robot(), Robot(reaction_s=0.2, deceleration_m_s2=1.25))
"""A light arm (T = 0.43 s) and a slow one or a vehicle (T = 1 s)."""


@dataclass(frozen=True)
class Lines:
    """Ways of the tool.

    Attributes:
        starts: [m].
        velocities: [m/s].
    """

    starts: Float64[np.ndarray, 'line xyz=3']
    velocities: Float64[np.ndarray, 'line xyz=3']


def random_lines(
    robot: Robot, now: Float64[np.ndarray, 'point xyz=3'], count: int, random: np.random.Generator
) -> Lines:
    """Place the tool beside random points of the body, level with them, and let it move anywhere.

    Args:
        now: [m] points of the body.
    """
    points = now[random.integers(len(now), size=count)]
    away_m = random.uniform(NEAREST_M, robot.farthest_m, count)
    beside, ahead = random.uniform(0.0, 2.0 * np.pi, (2, count))
    starts = points + away_m[:, None] * _horizontal(beside)
    return Lines(starts, robot.speed_m_s * _horizontal(ahead))


def _horizontal(angle: Float64[np.ndarray, ' line']) -> Float64[np.ndarray, 'line xyz=3']:
    return np.stack([np.cos(angle), np.sin(angle), np.zeros_like(angle)], axis=1)


def resampled(
    way: Float64[np.ndarray, '*batch frame point xyz=3'], period_s: float, end_s: float
) -> Float64[np.ndarray, '*batch step point xyz=3']:
    """Interpolate frames from the observation on to every `STEP_S` until `end_s`, and to it.

    Args:
        way: [m], `period_s` apart, at least until `end_s`.
    """
    frames = step_times(end_s) / period_s
    before = np.minimum(frames.astype(int), way.shape[-3] - 2)
    part = (frames - before)[:, None, None]
    between: np.ndarray = (1.0 - part) * way[..., before, :, :] + part * way[..., before + 1, :, :]
    return between


def step_times(end_s: float) -> Float64[np.ndarray, ' step']:
    """Return 0, `STEP_S`, ..., `end_s` [s]."""
    return np.append(np.arange(0.0, end_s - 1e-6, STEP_S), end_s)


@compiled
def clearances(
    starts: Float64[np.ndarray, 'line xyz=3'],
    velocities: Float64[np.ndarray, 'line xyz=3'],
    times_s: Float64[np.ndarray, ' step'],
    ways: Float64[np.ndarray, 'body step point xyz=3'],
    capsules: Int64[np.ndarray, 'capsule 2'],
    radii: Float64[np.ndarray, ' capsule'],
) -> Float64[np.ndarray, 'body line']:
    """Return the smallest distance of each line's tool centre from each body's surface [m].

    A ball around the body rules out the instants at which it is farther than the nearest so far.
    """
    nearest = np.full((len(ways), len(starts)), np.inf)
    for body in range(len(ways)):
        for step in range(len(times_s)):
            points = ways[body, step]
            middle = points.sum(axis=0) / len(points)
            ball = np.sqrt(((points - middle) ** 2).sum(axis=1).max()) + radii.max()
            for line in range(len(starts)):
                x = starts[line, 0] + velocities[line, 0] * times_s[step]
                y = starts[line, 1] + velocities[line, 1] * times_s[step]
                z = starts[line, 2] + velocities[line, 2] * times_s[step]
                px, py, pz = x - middle[0], y - middle[1], z - middle[2]
                if np.sqrt(px * px + py * py + pz * pz) - ball >= nearest[body, line]:
                    continue
                for capsule in range(len(radii)):
                    a, b = points[capsules[capsule, 0]], points[capsules[capsule, 1]]
                    dx, dy, dz = b[0] - a[0], b[1] - a[1], b[2] - a[2]
                    px, py, pz = x - a[0], y - a[1], z - a[2]
                    square = dx * dx + dy * dy + dz * dz
                    u = px * dx + py * dy + pz * dz
                    u = min(max(u / square, 0.0), 1.0) if square > 0.0 else 0.0
                    ex, ey, ez = px - u * dx, py - u * dy, pz - u * dz
                    away = np.sqrt(ex * ex + ey * ey + ez * ez) - radii[capsule]
                    nearest[body, line] = min(nearest[body, line], away)
    return nearest


def future_clearances(
    shape: BodyShape, forecast: BodyForecast, period_s: float, robot: Robot, lines: Lines
) -> Float64[np.ndarray, 'line future']:
    """Return the smallest clearance of the tool from each future [m].

    Args:
        period_s: Between frames of the forecast.
    """
    end_s = robot.stopping_s
    times_s = period_s * np.arange(int(np.ceil(end_s / period_s - 1e-9)) + 1)
    paths = np.ascontiguousarray(forecast.paths[:, : len(times_s)])
    radii = forecast.scale * shape.radii
    away = clearances(lines.starts, lines.velocities, times_s, paths, shape.capsules, radii)
    return away.T - robot.radius_m


def calibrate_collisions(
    shape: BodyShape, cases: Sequence[Case], period_s: float, lines: int = 10
) -> CollisionCalibration | None:
    """Fit the collision service's probabilities on lines of both `ROBOTS` beside each window.

    Returns:
        None if no window is known for as long as a robot needs to stop.
    """
    scores, contact = [], []
    for index, case in enumerate(tqdm(cases, leave=False, disable=None)):
        for robot in ROBOTS:
            if not case.lasts(robot.stopping_s):
                continue
            random = np.random.default_rng((_SEED, index))
            beside = random_lines(robot, case.forecast.now, lines, random)
            truth = np.concatenate([case.forecast.now[None], case.truth])
            away = body_clearances(shape, case.forecast, truth[None], period_s, robot, beside)[0]
            futures = future_clearances(shape, case.forecast, period_s, robot, beside)
            scores.append(nearness(futures, case.forecast.weights))
            contact.append(away <= 0.0)
    if not scores:
        return None
    return CollisionCalibration.fit(np.concatenate(scores), np.concatenate(contact))


def body_clearances(
    shape: BodyShape,
    forecast: BodyForecast,
    paths: Float64[np.ndarray, 'body frame point xyz=3'],
    period_s: float,
    robot: Robot,
    lines: Lines,
) -> Float64[np.ndarray, 'body line']:
    """Return the smallest clearance of the tool from this person on each path [m].

    Args:
        paths: [m] from the observation on, `period_s` apart.
    """
    end_s = robot.stopping_s
    ways = resampled(paths, period_s, end_s)
    radii = forecast.scale * shape.radii
    motion = lines.starts, lines.velocities, step_times(end_s)
    nearest: np.ndarray = clearances(*motion, ways, shape.capsules, radii)
    return nearest - robot.radius_m


def highest_on_the_way(
    field: WindowField, window_s: tuple[float, float], lines: Lines, radius_m: float
) -> Float32[np.ndarray, ' line']:
    """Return the largest field value of the voxels that the tool touches within a window."""
    steps = max(2, int(np.ceil((window_s[1] - window_s[0]) / (0.5 * STEP_S))) + 1)
    times_s = np.linspace(*window_s, steps)
    origin, size_m = np.array(field.grid.origin), field.grid.size_m
    scaled = (lines.starts - origin) / size_m, lines.velocities / size_m
    highest: np.ndarray = _highest(*scaled, times_s, radius_m / size_m, field.values)
    return highest


@compiled
def _highest(
    starts: Float64[np.ndarray, 'line xyz=3'],
    velocities: Float64[np.ndarray, 'line xyz=3'],
    times_s: Float64[np.ndarray, ' step'],
    radius: float,
    values: Float32[np.ndarray, 'x y z'],
) -> Float32[np.ndarray, ' line']:
    """Do the above with lengths in voxels from the grid's lowest corner."""
    highest = np.full(len(starts), -np.inf, np.float32)
    low, high = np.empty(3, np.int64), np.empty(3, np.int64)
    for line in range(len(starts)):
        for time_s in times_s:
            place = starts[line] + velocities[line] * time_s
            for axis in range(3):
                low[axis] = max(int(np.floor(place[axis] - radius)), 0)
                high[axis] = min(int(np.floor(place[axis] + radius)) + 1, values.shape[axis])
            for x in range(low[0], high[0]):
                away_x = max(x - place[0], place[0] - x - 1.0, 0.0) ** 2
                for y in range(low[1], high[1]):
                    away_y = away_x + max(y - place[1], place[1] - y - 1.0, 0.0) ** 2
                    for z in range(low[2], high[2]):
                        away = away_y + max(z - place[2], place[2] - z - 1.0, 0.0) ** 2
                        if away <= radius * radius:
                            highest[line] = max(highest[line], values[x, y, z])
    return highest
