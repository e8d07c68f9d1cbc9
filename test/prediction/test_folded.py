# SPDX-License-Identifier: Apache-2.0
"""The folded model gives the plain one's answers, drops no weight, and turns with the room."""

import dataclasses
from collections.abc import Iterator

import pytest
import torch
from models import people, rotation
from torch import Tensor

from motion_predictor_ros.prediction.cell import Condition, FixedPointCell, State
from motion_predictor_ros.prediction.fixed_point import SolverSettings
from motion_predictor_ros.prediction.folded_cell import FoldedCell, channels_first, channels_last
from motion_predictor_ros.prediction.folded_solver import FoldedSolver, fold
from motion_predictor_ros.prediction.motion_deq import MotionDEQ, MotionDEQConfig

SHAPE = MotionDEQConfig(
    joints=5, past=6, future=4, channels=12, patterns=10, layers=2, feedback=0.3
)
SETTINGS = SolverSettings(max_steps=25, tolerance=1e-5)
OF_THE_CONDITION = ('velocity', 'inject_pattern')


@pytest.fixture(autouse=True)
def float32_as_deployed(float64_by_default: None) -> Iterator[None]:
    torch.set_default_dtype(torch.float32)
    with torch.inference_mode():
        yield


def model(seed: int = 0) -> MotionDEQ:
    """A model of whose weights none is zero."""
    torch.manual_seed(seed)
    module = MotionDEQ(SHAPE).requires_grad_(False)
    for parameter in module.parameters():
        parameter.add_(0.05 * torch.randn_like(parameter))
    return module


def situation(module: MotionDEQ, count: int = 1) -> tuple[State, Condition]:
    observed = people(count, SHAPE).to(module.out.weight)
    condition = module.encode(observed)
    return module.cell(module.lift(observed), condition), condition


def in_float64(found: State | Condition) -> dict[str, Tensor]:
    return {each.name: getattr(found, each.name).double() for each in dataclasses.fields(found)}


def folded_image(cell: FixedPointCell, state: State, condition: Condition) -> list[Tensor]:
    folded = FoldedCell(cell, SHAPE.joints)
    places, patterns = channels_last(state.geometry[0]), state.pattern[0]
    geometry, pattern = folded(places, patterns, folded.fold(condition, 0))
    return [channels_first(geometry), pattern]


def apart(found: list[Tensor], wanted: State) -> float:
    pairs = zip(found, (wanted.geometry[0], wanted.pattern[0]), strict=True)
    return max(float((a - b).norm() / b.norm()) for a, b in pairs)


def test_the_folded_cell_is_the_cell_to_rounding() -> None:
    module = model()
    state, condition = situation(module)
    exact = module.double().cell(State(**in_float64(state)), Condition(**in_float64(condition)))
    found = folded_image(module.float().cell, state, condition)
    assert apart(found, exact) < 1e-5
    other = module.cell(State(state.geometry, state.pattern + 0.1), condition)
    assert apart(found, other) > 1e-3  # control


def test_every_weight_of_the_cell_counts() -> None:
    module = model()
    state, condition = situation(module)
    for name, parameter in module.cell.named_parameters():
        if any(part in name for part in OF_THE_CONDITION):
            continue
        before = folded_image(module.cell, state, condition)
        parameter.mul_(1.1)
        after = folded_image(module.cell, state, condition)
        assert (
            max(float((a - b).abs().max()) for a, b in zip(after, before, strict=True)) > 1e-6
        ), name
        assert apart(after, module.cell(state, condition)) < 1e-5, name


@pytest.mark.parametrize('motion_tolerance_m', [0.0, 1e-4])
def test_the_folded_solver_takes_the_steps_of_the_plain_one(motion_tolerance_m: float) -> None:
    module = model()
    state, condition = situation(module, 3)
    settings = dataclasses.replace(SETTINGS, motion_tolerance_m=motion_tolerance_m)
    plain = module.solve(condition, state, settings)
    wanted = module.unpack(plain.state, condition)
    found, how = FoldedSolver(module).solve(condition, state, settings)
    assert how.steps.tolist() == plain.steps.tolist() and min(how.steps) > 1
    assert how.converged.tolist() == plain.converged.tolist()
    torch.testing.assert_close(found.geometry, wanted.geometry, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.pattern, wanted.pattern, rtol=1e-4, atol=1e-5)
    assert float((found.geometry - state.geometry).abs().max()) > 1e-3  # control


def test_nobody_depends_on_who_else_is_there() -> None:
    module = model()
    state, condition = situation(module, 3)
    together, _ = FoldedSolver(module).solve(condition, state, SETTINGS)
    for row in range(3):
        only = slice(row, row + 1)
        own = Condition(*(getattr(condition, e.name)[only] for e in dataclasses.fields(condition)))
        alone, _ = FoldedSolver(module).solve(
            own, State(state.geometry[only], state.pattern[only]), SETTINGS
        )
        assert torch.equal(alone.geometry, together.geometry[only])
    assert not torch.equal(together.geometry[0], together.geometry[1])


def test_somebody_who_leaves_the_finite_keeps_the_best_and_disturbs_nobody() -> None:
    module = model()
    state, condition = situation(module, 2)
    alone, _ = FoldedSolver(module).solve(condition, state, SETTINGS)
    state.pattern[1] = torch.nan
    found, how = FoldedSolver(module).solve(condition, state, SETTINGS)
    assert torch.equal(found.geometry[0], alone.geometry[0])
    assert how.converged.tolist() == [True, False] and how.steps[1] == 1


def test_the_prediction_turns_with_the_room() -> None:
    module, turn = model(), rotation().float()
    observed = people(2, SHAPE).float()

    def predicted(seen: Tensor) -> Tensor:
        found, _ = FoldedSolver(module).solve(module.encode(seen), module.lift(seen), SETTINGS)
        return module.decode(found, seen[:, -1])

    here, there = predicted(observed), predicted(observed @ turn.mT)
    torch.testing.assert_close(there, here @ turn.mT, rtol=1e-3, atol=1e-4)
    assert float((there - here).abs().max()) > 0.1  # control: the turn was one


def test_only_models_for_the_cpu_in_float32_are_folded() -> None:
    assert fold(model()) is not None
    assert fold(model().double()) is None
