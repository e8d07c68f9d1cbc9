# SPDX-License-Identifier: Apache-2.0
"""MotionDEQ with a part removed or replaced.

The paper's summary does not define what replaces a removed module; read here as
    without F_EGI      P = G - M(G): the observed geometry is never injected. It is still known by
                       its velocities, its edge categories and the start of the solver
    without F_IPI      Q = H: the observed patterns act through the edge categories alone
    direct injection   P = G - M(G) + X_G - M(X_G), Q = H + X_H: added without maps
    smoothed targets   the target k iterates before the last one is the motion smoothed k times by
                       accumulated averages, as the intermediate stages of [PGBIG]; not the truth
Parts common to a variant and the whole model start from the same weights.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from motion_predictor_ros.prediction.motion_deq.cell import (
    ACTING,
    Condition,
    FixedPointCell,
    State,
)
from motion_predictor_ros.prediction.motion_deq.layers import centred, mix_channels
from motion_predictor_ros.training.motion_deq import MotionDEQLearner
from motion_predictor_ros.training.recipe import MotionDEQRecipe


class _RawCell(FixedPointCell):
    """A cell without some of its modules, whose condition holds X_G and X_H without maps."""

    removed: tuple[str, ...] = ()
    """Names of the modules that are left out."""

    def __init__(
        self, channels: int, patterns: int, layers: int = 1, feedback: float = 1.0
    ) -> None:
        super().__init__(channels, patterns, layers, feedback)
        for name in self.removed:
            delattr(self, name)

    def condition(
        self,
        geometry: Float[Tensor, 'batch channel joint xyz=3'],
        velocity: Float[Tensor, 'batch channel joint xyz=3'],
        pattern: Float[Tensor, 'batch joint pattern'],
        category: Float[Tensor, 'batch category joint joint'],
    ) -> Condition:
        """Compute the terms that are constant during a solve."""
        relative = centred(geometry)
        return Condition(
            geometry=relative,
            pattern=pattern,
            velocity=self.velocities(velocity),
            category=category[:, :ACTING],
            scale=relative.square().mean(dim=(1, 2, 3)).clamp_min(1e-12).sqrt(),
        )


class WithoutEGI(_RawCell):
    """A cell without injection of the observed geometry."""

    removed = ('inject_geometry',)

    def inject(self, state: State, condition: Condition) -> State:
        """Return (G - M(G), Q)."""
        pattern = self.inject_state(self.feedback * state.pattern)
        pattern = pattern + self.inject_pattern(condition.pattern)
        return State(centred(state.geometry), self.inject_out(functional.silu(pattern)))


class WithoutIPI(_RawCell):
    """A cell without injection of the observed patterns."""

    removed: tuple[str, ...] = ('inject_state', 'inject_pattern', 'inject_out')

    def inject(self, state: State, condition: Condition) -> State:
        """Return (P, H)."""
        both = self.feedback * centred(state.geometry) + condition.geometry
        return State(mix_channels(self.inject_geometry.weight, both), state.pattern)


class DirectInjection(WithoutIPI):
    """The observation is added as it is."""

    removed = (*WithoutIPI.removed, 'inject_geometry')

    def inject(self, state: State, condition: Condition) -> State:
        """Return (G - M(G) + X_G - M(X_G), H + X_H)."""
        geometry = centred(state.geometry) + condition.geometry
        return State(geometry, state.pattern + condition.pattern)


def smoothed(
    target: Float[Tensor, 'batch horizon joint xyz=3'], times: int
) -> Float[Tensor, 'batch horizon joint xyz=3']:
    """Replace each frame by the mean of the future up to it, repeatedly [PGBIG]."""
    counts = torch.arange(1, target.shape[1] + 1, device=target.device, dtype=target.dtype)
    for _ in range(times):
        target = target.cumsum(1) / counts[:, None, None]
    return target


class SmoothedTargetsLearner(MotionDEQLearner):
    """The target of a sampled state is a smoothed motion, the smoother the earlier the state."""

    def intermediate_target(
        self, target: Float[Tensor, 'batch horizon joint xyz=3'], left: int
    ) -> Float[Tensor, 'batch horizon joint xyz=3']:
        """Return the motion, smoothed once for each iterate that followed."""
        return smoothed(target, left)


@dataclass(frozen=True)
class Variant:
    """The difference from the whole model.

    Attributes:
        changes: Entries of the recipe's sections.
    """

    label: str
    cell: type[FixedPointCell] = FixedPointCell
    learner: type[MotionDEQLearner] = MotionDEQLearner
    changes: Mapping[str, Mapping[str, object]] = field(default_factory=dict)


WHOLE = 'full'

VARIANTS: Mapping[str, Variant] = {
    WHOLE: Variant('full'),
    'without_egi': Variant('without F_EGI', cell=WithoutEGI),
    'without_ipi': Variant('without F_IPI', cell=WithoutIPI),
    'direct_injection': Variant('direct injection', cell=DirectInjection),
    'smoothed_targets': Variant('smoothed targets', learner=SmoothedTargetsLearner),
    'neumann_0': Variant('Neumann terms 0', changes={'equilibrium': {'neumann_terms': 0}}),
    'neumann_2': Variant('Neumann terms 2', changes={'equilibrium': {'neumann_terms': 2}}),
    'gamma_0': Variant('gamma 0', changes={'equilibrium': {'sparse_weight': 0.0}}),
    'without_hinge': Variant('without hinge', changes={'equilibrium': {'hinge_weight': 0.0}}),
    'one_layer': Variant('one layer in f', changes={'model': {'layers': 1}}),
    'feedback_1': Variant('state injected in full', changes={'model': {'feedback': 1.0}}),
    'adam': Variant('Adam alone', changes={'schedule': {'muon_rate': 0.0}}),
    'without_mirror': Variant('without mirror', changes={'sampling': {'mirror': False}}),
    'without_stretch': Variant('without stretch', changes={'sampling': {'stretch': 1.0}}),
    'without_shape': Variant('without shape', changes={'shape': {'size': 1.0, 'bones': 1.0}}),
}
"""By their names in reports and of their folders."""


def variant_recipe(name: str, recipe: MotionDEQRecipe, seed: int) -> MotionDEQRecipe:
    """Return the recipe of a variant: the given one with the variant's change."""
    for section, changes in VARIANTS[name].changes.items():
        recipe = replace(recipe, **{section: replace(getattr(recipe, section), **changes)})
    return replace(recipe, schedule=replace(recipe.schedule, seed=seed))


def variant_kind(name: str) -> str:
    """Return the kind in weight files; weights of other cells do not load as MotionDEQ."""
    whole = VARIANTS[name].cell is FixedPointCell
    return MotionDEQLearner.kind if whole else f'{MotionDEQLearner.kind}_{name}'


def variant_learner(name: str, recipe: MotionDEQRecipe, device: torch.device) -> MotionDEQLearner:
    """Build an untrained variant from its recipe."""
    variant = VARIANTS[name]
    learner = variant.learner(recipe, device)
    if variant.cell is not FixedPointCell:
        model = recipe.model
        cell = variant.cell(model.channels, model.patterns, model.layers, model.feedback)
        whole = learner.module.cell.state_dict()
        cell.load_state_dict({key: whole[key] for key in cell.state_dict()})
        learner.module.cell = cell.to(device)
    learner.kind = variant_kind(name)
    return learner
