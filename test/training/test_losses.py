# SPDX-License-Identifier: Apache-2.0
"""The phantom gradient against what it claims to be, and the hinge against finite differences."""

import pytest
import torch
from models import TINY, motion_deq, people

from motion_predictor_ros.prediction.motion_deq.cell import Condition, State
from motion_predictor_ros.prediction.motion_deq.model import MotionDEQ
from motion_predictor_ros.prediction.motion_deq.solver import SolverSettings
from motion_predictor_ros.training.losses import (
    backward_through,
    contraction_hinge,
    horizon_weights,
    joint_error,
    leaves_of,
    phantom_backward,
)

TARGET = torch.randn(3, TINY.future, TINY.joints, 3, generator=torch.Generator().manual_seed(5))
WEIGHTS = horizon_weights(TINY.future, 0.5)


def solved(model: MotionDEQ, condition: Condition) -> State:
    with torch.no_grad():
        start = model.lift(people())
        found = model.solve(condition, start, SolverSettings(80, 1e-13))
        return model.unpack(found.state, condition)


def gradients(model: MotionDEQ) -> dict[str, torch.Tensor]:
    found = {
        name: torch.zeros_like(each) if each.grad is None else each.grad.clone()
        for name, each in model.named_parameters()
    }
    model.zero_grad()
    return found


def one_graph(model: MotionDEQ, terms: int = 1) -> dict[str, torch.Tensor]:
    """Gradients by the code under test."""
    condition = model.encode(people())
    leaves = leaves_of(condition)
    state = solved(model, leaves)
    last = people()[:, -1]
    phantom_backward(model, state, leaves, last, TARGET, WEIGHTS, neumann_terms=terms)
    backward_through(condition, leaves)
    return gradients(model)


def unrolled(model: MotionDEQ, evaluations: int) -> dict[str, torch.Tensor]:
    """Gradients by autograd through f applied `evaluations` times at the detached z*."""
    condition = model.encode(people())
    state = solved(model, condition)
    for _ in range(evaluations):
        state = model.cell(state, condition)
    error = joint_error(model.decode(state, people()[:, -1]), TARGET).mean(dim=(0, 2))
    (error * WEIGHTS).mean().backward()
    return gradients(model)


