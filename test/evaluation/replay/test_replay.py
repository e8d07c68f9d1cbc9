# SPDX-License-Identifier: Apache-2.0
"""Scoring against motion whose future is known exactly."""

from pathlib import Path

import numpy as np
import pytest
from cache_flow_models import write_density
from models import write_weights
from scenes import message, pose, stream

from motion_predictor_ros.config import (
    DensityConfig,
    InputConfig,
    PipelineConfig,
    PredictionConfig,
    ScoreConfig,
)
from motion_predictor_ros.errors import BagError
from motion_predictor_ros.evaluation.replay.replay import Replay, replay, score
from motion_predictor_ros.evaluation.report.pictures import draw_scene
from motion_predictor_ros.evaluation.report.tables import bag_report
from motion_predictor_ros.pipeline import Pipeline
from motion_predictor_ros.scoring.live_scorer import LiveScorer
from motion_predictor_ros.scoring.metrics import (
    constant_velocity,
    mean_joint_error,
    mpjpe_mm,
    repeat_last,
    report_frames,
)
from motion_predictor_ros.skeleton.frame import Validity
from motion_predictor_ros.skeleton.layout import SkeletonLayout
from motion_predictor_ros.skeleton.stage import Intake
from motion_predictor_ros.volume.body import BodyShape

HORIZONS_S = 0.04 * np.arange(1, 26)
NO_DENSITY = DensityConfig(enabled='never')


@pytest.fixture(scope='module')
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_weights(tmp_path_factory.mktemp('weights') / 'tiny.safetensors')


@pytest.fixture(scope='module')
def played(weights: Path) -> Replay:
    return replay(stream(0.0, 4.0, 'ann', 'bob'), load(weights))


def load(weights: Path, density: DensityConfig = NO_DENSITY) -> Pipeline:
    prediction = PredictionConfig(weights=str(weights), device='cpu')
    return Pipeline.load(PipelineConfig(prediction=prediction, density=density))


def test_baselines_repeat_or_extrapolate() -> None:
    observed = np.arange(5.0)[:, None, None] * np.array([[[1.0, 2.0, 3.0]]])
    np.testing.assert_allclose(repeat_last(observed, 3), np.repeat(observed[-1:], 3, 0))
    ahead = np.arange(5.0, 8.0)[:, None, None] * np.array([[[1.0, 2.0, 3.0]]])
    np.testing.assert_allclose(constant_velocity(observed, 3), ahead)


def test_errors_are_means_over_joints_in_millimetres_at_the_named_horizons() -> None:
    truth = np.zeros((25, 18, 3))
    guess = truth.copy()
    guess[:, :9, 0] = HORIZONS_S[:, None]  # half of the joints off by the horizon in metres
    errors = mean_joint_error(guess, truth)
    expected = {'80': 40.0, '160': 80.0, '320': 160.0, '400': 200.0, '560': 280.0, '1000': 500.0}
    assert mpjpe_mm([errors], HORIZONS_S) == pytest.approx(expected)
    assert report_frames(HORIZONS_S) == {80: 1, 160: 3, 320: 7, 400: 9, 560: 13, 1000: 24}
    assert list(report_frames(HORIZONS_S[:10])) == [80, 160, 320, 400]


def test_the_truth_is_the_later_observation(played: Replay) -> None:
    cases = score(played)
    assert len(cases) > 50
    for case in cases[::10]:
        at_s = case.prediction.stamp_ns / 1e9 - 1_700_000_000
        person = case.prediction.person_id
        later = np.array([pose(at_s + ahead, person) for ahead in HORIZONS_S])
        np.testing.assert_allclose(case.truth, later, atol=1e-3)
        still = mean_joint_error(np.repeat([pose(at_s, person)], 25, 0), later)
        np.testing.assert_allclose(case.errors['repeat_last'], still, atol=1e-3)


