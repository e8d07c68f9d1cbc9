# SPDX-License-Identifier: Apache-2.0
"""The CMU protocol against numbers known by hand, and against the published way to count."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cmu_files import COPY_FROM, COPY_TO, USED, march, obey, wander, write_benchmark
from models import motion_deq, write_weights

from motion_predictor_ros.cli.main import main
from motion_predictor_ros.data.cmu import FED_NAMES, JOINT_NAMES, TWINS, load_cmu_sequences
from motion_predictor_ros.data.recordings import Piece
from motion_predictor_ros.errors import CheckpointError, DataError
from motion_predictor_ros.evaluation.motion import cmu_benchmark
from motion_predictor_ros.evaluation.motion.cmu_benchmark import (
    BASELINE_PREDICTORS,
    Predict,
    clips_by_action,
    evaluate_cmu,
    evaluate_poses,
    model_predictor,
)
from motion_predictor_ros.prediction.motion_deq.checkpoint import TrainedMotionDEQ, load_motion_deq
from motion_predictor_ros.prediction.motion_deq.model import MotionDEQConfig
from motion_predictor_ros.prediction.motion_deq.solver import SolverSettings
from motion_predictor_ros.training.baselines.unrolled import load_unrolled

FRAMES = {'80': 1, '160': 3, '320': 7, '400': 9, '560': 13, '1000': 24}
FIVE = ('basketball', 'jumping', 'running', 'soccer', 'walking')
SHAPE = MotionDEQConfig(joints=25, past=10, future=25, channels=8, patterns=8)


def clip(action: str, positions_mm: np.ndarray, number: int = 1) -> Piece:
    key = f'test/{action}_{number}'
    return Piece(key, action, 'test', positions_mm, action)


def errors_of(sequences: list[Piece], predict: Predict) -> dict[str, dict[str, float]]:
    return evaluate_poses(clips_by_action(sequences), {'model': predict})['model']


def baselines_on(sequences: list[Piece]) -> dict[str, Any]:
    return evaluate_cmu(clips_by_action(sequences), {})


def repeat_last(observed: np.ndarray) -> np.ndarray:
    return BASELINE_PREDICTORS['repeat_last'](observed)


def published(sequence: Piece, copies: list[int]) -> dict[str, float]:
    """Count the error of repeating the last frame as the literature's code does."""
    errors = []
    for first in range(len(sequence.positions) - 34):
        window = sequence.positions[first : first + 35].astype(np.float64)
        predicted = window[10:].copy()
        predicted[:, USED] = window[9, USED]
        predicted[:, COPY_TO] = predicted[:, copies]
        errors.append(np.linalg.norm(predicted - window[10:], axis=-1).mean(-1))
    mean = np.mean(errors, axis=0)
    return {ms: float(mean[frame]) for ms, frame in FRAMES.items()}


def test_marching_on_is_wrong_by_the_way_gone_in_32_of_38_joints() -> None:
    report = baselines_on([clip('walking', march(50, 3.0))])
    expected = {ms: 3.0 * (frame + 1) * 32 / 38 for ms, frame in FRAMES.items()}
    assert report['repeat_last']['actions']['walking'] == pytest.approx(expected, rel=1e-4)
    mean5 = 3.0 * 32 / 38 * np.mean([2, 4, 8, 10, 25])
    assert report['repeat_last']['mean5'] == pytest.approx(mean5, rel=1e-4)
    assert report['constant_velocity']['mean5'] == pytest.approx(0.0, abs=1e-2)


@pytest.mark.parametrize(
    ('joint', 'counts'), [('Spine1', 4), ('LeftHand', 3), ('RightHand', 3), ('Head', 1)]
)
def test_a_joint_counts_once_and_again_for_every_copy(joint: str, counts: int) -> None:
    def one_off(observed: np.ndarray) -> np.ndarray:
        predicted = repeat_last(observed)
        predicted[:, :, FED_NAMES.index(joint), 1] += 76.0
        return predicted

    errors = errors_of([clip('walking', march(40, 0.0))], one_off)['walking']
    assert errors == pytest.approx(dict.fromkeys(FRAMES, 2.0 * counts))


def test_joints_that_are_not_predicted_count_nothing_even_if_they_move() -> None:
    moving = march(40, 0.0)
    moving[:, JOINT_NAMES.index('LeftUpLeg')] += 5.0 * np.arange(40)[:, None]
    assert max(errors_of([clip('walking', moving)], repeat_last)['walking'].values()) == 0.0


def test_the_error_is_the_published_one() -> None:
    sequence = clip('soccer', wander(60, 3))
    errors = errors_of([sequence], repeat_last)['soccer']
    assert errors == pytest.approx(published(sequence, COPY_FROM), rel=1e-9)


