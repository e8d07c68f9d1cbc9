# SPDX-License-Identifier: Apache-2.0
"""A camera's faults reach the prediction as they would on a robot, and only those asked for."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from models import write_weights
from walkers import walkers

from motion_predictor_ros.cli.main import main
from motion_predictor_ros.data.recordings import Recordings
from motion_predictor_ros.errors import DataError
from motion_predictor_ros.evaluation.motion.robustness import Camera, evaluate_robustness
from motion_predictor_ros.prediction.motion_deq.checkpoint import TrainedMotionDEQ, load_motion_deq

CPU = torch.device('cpu')
CAMERAS = {
    'slow': Camera(15.0),
    'fast': Camera(60.0),
    'noisy': Camera(25.0, noise_m=0.02),
    'blind': Camera(hidden=('l_wrist',)),
}


@pytest.fixture
def trained(tmp_path: Path) -> TrainedMotionDEQ:
    return load_motion_deq(str(write_weights(tmp_path / 'tiny.safetensors', masked=True)), CPU)


def straight() -> Recordings:
    """Everybody goes straight ahead at 1.5 m/s, stiff."""
    still = walkers()
    times = np.arange(200, dtype=np.float32)[:, None, None] / 50
    path = times * np.array([1.5, 0.0, 0.0], np.float32) + still.positions[:1]
    return dataclasses.replace(still, positions=np.concatenate([path, path]))


def test_straight_motion_survives_any_rate_and_noise_has_the_requested_size(
    trained: TrainedMotionDEQ,
) -> None:
    cameras = evaluate_robustness(straight(), trained, cameras=CAMERAS)['cameras']
    for name in ('slow', 'fast'):
        assert cameras[name]['constant_velocity']['mpjpe_mm']['1000'] < 0.1
    # Repeating the last frame errs by the way gone; noise of 20 mm in each coordinate adds its
    # mean length to what would be no error across.
    noisy = cameras['noisy']
    assert noisy['repeat_last']['mpjpe_mm']['80'] == pytest.approx(123.4, abs=2.0)
    # Two noisy frames make a velocity: its error grows with the horizon, by 20 mm sqrt(2) a frame.
    expected = 20.0 * np.sqrt(8 / np.pi) * np.hypot(26, 25)
    assert noisy['constant_velocity']['mpjpe_mm']['1000'] == pytest.approx(expected, rel=0.1)


def test_a_hidden_joint_costs_its_stand_in_and_nothing_else(trained: TrainedMotionDEQ) -> None:
    cameras = evaluate_robustness(straight(), trained, cameras=CAMERAS)['cameras']
    names = trained.joint_names
    pose = straight().positions[0]
    bone_mm = 1000.0 * np.linalg.norm(pose[names.index('l_wrist')] - pose[names.index('l_elbow')])
    found = cameras['blind']['constant_velocity']['mpjpe_mm']['1000']
    assert found == pytest.approx(bone_mm / 18, abs=0.1)


def test_models_without_missing_joints_skip_hidden_cameras(tmp_path: Path) -> None:
    plain = load_motion_deq(str(write_weights(tmp_path / 'plain.safetensors')), CPU)
    assert list(evaluate_robustness(straight(), plain, cameras=CAMERAS)['cameras']) == [
        'slow',
        'fast',
        'noisy',
    ]


def test_what_does_not_fit_is_refused(trained: TrainedMotionDEQ) -> None:
    other = dataclasses.replace(walkers(), joint_names=tuple('abcdefghijklmnopqr'))
    with pytest.raises(DataError, match='joints'):
        evaluate_robustness(other, trained)
    short = walkers()
    clips = tuple(dataclasses.replace(clip, length=60) for clip in short.clips)
    with pytest.raises(DataError, match='long enough'):
        evaluate_robustness(dataclasses.replace(short, clips=clips), trained)


def test_the_command_prints_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    still = walkers()
    meta = {
        'joint_names': still.joint_names,
        'fps': 50,
        'clips': {'a': {'subject': 'a', 'split': 'test'}},
    }
    np.savez(tmp_path / 'c.npz', __meta__=np.array(json.dumps(meta)), a=still.positions[:200])
    weights = write_weights(tmp_path / 'tiny.safetensors')
    command = ['evaluate', 'robustness', '--data', str(tmp_path / 'c.npz'), '--json']
    assert main([*command, '--checkpoint', str(weights)]) in (0, None)
    report = json.loads(capsys.readouterr().out)
    assert '15 Hz' in report['cameras']
    assert '30 Hz, noise 20 mm' in report['cameras']
    methods = {'motion_deq', 'repeat_last', 'constant_velocity'}
    assert set(report['cameras']['60 Hz']) == methods | {'by_kind', 'by_subject'}
