# SPDX-License-Identifier: Apache-2.0
"""The Human3.6M and 3DPW protocols against numbers known by hand and the published count."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from licensed_files import body_of, h36m_rows, write_3dpw, write_h36m
from models import motion_deq, write_weights

from motion_predictor_ros.checkpoint import save_checkpoint
from motion_predictor_ros.cli.main import main
from motion_predictor_ros.data.h36m import ACTIONS, FED_NAMES, pose_h36m
from motion_predictor_ros.errors import CheckpointError, DataError
from motion_predictor_ros.evaluation.motion.pose_benchmarks import (
    PROTOCOLS,
    Protocol,
    baseline_predictors,
    evaluate_benchmark,
    evaluate_poses,
    model_predictor,
)
from motion_predictor_ros.prediction.motion_deq.checkpoint import TrainedMotionDEQ
from motion_predictor_ros.prediction.motion_deq.model import MotionDEQConfig

H36M, DPW = PROTOCOLS['h36m'], PROTOCOLS['3dpw']


def evaluate(
    protocol: Protocol, folder: Path, model: TrainedMotionDEQ | None = None
) -> dict[str, Any]:
    models = {} if model is None else {'motion_deq': model}
    return evaluate_benchmark(protocol, protocol.load(folder), models)


FRAMES = {'80': 1, '160': 3, '320': 7, '400': 9, '560': 13, '1000': 24}

# As the literature's code writes them.
USED = [joint for joint in range(32) if joint not in (0, 1, 6, 11, 16, 20, 23, 24, 28, 31)]
COPY_TO = [16, 20, 23, 24, 28, 31]
COPY_FROM = [13, 19, 22, 13, 27, 30]


def march(frames: int, step: float, joints: int, still: list[int]) -> np.ndarray:
    """Let every joint but `still` go by `step` [mm] along x in every frame."""
    positions = np.random.default_rng(0).normal(scale=400, size=(1, joints, 3))
    positions = positions.repeat(frames, axis=0)
    positions[..., 0] += step * np.arange(frames)[:, None]
    positions[:, still] = positions[:1, still]
    return positions


def h36m_march(frames: int, step: float) -> np.ndarray:
    positions = march(frames, step, 32, [0, 1, 6, 11])
    positions[:, COPY_TO] = positions[:, COPY_FROM]
    return positions


def published(positions: np.ndarray, past: int, future: int) -> np.ndarray:
    """Count the error of repeating the last frame as the literature's code does, by frame."""
    errors = []
    for first in range(len(positions) - past - future + 1):
        window = positions[first : first + past + future].astype(np.float64)
        predicted = window[past:].copy()
        predicted[:, USED] = window[past - 1, USED]
        predicted[:, COPY_TO] = predicted[:, COPY_FROM]
        errors.append(np.linalg.norm(predicted - window[past:], axis=-1).mean(-1))
    return np.mean(errors, axis=0)


def test_marching_on_is_wrong_by_the_way_gone_in_28_of_32_joints() -> None:
    report = evaluate_poses(
        {'walking': [h36m_march(60, 3.0)]}, H36M, (10, 25), baseline_predictors(25)
    )
    expected = {ms: 3.0 * (frame + 1) * 28 / 32 for ms, frame in FRAMES.items()}
    assert report['repeat_last']['walking'] == pytest.approx(expected)
    assert max(report['constant_velocity']['walking'].values()) < 1e-9


@pytest.mark.parametrize(
    ('joint', 'counts'), [('Neck', 3), ('LeftHand', 2), ('RightWristEnd', 2), ('Head', 1)]
)
def test_a_joint_counts_once_and_again_for_every_copy(joint: str, counts: int) -> None:
    def one_off(observed: np.ndarray) -> np.ndarray:
        predicted = baseline_predictors(10)['repeat_last'](observed)
        predicted[:, :, FED_NAMES.index(joint), 1] += 64.0
        return predicted

    clips = {'walking': [h36m_march(40, 0.0)]}
    errors = evaluate_poses(clips, H36M, (10, 10), {'a': one_off})['a']['walking']
    assert errors == pytest.approx(dict.fromkeys(list(FRAMES)[:4], 2.0 * counts))


@pytest.mark.parametrize('lengths', [(10, 10), (10, 25), (25, 25)])
def test_the_error_on_real_kinematics_is_the_published_one(lengths: tuple[int, int]) -> None:
    positions = pose_h36m(h36m_rows(70, 3))
    report = evaluate_poses(
        {'eating': [positions]}, H36M, lengths, baseline_predictors(lengths[1])
    )
    errors = published(positions, *lengths)
    expected = {ms: errors[frame] for ms, frame in FRAMES.items() if frame < lengths[1]}
    assert report['repeat_last']['eating'] == pytest.approx(expected, rel=1e-9)
    shifted = {ms: errors[frame - 1] for ms, frame in FRAMES.items() if frame < lengths[1]}
    assert report['repeat_last']['eating'] != pytest.approx(shifted, rel=1e-3)


def test_on_3dpw_the_pelvis_counts_as_true_and_labels_are_40_ms_a_frame() -> None:
    clips = {'all sequences': [march(60, 6.0, 24, [0])]}
    report = evaluate_poses(clips, DPW, (10, 30), baseline_predictors(30))
    expected = {str(ms): 6.0 * ms / 40 * 23 / 24 for ms in (200, 400, 600, 800, 1000)}
    assert report['repeat_last']['all sequences'] == pytest.approx(expected)


