# SPDX-License-Identifier: Apache-2.0
"""The motion capture protocol on people whose errors are known by hand."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from models import write_weights
from walkers import walkers

from motion_predictor_ros.cli.main import main
from motion_predictor_ros.errors import DataError
from motion_predictor_ros.evaluation.motion.mocap import evaluate_mocap
from motion_predictor_ros.prediction.motion_deq.checkpoint import TrainedMotionDEQ, load_motion_deq


@pytest.fixture
def trained(tmp_path: Path) -> TrainedMotionDEQ:
    return load_motion_deq(str(write_weights(tmp_path / 'tiny.safetensors')), torch.device('cpu'))


def test_baselines_have_the_error_of_a_straight_walk(trained: TrainedMotionDEQ) -> None:
    still = walkers()
    times = np.arange(200, dtype=np.float32)[:, None, None] / 50
    straight = times * np.array([1.5, 0.0, 0.0], np.float32) + still.positions[:1]
    recordings = dataclasses.replace(still, positions=np.concatenate([straight, straight]))
    report = evaluate_mocap(recordings, trained)
    assert report['constant_velocity']['mpjpe_mm']['1000'] == pytest.approx(0.0, abs=0.1)
    for horizon, error_mm in report['repeat_last']['mpjpe_mm'].items():
        assert error_mm == pytest.approx(1.5 * int(horizon), abs=0.1)
    # Windows of 0.98 + 1.0 s out of 4.0 s, one every 0.2 s, for both people.
    assert report['windows'] == 2 * len(range(0, 200 - 98, 10))
    assert report['motion_deq']['mpjpe_mm']['1000'] > 1.0  # the model is untrained


def test_recordings_with_other_joints_are_refused(trained: TrainedMotionDEQ) -> None:
    recordings = dataclasses.replace(walkers(), joint_names=tuple('abcdefghijklmnopqr'))
    with pytest.raises(DataError, match='joints'):
        evaluate_mocap(recordings, trained)


def test_figures_of_groups_average_to_those_of_all(trained: TrainedMotionDEQ) -> None:
    people = walkers()
    kinds = ('walk', 'sit')
    clips = [
        dataclasses.replace(c, kind=kind) for c, kind in zip(people.clips, kinds, strict=True)
    ]
    clips[1] = dataclasses.replace(clips[1], length=150)
    report = evaluate_mocap(dataclasses.replace(people, clips=tuple(clips)), trained)
    assert set(report['by_kind']) == set(kinds) and set(report['by_subject']) == {'0', '1'}
    for groups in (report['by_kind'], report['by_subject']):
        windows = [group['windows'] for group in groups.values()]
        errors = [group['motion_deq']['mpjpe_mm']['400'] for group in groups.values()]
        assert sum(windows) == report['windows'] and windows[0] != windows[1]
        mean = np.average(errors, weights=windows)
        assert mean == pytest.approx(report['motion_deq']['mpjpe_mm']['400'])
        assert np.mean(errors) != pytest.approx(mean)  # control: the groups differ


def test_the_command_prints_the_figures_of_a_file_as_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    people = walkers()
    clips = {f'{at}': people.positions[200 * at : 200 * (at + 1)] for at in range(2)}
    infos = {name: {'subject': name, 'split': 'test'} for name in clips}
    meta = {'joint_names': people.joint_names, 'fps': 50.0, 'clips': infos}
    np.savez(tmp_path / 'clips.npz', __meta__=np.array(json.dumps(meta)), **clips)
    weights = write_weights(tmp_path / 'tiny.safetensors')
    options = ['--data', str(tmp_path / 'clips.npz'), '--checkpoint', str(weights)]
    assert main(['evaluate', 'mocap', *options, '--json']) == 0
    report = json.loads(capsys.readouterr().out)
    expected = evaluate_mocap(people, load_motion_deq(str(weights), torch.device('cpu')))
    for method in ('motion_deq', 'constant_velocity', 'repeat_last'):
        assert report[method]['mpjpe_mm'] == pytest.approx(expected[method]['mpjpe_mm'])
    assert report['motion_deq']['mpjpe_mm'] != report['repeat_last']['mpjpe_mm']  # control
