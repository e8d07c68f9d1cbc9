# SPDX-License-Identifier: Apache-2.0
"""Whoever keeps to the speeds stays inside, seen or not."""

import numpy as np
import pytest
from volume_scenes import SHAPE, STANDING

from motion_predictor_ros.config import VolumeConfig
from motion_predictor_ros.errors import DataError
from motion_predictor_ros.volume.capsules import bodies
from motion_predictor_ros.volume.grid import VoxelGrid
from motion_predictor_ros.volume.reachable import needed_factor, point_speeds, reachable_bodies
from motion_predictor_ros.volume.voxels import covered

CONFIG = VolumeConfig()


def outside(pose: np.ndarray, speed: float, age_s: float = 0.0, seed: int = 0) -> int:
    """Count voxels of people who moved at this share of the allowed speed for half a second."""
    random = np.random.default_rng(seed)
    reach = reachable_bodies(SHAPE, pose, np.array([0.5]), CONFIG)
    low, high = reach.bounds
    grid = VoxelGrid.around(low - 0.5, high + 0.5, 0.1)
    inside = covered(reach, grid)
    found = 0
    for _ in range(20):
        way = random.normal(size=3)
        way /= np.linalg.norm(way)
        moved = STANDING + (0.5 + age_s) * speed * CONFIG.body_speed_m_s * way
        points = SHAPE.points(moved)[None, None]
        one = bodies(SHAPE, points, np.ones(1), np.zeros(1), SHAPE.scale(STANDING))
        found += int((covered(one, grid, padding_m=0.0) & ~inside).sum())
    return found


def test_whoever_keeps_to_the_speed_stays_inside() -> None:
    assert outside(STANDING, 1.0) == 0


def test_whoever_is_faster_is_seen_outside() -> None:
    assert outside(STANDING, 1.5) > 0


def test_joints_out_of_sight_may_be_wherever_their_bones_reach() -> None:
    lost = STANDING.copy()
    lost[[SHAPE.layout.joint_names.index(f'l_{n}') for n in ('elbow', 'wrist')]] = np.nan
    assert outside(lost, 1.0) == 0
    seen = reachable_bodies(SHAPE, STANDING, np.array([0.5]), CONFIG)
    unseen = reachable_bodies(SHAPE, lost, np.array([0.5]), CONFIG)
    assert unseen.radii.sum() > seen.radii.sum()


def test_nobody_is_no_place_to_reach_from() -> None:
    with pytest.raises(DataError, match='no joint was observed'):
        reachable_bodies(SHAPE, np.full_like(STANDING, np.nan), np.array([0.5]), CONFIG)


def test_sets_grow_with_time_and_with_age() -> None:
    early, late = (
        reachable_bodies(SHAPE, STANDING, np.array([t]), CONFIG).radii for t in (0.2, 0.6)
    )
    assert (late > early).all()
    aged = reachable_bodies(SHAPE, STANDING, np.array([0.2]), CONFIG, age_s=0.4).radii
    np.testing.assert_allclose(aged, late)


def test_the_factor_needed_is_the_speed_relative_to_the_allowed_one() -> None:
    times_s = np.array([0.5, 1.0])
    now = SHAPE.points(STANDING)
    way = point_speeds(SHAPE, CONFIG)[:, None] * np.array([1.0, 0.0, 0.0])
    later = now + 1.7 * times_s[:, None, None] * way
    later[..., 0] += CONFIG.measurement_error_m
    assert needed_factor(SHAPE, now, later, times_s, CONFIG) == pytest.approx(1.7)
    assert needed_factor(SHAPE, now, np.stack([now, now]), times_s, CONFIG) == 0.0


def test_what_is_reached_by_a_time_does_not_depend_on_later_times() -> None:
    times_s = np.array([0.25, 0.5, 1.0])
    together = reachable_bodies(SHAPE, STANDING, times_s, CONFIG)
    for index, time_s in enumerate(times_s):
        alone = reachable_bodies(SHAPE, STANDING, np.array([time_s]), CONFIG)
        np.testing.assert_array_equal(together.at(slice(index, index + 1)).radii, alone.radii)
    assert (np.diff(together.radii[0], axis=0) > 0.3).all()
