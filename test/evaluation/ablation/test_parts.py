# SPDX-License-Identifier: Apache-2.0
"""Each variant lacks what its name says, and nothing else."""

import dataclasses

import pytest
import torch
from models import TINY, people, rotation
from torch import Tensor
from walkers import RECIPE

from motion_predictor_ros.evaluation.ablation.parts import (
    VARIANTS,
    WHOLE,
    smoothed,
    variant_kind,
    variant_learner,
    variant_recipe,
)
from motion_predictor_ros.prediction.motion_deq.cell import Condition, FixedPointCell, State
from motion_predictor_ros.prediction.motion_deq.model import MotionDEQ
from motion_predictor_ros.prediction.motion_deq.solver import SolverSettings
from motion_predictor_ros.training.motion_deq import MotionDEQLearner

CPU = torch.device('cpu')
SMALL = dataclasses.replace(RECIPE, model=TINY)
TARGET = torch.randn(3, TINY.future, TINY.joints, 3, generator=torch.Generator().manual_seed(5))
OF_THE_METHOD = pytest.mark.parametrize(
    'name',
    [n for n, v in VARIANTS.items() if set(v.changes) <= {'equilibrium'} and n != 'without_hinge'],
)
"""The others learn otherwise, or from other windows, but the same from the same batch."""

EACH = pytest.mark.parametrize('name', list(VARIANTS))
UNSEEN = ('cell.layers.0.message_out', 'cell.layers.0.update', 'cell.norm')
CELLS = [name for name, variant in VARIANTS.items() if variant.cell is not FixedPointCell]


def learner(name: str) -> MotionDEQLearner:
    """Build a variant whose predictions really move."""
    built = variant_learner(name, variant_recipe(name, SMALL, seed=1), CPU)
    with torch.no_grad():
        built.module.out.weight.mul_(30.0)
    return built


def gradients(built: MotionDEQLearner) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)
    built.accumulate_gradients(people(), TARGET, None, generator, 0)
    return {key: p.grad for key, p in built.module.named_parameters() if p.grad is not None}


def predicted(model: MotionDEQ, positions: Tensor) -> Tensor:
    with torch.no_grad():
        return model(positions, SolverSettings(max_steps=8, tolerance=0.0))[0]


def rigid_error(model: MotionDEQ) -> float:
    """Return how far f(R x + t) is from R f(x) + t [m]."""
    turn, shift = rotation(), torch.tensor([3.0, -7.0, 0.5])
    there = predicted(model, people() @ turn.T + shift)
    return float((predicted(model, people()) @ turn.T + shift - there).abs().max())


def changed_by(model: MotionDEQ, entry: str) -> float:
    """Return how much one evaluation of f changes when an entry of its condition does."""
    with torch.no_grad():
        condition, state = model.encode(people()), model.lift(people())
        other = dataclasses.replace(condition, **{entry: 2.0 * getattr(condition, entry) + 0.1})
        one, two = model.cell(state, condition), model.cell(state, other)
    gaps = (one.geometry - two.geometry, one.pattern - two.pattern)
    return max(float(gap.abs().max()) for gap in gaps)


@pytest.mark.parametrize(
    ('name', 'geometry', 'pattern'),
    [
        (WHOLE, True, True),
        ('without_egi', False, True),
        ('without_ipi', True, False),
        ('direct_injection', True, True),
    ],
)
def test_inputs_that_are_not_injected_have_no_effect(
    name: str, geometry: bool, pattern: bool
) -> None:
    model = learner(name).module
    assert (changed_by(model, 'geometry') > 1e-3) == geometry
    assert (changed_by(model, 'pattern') > 1e-3) == pattern
    assert changed_by(model, 'velocity') > 1e-3 and changed_by(model, 'category') > 1e-6
    if not geometry:
        assert changed_by(model, 'geometry') == 0.0
    if not pattern:
        assert changed_by(model, 'pattern') == 0.0


def test_direct_injection_adds_the_observation_as_it_is() -> None:
    model = learner('direct_injection').module
    seen, state = model.observe(people()), model.lift(people())
    condition = model.condition(seen)
    injected = model.cell.inject(state, condition)
    torch.testing.assert_close(injected.geometry, state.geometry + seen.geometry)
    torch.testing.assert_close(injected.pattern, state.pattern + seen.pattern)
    whole = learner(WHOLE).module
    other = whole.cell.inject(state, whole.condition(seen))
    assert not torch.allclose(other.geometry, injected.geometry, atol=1e-3)


