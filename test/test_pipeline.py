# SPDX-License-Identifier: Apache-2.0
"""The line as a whole: what comes out for what goes in, and what is said of the rest."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from cache_flow_models import TINY, write_density
from models import write_weights
from scenes import START_NS, message, stream
from skeleton.sources.test_sources import BODY, POSE

from motion_predictor_ros.config import (
    DensityConfig,
    PipelineConfig,
    PredictionConfig,
    SkeletonConfig,
)
from motion_predictor_ros.errors import ConfigError
from motion_predictor_ros.pipeline import Pipeline, Scene
from motion_predictor_ros.skeleton.frame import Rejection, Validity
from motion_predictor_ros.skeleton.tracking import Restart

NO_DENSITY = DensityConfig(enabled='never')


@pytest.fixture(scope='module')
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_weights(tmp_path_factory.mktemp('weights') / 'tiny.safetensors')


@pytest.fixture(scope='module')
def density(tmp_path_factory: pytest.TempPathFactory) -> DensityConfig:
    return write_density(tmp_path_factory.mktemp('density'), enabled='always', rate_hz=5.0)


@pytest.fixture
def pipeline(weights: Path) -> Pipeline:
    return load(weights)


def load(
    weights: Path, density: DensityConfig = NO_DENSITY, threads: int = 2, **skeleton: object
) -> Pipeline:
    prediction = PredictionConfig(weights=str(weights), device='cpu')
    return Pipeline.load(
        PipelineConfig(SkeletonConfig(**skeleton), prediction, density, threads=threads)  # type: ignore[arg-type]
    )


def test_a_person_warms_up_and_is_then_predicted(pipeline: Pipeline) -> None:
    scenes = [pipeline.step(each) for each in stream(0.0, 1.2, 'ann')]
    states = [scene.prediction.people[0].validity for scene in scenes if scene]
    ready = states.index(Validity.OK)
    assert len(scenes) == 36 and 27 <= ready <= 29  # about 0.96 s of 30 Hz
    assert states == [Validity.WARMING_UP] * ready + [Validity.OK] * (36 - ready)
    assert scenes[-1] is not None
    scene = scenes[-1].prediction
    assert scene.frame_id == 'world'
    assert scene.stamp_ns == START_NS + round(35 / 30 * 1e9)
    np.testing.assert_allclose(scene.horizons_s, 0.04 * np.arange(1, 26))
    assert scene.people[0].positions.shape == (25, 18, 3)
    assert 'observed' in scenes[0].prediction.people[0].reason


def test_people_come_out_in_the_order_they_went_in(pipeline: Pipeline) -> None:
    for each in stream(0.0, 1.2, 'bob', 'ann'):
        scene = pipeline.step(each)
    assert [person.person_id for person in scene.prediction.people] == ['bob', 'ann']
    late = pipeline.step(message(1.2, 'new', 'ann'))
    assert [(person.person_id, person.validity) for person in late.prediction.people] == [
        ('new', Validity.WARMING_UP),
        ('ann', Validity.OK),
        ('bob', Validity.STALE),  # missing, not gone
    ]


def test_observing_without_predicting_loses_nothing_for_the_next_prediction(
    weights: Path,
) -> None:
    every, some = load(weights), load(weights)
    messages = stream(0.0, 1.4, 'ann')
    for each in messages[:-1]:
        every.observe(each)
        some.step(each)
    windows = [p.step(messages[-1]).prediction.people[0].window for p in (every, some)]
    np.testing.assert_array_equal(windows[0].positions, windows[1].positions)


def test_two_pipelines_give_identical_answers(weights: Path) -> None:
    first, second = load(weights), load(weights)
    for each in stream(0.0, 1.5, 'ann', 'bob'):
        here, there = first.step(each), second.step(each)
        for mine, yours in zip(here.prediction.people, there.prediction.people, strict=True):
            assert mine.solver == yours.solver
            if mine.positions is not None:
                np.testing.assert_array_equal(mine.positions, yours.positions)


@pytest.mark.parametrize(
    ('spoilt', 'reason'),
    [
        (message(2.0, 'ann', frame='camera'), 'unknown_frame'),
        (message(1.0, 'ann'), 'stamp_backwards'),
        (message(-1e10, 'ann'), 'bad_stamp'),
        (message(2.0, 'ann', positions=np.zeros(7, np.float32)), 'wrong_length'),
        (message(2.0, 'ann', positions=np.full(54, np.inf, np.float32)), 'non_finite'),
        (message(2.0, 'ann', positions=np.full(54, np.nan, np.float32)), 'no_joints'),
        (message(2.0, 'ann', 'ann'), 'duplicate_id'),
    ],
)
def test_bad_input_is_counted_told_and_survived(
    weights: Path, spoilt: object, reason: str
) -> None:
    told: list[Rejection] = []
    prediction = PredictionConfig(weights=str(weights), device='cpu')
    config = PipelineConfig(prediction=prediction, density=NO_DENSITY)
    pipeline = Pipeline.load(config, told.append)
    for each in stream(0.0, 1.2, 'ann'):
        pipeline.step(each)
    pipeline.step(spoilt)
    assert dict(pipeline.skeleton.drops) == {reason: 1}
    assert [each.reason for each in told] == [reason] and told[0].message
    for each in stream(2.1, 3.3, 'ann'):
        scene = pipeline.step(each)
    assert scene.prediction.people[0].validity == Validity.OK


def test_time_that_jumps_back_begins_anew_once(pipeline: Pipeline) -> None:
    for each in [*stream(10.0, 11.2, 'ann'), *stream(0.0, 1.2, 'ann')]:
        scene = pipeline.step(each)
    assert pipeline.skeleton.resets == 1 and not pipeline.skeleton.drops
    assert scene.prediction.people[0].validity == Validity.OK


def test_a_gap_restarts_the_person_and_the_solver(pipeline: Pipeline) -> None:
    for each in stream(0.0, 1.2, 'ann'):
        pipeline.step(each)
    assert pipeline.step(message(1.9, 'ann')).prediction.people[0].validity == Validity.WARMING_UP
    for each in stream(1.95, 3.2, 'ann'):
        scene = pipeline.step(each)
        if scene.prediction.people[0].validity == Validity.OK:
            break
    assert not scene.prediction.people[0].solver.warm


def test_those_who_left_are_forgotten(pipeline: Pipeline) -> None:
    for each in [*stream(0.0, 1.2, 'ann', 'bob'), *stream(1.2, 2.4, 'ann')]:
        pipeline.step(each)
    assert set(pipeline.skeleton._buffers) == {'ann'}


def test_nobody_is_a_scene_too(pipeline: Pipeline) -> None:
    assert pipeline.predict() is None
    scene = pipeline.step(message(0.0))
    assert scene is not None and scene.prediction.people == ()


def test_missing_joints_make_a_person_incomplete(pipeline: Pipeline) -> None:
    for each in stream(0.0, 1.5, 'ann'):
        for person in each.persons:
            person.positions[51:54] = np.nan  # r_wrist
        scene = pipeline.step(each)
    (ann,) = scene.prediction.people
    assert ann.validity == Validity.INCOMPLETE
    assert 'r_wrist' in ann.reason
    assert ann.positions is None


def test_a_model_trained_with_missing_joints_infers_them_and_says_so(tmp_path: Path) -> None:
    pipeline = load(write_weights(tmp_path / 'masked.safetensors', masked=True))
    for each in stream(0.0, 1.5, 'ann', 'bob'):
        each.persons[0].positions[51:54] = np.nan  # r_wrist
        scene = pipeline.step(each)
    ann, bob = scene.prediction.people
    assert ann.validity == bob.validity == Validity.OK
    assert ann.reason == 'out of sight, inferred: r_wrist'
    assert bob.reason == ''
    assert ann.positions is not None and np.isfinite(ann.positions).all()


def test_who_is_whole_is_predicted_alike_beside_one_who_is_not(tmp_path: Path) -> None:
    """The mask of one person must not reach another's features."""
    weights = write_weights(tmp_path / 'masked.safetensors', masked=True)
    pipelines = load(weights), load(weights)
    for each, alike in zip(*(stream(0.0, 1.5, 'ann', 'bob') for _ in 'ab'), strict=True):
        each.persons[0].positions[51:54] = np.nan
        scenes = [pipe.step(one) for pipe, one in zip(pipelines, (each, alike), strict=True)]
    with_mask, without = (scene.prediction.people for scene in scenes)
    np.testing.assert_allclose(with_mask[1].positions, without[1].positions, atol=1e-5)
    assert np.abs(with_mask[0].positions - without[0].positions).max() > 1e-3  # control


