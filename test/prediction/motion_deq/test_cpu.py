# SPDX-License-Identifier: Apache-2.0
"""The folded model gives the plain one's answers, drops no weight, and turns with the room."""

import copy
import dataclasses
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from models import people, rotation
from torch import Tensor

from motion_predictor_ros.prediction.motion_deq.cell import ACTING, Condition, State
from motion_predictor_ros.prediction.motion_deq.cpu import kernels
from motion_predictor_ros.prediction.motion_deq.cpu.cell import _CellWorkspace
from motion_predictor_ros.prediction.motion_deq.cpu.encoder import FusedEncoder
from motion_predictor_ros.prediction.motion_deq.cpu.solver import FusedMotionDEQ
from motion_predictor_ros.prediction.motion_deq.model import MotionDEQ, MotionDEQConfig
from motion_predictor_ros.prediction.motion_deq.solver import SolverSettings
from motion_predictor_ros.runtime.threads import WorkerPool

SHAPE = MotionDEQConfig(
    joints=5, past=6, future=4, channels=12, patterns=10, layers=2, feedback=0.3, masked=True
)
SETTINGS = SolverSettings(max_steps=25, tolerance=1e-5)
SEEN = torch.tensor([[True, False, True, True, False]])


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


def situation(module: MotionDEQ) -> tuple[Tensor, State, Condition]:
    """Return what was observed of one person, a state and what f needs."""
    observed = people(1, SHAPE).to(module.out.weight)
    condition = module.encode(observed, SEEN)
    return observed, module.cell(module.lift(observed, SEEN), condition), condition


def in_float64(found: State | Condition) -> dict[str, Tensor]:
    return {each.name: getattr(found, each.name).double() for each in dataclasses.fields(found)}


def folded_image(module: MotionDEQ, state: State, observed: Tensor) -> list[Tensor]:
    fused = FusedMotionDEQ(module)
    flat = np.zeros(fused.size, np.float32)
    condition = FusedEncoder(module).encode(observed[0].numpy(), SEEN[0])
    fused.image(fused.flat(state), condition, flat)
    geometry = torch.from_numpy(flat[: fused.split]).view(SHAPE.joints, 3, SHAPE.channels)
    pattern = torch.from_numpy(flat[fused.split :]).view(SHAPE.joints, SHAPE.patterns)
    return [geometry.permute(2, 0, 1), pattern]


def apart(found: list[Tensor], wanted: State) -> float:
    pairs = zip(found, (wanted.geometry[0], wanted.pattern[0]), strict=True)
    return max(float((a - b).norm() / b.norm()) for a, b in pairs)


def test_the_folded_model_is_the_model_to_rounding() -> None:
    module = model()
    observed, state, condition = situation(module)
    found = folded_image(module, state, observed)
    module.double()
    exact = module.encode(observed.double(), SEEN)
    assert apart(found, module.cell(State(**in_float64(state)), exact)) < 1e-5
    other = module.float().cell(State(state.geometry, state.pattern + 0.1), condition)
    assert apart(found, other) > 1e-3  # control


def nudge_until_it_matters(
    module: MotionDEQ, parameter: Tensor, state: State, observed: Tensor
) -> float:
    """Enlarge a weight until f, in float64, differs by more than any rounding of the fused form.

    Returns:
        How far f moved, relative to its length.
    """

    def exact() -> State:
        copied = copy.deepcopy(module).double()
        return copied.cell(State(**in_float64(state)), copied.encode(observed.double(), SEEN))

    before, moved = exact(), 0.0
    for _ in range(20):
        parameter.mul_(2.0)
        after = exact()
        moved = apart([after.geometry[0], after.pattern[0]], before)
        if moved > 1e-3:
            break
    return moved


def test_every_weight_counts() -> None:
    names = [name for name, _ in model().named_parameters() if name != 'out.weight']
    buffers = [name for name, _ in model().named_buffers() if name != 'inverse_dct']
    assert len(names) + len(buffers) > 40
    for name in names + buffers:
        module = model()
        observed, state, _ = situation(module)
        before = folded_image(module, state, observed)
        parameter = dict(module.named_parameters()) | dict(module.named_buffers())
        moved = nudge_until_it_matters(module, parameter[name], state, observed)
        after = folded_image(module, state, observed)
        assert moved > 1e-3, name
        was = State(before[0][None], before[1][None])
        assert apart(after, was) > 0.9 * moved, name
        assert apart(after, module.cell(state, module.encode(observed, SEEN))) < 1e-5, name


def test_the_folded_categories_are_those_of_all_other_pairs() -> None:
    module = model()
    observed, _, condition = situation(module)
    found = FusedEncoder(module).encode(observed[0].numpy(), SEEN[0]).category
    others = ~torch.eye(SHAPE.joints, dtype=torch.bool)
    wanted = condition.category[0][:, others].mT.reshape(*found.shape)
    torch.testing.assert_close(torch.from_numpy(found), wanted, rtol=1e-4, atol=1e-6)
    assert found.shape[1] == ACTING and float(found.std()) > 1e-3  # control: they differ


