# SPDX-License-Identifier: Apache-2.0
"""What the line gives up when told to: answers beyond a rate, futures, volumes."""

from pathlib import Path

import numpy as np
import pytest
from cache_flow_models import write_density
from models import write_weights
from scenes import stream
from test_pipeline import load
from volume_scenes import PERIOD_S, SHAPE, calibration

from motion_predictor_ros.config import DensityConfig, VolumeConfig
from motion_predictor_ros.runtime.load_shedding import Level, degradation_levels
from motion_predictor_ros.skeleton.frame import Rejection, Validity
from motion_predictor_ros.volume.predictor import VolumePredictor


@pytest.fixture(scope='module')
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_weights(tmp_path_factory.mktemp('weights') / 'tiny.safetensors')


@pytest.fixture(scope='module')
def density(tmp_path_factory: pytest.TempPathFactory) -> DensityConfig:
    return write_density(tmp_path_factory.mktemp('density'), enabled='always', rate_hz=5.0)


def test_no_more_is_answered_than_was_asked_for(weights: Path) -> None:
    pipeline = load(weights)
    told: list[Rejection] = []
    pipeline.skeleton._on_drop = told.append
    answers = [pipeline.step(each) for each in stream(0.0, 1.5, 'ann', rate_hz=100.0)]
    scenes = [each.prediction for each in answers if each is not None]
    assert 74 <= len(scenes) <= 76  # 50 a second
    assert pipeline.skeleton.drops == {'rate_limited': 150 - len(scenes)}
    assert len(told) == 150 - len(scenes)
    assert scenes[-1].people[0].validity == Validity.OK  # what was not answered was heard
    pipeline.max_rate_hz = 10.0
    later = [pipeline.step(each) for each in stream(1.5, 2.5, 'ann', rate_hz=100.0)]
    assert sum(each is not None for each in later) in (10, 11)


def test_what_a_level_gives_up_is_not_done_and_a_replay_at_it_answers_the_same(
    weights: Path, density: DensityConfig
) -> None:
    fewer, none = degradation_levels(density=True, volume=False, stale_after_s=0.3)[1:3]
    messages = stream(0.0, 1.2, 'ann')
    for level, count in ((fewer, 5), (none, 0)):
        live, replayed = load(weights, density), load(weights, density)
        live.level = replayed.level = level
        drawn = []
        for each in messages:
            here, there = live.step(each), replayed.step(each)
            assert here is not None and there is not None
            if here.futures is not None and there.futures is not None:
                np.testing.assert_array_equal(here.futures.positions, there.futures.positions)
                drawn.append(here.futures.positions.shape[1])
        assert set(drawn) == ({count} if count else set())
        first, second = here.prediction.people[0], there.prediction.people[0]
        np.testing.assert_array_equal(first.positions, second.positions)


def test_volumes_are_given_up_after_futures_and_say_so(
    weights: Path, density: DensityConfig
) -> None:
    config = VolumeConfig(level=0.95, horizon_s=1.0, voxel_m=0.1)
    volume = VolumePredictor(SHAPE, calibration(np.linspace(0.1, 1.0, 60)), config, PERIOD_S)
    pipeline = load(weights, density)
    pipeline.volume = volume
    told: dict[Level, list[tuple[bool, str, float] | None]] = {}
    levels = degradation_levels(density=True, volume=True, stale_after_s=0.3)
    messages = iter(stream(0.0, 1.0 + 0.4 * 5, 'ann'))
    for level, seconds in zip(levels[:5], (1.4, 0.4, 0.4, 0.4, 0.4), strict=True):
        pipeline.level = level
        for _ in range(round(30 * seconds)):
            scene = pipeline.step(next(messages))
            if scene is not None and 'density' in pipeline.times.last_ms:
                assert scene.futures is not None
            if scene is not None and scene.volumes:
                (each,) = scene.volumes
                said = each.approximate, each.cause, each.windows[0].grid.size_m
                told.setdefault(level, []).append(said)
    full, fewer, none, coarser, off = levels[:5]
    assert {each[0] for each in told[full]} == {False} and off not in told
    assert {each[0] for each in told[fewer]} == {True}
    assert {each[1:] for each in told[none]} == {('no_futures', 0.1)}
    assert {each[1:] for each in told[coarser]} == {('no_futures', 0.2)}