def test_a_layout_that_does_not_fit_the_model_is_refused(weights: Path, tmp_path: Path) -> None:
    path = tmp_path / 'stick.yaml'
    path.write_text("joints: {hip: '', head: hip}")
    with pytest.raises(ConfigError, match='was made for'):
        load(weights, layout=str(path))


def body(time_s: float, pose: np.ndarray, who: str = 'ann') -> SimpleNamespace:
    """Return a message of somebody who walks with the joints of `pose` [m]."""
    moved = (pose + time_s * np.array([0.8, 0.0, 0.0])).astype(np.float32).ravel()
    return message(time_s, who, positions=moved)


def test_mirrored_people_are_said_and_never_predicted(weights: Path) -> None:
    told: list[Rejection] = []
    pipeline = load(weights)
    pipeline.skeleton._on_drop = told.append
    mirrored = POSE[list(BODY.mirror)]
    scenes = [pipeline.step(body(step / 30, mirrored)) for step in range(36)]
    last = scenes[-1].prediction.people[0]
    assert (last.validity, last.positions) == (Validity.OUT_OF_DISTRIBUTION, None)
    assert 'left and right are swapped' in last.reason
    assert pipeline.skeleton.drops['mirrored'] == sum(
        scene.prediction.people[0].validity == Validity.OUT_OF_DISTRIBUTION
        for scene in scenes
        if scene
    )
    assert told[-1].person_id == 'ann' and 'source_layout' in told[-1].message
    sound = load(weights)
    for step in range(36):
        scene = sound.step(body(step / 30, POSE))
    assert scene.prediction.people[0].validity == Validity.OK
    assert not sound.skeleton.drops