def test_another_copy_rule_gives_another_error(monkeypatch: pytest.MonkeyPatch) -> None:
    sequence = clip('soccer', wander(60, 3))
    wrong = [14, *COPY_FROM[1:]]
    twins = {**TWINS, 'Neck': 'Spine'}
    assert published(sequence, wrong)['80'] != pytest.approx(published(sequence, COPY_FROM)['80'])
    monkeypatch.setattr(cmu_benchmark, 'TWINS', twins)
    errors = errors_of([sequence], repeat_last)['soccer']
    assert errors == pytest.approx(published(sequence, wrong), rel=1e-9)


def test_every_window_of_test_clips_is_used_once_and_in_order() -> None:
    seen: list[np.ndarray] = []

    def spy(observed: np.ndarray) -> np.ndarray:
        seen.append(observed[:, :, 0, 0])
        return repeat_last(observed)

    counting = march(150, 1.0)
    counting[:, USED[0], 0] = np.arange(150)
    training = Piece('train/walking_1', 'walking', 'train', march(90, 0.0), 'walking')
    errors_of([training, clip('walking', counting), clip('short', march(34, 0.0))], spy)
    expected = np.arange(150 - 34)[:, None] + np.arange(10)
    np.testing.assert_array_equal(np.concatenate(seen), expected)


def test_windows_are_averaged_within_an_action_and_actions_weigh_alike() -> None:
    sequences = [
        clip('running', march(35 + 29, 6.0)),  # 30 windows
        clip('running', march(35 + 9, 2.0), 2),  # 10 windows
        clip('walking', march(35, 1.0)),  # 1 window
    ]
    report = baselines_on(sequences)['repeat_last']
    step = {action: row['80'] / 2 * 38 / 32 for action, row in report['actions'].items()}
    assert step == pytest.approx({'running': 5.0, 'walking': 1.0}, rel=1e-4)
    mean5 = {
        name: np.mean([row[ms] for ms in row if ms != '560'])
        for name, row in report['actions'].items()
    }
    assert report['mean5'] == pytest.approx((mean5['running'] + mean5['walking']) / 2)


def test_five_actions_are_their_own_mean_and_absent_when_one_is() -> None:
    sequences = [clip(name, march(40, 1.0 + at)) for at, name in enumerate(FIVE)]
    other = clip('washwindow', march(40, 50.0))
    report = baselines_on([*sequences, other])['repeat_last']
    mean5, mean6 = (3.0 * 32 / 38 * np.mean(n) for n in ([2, 4, 8, 10, 25], [2, 4, 8, 10, 14, 25]))
    assert report['five_actions'] == pytest.approx({'mean5': mean5, 'mean6': mean6}, rel=1e-4)
    assert report['mean5'] > report['five_actions']['mean5']
    fewer = baselines_on([*sequences[1:], other])['repeat_last']
    assert 'five_actions' not in fewer and 'basketball' not in fewer['actions']


def test_clips_without_a_whole_window_are_refused() -> None:
    with pytest.raises(DataError, match='as long as a window'):
        baselines_on([clip('walking', march(34, 1.0))])


def trained(config: MotionDEQConfig = SHAPE, names: tuple[str, ...] = FED_NAMES) -> Any:
    return TrainedMotionDEQ('tiny', motion_deq(config), names, None, {})


def test_the_model_sees_metres_and_answers_in_millimetres() -> None:
    observed = wander(10, 1)[None][:, :, USED].astype(np.float64)
    model = trained()
    predicted, _, _ = model.module(torch.from_numpy(observed / 1000), SolverSettings())
    answer = model_predictor(model)(observed)
    np.testing.assert_allclose(answer, 1000 * predicted.detach().numpy(), rtol=1e-9)
    assert np.abs(answer - observed[:, -1:]).max() > 1.0  # it predicts something


@pytest.mark.parametrize(
    'model',
    [
        trained(names=FED_NAMES[::-1]),
        trained(MotionDEQConfig(joints=25, past=25, future=25, channels=8, patterns=8)),
        trained(MotionDEQConfig(joints=25, past=10, future=10, channels=8, patterns=8)),
    ],
    ids=['other joints', 'other past', 'other future'],
)
def test_a_model_of_another_protocol_is_refused(model: Any) -> None:
    with pytest.raises(CheckpointError, match='recipe "cmu"'):
        model_predictor(model)


@pytest.fixture(scope='module')
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    clips = {f'train/walking_{number}': wander(50, number) for number in range(1, 4)}
    tests = {f'test/{name}_1': wander(40, 10 + at) for at, name in enumerate(FIVE)}
    washing = {'test/washwindow_1': obey(wander(40, 20))}
    return write_benchmark(tmp_path_factory.mktemp('cmu') / 'cmu.npz', clips | tests | washing)


