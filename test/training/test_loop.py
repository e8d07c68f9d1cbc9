# SPDX-License-Identifier: Apache-2.0
"""Training: it learns, it is repeatable, and an interrupted run ends where a whole one does."""

import csv
import dataclasses
from pathlib import Path

import pytest
import torch
from walkers import RECIPE, SCHEDULE, walkers

from motion_predictor_ros.checkpoint import load_checkpoint
from motion_predictor_ros.errors import CheckpointError, ConfigError, DataError
from motion_predictor_ros.prediction.motion_deq.checkpoint import load_motion_deq
from motion_predictor_ros.prediction.motion_deq.model import MotionDEQ, MotionDEQConfig
from motion_predictor_ros.training.loop import Optimiser, rate_share, train
from motion_predictor_ros.training.motion_deq import MotionDEQLearner, MotionTask
from motion_predictor_ros.training.recipe import MotionDEQRecipe, ScheduleConfig, load_recipe


@pytest.fixture(autouse=True)
def float32_as_deployed(float64_by_default: None) -> None:
    torch.set_default_dtype(torch.float32)


def task(recipe: MotionDEQRecipe = RECIPE) -> MotionTask:
    return MotionTask('tiny', recipe, walkers(), MotionDEQLearner(recipe, torch.device('cpu')))


def weights(path: Path) -> dict[str, torch.Tensor]:
    return dict(load_checkpoint(path, 'motion_deq').tensors)


def scores(out: Path) -> list[float]:
    with (out / 'losses.csv').open() as file:
        return [float(row['score']) for row in csv.DictReader(file)]


@pytest.fixture(scope='module')
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp('run')
    torch.set_default_dtype(torch.float32)
    train(task(), SCHEDULE, out)
    return out


def test_training_lowers_the_error_of_a_person_it_never_saw(whole_run: Path) -> None:
    assert len(scores(whole_run)) == 2
    assert scores(whole_run)[-1] < 0.8  # of repeating the last frame


def test_the_best_checkpoint_is_a_model_that_loads(whole_run: Path) -> None:
    trained = load_motion_deq(str(whole_run / 'best.safetensors'), torch.device('cpu'))
    assert trained.residuals is None
    assert trained.training['recipe']['schedule']['batch'] == 8


def test_an_interrupted_run_ends_where_a_whole_one_does(whole_run: Path, tmp_path: Path) -> None:
    train(task(), SCHEDULE, tmp_path, minutes=0.0)  # stops after one step
    assert load_checkpoint(tmp_path / 'last.safetensors', 'motion_deq').header['done'] == 1
    train(task(), SCHEDULE, tmp_path, resume=True)
    ours, theirs = weights(tmp_path / 'last.safetensors'), weights(whole_run / 'last.safetensors')
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name], atol=0, rtol=0, msg=name)


def test_another_seed_ends_elsewhere(whole_run: Path, tmp_path: Path) -> None:
    schedule = dataclasses.replace(SCHEDULE, seed=2, steps=1)
    train(task(dataclasses.replace(RECIPE, schedule=schedule)), schedule, tmp_path)
    name = 'cell.layers.0.query.weight'
    ours, theirs = weights(tmp_path / 'last.safetensors'), weights(whole_run / 'last.safetensors')
    assert not torch.equal(ours[name], theirs[name])


def test_resuming_with_another_model_is_refused(whole_run: Path) -> None:
    other = dataclasses.replace(RECIPE, model=dataclasses.replace(RECIPE.model, channels=12))
    with pytest.raises(CheckpointError, match='another recipe'):
        train(task(other), SCHEDULE, whole_run, resume=True)


def test_recordings_with_other_joints_are_refused() -> None:
    recordings = dataclasses.replace(walkers(), joint_names=tuple('abcdefghijklmnopqr'))
    with pytest.raises(DataError, match='joints'):
        MotionTask('tiny', RECIPE, recordings, MotionDEQLearner(RECIPE, torch.device('cpu')))


def test_learning_rate_warms_up_and_decays() -> None:
    schedule = dataclasses.replace(SCHEDULE, warmup_steps=10, steps=110)
    rates = [schedule.learning_rate * rate_share(schedule, index) for index in range(110)]
    assert rates[0] == pytest.approx(5e-4) and max(rates) == rates[9] == pytest.approx(5e-3)
    assert rates[10:] == sorted(rates[10:], reverse=True) and rates[-1] < 1e-4


def test_the_shipped_recipe_loads_and_unknown_entries_are_refused(tmp_path: Path) -> None:
    name, recipe = load_recipe('body_1s')
    assert name == 'body_1s' and recipe.model.joints == 18
    path = tmp_path / 'typo.yaml'
    path.write_text('schedule: {stepz: 3}')
    with pytest.raises(ConfigError, match='stepz'):
        load_recipe(str(path))
    path.write_text('schedule: {steps: 0}')
    with pytest.raises(ConfigError, match='steps'):
        load_recipe(str(path))
    path.write_text('[1, 2')
    with pytest.raises(ConfigError, match='YAML'):
        load_recipe(str(path))


def test_matrices_use_muon_and_the_rest_adam_and_both_resume() -> None:
    def run(steps: int, half: int | None) -> tuple[MotionDEQ, Optimiser]:
        torch.manual_seed(3)
        module = MotionDEQ(MotionDEQConfig(joints=5, past=6, future=8, channels=8, patterns=8))
        optimiser = Optimiser(module, schedule)
        for step in range(steps):
            if step == half:
                state = {name: value.clone() for name, value in optimiser.tensors().items()}
                optimiser = Optimiser(module, schedule)
                optimiser.restore(state)
            generator = torch.Generator().manual_seed(step)
            optimiser.zero_grad()
            for parameter in module.parameters():
                parameter.grad = torch.randn(
                    parameter.shape, generator=generator, dtype=parameter.dtype
                )
            optimiser.step(0.5)
        return module, optimiser

    schedule = ScheduleConfig(learning_rate=1e-3, muon_rate=1e-2)
    whole, optimiser = run(6, None)
    resumed, _ = run(6, 3)
    for one, other in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)
    names = optimiser.tensors()
    assert 'optimiser.momentum_buffer.cell.layers.0.attention.weight' in names
    assert 'optimiser.exp_avg.out.weight' in names
    assert 'optimiser.exp_avg.patterns.identity' in names
    fresh, _ = run(3, None)
    assert not torch.equal(fresh.out.weight, whole.out.weight)  # control
    with pytest.raises(KeyError):
        Optimiser(whole, ScheduleConfig()).restore(names)


def test_a_training_may_start_from_another_ones_weights(whole_run: Path, tmp_path: Path) -> None:
    second = task()
    before = second.validate()[0]['score']
    second.start_from(whole_run / 'best.safetensors')
    assert second.validate()[0]['score'] == pytest.approx(min(scores(whole_run)), rel=1e-4)
    assert before > min(scores(whole_run))  # control
    assert second.header()['training']['started_from'].startswith('best@')
    masked = dataclasses.replace(RECIPE, model=dataclasses.replace(RECIPE.model, masked=True))
    third = task(masked)
    third.start_from(whole_run / 'best.safetensors')
    assert third.validate()[0]['score'] == pytest.approx(min(scores(whole_run)), rel=1e-4)
    wider = dataclasses.replace(
        RECIPE, model=dataclasses.replace(RECIPE.model, channels=RECIPE.model.channels + 1)
    )
    with pytest.raises(CheckpointError, match='another shape'):
        task(wider).start_from(whole_run / 'best.safetensors')