def test_a_flip_and_a_jump_drop_history_and_warm_start_and_are_said(weights: Path) -> None:
    pipeline = load(weights)
    said: list[Restart] = []
    pipeline.skeleton._on_restart = said.append
    for step in range(36):
        scene = pipeline.step(body(step / 30, POSE))
    assert scene.prediction.people[0].validity == Validity.OK
    flipped = pipeline.step(body(36 / 30, POSE[list(BODY.mirror)]))
    assert flipped.prediction.people[0].validity == Validity.WARMING_UP
    pipeline.step(body(37 / 30, POSE[list(BODY.mirror)] + np.array([3.0, 0.0, 0.0])))
    assert [each.reason for each in said] == ['flip', 'jump']
    assert pipeline.skeleton.restarts == {'flip': 1, 'jump': 1}
    assert "'ann'" in said[0].message and 'warm start dropped' in said[1].message


def test_without_a_density_model_there_are_no_futures(pipeline: Pipeline) -> None:
    assert pipeline.density is None
    assert all(pipeline.step(each).futures is None for each in stream(0.0, 1.5, 'ann'))


def test_everybodys_futures_are_weighed_at_their_own_rate(
    weights: Path, density: DensityConfig
) -> None:
    pipeline = load(weights, density)
    scenes = [pipeline.step(each) for each in stream(0.0, 3.0, 'bob', 'ann')]
    weighed = [scene for scene in scenes if scene.futures is not None]
    assert 9 <= len(weighed) <= 12  # two seconds at 5 Hz, after warming up
    for scene in weighed:
        futures, prediction = scene.futures, scene.prediction
        assert futures.person_ids == ('bob', 'ann')
        assert set(futures.stamp_ns) == {prediction.stamp_ns}
        assert futures.positions.shape == (2, 20, TINY.future, 18, 3)
        assert np.isfinite(futures.predicted_log_density).all()
        seen = prediction.people[0].window.positions[-1]
        assert np.abs(futures.positions[0] - seen).max() < 5.0  # in the room, beside the person