def train_two_steps(model: str, file: Path, out: Path) -> Path:
    """Train through the command line."""
    torch.set_default_dtype(torch.float32)
    recipe = out / 'small.yaml'
    recipe.write_text(
        'layout: cmu25\n'
        'model: {joints: 25, past: 10, future: 25, channels: 8, patterns: 8}\n'
        'schedule: {steps: 2, batch: 2}\n'
    )
    arguments = ['--recipe', str(recipe), '--data', str(file), '--out', str(out)]
    assert main(['train', model, *arguments, '--device', 'cpu', '--threads', '1']) == 0
    return out / 'best.safetensors'


@pytest.fixture(scope='module')
def checkpoint(file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_two_steps('motion-deq', file, tmp_path_factory.mktemp('run'))


@pytest.fixture(scope='module')
def eqmotion_style(file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_two_steps('eqmotion-style', file, tmp_path_factory.mktemp('rival'))


def printed(capsys: pytest.CaptureFixture[str]) -> Mapping[str, Any]:
    captured = capsys.readouterr()
    assert captured.err == ''
    return json.loads(captured.out)


def test_json_alone_is_on_stdout_with_the_documented_keys(
    file: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    options = ['--checkpoint', str(checkpoint), '--device', 'cpu', '--json']
    assert main(['evaluate', 'cmu', '--data', str(file), *options]) == 0
    report = printed(capsys)
    assert set(report) == {'motion_deq', 'repeat_last', 'constant_velocity'}
    for own in report.values():
        assert set(own) == {'actions', 'mean5', 'five_actions'}
        assert set(own['actions']) == {*FIVE, 'washwindow'}
        assert all(list(row) == list(FRAMES) for row in own['actions'].values())
        assert set(own['five_actions']) == {'mean5', 'mean6'}
    model = load_motion_deq(str(checkpoint), torch.device('cpu'))
    assert model.joint_names == FED_NAMES


def test_without_a_checkpoint_the_baselines_stand_alone(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(['evaluate', 'cmu', '--data', str(file), '--json']) == 0
    assert set(printed(capsys)) == {'repeat_last', 'constant_velocity'}


def test_the_eqmotion_style_baseline_is_scored_by_its_own_predictions(
    file: Path, checkpoint: Path, eqmotion_style: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    options = ['--eqmotion-style', str(eqmotion_style), '--device', 'cpu', '--json']
    assert main(['evaluate', 'cmu', '--data', str(file), *options]) == 0
    alone = printed(capsys)
    assert set(alone) == {'eqmotion_style', 'repeat_last', 'constant_velocity'}
    torch.set_default_dtype(torch.float32)
    trained = load_unrolled(str(eqmotion_style), 'eqmotion_style', torch.device('cpu'))

    def in_millimetres(observed: np.ndarray) -> np.ndarray:
        positions = torch.from_numpy(observed / 1000).float()
        return 1000 * trained.module(positions).double().numpy()

    expected = errors_of(list(load_cmu_sequences(file)), in_millimetres)
    for action, row in expected.items():
        assert alone['eqmotion_style']['actions'][action] == pytest.approx(row)
    assert expected['soccer'] != pytest.approx(alone['repeat_last']['actions']['soccer'])
    assert (
        main(['evaluate', 'cmu', '--data', str(file), '--weights', str(checkpoint), *options]) == 0
    )
    both = printed(capsys)
    assert both['eqmotion_style'] == alone['eqmotion_style'] != both['motion_deq']


def test_a_checkpoint_of_another_kind_is_no_eqmotion_style(
    file: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    options = ['--eqmotion-style', str(checkpoint), '--device', 'cpu']
    assert main(['evaluate', 'cmu', '--data', str(file), *options]) == 2
    assert "expected 'eqmotion_style'" in capsys.readouterr().err


def test_the_table_states_nominal_units(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['evaluate', 'cmu', '--data', str(file)]) == 0
    out = capsys.readouterr().out
    for part in ('all 6 actions', 'five actions', 'mean5', 'washwindow', 'repeat last', 'nominal'):
        assert part in out
    assert max(map(len, out.splitlines())) <= 80


def test_a_missing_file_and_a_foreign_model_end_in_one_line(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = write_weights(tmp_path / 'tiny.safetensors')
    for options, said in (
        (['--data', 'gone.npz'], 'gone.npz'),
        (['--data', str(file), '--checkpoint', str(weights), '--device', 'cpu'], 'recipe "cmu"'),
    ):
        assert main(['evaluate', 'cmu', *options]) == 2
        captured = capsys.readouterr()
        assert captured.out == '' and said in captured.err and captured.err.count('\n') == 1
