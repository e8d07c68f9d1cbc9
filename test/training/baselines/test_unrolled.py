# SPDX-License-Identifier: Apache-2.0
"""The baselines are as symmetric, as trainable and as loadable as what they are compared with."""

import csv
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from models import TINY, people, rotation
from torch import Tensor, nn
from walkers import RECIPE, walkers

from motion_predictor_ros.checkpoint import load_checkpoint, save_checkpoint
from motion_predictor_ros.cli.main import main
from motion_predictor_ros.errors import CheckpointError
from motion_predictor_ros.prediction.motion_deq.model import MotionDEQ
from motion_predictor_ros.training.baselines.unrolled import (
    ESL8,
    UNROLLED,
    EqMotionStyle,
    UnrolledLearner,
    load_unrolled,
)
from motion_predictor_ros.training.loop import train
from motion_predictor_ros.training.motion_deq import MotionDEQLearner, MotionTask

CPU = torch.device('cpu')
SHIFT = torch.tensor([3.0, -7.0, 0.5], dtype=torch.float64)
TARGET = torch.randn(3, TINY.future, TINY.joints, 3, generator=torch.Generator().manual_seed(5))
KINDS = pytest.mark.parametrize('kind', sorted(UNROLLED))


def build(kind: str, seed: int = 0) -> EqMotionStyle | ESL8:
    """Build a model in the default dtype whose predictions really move."""
    torch.manual_seed(seed)
    module = UNROLLED[kind](TINY)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name.endswith('out.weight') and len(parameter) == TINY.future:
                parameter.mul_(100.0)
    return module


def rigid_error(module: nn.Module, turn: Tensor) -> float:
    """Return how far f(R x + t) is from R f(x) + t [m]."""
    there = module(people() @ turn.T + SHIFT)
    return float((module(people()) @ turn.T + SHIFT - there).detach().abs().max())


@pytest.fixture(scope='module')
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Train each kind for a few steps."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    found = {kind: tmp_path_factory.mktemp(kind) for kind in UNROLLED}
    for kind, out in found.items():
        train(
            MotionTask('tiny', RECIPE, walkers(), UnrolledLearner(kind, RECIPE, CPU)),
            RECIPE.schedule,
            out,
        )
    torch.set_default_dtype(before)
    return found


@KINDS
def test_prediction_moves_with_the_room(kind: str) -> None:
    module = build(kind)
    mirror = torch.diag(torch.tensor([-1.0, 1.0, 1.0]))
    for turn in (rotation(2), rotation(3), mirror):
        assert rigid_error(module, turn) < 1e-9
    moved = (module(people()) - people()[:, -1:]).detach().abs().max()
    assert moved > 0.01  # a model that repeats the last frame would pass the test too


