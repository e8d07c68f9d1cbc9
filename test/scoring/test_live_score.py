# SPDX-License-Identifier: Apache-2.0
"""Scores of live predictions equal known answers, and low coverage raises the alarm."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.stats import chi2, gaussian_kde
from volume_scenes import SHAPE, STANDING

from motion_predictor_ros.config import ScoreConfig
from motion_predictor_ros.density.types import Futures
from motion_predictor_ros.errors import DataError
from motion_predictor_ros.prediction.types import Prediction, ScenePrediction
from motion_predictor_ros.scoring.body_inside import body_inside
from motion_predictor_ros.scoring.live_score import LiveScore
from motion_predictor_ros.scoring.live_scorer import LiveScorer
from motion_predictor_ros.scoring.metrics import kernel_log_density
from motion_predictor_ros.skeleton.frame import Observation, SkeletonFrame, Validity
from motion_predictor_ros.skeleton.stage import IntakeResult
from motion_predictor_ros.skeleton.tracking import Restart
from motion_predictor_ros.volume.capsules import bodies
from motion_predictor_ros.volume.grid import VoxelGrid
from motion_predictor_ros.volume.sparse import SparseWindow
from motion_predictor_ros.volume.voxels import covered
from motion_predictor_ros.volume.wire import PublishedVolume

START_NS, PERIOD_NS = 1_700_000_000_000_000_000, 40_000_000
NAMES = SHAPE.layout.joint_names
HORIZONS_S = 0.04 * np.arange(1, 11)
SIGMA_M, LEVEL = 0.05, 0.95
RADIUS_M = SIGMA_M * float(np.sqrt(chi2.ppf(LEVEL, 3)))
"""The LEVEL quantile of the distance, if each axis is off by N(0, SIGMA_M^2)."""

STEPS = 20  # longer than the horizon, and what interpolation needs after it
CROWD = tuple(f'p{index}' for index in range(80))
Feed = Callable[[LiveScorer], None]


def observed(
    step: int, poses: dict[str, np.ndarray], anew: bool = False, void: tuple[Restart, ...] = ()
) -> IntakeResult:
    stamp_ns = START_NS + step * PERIOD_NS
    sure = np.ones(len(NAMES), dtype=np.float32)
    people = tuple(
        SkeletonFrame(person_id, stamp_ns, pose, sure) for person_id, pose in poses.items()
    )
    return IntakeResult(Observation(stamp_ns, 'map', people), void, anew)


def run_scorer(feed: Feed, people: tuple[str, ...] = CROWD, seed: int = 0) -> LiveScore:
    """Score predictions of people who then are off by N(0, SIGMA_M^2) from standing still."""
    random = np.random.default_rng(seed)
    then = {person_id: STANDING + random.normal(0.0, SIGMA_M, 3) for person_id in people}
    scorer = LiveScorer(SHAPE, ScoreConfig())
    scorer.observe(observed(0, dict.fromkeys(people, STANDING)))
    feed(scorer)
    for step in range(1, STEPS):
        scorer.observe(observed(step, then))
    return scorer.score()


def stays(
    people: tuple[str, ...] = CROWD, sigma_m: float = SIGMA_M, **but: Any
) -> ScenePrediction:
    """Predict that all people stand still."""
    still = np.broadcast_to(STANDING, (len(HORIZONS_S), *STANDING.shape)).copy()
    spread = np.tile(sigma_m**2 * np.eye(3), (*still.shape[:2], 1, 1))
    published = tuple(
        Prediction(person_id, START_NS, Validity.OK, positions=still, covariances=spread)
        for person_id in people
    )
    return replace(ScenePrediction(START_NS, 'map', 'm', NAMES, HORIZONS_S, published), **but)


def room(radius_m: float, size_m: float = 0.02) -> tuple[SparseWindow, ...]:
    """Return the volume of a standing body whose points move by at most `radius_m`."""
    points = SHAPE.points(STANDING[None, None])
    off = np.full(points.shape[1:3], radius_m)
    scale = SHAPE.scale(STANDING)
    body = bodies(SHAPE, points, np.ones(1), np.zeros(1), scale, off)
    grid = VoxelGrid.around(*body.bounds, size_m)
    inside = np.flatnonzero(covered(body, grid))
    sure = np.ones(len(inside), dtype=np.float32)
    return (SparseWindow(0.0, 0.4, grid, inside, sure, sure.astype(bool)),)


def keeps(radius_m: float, validity: Validity = Validity.OK) -> Feed:
    volume = room(radius_m)
    made = validity, 'coverage', LEVEL, 0.4, volume
    published = [PublishedVolume(person_id, *made) for person_id in CROWD]
    return lambda scorer: scorer.add_volumes(published, START_NS, 'map')


def test_correct_covariances_raise_no_alarm() -> None:
    score = run_scorer(lambda scorer: scorer.predict(stays()))
    assert score.covariances is not None and not score.warning_text
    assert score.covariances.independent == score.predictions == len(CROWD)
    assert score.covariances.share == pytest.approx(LEVEL, abs=4 * np.sqrt(0.95 * 0.05 / 80))


def test_too_small_covariances_raise_the_alarm() -> None:
    score = run_scorer(lambda scorer: scorer.predict(stays(sigma_m=0.6 * SIGMA_M)))
    assert 'covariances covered' in score.warning_text


def test_correct_volumes_raise_no_alarm_and_silence_that_of_covariances() -> None:
    def feed(scorer: LiveScorer) -> None:
        keeps(RADIUS_M)(scorer)
        scorer.predict(stays(sigma_m=0.6 * SIGMA_M))

    score = run_scorer(feed)
    ((end_s, volumes),) = score.volumes
    assert (end_s, volumes.level, volumes.independent) == (0.4, LEVEL, len(CROWD))
    assert 0.9 < volumes.share < 1.0 and not score.warning_text


def test_too_small_volumes_raise_the_alarm() -> None:
    score = run_scorer(keeps(0.4 * RADIUS_M))
    assert 'volumes until 0.4 s covered' in score.warning_text


def test_reachable_sets_are_counted_and_not_scored() -> None:
    score = run_scorer(keeps(0.0, Validity.INCOMPLETE))
    assert not score.volumes and not score.warning_text and score.fallbacks == 1.0


def test_a_body_is_inside_until_any_part_leaves_any_window() -> None:
    volume, times_s = room(0.1), np.array([0.0, 0.2, 0.4])
    poses = np.stack([STANDING, STANDING + np.array([0.09, 0.0, 0.0]), STANDING])
    assert body_inside(SHAPE, volume, poses, times_s)
    hand = poses.copy()
    hand[2, NAMES.index('l_wrist')] += [0.0, 0.0, 0.4]
    assert not body_inside(SHAPE, volume, hand, times_s)
    assert body_inside(SHAPE, volume, hand, np.array([0.0, 0.2, 0.5]))  # after the window
    (window,) = volume
    far = [replace(window, grid=replace(window.grid, origin=(50.0, 0.0, 0.0)))]
    assert not body_inside(SHAPE, far, poses, times_s)


def test_mpjpe_is_the_distance_from_the_observed_joints() -> None:
    score = run_scorer(lambda scorer: scorer.predict(stays(('anna',))), ('anna',), seed=3)
    off = np.linalg.norm(np.random.default_rng(3).normal(0.0, SIGMA_M, 3))
    np.testing.assert_allclose(score.mpjpe_m, off)
    np.testing.assert_allclose(score.horizons_s, HORIZONS_S)


def test_the_density_is_that_of_scipy() -> None:
    random = np.random.default_rng(0)
    samples, points = random.normal(size=(9, 4, 3)), random.normal(size=(4, 3))
    weights = random.dirichlet(np.ones(9))
    found = kernel_log_density(samples, weights, points, error_m=0.0)
    for joint in range(4):
        wanted = gaussian_kde(samples[:, joint].T, weights=weights).logpdf(points[joint])
        assert found[joint] == pytest.approx(wanted[0])


def futures(spread_m: float) -> Futures:
    """Return futures that drift away from standing still in random directions."""
    random = np.random.default_rng(5)
    shape = (len(CROWD), 20, len(HORIZONS_S), len(NAMES), 3)
    positions = STANDING + random.normal(0.0, spread_m, (*shape[:2], 1, 1, 3)) + np.zeros(shape)
    ones = np.ones(shape[:2])
    return Futures(
        CROWD, np.full(len(CROWD), START_NS), HORIZONS_S, positions, ones / 20, ones,
        np.zeros(shape[:2], dtype=np.int64), np.ones(len(CROWD)), 1, np.zeros(len(CROWD)),
    )  # fmt: skip


def test_futures_with_the_true_spread_have_the_highest_density() -> None:
    def density(spread_m: float) -> float:
        published = futures(spread_m)
        score = run_scorer(lambda scorer: scorer.add_futures(published, START_NS, 'map', NAMES))
        assert score.futures == len(CROWD)
        return float(score.log_density[-1])

    gaussian = -1.5 * np.log(2 * np.pi * np.e * SIGMA_M**2)  # the upper bound
    assert gaussian - 0.6 < density(SIGMA_M) < gaussian + 0.1
    assert density(SIGMA_M) > max(density(0.3 * SIGMA_M), density(4.0 * SIGMA_M))


def test_people_not_observed_throughout_are_counted_and_not_scored() -> None:
    scorer = LiveScorer(SHAPE, ScoreConfig())
    scorer.observe(observed(0, {'anna': STANDING, 'ben': STANDING}))
    scorer.predict(stays(('anna', 'ben')))
    for step in range(1, STEPS):
        there = {'anna': STANDING} if 3 < step < 9 else {'anna': STANDING, 'ben': STANDING}
        scorer.observe(observed(step, there))
    assert scorer.unscored['not_seen'] == 1 and scorer.score().predictions == 1


@pytest.mark.parametrize('reason', ['swap', 'restart', 'time_jump'])
def test_restarts_and_time_jumps_discard_pending_predictions(reason: str) -> None:
    scorer = LiveScorer(SHAPE, ScoreConfig())
    scorer.observe(observed(0, {'anna': STANDING}))
    scorer.predict(stays(('anna',)))
    if reason == 'restart':
        void = (Prediction('anna', START_NS, Validity.WARMING_UP),)
        scorer.predict(replace(stays(), people=void))
    else:
        void = (Restart('anna', 'swap', ''),) if reason == 'swap' else ()
        scorer.observe(observed(1, {'anna': STANDING}, reason == 'time_jump', void))
    for step in range(2, STEPS):
        scorer.observe(observed(step, {'anna': STANDING}))
    assert scorer.unscored[reason] == 1 and scorer.score().predictions == 0


def test_predictions_of_other_frames_joints_or_times_are_rejected() -> None:
    scorer = LiveScorer(SHAPE, ScoreConfig())
    scorer.predict(stays())
    assert scorer.unscored['not_observed'] == 1
    scorer.observe(observed(0, {'anna': STANDING}))
    with pytest.raises(DataError, match='fixed_frame'):
        scorer.predict(stays(frame_id='camera'))
    with pytest.raises(DataError, match='layout'):
        scorer.predict(stays(joint_names=('a', 'b')))
    scorer.predict(stays(stamp_ns=START_NS + 10 * 10**9))
    assert scorer.unscored['not_observed'] == 2


def test_predictions_are_scored_at_a_limited_rate_and_memory() -> None:
    scorer = LiveScorer(SHAPE, ScoreConfig(rate_hz=5.0))
    for step in range(200):
        scorer.observe(observed(step, {'anna': STANDING}))
        scorer.predict(stays(('anna',), stamp_ns=START_NS + step * PERIOD_NS))
    assert len(scorer._tracks['anna'].frames) < 100 and len(scorer._pending) < 10
    assert 35 <= scorer.score().predictions <= 40  # of 8 s