@pytest.mark.parametrize('motion_tolerance_m', [0.0, 1e-4])
def test_the_folded_solver_takes_the_steps_of_the_plain_one(motion_tolerance_m: float) -> None:
    module = model()
    observed = people(3, SHAPE).float()
    settings = dataclasses.replace(SETTINGS, motion_tolerance_m=motion_tolerance_m)
    wanted, state, plain = module(observed, settings)
    found, fused, how = FusedMotionDEQ(module).predict(observed, None, [None] * 3, settings)
    assert how.steps.tolist() == plain.steps.tolist() and min(how.steps) > 1
    assert how.converged.tolist() == plain.converged.tolist()
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(fused.geometry, state.geometry, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(fused.pattern, state.pattern, rtol=1e-4, atol=1e-5)
    assert float((found - observed[:, -1:]).abs().max()) > 1e-3  # control: they move


def test_a_solution_is_a_start() -> None:
    module, fused = model(), FusedMotionDEQ(model())
    observed, seen = people(2, SHAPE).float(), SEEN.expand(2, -1)
    _, state, cold = fused.predict(observed, seen, [None] * 2, SETTINGS)
    _, again, warm = fused.predict(observed, seen, [state.rows([0]), None], SETTINGS)
    assert warm.steps[0] < cold.steps[0] and warm.steps[1] == cold.steps[1]
    torch.testing.assert_close(again.geometry[0], state.geometry[0], rtol=1e-3, atol=1e-4)
    start = module.lift(observed, seen)
    _, other, plain = module(observed, SETTINGS, start, seen)
    assert plain.steps.tolist() == cold.steps.tolist()
    torch.testing.assert_close(state.geometry, other.geometry, rtol=1e-4, atol=1e-5)


def test_nobody_depends_on_who_else_is_there() -> None:
    fused, observed = FusedMotionDEQ(model()), people(3, SHAPE).float()
    together, _, _ = fused.predict(observed, None, [None] * 3, SETTINGS)
    for row in range(3):
        alone, _, _ = fused.predict(observed[row : row + 1], None, [None], SETTINGS)
        assert torch.equal(alone[0], together[row])
    assert not torch.equal(together[0], together[1])


@pytest.mark.parametrize('threads', [2, 3])
def test_people_are_shared_out_to_threads_and_answers_stay_to_the_last_bit(threads: int) -> None:
    few = dataclasses.replace(SETTINGS, max_steps=2)  # where they start from still matters
    observed = people(5, SHAPE).float()
    alone, _, how = FusedMotionDEQ(model()).predict(observed, None, [None] * 5, few)
    shared = FusedMotionDEQ(model(), WorkerPool(threads))
    for _ in range(20):
        found, _, same = shared.predict(observed, None, [None] * 5, few)
        assert torch.equal(found, alone) and same.steps.tolist() == how.steps.tolist()
    assert (
        float((alone[1:] - alone[:1]).abs().min(dim=0).values.max()) > 1e-3
    )  # control: they differ


def test_silu_is_torchs_to_rounding_wherever_it_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, 'tanh', kernels.tanh.py_func)
    x = torch.cat([torch.linspace(-30.0, 30.0, 4001), torch.tensor([0.0, -1e4, 1e4])])
    of_kernel = torch.tensor([kernels.silu.py_func(value) for value in x.numpy()])
    exact = torch.nn.functional.silu(x.double())
    error = (of_kernel.double() - exact).abs() / (1.0 + x.double().abs())
    assert float(error.max()) < 3e-7
    assert float((torch.relu(x).double() - exact).abs().max()) > 0.1  # control: no other function
    assert np.isnan(kernels.silu.py_func(np.float32('nan')))


def test_each_thread_has_room_of_its_own() -> None:
    room = _CellWorkspace(3, 2, 4)
    here = room.arrays
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(lambda: room.arrays.mean is not here.mean).result()
    assert room.arrays.mean is here.mean  # control: in this thread it is


def test_somebody_who_leaves_the_finite_keeps_the_best_and_disturbs_nobody() -> None:
    fused, observed = FusedMotionDEQ(model()), people(2, SHAPE).float()
    alone, state, _ = fused.predict(observed, None, [None] * 2, SETTINGS)
    lost = State(state.geometry[:1], torch.full_like(state.pattern[:1], torch.nan))
    found, _, how = fused.predict(observed, None, [None, lost], SETTINGS)
    assert torch.equal(found[0], alone[0])
    assert how.converged.tolist() == [True, False] and how.steps[1] == 1


def test_the_prediction_turns_with_the_room() -> None:
    fused, turn = FusedMotionDEQ(model()), rotation().float()
    observed = people(2, SHAPE).float()
    here, _, _ = fused.predict(observed, None, [None] * 2, SETTINGS)
    there, _, _ = fused.predict(observed @ turn.mT, None, [None] * 2, SETTINGS)
    torch.testing.assert_close(there, here @ turn.mT, rtol=1e-3, atol=1e-4)
    assert float((there - here).abs().max()) > 0.1  # control: the turn was one
