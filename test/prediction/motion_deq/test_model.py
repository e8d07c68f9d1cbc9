# SPDX-License-Identifier: Apache-2.0
"""Theorem 1, piece by piece: turning and shifting the room turns and shifts the prediction."""

import pytest
import torch
from models import TINY, motion_deq, people, rotation
from torch import Tensor

from motion_predictor_ros.prediction.motion_deq.cell import State
from motion_predictor_ros.prediction.motion_deq.features import dct_matrix
from motion_predictor_ros.prediction.motion_deq.layers import pair_distances
from motion_predictor_ros.prediction.motion_deq.model import MotionDEQ
from motion_predictor_ros.prediction.motion_deq.solver import SolverSettings

SHIFT = torch.tensor([3.0, -7.0, 0.5], dtype=torch.float64)
SETTINGS = SolverSettings(max_steps=12, tolerance=1e-12)
LIMIT = 1e-9  # [m], float64


class DriftsUp(MotionDEQ):
    """A broken model: it knows where up is."""

    def decode(self, state: State, last: Tensor) -> Tensor:
        """Lift every prediction by 5 cm."""
        return super().decode(state, last) + torch.tensor([0.0, 0.0, 0.05])


class LooksAtX(MotionDEQ):
    """A broken model: its layer treats one axis unlike the others."""

    def unpack(self, flat: Tensor, condition: object) -> State:
        """Stretch the x axis of the state."""
        state = super().unpack(flat, condition)  # type: ignore[arg-type]
        return State(state.geometry * torch.tensor([1.02, 1.0, 1.0]), state.pattern)


def rigid_error(model: MotionDEQ, observed: Tensor, turn: Tensor, shift: Tensor) -> float:
    """Return how far f(R x + t) is from R f(x) + t, cold and then warm-started [m]."""
    moved = observed @ turn.T + shift
    worst, state, moved_state = 0.0, None, None
    model.requires_grad_(False)
    for _ in range(2):
        here, state, _ = model(observed, SETTINGS, state)
        there, moved_state, _ = model(moved, SETTINGS, moved_state)
        worst = max(worst, float((here @ turn.T + shift - there).abs().max()))
        observed = observed + 0.01 * observed.roll(1, 0)
        moved = observed @ turn.T + shift
    return worst


@pytest.mark.parametrize('seed', range(5))
def test_prediction_moves_with_the_room_cold_and_warm(seed: int) -> None:
    assert rigid_error(motion_deq(seed=seed), people(seed=seed), rotation(seed), SHIFT) < LIMIT


def test_prediction_of_a_reflected_room_is_reflected() -> None:
    mirror = torch.diag(torch.tensor([-1.0, 1.0, 1.0]))
    assert rigid_error(motion_deq(), people(), mirror, SHIFT) < LIMIT


@pytest.mark.parametrize('broken', [DriftsUp, LooksAtX])
def test_rigid_error_sees_a_broken_model(broken: type[MotionDEQ]) -> None:
    model = motion_deq()
    model.__class__ = broken
    assert rigid_error(model, people(), rotation(), SHIFT) > 1e-4


def test_features_and_one_step_turn_with_the_room() -> None:
    model, observed, turn = motion_deq(), people(), rotation()
    moved = observed @ turn.T + SHIFT
    here, there = model.encode(observed), model.encode(moved)
    for name in ('geometry', 'velocity'):
        torch.testing.assert_close(getattr(here, name) @ turn.T, getattr(there, name))
    for name in ('pattern', 'category', 'scale'):
        torch.testing.assert_close(getattr(here, name), getattr(there, name))
    step_here = model.cell(model.lift(observed), here)
    step_there = model.cell(model.lift(moved), there)
    torch.testing.assert_close(step_here.geometry @ turn.T, step_there.geometry)
    torch.testing.assert_close(step_here.pattern, step_there.pattern)


def test_prediction_really_moves() -> None:
    """Without this, a model that repeats the last frame would pass every test above."""
    observed = people()
    future, _, _ = motion_deq()(observed, SETTINGS)
    assert (future - observed[:, -1:]).abs().max() > 0.05


def test_everybody_gets_the_answer_they_would_get_alone() -> None:
    model, observed = motion_deq(), people(4)
    observed[2] *= 3.0  # one person who converges at another step
    settings = SolverSettings(max_steps=40, tolerance=1e-6)
    together, _, found = model(observed, settings)
    assert len(set(found.steps.tolist())) > 1
    for index in range(4):
        alone, _, single = model(observed[index : index + 1], settings)
        torch.testing.assert_close(together[index], alone[0], atol=1e-10, rtol=0.0)
        assert single.steps[0] == found.steps[index]


def test_solved_state_is_the_limit_of_a_long_unroll() -> None:
    model, observed = motion_deq(), people()
    condition = model.encode(observed)
    found = model.solve(condition, model.lift(observed), SolverSettings(200, 1e-13))
    assert bool(found.converged.all())
    state = model.lift(observed)
    for _ in range(400):
        state = model.cell(state, condition)
    torch.testing.assert_close(model.pack(state, condition), found.state, atol=1e-10, rtol=0.0)
    short = model.lift(observed)
    for _ in range(3):
        short = model.cell(short, condition)
    assert (model.pack(short, condition) - found.state).abs().max() > 1e-4


def test_warm_start_needs_fewer_steps_for_the_same_person() -> None:
    model, observed = motion_deq(), people()
    settings = SolverSettings(max_steps=100, tolerance=1e-8)
    _, state, cold = model(observed, settings)
    _, _, warm = model(observed, settings, state)
    assert int(warm.steps.max()) <= 2 < int(cold.steps.min())


def test_pack_and_unpack_are_inverse() -> None:
    model, observed = motion_deq(), people()
    condition, state = model.encode(observed), model.lift(observed)
    back = model.unpack(model.pack(state, condition), condition)
    torch.testing.assert_close(back.geometry, state.geometry)
    torch.testing.assert_close(back.pattern, state.pattern)


def test_dct_is_orthonormal() -> None:
    matrix = dct_matrix(TINY.past + TINY.future)
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(len(matrix)))


def test_gram_distances_are_distances() -> None:
    geometry = torch.randn(2, 3, 4, 3)
    torch.testing.assert_close(
        pair_distances(geometry), torch.cdist(geometry, geometry) + 1e-4 * torch.eye(4)
    )