def test_futures_do_not_depend_on_how_often_was_predicted(
    weights: Path, density: DensityConfig
) -> None:
    every, some = load(weights, density), load(weights, density)
    messages = stream(0.0, 1.4, 'ann')
    for each in messages[:-1]:
        every.step(each)
        some.observe(each)
    for pipeline in (every, some):
        pipeline._futures_rate.reset()
    here, there = every.step(messages[-1]).futures, some.step(messages[-1]).futures
    np.testing.assert_array_equal(here.cached, there.cached)
    np.testing.assert_array_equal(here.novelty, there.novelty)
    # They are moved onto a fixed point, which is met to the solver's tolerance only.
    np.testing.assert_allclose(here.positions, there.positions, atol=2e-3)


def test_motion_predicted_between_peoples_futures_changes_no_scene(
    weights: Path, density: DensityConfig
) -> None:
    plain, live = (load(weights, density, threads=1) for _ in range(2))
    messages = stream(0.0, 2.0, 'ann', 'bob', 'eve')
    expected = [plain.step(message) for message in messages]
    waiting, scenes, between = list(zip(messages, expected, strict=True)), {}, []

    def answer_newer() -> None:
        if waiting and waiting[0][1].futures is None:  # futures are due again once these are done
            between.append(answer())

    def answer() -> Scene:
        message, _ = waiting.pop(0)
        assert live.observe(message)
        scene = live.predict(between=answer_newer)
        assert scene is not None
        scenes[scene.prediction.stamp_ns] = scene
        return scene

    while waiting:
        answer()
    assert len(between) >= 8 and all(scene.futures is None for scene in between)
    for scene in expected:
        other = scenes[scene.prediction.stamp_ns]
        for one, two in zip(scene.prediction.people, other.prediction.people, strict=True):
            np.testing.assert_array_equal(one.positions, two.positions)
        assert (scene.futures is None) == (other.futures is None)
        if scene.futures is not None:
            assert other.futures.person_ids == ('ann', 'bob', 'eve')
            np.testing.assert_array_equal(scene.futures.positions, other.futures.positions)
            densities = scene.futures.predicted_log_density, other.futures.predicted_log_density
            np.testing.assert_array_equal(*densities)


def test_futures_of_who_is_not_whole_are_not_to_be_trusted(
    tmp_path: Path, density: DensityConfig
) -> None:
    pipeline = load(write_weights(tmp_path / 'masked.safetensors', masked=True), density)
    found = []
    for each in stream(0.0, 1.3, 'ann', 'bob'):
        each.persons[0].positions[51:54] = np.nan  # r_wrist
        found.append(pipeline.step(each).futures)
    last = [each for each in found if each is not None][-1]
    assert last.judge(0) == (Validity.INCOMPLETE, 'imputed joints taken as observed: r_wrist')
    assert last.judge(1)[0] != Validity.INCOMPLETE


def test_a_density_model_that_cannot_read_the_windows_is_refused(
    weights: Path, tmp_path: Path
) -> None:
    longer = write_density(tmp_path, enabled='always', config=dataclasses.replace(TINY, past=30))
    with pytest.raises(ConfigError, match='observes 30 frames'):
        load(weights, longer)


def test_each_stage_that_was_due_is_timed(weights: Path, density: DensityConfig) -> None:
    pipeline = load(weights, density)
    told = []
    for each in stream(0.0, 1.3, 'ann'):
        scene = pipeline.step(each)
        assert scene is not None
        assert ('density' in pipeline.times.last_ms) == (scene.futures is not None)
        told.append(pipeline.times.last_ms)
        assert set(pipeline.times.last_processor_ms) == set(told[-1])
    assert all(set(own) - {'density'} == {'skeleton', 'prediction'} for own in told)
    assert 0 < sum('density' in own for own in told) < 5  # 5 Hz, for a third of a second
    assert all(0.0 < spent < 60_000.0 for own in told for spent in own.values())
    assert len(set(map(id, told))) == len(told)


def test_what_was_observed_without_an_answer_counts_towards_the_next(weights: Path) -> None:
    first, second, third = stream(0.0, 0.1, 'ann')
    pipeline = load(weights)
    pipeline.step(first)
    before = pipeline.times.last_ms
    pipeline.observe(second)
    assert pipeline.times.last_ms is before  # no answer yet
    pipeline.step(third)
    assert pipeline.times.last_ms is not before
