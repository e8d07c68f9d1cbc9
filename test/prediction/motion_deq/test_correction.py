# SPDX-License-Identifier: Apache-2.0
"""The correction adapter: it turns with the room, does nothing untrained, and saves iterations."""

import dataclasses

import numpy as np
import torch
from models import TINY, motion_deq, people, rotation

from motion_predictor_ros.prediction.motion_deq.cell import State
from motion_predictor_ros.prediction.motion_deq.correction import CorrectionAdapter, Innovation
from motion_predictor_ros.prediction.motion_deq.model import MotionDEQ
from motion_predictor_ros.prediction.motion_deq.solver import SolverSettings
from motion_predictor_ros.prediction.streaming import Memory, correct
from motion_predictor_ros.skeleton.frame import Window


class LeansOnX(CorrectionAdapter):
    """A broken adapter: it treats one axis unlike the others."""

    def forward(self, state: State, innovation: Innovation) -> State:
        """Stretch x."""
        guess = super().forward(state, innovation)
        return State(guess.geometry * torch.tensor([1.1, 1.0, 1.0]), guess.pattern)


def adapted(*, trained: bool = True) -> MotionDEQ:
    model = motion_deq(dataclasses.replace(TINY, correction=True)).requires_grad_(False)
    if trained:
        for parameter in model.correction.parameters():
            parameter.normal_(std=0.1)
    return model


def remembered(model: MotionDEQ, observed: torch.Tensor) -> list[Memory]:
    settings = SolverSettings(30, 1e-10)
    future, state, _ = model(observed, settings)
    seen = model.observe(observed)
    path = torch.cat([observed[:, -1:], future], dim=1).numpy()
    return [
        Memory(0, State(state.geometry[[i]], state.pattern[[i]]), seen.rows([i]), path[i])
        for i in range(len(observed))
    ]


def windows(observed: torch.Tensor, frames: float) -> list[Window]:
    stamp_ns = round(frames * TINY.period_s * 1e9)
    ones = np.ones(observed.shape[1:3])
    return [
        Window('x', stamp_ns, each.numpy(), ones.astype(bool), ones.astype(np.float32), False)
        for each in observed
    ]


def later(observed: torch.Tensor) -> torch.Tensor:
    return torch.cat([observed[:, 1:], 2 * observed[:, -1:] - observed[:, -2:-1]], dim=1)


def guess(model: MotionDEQ, observed: torch.Tensor, frames: float = 1.0) -> State:
    new = later(observed)
    memories = remembered(model, observed)
    return correct(model, memories, windows(new, frames), model.observe(new))


def turned(model: MotionDEQ) -> float:
    turn, shift = rotation(), torch.tensor([3.0, -2.0, 1.0])
    here = guess(model, people())
    there = guess(model, people() @ turn.T + shift)
    torch.testing.assert_close(here.pattern, there.pattern)
    return float((here.geometry @ turn.T - there.geometry).abs().max())


def test_the_guess_turns_with_the_room() -> None:
    assert turned(adapted()) < 1e-9


def test_the_check_sees_an_adapter_that_does_not_turn() -> None:
    model = adapted()
    model.correction.__class__ = LeansOnX
    assert turned(model) > 1e-3


def test_an_untrained_adapter_changes_nothing() -> None:
    plain, fresh = motion_deq(), adapted(trained=False)
    fresh.load_state_dict(fresh.state_dict() | plain.state_dict())
    expected, found = guess(plain.requires_grad_(False), people()), guess(fresh, people())
    torch.testing.assert_close(found.geometry, expected.geometry)
    torch.testing.assert_close(found.pattern, expected.pattern)


def test_everybody_is_corrected_as_if_alone() -> None:
    model, observed = adapted(), people(3)
    together = guess(model, observed)
    for index in range(3):
        alone = guess(model, observed[[index]])
        torch.testing.assert_close(together.geometry[[index]], alone.geometry)


def test_the_correction_depends_on_the_time_that_passed() -> None:
    model = adapted()
    soon, late = guess(model, people(), 0.5), guess(model, people(), 2.0)
    assert (soon.geometry - late.geometry).abs().max() > 1e-3


def test_the_remembered_path_is_read_between_its_frames() -> None:
    path = np.arange(4.0)[:, None, None] * np.ones((4, 5, 3))
    memory = dataclasses.replace(remembered(adapted(), people(1))[0], path=path)
    found = [memory.pose_after(at)[0, 0] for at in (0.0, 0.5, 1.25, 3.0, 9.0)]
    assert found == [0.0, 0.5, 1.25, 3.0, 3.0]