@EACH
def test_variants_start_from_the_same_weights(name: str) -> None:
    own, whole = learner(name).module.state_dict(), learner(WHOLE).module.state_dict()
    assert all(torch.equal(tensor, whole[key]) for key, tensor in own.items())
    missing = set(whole) - set(own)
    assert all(key.startswith('cell.inject_') for key in missing)
    assert bool(missing) == (name in CELLS)


@pytest.mark.parametrize('name', CELLS)
def test_variants_move_with_the_room_and_predict_something_else(name: str) -> None:
    model = learner(name).module
    assert rigid_error(model) < 1e-9
    whole = predicted(learner(WHOLE).module, people())
    assert float((predicted(model, people()) - whole).abs().max()) > 1e-3


def test_rigid_error_sees_a_variant_that_looks_at_x(monkeypatch: pytest.MonkeyPatch) -> None:
    model = learner('without_egi').module
    whole = model.cell.inject

    def looks_at_x(state: State, condition: Condition) -> State:
        injected = whole(state, condition)
        tilted = injected.geometry * torch.tensor([1.1, 1.0, 1.0])
        return State(tilted, injected.pattern)

    monkeypatch.setattr(model.cell, 'inject', looks_at_x)
    assert rigid_error(model) > 1e-4


@OF_THE_METHOD
def test_every_weight_of_a_variant_is_trained_differently_from_the_whole(name: str) -> None:
    own, whole = gradients(learner(name)), gradients(learner(WHOLE))
    names = {key for key, _ in learner(name).module.named_parameters()}
    if name == 'neumann_0':
        # The decoder reads geometry alone: what f does to the patterns shows one evaluation later.
        names = {key for key in names if not key.startswith(UNSEEN)}
    assert {key for key, gradient in own.items() if bool(gradient.any())} == names
    same = all(torch.equal(gradient, whole[key]) for key, gradient in own.items())
    assert same == (name == WHOLE)


@EACH
def test_recipes_differ_in_the_variants_part_alone(name: str) -> None:
    recipe = variant_recipe(name, SMALL, seed=7)
    for section in ('equilibrium', 'sampling', 'shape', 'schedule'):
        own = dataclasses.asdict(getattr(SMALL, section))
        own |= {'seed': 7} if section == 'schedule' else {}
        expected = own | dict(VARIANTS[name].changes.get(section, {}))
        assert dataclasses.asdict(getattr(recipe, section)) == expected
    assert recipe.model == SMALL.model


def test_files_of_other_cells_are_of_another_kind() -> None:
    assert {variant_kind(name) for name in set(VARIANTS) - set(CELLS)} == {'motion_deq'}
    assert len({variant_kind(name) for name in CELLS} - {'motion_deq'}) == len(CELLS) == 3
    assert all(learner(name).kind == variant_kind(name) for name in VARIANTS)


def test_smoothing_replaces_frames_by_the_mean_so_far() -> None:
    target = torch.tensor([1.0, 2.0, 6.0, 3.0])[None, :, None, None].expand(2, 4, 5, 3)
    by_hand = {0: [1, 2, 6, 3], 1: [1, 1.5, 3, 3], 2: [1, 1.25, 5.5 / 3, 8.5 / 4]}
    for times, expected in by_hand.items():
        assert smoothed(target, times)[0, :, 0, 0].tolist() == pytest.approx(expected)


def test_targets_of_earlier_states_are_smoother() -> None:
    built, asked = learner('smoothed_targets'), []

    def note(target: Tensor, left: int) -> Tensor:
        asked.append(left)
        return smoothed(target, left)

    built.intermediate_target = note  # type: ignore[method-assign]
    for seed in range(20):
        built.accumulate_gradients(people(), TARGET, None, torch.Generator().manual_seed(seed), 0)
    assert set(asked) == set(range(SMALL.equilibrium.solver_steps))


def test_only_the_sampled_state_has_a_smoothed_target() -> None:
    losses = []
    for name in (WHOLE, 'smoothed_targets'):
        generator = torch.Generator().manual_seed(3)
        losses.append(learner(name).accumulate_gradients(people(), TARGET, None, generator, 0))
    assert losses[0]['loss'] == losses[1]['loss'] and losses[0]['hinge'] == losses[1]['hinge']
    assert losses[0]['sparse'] != losses[1]['sparse']