@pytest.fixture(scope='module')
def h36m_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Only the test subject: nothing else is needed to score."""

    def rows(who: str, action: str, take: int) -> np.ndarray:
        return h36m_rows(110 if take == 1 else 104, ACTIONS.index(action))

    return write_h36m(tmp_path_factory.mktemp('h36m'), rows, ('S5',))


@pytest.fixture(scope='module')
def dpw_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    people = {'test/a_00': [body_of(45, 1), body_of(42, 2)], 'test/b_00': [body_of(20, 3)]}
    return write_3dpw(tmp_path_factory.mktemp('3dpw'), people)


def test_h36m_is_scored_on_every_second_line_of_both_takes_and_actions_weigh_alike(
    h36m_home: Path,
) -> None:
    report = evaluate(H36M, h36m_home)['repeat_last']
    assert set(report['actions']) == set(ACTIONS)
    takes = [
        pose_h36m(np.loadtxt(h36m_home / f'S5/posing_{take}.txt', delimiter=',')[::2])
        for take in (1, 2)
    ]
    windows = np.array([len(take) - 49 for take in takes])  # of 25 + 25 frames
    errors = np.average([published(take, 25, 25) for take in takes], axis=0, weights=windows)
    expected = {ms: errors[frame] for ms, frame in FRAMES.items()}
    assert windows.tolist() == [6, 3]
    assert report['actions']['posing'] == pytest.approx(expected, rel=1e-5)
    mean = {ms: np.mean([row[ms] for row in report['actions'].values()]) for ms in FRAMES}
    assert report['mean'] == pytest.approx(mean)


def test_3dpw_is_one_mean_over_all_windows(dpw_home: Path) -> None:
    report = evaluate(DPW, dpw_home)['repeat_last']
    errors = []
    for person in (body_of(45, 1), body_of(42, 2)):
        local = 1000.0 * (person - person[:, :1])
        for first in range(len(local) - 39):
            ahead = local[first + 10 : first + 40] - local[first + 9]
            errors.append(np.linalg.norm(ahead, axis=-1).mean(-1))
    assert len(errors) == 6 + 3  # the third person is too short
    expected = {str(ms): np.mean(errors, axis=0)[ms // 40 - 1] for ms in range(200, 1001, 200)}
    assert report['mean'] == pytest.approx(expected, rel=1e-4)


def trained(
    past: int = 10, future: int = 10, names: tuple[str, ...] = FED_NAMES
) -> TrainedMotionDEQ:
    shape = MotionDEQConfig(len(names), past, future, channels=8, patterns=8)
    return TrainedMotionDEQ('tiny', motion_deq(shape), names, None, {})


def test_a_model_decides_on_the_lengths_and_so_on_the_horizons(h36m_home: Path) -> None:
    report = evaluate(H36M, h36m_home, trained())
    assert list(report) == ['motion_deq', 'repeat_last', 'constant_velocity']
    for own in report.values():
        assert list(own['mean']) == ['80', '160', '320', '400']
    long = evaluate(H36M, h36m_home, trained(25, 25))
    assert list(long['motion_deq']['mean']) == list(FRAMES)


@pytest.mark.parametrize('model', [trained(names=FED_NAMES[::-1]), trained(future=1)])
def test_a_model_of_another_protocol_is_refused(model: Any) -> None:
    with pytest.raises(
        CheckpointError, match='layout "h36m22": train it with recipe "h36m_short"'
    ):
        model_predictor(model, H36M)


def test_clips_without_a_whole_window_are_refused() -> None:
    with pytest.raises(DataError, match=r'Human3\.6M is as long as a window \(35 frames\)'):
        evaluate_poses({'a': [h36m_march(34, 1.0)]}, H36M, (10, 25), baseline_predictors(25))


def write_model(path: Path, model: TrainedMotionDEQ) -> Path:
    config = {**vars(model.module.config)}
    header = {'kind': 'motion_deq', 'config': config, 'joint_names': list(model.joint_names)}
    state = {name: each.float() for name, each in model.module.state_dict().items()}
    save_checkpoint(path, {**header, 'training': {}}, state)
    return path


def printed(capsys: pytest.CaptureFixture[str]) -> Mapping[str, Any]:
    captured = capsys.readouterr()
    assert captured.err == ''
    return json.loads(captured.out)


def test_json_alone_is_on_stdout(
    h36m_home: Path, dpw_home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = write_model(tmp_path / 'tiny.safetensors', trained())
    options = ['--checkpoint', str(weights), '--device', 'cpu', '--json']
    assert main(['evaluate', 'h36m', '--data', str(h36m_home), *options]) == 0
    report = printed(capsys)
    assert set(report) == {'motion_deq', 'repeat_last', 'constant_velocity'}
    assert all(set(own) == {'actions', 'mean'} for own in report.values())
    assert main(['evaluate', '3dpw', '--data', str(dpw_home), '--json']) == 0
    assert set(printed(capsys)) == {'repeat_last', 'constant_velocity'}


def test_tables_fit_and_explain_the_labels(
    h36m_home: Path, dpw_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(['evaluate', 'h36m', '--data', str(h36m_home)]) == 0
    assert main(['evaluate', '3dpw', '--data', str(dpw_home)]) == 0
    out = capsys.readouterr().out
    for part in ('Human3.6M, mean over actions', 'walkingtogether', 'Subject S5', '833 ms'):
        assert part in out
    assert max(map(len, out.splitlines())) <= 80


def test_missing_data_and_a_foreign_model_end_in_one_line(
    h36m_home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = str(write_weights(tmp_path / 'tiny.safetensors'))
    for options, said in (
        (['h36m', '--data', str(tmp_path)], 'lacks 30 of 30 files'),
        (['3dpw', '--data', str(tmp_path)], 'holds no sequence'),
        (['h36m', '--data', str(h36m_home), '--checkpoint', weights, '--device', 'cpu'], 'h36m22'),
    ):
        assert main(['evaluate', *options]) == 2
        captured = capsys.readouterr()
        assert captured.out == '' and said in captured.err and captured.err.count('\n') == 1
