# SPDX-License-Identifier: Apache-2.0
"""Training the adapter leaves the model alone and makes its guesses better."""

import csv
import dataclasses
from pathlib import Path

import pytest
import torch
from walkers import RECIPE, walkers

from motion_predictor_ros.checkpoint import load_checkpoint, save_checkpoint
from motion_predictor_ros.errors import DataError
from motion_predictor_ros.prediction.motion_deq.checkpoint import TrainedMotionDEQ, load_motion_deq
from motion_predictor_ros.prediction.motion_deq.model import MotionDEQ
from motion_predictor_ros.training.correction import CorrectionTask
from motion_predictor_ros.training.loop import train
from motion_predictor_ros.training.recipe import ScheduleConfig

SCHEDULE = ScheduleConfig(steps=40, batch=8, learning_rate=1e-2, validate_every=20)
CPU = torch.device('cpu')


@pytest.fixture
def trained(tmp_path: Path, float64_by_default: None) -> TrainedMotionDEQ:
    """A model whose prediction depends on its state, though nobody trained it."""
    torch.set_default_dtype(torch.float32)
    torch.manual_seed(0)
    module = MotionDEQ(RECIPE.model)
    with torch.no_grad():
        module.out.weight.mul_(30.0)
    header = {
        'kind': 'motion_deq',
        'config': dataclasses.asdict(RECIPE.model),
        'joint_names': list(walkers().joint_names),
        'training': {'recipe': dataclasses.asdict(RECIPE)},
    }
    save_checkpoint(tmp_path / 'plain.safetensors', header, module.state_dict())
    return load_motion_deq(str(tmp_path / 'plain.safetensors'), CPU)


def test_the_guess_gets_better_and_the_model_stays(
    trained: TrainedMotionDEQ, tmp_path: Path
) -> None:
    task = CorrectionTask(trained, walkers(), CPU, SCHEDULE)
    before = task.validate()[0]['guess_mm']
    best = train(task, SCHEDULE, tmp_path)
    with (tmp_path / 'losses.csv').open() as file:
        after = [float(row['guess_mm']) for row in csv.DictReader(file)][-1]
    assert after < 0.8 * before
    tensors = load_checkpoint(best, 'motion_deq').tensors
    for name, value in trained.module.state_dict().items():
        assert torch.equal(tensors[name], value), name
    assert load_motion_deq(str(best), CPU).module.correction is not None


def test_resuming_continues_where_it_stopped(trained: TrainedMotionDEQ, tmp_path: Path) -> None:
    schedule = dataclasses.replace(SCHEDULE, steps=6, validate_every=3)
    train(CorrectionTask(trained, walkers(), CPU, schedule), schedule, tmp_path / 'whole')
    cut = tmp_path / 'cut'
    train(CorrectionTask(trained, walkers(), CPU, schedule), schedule, cut, minutes=0.0)
    train(CorrectionTask(trained, walkers(), CPU, schedule), schedule, cut, resume=True)
    ours = load_checkpoint(cut / 'last.safetensors', 'motion_deq').tensors
    whole = load_checkpoint(tmp_path / 'whole' / 'last.safetensors', 'motion_deq').tensors
    assert all(torch.equal(value, whole[name]) for name, value in ours.items())


def test_recordings_with_other_joints_are_refused(trained: TrainedMotionDEQ) -> None:
    recordings = dataclasses.replace(walkers(), joint_names=tuple('abcdefghijklmnopqr'))
    with pytest.raises(DataError, match='joints'):
        CorrectionTask(trained, recordings, CPU)
