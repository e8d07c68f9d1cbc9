# SPDX-License-Identifier: Apache-2.0
"""Building a layer's graph again gives the same gradients, and holds less meanwhile."""

import dataclasses

import torch
from models import TINY, people
from torch import Tensor

from motion_predictor_ros.bench.memory import SavedBytes
from motion_predictor_ros.prediction.motion_deq.recompute import recomputed
from motion_predictor_ros.training.motion_deq import MotionDEQLearner
from motion_predictor_ros.training.recipe import EquilibriumConfig, MotionDEQRecipe

DEEP = dataclasses.replace(TINY, layers=3, feedback=0.3)
PAST = people(config=TINY)
TARGET = 0.3 * torch.randn(
    3, TINY.future, TINY.joints, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64
)


def learnt(*, recompute: bool, neumann_terms: int = 1) -> tuple[dict[str, Tensor], int]:
    """Return the gradients of one step, and the most bytes that were held for them."""
    equilibrium = EquilibriumConfig(
        solver_steps=3, hinge_weight=0.3, hinge_share=1.0, hinge_limit=0.0, recompute=recompute
    )
    equilibrium = dataclasses.replace(equilibrium, neumann_terms=neumann_terms)
    learner = MotionDEQLearner(
        MotionDEQRecipe(model=DEEP, equilibrium=equilibrium), torch.device('cpu')
    )
    with torch.no_grad():
        learner.module.out.weight.mul_(30.0)
    with SavedBytes([*learner.module.parameters(), *learner.module.buffers(), PAST]) as count:
        learner.accumulate_gradients(PAST, TARGET, None, torch.Generator().manual_seed(0), 0)
    named = learner.module.named_parameters()
    return {name: p.grad for name, p in named if p.grad is not None}, count.peak


def test_gradients_are_the_same_and_the_peak_is_lower() -> None:
    kept, more = learnt(recompute=False)
    again, less = learnt(recompute=True)
    assert kept.keys() == again.keys()
    for name, gradient in kept.items():
        torch.testing.assert_close(again[name], gradient, rtol=1e-9, atol=1e-12, msg=name)
    assert less < 0.7 * more


def test_the_comparison_sees_another_gradient() -> None:
    """The control: another number of Neumann terms is another gradient."""
    one, other = learnt(recompute=True)[0], learnt(recompute=True, neumann_terms=0)[0]
    assert any(not torch.allclose(one[name], other[name], rtol=1e-6) for name in other)


def test_a_function_is_run_again_for_each_gradient_and_keeps_its_inputs_alone() -> None:
    runs = 0
    weight, point = torch.tensor(2.0, requires_grad=True), torch.rand(1000).requires_grad_()

    def run(inputs: Tensor) -> tuple[Tensor, ...]:
        nonlocal runs
        runs += 1
        return (weight * inputs.sin().sin().sin(),)

    with SavedBytes([weight]) as count:
        (image,) = recomputed(run, [point], [weight])
    assert runs == 1 and count.alive == 1000 * 8
    first = torch.autograd.grad(image.sum(), [point, weight], retain_graph=True)
    second = torch.autograd.grad(image.sum(), [point, weight])
    assert runs == 3 and all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    plain = torch.autograd.grad(run(point)[0].sum(), [point, weight])
    assert all(torch.allclose(a, b) for a, b in zip(first, plain, strict=True))