def largest_difference(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> float:
    assert ours.keys() == theirs.keys()
    scale = max(float(each.abs().max()) for each in theirs.values())
    return max(float((ours[name] - theirs[name]).abs().max()) for name in ours) / scale


def test_phantom_gradient_equals_two_unrolled_evaluations() -> None:
    model = motion_deq()
    assert largest_difference(one_graph(model), unrolled(model, 2)) < 1e-9


def test_one_or_three_unrolled_evaluations_are_something_else() -> None:
    model = motion_deq()
    ours = one_graph(model)
    assert largest_difference(ours, unrolled(model, 1)) > 1e-3
    assert largest_difference(ours, unrolled(model, 3)) > 1e-5


def test_every_parameter_gets_a_gradient() -> None:
    model = motion_deq()
    learnt = {name for name, grad in one_graph(model).items() if float(grad.abs().max()) > 0}
    assert learnt == {name for name, _ in model.named_parameters()}


def test_phantom_gradient_points_along_the_true_gradient() -> None:
    """Against central differences of the solved loss, for one weight matrix of the layer."""
    model = motion_deq()
    phantom = one_graph(model)['cell.layers.0.query.weight']
    weight = model.cell.layers[0].query.weight
    true = torch.zeros_like(phantom)
    with torch.no_grad():
        for index in range(0, weight.numel(), 4):
            values = []
            for step in (1e-5, -1e-5):
                weight.view(-1)[index] += step
                condition = model.encode(people())
                decoded = model.decode(solved(model, condition), people()[:, -1])
                error = joint_error(decoded, TARGET).mean(dim=(0, 2))
                values.append(float((error * WEIGHTS).mean()))
                weight.view(-1)[index] -= step
            true.view(-1)[index] = (values[0] - values[1]) / 2e-5
    cosine = torch.nn.functional.cosine_similarity(
        phantom.view(-1)[::4], true.view(-1)[::4], dim=0
    )
    assert cosine > 0.9


def implicit(model: MotionDEQ) -> dict[str, torch.Tensor]:
    """Exact gradients: u = (I - J^T)^-1 dL/dz*, from a dense Jacobian of each person's state."""
    condition = model.encode(people())
    state = solved(model, condition)
    # Packing is only a choice of coordinates, which stay where they are.
    units = leaves_of(condition)
    flat = model.pack(state, units).detach()

    def image(packed: torch.Tensor) -> torch.Tensor:
        return model.pack(model.cell(model.unpack(packed, units), condition), units)

    jacobian = torch.autograd.functional.jacobian(image, flat).detach()
    each = torch.stack([jacobian[person, :, person] for person in range(len(flat))])
    leaf = image(flat).detach().requires_grad_()
    decoded = model.decode(model.unpack(leaf, units), people()[:, -1])
    (joint_error(decoded, TARGET).mean(dim=(0, 2)) * WEIGHTS).mean().backward()
    assert leaf.grad is not None
    identity = torch.eye(flat.shape[1])
    sent = torch.linalg.solve(identity - each.transpose(1, 2), leaf.grad[..., None])[..., 0]
    image(flat).backward(sent)
    return gradients(model)


def test_more_neumann_terms_come_closer_to_the_implicit_gradient() -> None:
    model = motion_deq(seed=1)  # one that contracts, or the series has no limit
    exact = implicit(model)
    terms = (0, 1, 2, 4, 8, 16, 40)
    off = [largest_difference(one_graph(model, count), exact) for count in terms]
    assert off == sorted(off, reverse=True)
    assert off[1] > 1e-1 and off[-1] < 1e-10


@pytest.mark.parametrize('terms', [0, 2])
def test_neumann_terms_count_the_unrolled_evaluations(terms: int) -> None:
    model = motion_deq()
    ours = one_graph(model, terms)
    assert largest_difference(ours, unrolled(model, terms + 1)) < 1e-9
    assert largest_difference(ours, one_graph(model)) > 1e-5


def test_hinge_costs_nothing_below_its_limit_and_something_above() -> None:
    model = motion_deq()
    condition = model.encode(people())
    state = model.lift(people())
    assert float(contraction_hinge(model, state, condition, limit=2.0).detach()) == 0.0
    assert float(contraction_hinge(model, state, condition, limit=0.0).detach()) > 1e-3


def test_converged_samples_have_no_hinge_loss() -> None:
    """Near the fixed point the ratio says nothing, and dividing by it would say it loudly."""
    model = motion_deq()
    condition, start = model.encode(people()), model.lift(people())
    state = solved(model, condition)
    assert float(contraction_hinge(model, state, condition, limit=0.0).detach()) == 0.0
    assert float(contraction_hinge(model, start, condition, limit=0.0).detach()) > 1e-3  # control


def test_descending_the_hinge_makes_the_layer_contract_more() -> None:
    model = motion_deq()
    optimiser = torch.optim.SGD(model.cell.parameters(), lr=0.05)
    values = []
    for _ in range(20):
        optimiser.zero_grad()
        with torch.no_grad():
            condition, state = model.encode(people()), model.lift(people())
        hinge = contraction_hinge(model, state, condition, limit=0.0)
        hinge.backward()
        optimiser.step()
        values.append(float(hinge.detach()))
    assert values[-1] < 0.9 * values[0]


def test_horizon_weights_have_mean_one_and_favour_the_near_future() -> None:
    weights = horizon_weights(25, 0.5)
    torch.testing.assert_close(weights.mean(), torch.tensor(1.0))
    assert float(weights[0] / weights[24]) == torch.tensor(5.0)
    torch.testing.assert_close(horizon_weights(4, 0.0), torch.ones(4))