@KINDS
def test_rigid_error_sees_a_broken_model(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = build(kind)
    features = module.geometric if isinstance(module, EqMotionStyle) else module.model.geometric
    whole = features.forward

    def looks_at_x(positions: Tensor) -> tuple[Tensor, Tensor]:
        geometry, velocity = whole(positions)
        return geometry * torch.tensor([1.02, 1.0, 1.0]), velocity

    monkeypatch.setattr(features, 'forward', looks_at_x)
    assert rigid_error(module, rotation()) > 1e-4


@KINDS
def test_every_parameter_gets_a_gradient(kind: str) -> None:
    """Not only every tensor: no row of a matrix may serve an output that nobody reads.

    One draw of weights is not enough: a key acts only where a query opposes it.
    """
    alive: dict[str, Tensor] = {}
    for seed in range(5):
        module = build(kind, seed)
        sum((each - TARGET).square().sum() for each in module.stages(people())).backward()
        for name, parameter in module.named_parameters():
            assert parameter.grad is not None, name
            moved = (parameter.grad != 0.0).reshape(len(parameter), -1).any(1)
            alive[name] = alive.get(name, torch.zeros_like(moved)) | moved
    assert [name for name, rows in alive.items() if not bool(rows.all())] == []


def test_esl8_is_motion_deq_after_eight_plain_steps() -> None:
    module = build('esl8')
    assert isinstance(module, ESL8) and isinstance(module.model, MotionDEQ)
    condition, state = module.model.encode(people()), module.model.lift(people())
    stages = module.stages(people())
    assert len(stages) == 8
    for stage in stages:
        state = module.model.cell(state, condition)
        torch.testing.assert_close(stage, module.model.decode(state, people()[:, -1]))
    assert torch.equal(module(people()), stages[-1])
    assert not torch.allclose(stages[0], stages[-1], atol=1e-3)


@KINDS
def test_training_lowers_the_error_of_a_person_it_never_saw(
    kind: str, runs: dict[str, Path]
) -> None:
    with (runs[kind] / 'losses.csv').open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 and float(rows[-1]['score']) < float(rows[0]['score'])
    assert float(rows[-1]['score']) < 0.9  # of repeating the last frame
    assert (float(rows[-1]['train_stages']) > 0) == (kind == 'esl8')


def test_all_methods_are_trained_and_scored_on_the_same_windows() -> None:
    torch.set_default_dtype(torch.float32)
    tasks = [
        MotionTask('tiny', RECIPE, walkers(), UnrolledLearner(kind, RECIPE, CPU))
        for kind in UNROLLED
    ]
    seen: list[list[Tensor]] = []
    for task in (*tasks, MotionTask('tiny', RECIPE, walkers(), MotionDEQLearner(RECIPE, CPU))):
        own: list[Tensor] = []

        def note(past: Tensor, *rest: object, own: list[Tensor] = own) -> dict[str, float]:
            own.append(past)
            return {}

        task.learner.accumulate_gradients = note  # type: ignore[method-assign, assignment]
        task.step(0), task.step(7)
        seen.append(own)
    for own in seen[1:]:
        assert all(torch.equal(a, b) for a, b in zip(own, seen[0], strict=True))


@KINDS
def test_a_saved_baseline_loads_and_predicts_the_same(kind: str, runs: dict[str, Path]) -> None:
    torch.set_default_dtype(torch.float32)
    path = runs[kind] / 'best.safetensors'
    trained = load_unrolled(str(path), kind, CPU)
    assert trained.name.startswith('best@')
    assert trained.joint_names[0] == 'pelvis'
    assert trained.training['recipe']['schedule']['batch'] == 8
    fresh = UNROLLED[kind](RECIPE.model)
    tensors = dict(load_checkpoint(path, kind).tensors)
    fresh.load_state_dict(tensors)
    observed = people(2, RECIPE.model).float()
    torch.testing.assert_close(trained.module(observed), fresh(observed))


def test_a_weight_file_of_another_kind_is_refused(runs: dict[str, Path]) -> None:
    with pytest.raises(CheckpointError, match='expected'):
        load_unrolled(str(runs['esl8'] / 'best.safetensors'), 'eqmotion_style', CPU)
    with pytest.raises(CheckpointError, match='no_such'):
        load_unrolled('no_such', 'esl8', CPU)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'config': {'channels': 16, 'patterns': 8}}, 'does not describe'),
        ({'config': {'chanels': 8}}, 'chanels'),
        ({'joint_names': ['pelvis']}, 'names'),
        ({'joint_names': None}, 'does not describe'),
    ],
)
def test_a_header_that_does_not_fit_is_refused(
    change: dict[str, object], message: str, runs: dict[str, Path], tmp_path: Path
) -> None:
    whole = load_checkpoint(runs['esl8'] / 'best.safetensors', 'esl8')
    path = tmp_path / 'changed.safetensors'
    save_checkpoint(path, {**whole.header, **change}, whole.tensors)
    with pytest.raises(CheckpointError, match=message):
        load_unrolled(str(path), 'esl8', CPU)


def test_weights_that_are_not_finite_are_refused(runs: dict[str, Path], tmp_path: Path) -> None:
    whole = load_checkpoint(runs['esl8'] / 'best.safetensors', 'esl8')
    name = 'model.out.weight'
    damaged = {**whole.tensors, name: torch.full_like(whole.tensors[name], torch.nan)}
    save_checkpoint(tmp_path / 'nan.safetensors', whole.header, damaged)
    with pytest.raises(CheckpointError, match='not finite'):
        load_unrolled(str(tmp_path / 'nan.safetensors'), 'esl8', CPU)


def test_resuming_with_another_model_is_refused(runs: dict[str, Path]) -> None:
    other = dataclasses.replace(RECIPE, model=dataclasses.replace(RECIPE.model, channels=12))
    torch.set_default_dtype(torch.float32)
    task = MotionTask('tiny', other, walkers(), UnrolledLearner('esl8', other, CPU))
    with pytest.raises(CheckpointError, match='another recipe'):
        train(task, RECIPE.schedule, runs['esl8'], resume=True)


@KINDS
def test_the_command_line_trains_a_baseline(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.set_default_dtype(torch.float32)
    recordings = walkers()
    clips = {clip.key: {'subject': clip.subject, 'split': clip.split} for clip in recordings.clips}
    meta = {'joint_names': recordings.joint_names, 'fps': recordings.fps, 'clips': clips}
    arrays = dict(zip(clips, recordings.positions.reshape(2, 200, 18, 3), strict=True))
    np.savez(tmp_path / 'clips.npz', __meta__=np.array(json.dumps(meta)), **arrays)
    recipe = tmp_path / 'tiny.yaml'
    recipe.write_text(json.dumps(dataclasses.asdict(RECIPE)))
    options = ['--recipe', str(recipe), '--data', str(tmp_path / 'clips.npz')]
    options += ['--out', str(tmp_path), '--minutes', '0', '--device', 'cpu']
    assert main(['train', kind.replace('_', '-'), *options]) == 0
    best = capsys.readouterr().out.strip().splitlines()[-1]
    assert load_unrolled(best, kind, CPU).module.config == RECIPE.model
