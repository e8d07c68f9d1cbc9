# SPDX-License-Identifier: Apache-2.0
"""f with several layers and a quiet state: what its weights mean, and that it turns along."""

import dataclasses

import torch
from models import TINY, motion_deq, people, rotation
from torch import Tensor

from motion_predictor_ros.prediction.motion_deq.cell import State
from motion_predictor_ros.prediction.motion_deq.model import MotionDEQ

DEEP = dataclasses.replace(TINY, layers=2, feedback=0.1)


def image(model: MotionDEQ, positions: Tensor, state: State | None = None) -> State:
    with torch.no_grad():
        start = model.lift(positions) if state is None else state
        return model.cell(start, model.encode(positions))


def test_deep_cells_turn_along() -> None:
    model, turn = motion_deq(DEEP), rotation()
    here, there = image(model, people()), image(model, people() @ turn.T + 3.0)
    torch.testing.assert_close(here.geometry @ turn.T, there.geometry, rtol=0.0, atol=1e-9)
    torch.testing.assert_close(here.pattern, there.pattern, rtol=0.0, atol=1e-9)
    assert float((here.geometry - there.geometry).abs().max()) > 1e-2


def test_every_layer_reads_its_own_velocity() -> None:
    model = motion_deq(DEEP)
    before = image(model, people())
    for layer in model.cell.layers:
        weight = layer.velocity.weight
        with torch.no_grad():
            kept = weight.clone()
            weight.mul_(2.0)
        changed = float((image(model, people()).geometry - before.geometry).abs().max())
        with torch.no_grad():
            weight.copy_(kept)
        assert changed > 1e-4
    torch.testing.assert_close(image(model, people()).geometry, before.geometry)


def test_feedback_scales_what_comes_back_and_nothing_else() -> None:
    loud = motion_deq(dataclasses.replace(DEEP, feedback=1.0))
    quiet = motion_deq(DEEP)
    state = loud.lift(people())
    tenth = State(0.1 * state.geometry, 0.1 * state.pattern)
    torch.testing.assert_close(
        image(quiet, people(), state).geometry, image(loud, people(), tenth).geometry
    )
    same = image(loud, people(), state).geometry - image(quiet, people(), state).geometry
    assert float(same.abs().max()) > 1e-3


def test_one_layer_heard_in_full_is_the_default() -> None:
    assert (TINY.layers, TINY.feedback) == (1, 1.0)
    assert len(motion_deq(TINY).cell.layers) == 1
