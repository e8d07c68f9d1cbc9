# SPDX-License-Identifier: Apache-2.0
"""The motion capture protocol on people whose errors are known by hand."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from models import write_weights
from walkers import walkers

from motion_predictor_ros.errors import DataError
from motion_predictor_ros.evaluation.motion.mocap import evaluate_mocap
from motion_predictor_ros.prediction.motion_deq.checkpoint import TrainedMotionDEQ, load_motion_deq


@pytest.fixture
def trained(tmp_path: Path) -> TrainedMotionDEQ:
    return load_motion_deq(str(write_weights(tmp_path / 'tiny.safetensors')), torch.device('cpu'))


def test_baselines_err_by_what_a_straight_walk_says(trained: TrainedMotionDEQ) -> None:
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
