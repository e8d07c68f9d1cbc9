# SPDX-License-Identifier: Apache-2.0
"""Building a layer's graph again gives the same gradients, and holds less meanwhile."""

import dataclasses

import torch
from models import TINY, people
from torch import Tensor

from motion_predictor_ros.bench.memory import LiveBytes
from motion_predictor_ros.training.motion_deq import MotionDEQLearner
from motion_predictor_ros.training.recipe import EquilibriumConfig, MotionDEQRecipe

DEEP = dataclasses.replace(TINY, layers=3, feedback=0.3)
PAST = people(config=TINY)
TARGET = 0.3 * torch.randn(
    3, TINY.future, TINY.joints, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64
)


def learnt(*, recompute: bool, neumann_terms: int = 1) -> tuple[dict[str, Tensor], int]:
    """Return the gradients of one step, and the peak memory meanwhile [bytes]."""
    equilibrium = EquilibriumConfig(
        solver_steps=3, hinge_weight=0.3, hinge_share=1.0, hinge_limit=0.0, recompute=recompute
    )
    equilibrium = dataclasses.replace(equilibrium, neumann_terms=neumann_terms)
    learner = MotionDEQLearner(
        MotionDEQRecipe(model=DEEP, equilibrium=equilibrium), torch.device('cpu')
    )
    with torch.no_grad():
        learner.module.out.weight.mul_(30.0)
    with LiveBytes() as count:
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
