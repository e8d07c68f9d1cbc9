# SPDX-License-Identifier: Apache-2.0
"""Collision probabilities are what counting futures one by one gives."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from volume_scenes import SHAPE, wandering

from motion_predictor_ros.bench.volume import arms_near, walkers
from motion_predictor_ros.errors import DataError
from motion_predictor_ros.volume.capsules import Bodies, bodies
from motion_predictor_ros.volume.collision import (
    RobotMotion,
    collision_probability,
    robot_motion,
)
from motion_predictor_ros.volume.grid import VoxelGrid
from motion_predictor_ros.volume.kernels import squared_distance
from motion_predictor_ros.volume.voxels import voxel_probability


def point_to_segment(p: np.ndarray, a: np.ndarray, b: np.ndarray) -> float:
    d = b - a
    u = np.clip((p - a) @ d / (d @ d), 0.0, 1.0) if d @ d > 0 else 0.0
    return float(np.linalg.norm(p - a - u * d))


def segment_distance(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray) -> float:
    """By enumeration: the four ends against the other segment, and the inner stationary point."""
    ends = [point_to_segment(a, c, d), point_to_segment(b, c, d)]
    ends += [point_to_segment(c, a, b), point_to_segment(d, a, b)]
    u, v = b - a, d - c
    matrix = np.array([[u @ u, -u @ v], [-u @ v, v @ v]])
    if np.linalg.det(matrix) > 1e-14:
        s, t = np.linalg.solve(matrix, np.array([u @ (c - a), v @ (a - c)]))
        if 0 <= s <= 1 and 0 <= t <= 1:
            ends.append(float(np.linalg.norm(a + s * u - c - t * v)))
    return min(ends)


place = st.tuples(*[st.floats(-1.0, 1.0)] * 3).map(np.array)


@hypothesis_settings(max_examples=200)
@given(a=place, b=place, c=place, d=place)
def test_segments_are_as_far_apart_as_enumeration_says(
    a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray
) -> None:
    for p, q, r, s in ((a, b, c, d), (a, a, c, d), (a, b, c, c), (a, a, c, c), (a, b, a, b)):
        found = np.sqrt(squared_distance.py_func(p, q, r, s))
        assert found == pytest.approx(segment_distance(p, q, r, s), abs=1e-6)


def counted(people: Bodies, robots: RobotMotion) -> np.ndarray:
    """Ask every future on its own whether it meets the robot, and add the weights."""
    found = np.zeros((len(robots.starts), len(people.weights)))
    poses = len(people.times_s)
    for robot, future in np.ndindex(*found.shape):
        found[robot, future] = any(
            segment_distance(a, b, c, d) <= r + q
            for pose in range(poses)
            for a, b, r in zip(
                people.starts[future, pose],
                people.ends[future, pose],
                people.radii[future, pose],
                strict=True,
            )
            for c, d, q in zip(
                robots.starts[robot, pose % robots.starts.shape[1]],
                robots.ends[robot, pose % robots.starts.shape[1]],
                robots.radii[robot, pose % robots.starts.shape[1]],
                strict=True,
            )
        )
    return found @ people.weights


def people_of_unequal_weight(futures: int, times: int) -> Bodies:
    points, times_s = wandering(futures, times, speed=6.0)
    weights = np.random.default_rng(3).dirichlet(np.ones(futures))
    return bodies(SHAPE, points, weights, times_s)


def test_probability_is_the_weight_of_the_futures_that_meet() -> None:
    people = people_of_unequal_weight(5, 2)
    arms = arms_near(8, seed=1)
    near = RobotMotion(0.4 * arms.starts, 0.4 * arms.ends, 0.5 * arms.radii)
    found = collision_probability(people, near)
    np.testing.assert_allclose(found, counted(people, near), atol=1e-6)
    assert ((found > 0.01) & (found < 0.99)).sum() >= 2


def test_drawing_futures_by_weight_gives_the_same() -> None:
    people, arms = walkers(SHAPE, 50, 8), arms_near(60)
    found = collision_probability(people, arms)
    alone = [
        collision_probability(
            Bodies(
                people.starts[k : k + 1],
                people.ends[k : k + 1],
                people.radii[k : k + 1],
                np.ones(1),
                people.times_s,
            ),
            arms,
        )
        for k in range(50)
    ]
    drawn = np.random.default_rng(0).choice(50, size=20_000, p=people.weights)
    share = np.bincount(drawn, minlength=50) / len(drawn)
    np.testing.assert_allclose(found, people.weights @ np.array(alone), atol=1e-6)
    np.testing.assert_allclose(found, share @ np.array(alone), atol=0.02)


def test_voxels_do_not_give_it() -> None:
    """Two voxels of one half each: the same future in both, or each in one."""
    a = np.array([[[0.0, 0.0, 0.0]], [[0.0, 0.0, 0.0]]])[:, None]
    b = np.array([[[0.0, 0.0, 0.0]], [[2.0, 0.0, 0.0]]])[:, None]
    far = np.array([[[9.0, 0.0, 0.0]], [[9.0, 0.0, 0.0]]])[:, None]
    same = Bodies(
        np.concatenate([b, far], axis=2)[:1],
        np.concatenate([b, far], axis=2)[:1],
        np.full((1, 1, 2), 0.1),
        np.ones(1),
        np.zeros(1),
    )
    assert a.shape == b.shape and same.starts.shape == (1, 1, 2, 3)
    robot = RobotMotion(
        np.array([[[[0.0, 0.0, 0.0], [2.0, 0.0, 0.0]]]]),
        np.array([[[[0.0, 0.0, 0.0], [2.0, 0.0, 0.0]]]]),
        np.full((1, 1, 2), 0.1),
    )
    radii, weights = np.full((2, 1, 1), 0.1), np.full(2, 0.5)
    either = Bodies(b, b, radii, weights, np.zeros(1))
    left = np.zeros((2, 1, 2, 3))
    left[0, 0, 1, 0], left[1, 0, :, 0] = 2.0, 50.0
    both = Bodies(left, left, np.full((2, 1, 2), 0.1), weights, np.zeros(1))
    grid = VoxelGrid((-0.525, -0.525, -0.525), 0.05, (70, 21, 21))
    one, other = voxel_probability(either, grid), voxel_probability(both, grid)
    np.testing.assert_allclose(one[10, 10, 10], other[10, 10, 10])
    assert collision_probability(either, robot)[0] == pytest.approx(1.0)
    assert collision_probability(both, robot)[0] == pytest.approx(0.5)


def test_a_fast_robot_is_met_between_given_times() -> None:
    """It passes through a standing person between two poses, and is at neither side near."""
    times_s = np.array([0.0, 1.0])
    points, _ = wandering(1, 2, speed=0.0)
    people = bodies(SHAPE, points, np.ones(1), times_s)
    way = np.array([[[[-3.0, 0.0, 1.2]], [[3.0, 0.0, 1.2]]]])
    moved = robot_motion(way, way, np.array([0.1]), times_s, times_s)
    assert collision_probability(people, moved)[0] == 1.0
    still = RobotMotion(way, way, np.full((1, 2, 1), 0.1))
    assert collision_probability(people, still)[0] == 0.0


def test_a_robot_that_cannot_be_is_refused() -> None:
    place = np.zeros((1, 1, 1, 3))
    with pytest.raises(DataError, match='finite'):
        RobotMotion(place * np.nan, place, np.ones((1, 1, 1)))
    with pytest.raises(DataError, match='radii'):
        RobotMotion(place, place, -np.ones((1, 1, 1)))
    with pytest.raises(DataError, match='increase'):
        robot_motion(
            np.zeros((1, 2, 1, 3)),
            np.zeros((1, 2, 1, 3)),
            np.ones(1),
            np.array([1.0, 0.0]),
            np.array([0.0]),
        )
    with pytest.raises(DataError, match='given at one time'):
        collision_probability(
            walkers(SHAPE, 2, 4), RobotMotion(*[np.zeros((1, 3, 1, 3))] * 2, np.ones((1, 3, 1)))
        )