def test_a_live_scorer_equals_a_replay(played: Replay) -> None:
    layout = SkeletonLayout.load('body18')
    intake, scorer = (
        Intake(InputConfig(), layout),
        LiveScorer(BodyShape.load('body18'), ScoreConfig(rate_hz=100.0)),
    )
    scenes = {scene.stamp_ns: scene for _, scene in played.scenes}
    for each in stream(0.0, 4.0, 'ann', 'bob'):
        observation = intake.decode(each)
        assert observation is not None
        arrival = intake.accept(observation)
        assert arrival is not None
        scorer.observe(arrival)
        if arrival.observation.stamp_ns in scenes:
            scorer.predict(scenes[arrival.observation.stamp_ns])
    live = scorer.score()
    due_ns = live.stamp_ns - round(1.25e9)  # a second's truth, and what interpolation needs
    errors = [
        case.errors['motion_deq']
        for case in score(played)
        if case.prediction.validity == Validity.OK and case.prediction.stamp_ns <= due_ns
    ]
    assert live.predictions == len(errors) > 50
    np.testing.assert_allclose(live.mpjpe_m, np.mean(errors, axis=0), rtol=1e-12)


def test_only_predictions_with_a_fully_observed_future_are_scored(weights: Path) -> None:
    hole = [*stream(0.0, 2.5, 'ann'), message(2.5), *stream(2.9, 4.0, 'ann')]
    cases = score(replay(hole, load(weights)))
    stamps_s = np.array([case.prediction.stamp_ns for case in cases]) / 1e9 - 1_700_000_000
    assert len(cases) > 10 and stamps_s.max() < 1.55


def test_a_looped_bag_is_scored_within_each_loop(weights: Path) -> None:
    once = stream(0.0, 3.0, 'ann')
    single, twice = replay(once, load(weights)), replay([*once, *once], load(weights))
    first, both = score(single), score(twice)
    assert len(both) == 2 * len(first)
    np.testing.assert_allclose(both[-1].truth, first[-1].truth)


def test_the_report_has_the_documented_keys(played: Replay) -> None:
    report = bag_report(played, score(played))
    methods = {'motion_deq', 'repeat_last', 'constant_velocity'}
    assert set(report['mpjpe_mm']) == methods
    assert list(report['mpjpe_mm']['motion_deq']) == ['80', '160', '320', '400', '560', '1000']
    assert set(report['people']) == {'ann', 'bob'}
    assert set(report['people']['ann']['mpjpe_mm']) == methods
    assert report['solver'].keys() >= {'steps_mean', 'residual_median', 'converged_share'}
    assert set(report['latency_ms']) == {'p50', 'p99', 'stages'}
    assert set(report['latency_ms']['stages']) == {'skeleton', 'prediction'}
    assert report['frames'] == 120 and report['drops'] == {}


def test_two_replays_differ_in_latency_only(weights: Path, played: Replay) -> None:
    first = bag_report(played, score(played))
    again = replay(stream(0.0, 4.0, 'ann', 'bob'), load(weights))
    second = bag_report(again, score(again))
    first.pop('latency_ms'), second.pop('latency_ms')
    assert first == second


def test_a_bag_without_scorable_predictions_is_an_error(weights: Path) -> None:
    played = replay(stream(0.0, 1.5, 'ann'), load(weights))
    with pytest.raises(BagError, match='nothing to score in 45 messages'):
        bag_report(played, score(played))


def test_picture_is_drawn(played: Replay, tmp_path: Path) -> None:
    layout = SkeletonLayout.load('body18')
    draw_scene(score(played), HORIZONS_S, layout, tmp_path / 'scene.png')
    assert (tmp_path / 'scene.png').read_bytes().startswith(b'\x89PNG')


def test_futures_are_kept_as_published_and_reported(weights: Path, tmp_path: Path) -> None:
    pipeline = load(weights, write_density(tmp_path, enabled='always', rate_hz=5.0))
    played = replay(stream(0.0, 4.0, 'ann', 'bob'), pipeline)
    assert len(played.futures) == 16  # three seconds at 5 Hz, after warming up
    assert all(each.positions.shape == (2, 20, 1, 18, 3) for each in played.futures.values())
    report = bag_report(played, score(played))['futures']
    assert report['times'] == 16 and report['model'].startswith('tiny@')
    assert 0.0 <= report['out_of_distribution_share'] <= 1.0
    assert np.isfinite(report['predicted_log_density_median'])
