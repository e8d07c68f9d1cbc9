"""Clearances and field values along a robot's way are what brute force finds."""

import numpy as np
import pytest

from motion_predictor_ros.errors import ConfigError
from motion_predictor_ros.training.robot_lines import (
    NEAREST_M,
    ROBOTS,
    Lines,
    Robot,
    clearances,
    highest_on_the_way,
    random_lines,
    resampled,
    step_times,
)
from motion_predictor_ros.volume.grid import VoxelGrid
from motion_predictor_ros.volume.level_sets import WindowField

CAPSULES = np.array([[0, 1], [1, 2], [2, 2]])
RADII = np.array([0.1, 0.2, 0.05])
PERIOD_S = 0.04


def moving(seed: int) -> tuple[np.ndarray, Lines]:
    """Return a body of three points that wander for 0.4 s, and lines past it."""
    random = np.random.default_rng(seed)
    way = random.normal(size=(3, 3)) + np.cumsum(random.normal(0.0, 0.06, (11, 3, 3)), axis=0)
    return way, random_lines(Robot(), way[0], 20, random)


def brute_clearance(way: np.ndarray, start: np.ndarray, velocity: np.ndarray) -> float:
    """Look at 400 times and 300 points of each capsule."""
    nearest = np.inf
    for time_s in np.linspace(0.0, 0.4, 401):
        frame = min(int(time_s / PERIOD_S + 1e-9), 9)
        part = time_s / PERIOD_S - frame
        points = (1.0 - part) * way[frame] + part * way[frame + 1]
        along = np.linspace(0.0, 1.0, 301)[:, None]
        for (a, b), radius in zip(CAPSULES, RADII, strict=True):
            axis = points[a] + along * (points[b] - points[a])
            away = np.linalg.norm(axis - start - velocity * time_s, axis=1).min() - radius
            nearest = min(nearest, away)
    return nearest


@pytest.mark.parametrize('seed', [0, 1])
def test_clearances_are_those_of_brute_force(seed: int) -> None:
    way, lines = moving(seed)
    ways = resampled(way, PERIOD_S, 0.4)[None]
    found = clearances(lines.starts, lines.velocities, step_times(0.4), ways, CAPSULES, RADII)[0]
    expected = [
        brute_clearance(way, *line) for line in zip(lines.starts, lines.velocities, strict=True)
    ]
    np.testing.assert_allclose(found, expected, atol=5e-3)
    # Control: the same body, had it stayed where it was.
    still = np.repeat(ways[:, :1], ways.shape[1], axis=1)
    frozen = clearances(lines.starts, lines.velocities, step_times(0.4), still, CAPSULES, RADII)[0]
    assert np.abs(frozen - expected).max() > 0.05


def test_a_body_between_frames_moves_in_straight_lines() -> None:
    way = np.cumsum(np.ones((5, 1, 3)), axis=0)
    steps = resampled(way, PERIOD_S, 0.13)
    np.testing.assert_allclose(steps[:, 0, 0], 1.0 + step_times(0.13) / PERIOD_S)
    assert step_times(0.13)[-1] == 0.13


def test_lines_are_level_and_begin_beside_a_body_part() -> None:
    random, robot = np.random.default_rng(0), ROBOTS[1]
    point = np.array([[1.0, 2.0, 1.5]])
    lines = random_lines(robot, point, 500, random)
    away = np.linalg.norm(lines.starts - point, axis=1)
    assert away.min() >= NEAREST_M and away.max() <= robot.farthest_m
    assert away.min() < NEAREST_M + 0.1 and away.max() > robot.farthest_m - 0.1
    np.testing.assert_allclose(lines.starts[:, 2], 1.5)
    np.testing.assert_allclose(np.linalg.norm(lines.velocities, axis=1), robot.speed_m_s)


def test_robots_stop_as_their_brakes_say() -> None:
    quick, slow = ROBOTS
    assert quick.stopping_s == pytest.approx(0.1 + 1.0 / 3.0)
    assert quick.stopping_m == pytest.approx(0.1 + 0.5 / 3.0)
    assert (slow.stopping_s, slow.farthest_m) == pytest.approx((1.0, 3.2))
    with pytest.raises(ConfigError, match='deceleration'):
        Robot(deceleration_m_s2=0.0)
    with pytest.raises(ConfigError, match='radius'):
        Robot(radius_m=-0.1)


def field(seed: int) -> WindowField:
    values = np.random.default_rng(seed).normal(size=(9, 8, 7)).astype(np.float32)
    grid = VoxelGrid((-0.4, -0.4, -0.3), 0.1, values.shape)
    return WindowField(grid, values)


def touched(field: WindowField, lines: Lines, line: int, radius_m: float) -> np.ndarray:
    """Return values at points of the ball on its way; many, not all."""
    random = np.random.default_rng(line)
    ball = random.normal(size=(4000, 3))
    ball *= (
        radius_m
        * random.uniform(size=(4000, 1)) ** (1 / 3)
        / np.linalg.norm(ball, axis=1, keepdims=True)
    )
    times_s = random.uniform(0.0, 0.25, (4000, 1))
    return field.at(lines.starts[line] + lines.velocities[line] * times_s + ball)


def test_the_highest_value_on_the_way_misses_no_voxel_that_the_tool_touches() -> None:
    space, random = field(0), np.random.default_rng(1)
    lines = random_lines(Robot(), np.zeros((1, 3)), 200, random)
    near = np.flatnonzero(np.linalg.norm(lines.starts, axis=1) < 0.8)
    lines = Lines(lines.starts[near], lines.velocities[near])
    found = highest_on_the_way(space, (0.0, 0.25), lines, 0.12)
    wider = highest_on_the_way(space, (0.0, 0.25), lines, 0.14)
    brute = np.array([touched(space, lines, line, 0.12).max() for line in range(len(near))])
    assert np.isfinite(brute).sum() > 20
    assert (brute <= wider).all()
    assert (brute <= found).mean() > 0.95
    # Most of what brute force finds is the highest value itself, so nothing is over-counted.
    assert (brute[np.isfinite(brute)] == found[np.isfinite(brute)]).mean() > 0.8
    # Control: a point instead of a ball touches fewer voxels.
    assert (highest_on_the_way(space, (0.0, 0.25), lines, 0.0) < brute).any()


def test_only_the_time_within_the_window_counts() -> None:
    space = field(2)
    lines = Lines(np.array([[-0.55, 0.0, 0.0]]), np.array([[1.0, 0.0, 0.0]]))
    assert highest_on_the_way(space, (0.0, 0.05), lines, 0.05)[0] == -np.inf
    assert highest_on_the_way(space, (0.0, 0.25), lines, 0.05)[0] > -np.inf
    assert highest_on_the_way(space, (0.2, 0.25), lines, 0.05)[0] > -np.inf
