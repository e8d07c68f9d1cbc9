# SPDX-License-Identifier: Apache-2.0
"""Futures of everybody at once: they move with the room, and their provenance is right."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from cache_flow_models import TINY, write_density
from walkers import walkers

from motion_predictor_ros.config import DensityConfig
from motion_predictor_ros.density.body_frame import BodyFrame, Placement
from motion_predictor_ros.density.cache_flow.cache import load_cache
from motion_predictor_ros.density.cache_flow.checkpoint import load_cache_flow
from motion_predictor_ros.density.predictor import (
    CacheFlowPredictor,
    continue_as_nearest,
)
from motion_predictor_ros.density.recentring import recentre
from motion_predictor_ros.errors import CheckpointError
from motion_predictor_ros.prediction.types import Prediction
from motion_predictor_ros.runtime.threads import WorkerPool
from motion_predictor_ros.skeleton.frame import Validity, Window

Positions = np.ndarray


@pytest.fixture(scope='module')
def files(tmp_path_factory: pytest.TempPathFactory) -> DensityConfig:
    return write_density(tmp_path_factory.mktemp('density'))


def window(person_id: str, positions: Positions) -> Window:
    time, joint = positions.shape[:2]
    return Window(
        person_id,
        1000,
        positions,
        np.ones((time, joint), dtype=bool),
        np.ones((time, joint), dtype=np.float32),
        restarted=False,
    )


def seen(person: int = 0) -> Positions:
    start = 200 * person + 50
    return walkers().positions[start : start + 2 * TINY.past : 2].astype(np.float64)


def futures_of(config: DensityConfig, *positions: Positions) -> np.ndarray:
    answer = CacheFlowPredictor.load(config).predict(
        [window(str(index), each) for index, each in enumerate(positions)]
    )
    assert answer is not None
    return answer.positions


ANGLE = 2.2
TURN = np.array(
    [
        [math.cos(ANGLE), -math.sin(ANGLE), 0.0],
        [math.sin(ANGLE), math.cos(ANGLE), 0.0],
        [0.0, 0.0, 1.0],
    ]
)


@pytest.mark.parametrize('rule', ['nearest', 'flow'])
def test_a_persons_futures_are_the_same_to_the_last_bit_with_one_thread_or_two(
    files: DensityConfig, rule: str
) -> None:
    config = dataclasses.replace(files, rule=rule)
    bodies = (seen(0), seen(1), seen(1)[::-1].copy())
    windows = [window(str(index), body) for index, body in enumerate(bodies)]
    alone, shared = (CacheFlowPredictor.load(config, WorkerPool(count)) for count in (1, 2))
    whole = alone.predict(windows)
    assert whole is not None
    answer = shared.predict(windows)
    assert answer is not None and answer.person_ids == whole.person_ids
    for name in ('positions', 'log_density', 'novelty', 'effective_sample_size'):
        np.testing.assert_array_equal(getattr(answer, name), getattr(whole, name))
    assert np.abs(whole.positions[0] - whole.positions[1]).max() > 1e-3  # control: people differ
    assert alone.sample([]) is None


@pytest.mark.parametrize('rule', ['nearest', 'flow'])
def test_futures_turn_with_the_room(files: DensityConfig, rule: str) -> None:
    config = dataclasses.replace(files, rule=rule)
    shift = np.array([3.0, -8.0, 0.0])
    plain = futures_of(config, seen())
    turned = futures_of(config, seen() @ TURN.T + shift)
    assert float(np.abs(turned - (plain @ TURN.T + shift)).max()) < 1e-4


def test_a_model_that_sees_the_room_is_caught(files: DensityConfig) -> None:
    """The same check on a body frame with the axes of the room."""
    trained = load_cache_flow(files.weights, torch.device('cpu'))
    cache = load_cache(files.cache, trained)

    class Fixed(BodyFrame):
        def place(self, last):  # type: ignore[no-untyped-def]
            return Placement(last[:, 0], np.tile(np.eye(3), (len(last), 1, 1)))

        def enter(self, positions, placement):  # type: ignore[no-untyped-def]
            return positions - placement.origin[:, None, None]

        def leaving(self, rotation):  # type: ignore[no-untyped-def]
            return torch.eye(54).to(rotation).expand(len(rotation), -1, -1)

    predictor = CacheFlowPredictor(
        dataclasses.replace(trained, frame=Fixed(18, 0, 1, 2)), cache, files
    )
    plain = predictor.predict([window('a', seen())])
    predictor.reset()
    turned = predictor.predict([window('a', seen() @ TURN.T)])
    assert plain is not None and turned is not None
    assert float(np.abs(turned.positions - plain.positions @ TURN.T).max()) > 1e-2


def test_far_from_the_origin_nothing_changes(files: DensityConfig) -> None:
    far = np.array([1e5, -1e5, 0.0])
    gap = futures_of(files, seen() + far) - far - futures_of(files, seen())
    assert float(np.abs(gap).max()) < 1e-5


def test_people_are_answered_in_order_with_weights_that_sum_to_one(files: DensityConfig) -> None:
    predictor = CacheFlowPredictor.load(files)
    answer = predictor.predict([window('ann', seen()), window('bob', seen(1))])
    assert answer is not None and answer.person_ids == ('ann', 'bob')
    assert answer.positions.shape == (2, 20, TINY.future, 18, 3)
    np.testing.assert_allclose(answer.weights.sum(1), 1.0)
    assert ((answer.effective_sample_size >= 1) & (answer.effective_sample_size <= 200)).all()
    assert answer.importance_samples == 200
    np.testing.assert_allclose(answer.horizons_s, 0.04 * np.arange(1, TINY.future + 1))
    assert predictor.predict([]) is None


def test_a_seed_gives_the_same_futures_and_another_others(files: DensityConfig) -> None:
    first, second = futures_of(files, seen()), futures_of(files, seen())
    np.testing.assert_array_equal(first, second)
    other = futures_of(dataclasses.replace(files, seed=5), seen())
    assert not np.array_equal(first, other)


def test_log_density_of_a_cached_future_is_that_of_the_cache(files: DensityConfig) -> None:
    """Played back exactly, a latent has the density that the cache says, through the flow."""
    predictor = CacheFlowPredictor.load(files)
    answer = predictor.predict([window('ann', seen())])
    assert answer is not None
    x = predictor.cache.x[torch.from_numpy(answer.cached[0])]
    _, q = predictor.observe(seen()[None])
    repeated = type(q)(*(each.expand(20, *each.shape[1:]) for each in vars(q).values()))
    with torch.inference_mode():
        expected = predictor.trained.module.log_prob(repeated, x).double().numpy()
    np.testing.assert_allclose(answer.log_density[0], expected, atol=1e-3)


def test_an_arbitrary_future_has_a_density_that_the_room_does_not_change(
    files: DensityConfig,
) -> None:
    predictor = CacheFlowPredictor.load(files)
    observed, future = seen()[None], seen(0)[None, -1:].repeat(TINY.future, axis=1)
    plain = predictor.log_density(observed, future)
    turned = predictor.log_density(observed @ TURN.T, future @ TURN.T)
    np.testing.assert_allclose(plain, turned, atol=1e-3)
    running = future + np.arange(TINY.future)[None, :, None, None] * np.array([2.0, 0, 0])
    assert float(np.abs(predictor.log_density(observed, running) - plain)[0]) > 1e-2


def test_motion_unlike_the_cache_is_flagged(files: DensityConfig) -> None:
    predictor = CacheFlowPredictor.load(files)
    answer = predictor.predict([window('ann', seen())])
    assert answer is not None
    figures = {**predictor.cache.figures, 'typical_distance': 1e-3}
    predictor.cache = dataclasses.replace(predictor.cache, figures=figures)
    strict = predictor.predict([window('ann', seen())])
    assert strict is not None and bool(strict.out_of_distribution[0])
    figures['typical_distance'] = 1e3
    lenient = predictor.predict([window('ann', seen())])
    assert lenient is not None and not bool(lenient.out_of_distribution[0])


def test_the_same_windows_give_the_same_futures_after_any_calls(
    files: DensityConfig,
) -> None:
    predictor = CacheFlowPredictor.load(files)
    first = predictor.predict([window('ann', seen())])
    predictor.predict([window('ann', seen(1))])
    again = predictor.predict([window('ann', seen())])
    later = predictor.predict([dataclasses.replace(window('ann', seen()), stamp_ns=2000)])
    assert first is not None and again is not None and later is not None
    np.testing.assert_array_equal(first.positions, again.positions)
    assert not np.array_equal(first.positions, later.positions)


def test_only_the_end_of_a_longer_window_is_read(files: DensityConfig) -> None:
    predictor = CacheFlowPredictor.load(files)
    longer = np.concatenate([seen(1), seen()])
    answers = [predictor.predict([window('ann', each)]) for each in (seen(), longer)]
    assert answers[0] is not None and answers[1] is not None
    np.testing.assert_array_equal(answers[0].positions, answers[1].positions)


def test_joints_out_of_sight_are_named(files: DensityConfig) -> None:
    hidden = window('bob', seen())
    hidden.observed[:, 17] = False
    answer = CacheFlowPredictor.load(files).predict([window('ann', seen()), hidden])
    assert answer is not None and answer.out_of_sight == ('', 'r_wrist')
    assert answer.judge(1)[0] == Validity.INCOMPLETE and 'r_wrist' in answer.judge(1)[1]
    assert answer.judge(0)[0] != Validity.INCOMPLETE


def test_predictions_have_the_density_of_their_motion(files: DensityConfig) -> None:
    predictor = CacheFlowPredictor.load(files)
    future = seen()[-1:].repeat(TINY.future, axis=0)
    people = [window('ann', seen()), window('bob', seen(1))]
    predictions = [
        Prediction('ann', 1000, Validity.OK, positions=future),
        Prediction('bob', 1000, Validity.NOT_CONVERGED),
    ]
    answer = predictor.predict(people, predictions)
    assert answer is not None and answer.predicted_log_density is not None
    alone = predictor.log_density(seen()[None], future[None])[0]
    assert answer.predicted_log_density[0] == pytest.approx(alone, abs=1e-3)
    assert np.isnan(answer.predicted_log_density[1])
    plain = predictor.predict(people)
    assert plain is not None and plain.predicted_log_density is None


def test_futures_are_moved_onto_predictions_and_stay_without_one(files: DensityConfig) -> None:
    predictor = CacheFlowPredictor.load(files)
    people = [window('ann', seen()), window('bob', seen(1))]
    far = seen()[-1:].repeat(TINY.future, axis=0) + 3.0
    predictions = [
        Prediction('ann', 1000, Validity.OK, positions=far),
        Prediction('bob', 1000, Validity.NOT_CONVERGED),
    ]
    drawn, moved = predictor.predict(people), predictor.predict(people, predictions)
    assert drawn is not None and moved is not None
    expected = recentre(drawn.positions[0], drawn.horizons_s, far, 0)
    np.testing.assert_array_equal(moved.positions[0], expected)
    assert np.abs(expected - drawn.positions[0]).max() > 1.0
    np.testing.assert_array_equal(moved.positions[1], drawn.positions[1])


def test_a_short_prediction_continues_as_the_nearest_future() -> None:
    futures = np.zeros((2, 6, 1, 3))
    futures[0, :, 0, 0], futures[1, :, 0, 1] = np.arange(6), np.arange(6)
    predicted = futures[1, :3] + np.array([0.0, 0.0, 0.5])
    whole = continue_as_nearest(predicted, futures)
    np.testing.assert_array_equal(whole, futures[1] + np.array([0.0, 0.0, 0.5]))
    np.testing.assert_array_equal(continue_as_nearest(futures[0], futures[:, :4]), futures[0, :4])


def test_the_model_runs_if_its_files_exist_unless_configured(files: DensityConfig) -> None:
    assert CacheFlowPredictor.load_if_enabled(files) is not None
    assert CacheFlowPredictor.load_if_enabled(dataclasses.replace(files, enabled='never')) is None
    gone = dataclasses.replace(files, cache='no_such_cache')
    assert CacheFlowPredictor.load_if_enabled(gone) is None
    with pytest.raises(CheckpointError, match='no_such_cache'):
        CacheFlowPredictor.load_if_enabled(dataclasses.replace(gone, enabled='always'))
