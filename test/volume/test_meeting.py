# SPDX-License-Identifier: Apache-2.0
"""A moving robot and one person: nothing is missed between given times."""

import numpy as np
import pytest
from safety_volumes import volume
from volume_scenes import SHAPE, wandering

from motion_predictor_ros.skeleton.frame import Validity
from motion_predictor_ros.volume.capsules import bodies
from motion_predictor_ros.volume.collision import (
    collision_probability,
    robot_collision_probability,
    robot_motion,
)

RADIUS = np.array([0.05])
FAR, NEAR = [30.0, 0.0, 1.0], [0.0, 0.0, 1.0]


def way(*places: list[float]) -> np.ndarray:
    return np.array(places)[None, :, None, :]


def met(validity: Validity, places: np.ndarray, given_s: list[float]) -> float:
    found = robot_collision_probability(
        volume(validity=validity), places, places, RADIUS, np.array(given_s)
    )
    return float(found[0])


@pytest.mark.parametrize('validity', [Validity.OK, Validity.INCOMPLETE])
def test_a_robot_that_comes_and_goes_between_poses_is_seen(validity: Validity) -> None:
    there_and_back = way(FAR, FAR, NEAR, FAR, FAR)
    at_once = met(validity, there_and_back, [0.0, 0.849, 0.85, 0.851, 1.0])
    assert at_once == 1.0 if validity else at_once > 0.3
    assert met(validity, way(NEAR, FAR), [0.0, 0.001]) == pytest.approx(1.0)  # at the beginning
    assert met(validity, way(FAR, FAR), [0.0, 1.0]) == 0.0
    assert met(validity, way(FAR, NEAR), [1.5, 1.6]) == 0.0  # beyond the horizon


def test_what_is_reachable_late_is_not_reachable_at_once() -> None:
    aside = [1.8, 0.0, 1.0]
    assert met(Validity.INCOMPLETE, way(aside, aside, FAR), [0.0, 0.2, 0.201]) == 0.0
    assert met(Validity.INCOMPLETE, way(FAR, FAR, aside), [0.0, 0.8, 0.801]) == 1.0
    assert met(Validity.INCOMPLETE, way(aside), [0.0]) == 1.0


def test_a_robot_that_stands_still_meets_what_the_weights_say() -> None:
    one = volume()
    places = np.stack([[0.1 * step, 0.0, 1.0] for step in range(12)])[:, None, None]
    found = robot_collision_probability(one, places, places, RADIUS, np.zeros(1))
    moving = robot_motion(places, places, RADIUS, np.zeros(1), one.bodies.times_s)
    np.testing.assert_allclose(found, collision_probability(one.bodies, moving))
    assert ((found > 0.01) & (found < 0.99)).any()


def test_links_are_as_much_thicker_as_they_move_half_way() -> None:
    points, _ = wandering(1, 3, speed=0.0)
    times_s = np.array([0.0, 1.0, 2.0])
    people = bodies(SHAPE, points, np.ones(1), times_s)
    moved = robot_motion(
        way([0.0, 0, 0], [1.0, 0, 0], [3.0, 0, 0]),
        way([0.0, 0, 0], [1.0, 0, 0], [3.0, 0, 0]),
        RADIUS,
        times_s,
        people.times_s,
    )
    np.testing.assert_allclose(moved.radii[0, :, 0], 0.05 + np.array([0.5, 1.0, 1.0]))
