# SPDX-License-Identifier: Apache-2.0
"""Volumes carry the other promise's volume, and the calibration of collision probabilities."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from safety_volumes import CONFIG, volume
from volume_scenes import PERIOD_S, SHAPE, calibration, forecast_of

from motion_predictor_ros.config import VolumeConfig
from motion_predictor_ros.skeleton.frame import Validity
from motion_predictor_ros.volume.calibration import (
    SOFTNESS_M,
    CollisionCalibration,
    load_calibration,
    save_calibration,
)
from motion_predictor_ros.volume.collision import (
    RobotMotion,
    clearances,
    collision_probability,
    robot_collision_probability,
)
from motion_predictor_ros.volume.predictor import VolumePredictor
from motion_predictor_ros.volume.types import WindowVolume

CLIPS = calibration(np.linspace(0.1, 1.0, 60))
MAP = CollisionCalibration(np.array([0.0, 0.5, 1.0]), np.array([0.01, 0.7, 0.9]))


def windows(config: VolumeConfig) -> tuple[WindowVolume, ...]:
    return VolumePredictor(SHAPE, CLIPS, config, PERIOD_S).windows(forecast_of())


def test_the_other_volume_is_the_one_that_the_other_promise_makes() -> None:
    coverage = dataclasses.replace(CONFIG, risk=0.05)
    risk = dataclasses.replace(coverage, promise='risk')
    for one, other in zip(windows(coverage), windows(risk), strict=True):
        assert one.other is not None and other.other is not None
        assert one.covered.sum() > other.covered.sum() > 0
        assert one.grid == other.grid
        np.testing.assert_array_equal(one.other, other.covered)
        np.testing.assert_array_equal(one.covered, other.other)
        assert not (one.other & ~one.covered).any()


def test_a_promise_that_too_few_clips_make_has_no_volume() -> None:
    assert all(window.other is None for window in windows(dataclasses.replace(CONFIG, risk=0.01)))


def probability(calibrated: CollisionCalibration | None, radius: float, **how: Validity) -> float:
    person = dataclasses.replace(volume(**how), collision=calibrated)
    place = np.array([0.8, 0.0, 1.0])[None, None, None]
    found = robot_collision_probability(person, place, place, np.array([radius]), np.zeros(1))
    return float(found[0])


def test_the_service_maps_how_near_futures_pass() -> None:
    # exp(-c / h) is the chance that c is less than a margin drawn from Exp(h).
    radii = 0.05 + 0.01 * np.arange(60)
    radius = radii[np.argmax([probability(None, radius) > 0.0 for radius in radii])] - 0.01
    margins_m = -SOFTNESS_M * np.log(1.0 - (np.arange(100) + 0.5) / 100)
    counted = [probability(None, radius + margin_m) for margin_m in margins_m]
    assert 0.0 < np.mean(counted) < 1.0
    score = 0.5 * (probability(None, radius) + np.mean(counted))
    assert probability(MAP, radius) == pytest.approx(MAP(np.array([score]))[0], abs=0.01)
    # Control: were only contacts counted, something else would come out.
    assert probability(MAP, radius) > MAP(np.array([probability(None, radius)]))[0] + 0.003


def test_clearances_are_where_contacts_begin() -> None:
    person = volume()
    places = np.random.default_rng(0).uniform(-1.5, 1.5, (15, 1, 2, 3))
    robots = RobotMotion(places, places[:, :, ::-1].copy(), np.full((15, 1, 2), 0.05))
    found = clearances(person.bodies, robots)
    for shift in (-0.01, 0.01):
        for robot, future in np.argwhere((found > 0.02) & (found < 0.35)):
            wider = dataclasses.replace(robots, radii=robots.radii + found[robot, future] + shift)
            bodies = dataclasses.replace(
                person.bodies,
                starts=person.bodies.starts[[future]],
                ends=person.bodies.ends[[future]],
                radii=person.bodies.radii[[future]],
                weights=np.ones(1),
            )
            meets = collision_probability(bodies, wider)[robot]
            assert meets == (shift > 0.0)
    assert (found < 0.0).any() and (found == 0.4).any()


def test_in_the_reachable_set_nothing_is_mapped() -> None:
    assert probability(MAP, 0.05, validity=Validity.INCOMPLETE) == 1.0


def test_a_calibration_comes_back_with_its_map(tmp_path: Path) -> None:
    path = tmp_path / 'calibration.safetensors'
    save_calibration(path, dataclasses.replace(CLIPS, collision=MAP))
    found = load_calibration(str(path)).collision
    assert found is not None
    np.testing.assert_array_equal(found.scores, MAP.scores)
    np.testing.assert_array_equal(found.probabilities, MAP.probabilities)
    save_calibration(path, CLIPS)
    assert load_calibration(str(path)).collision is None


@pytest.mark.parametrize(
    ('scores', 'probabilities', 'message'),
    [
        ([0.0, 0.5], [0.1], 'scores'),
        ([0.5, 0.1], [0.1, 0.2], 'ascend'),
        ([0.1, 0.5], [0.2, 0.1], 'ascend'),
        ([0.1, 0.5], [0.2, 1.1], 'between'),
        ([], [], 'scores'),
    ],
)
def test_a_map_that_is_none_is_refused(
    scores: list[float], probabilities: list[float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        CollisionCalibration.from_mapping({'scores': scores, 'probabilities': probabilities})
