# SPDX-License-Identifier: Apache-2.0
"""Train MotionDEQ: solve without gradient, then backpropagate at the fixed point and before it.

Loss [MotionDEQ]: |dec(z*) - Y| + gamma |dec(z_l) - Y|, z_l sampled from the solver's trajectory
(sparse fixed-point supervision), each with its own phantom gradient, one after the other, so that
only one graph is alive at a time.
"""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from motion_predictor_ros.checkpoint import load_checkpoint
from motion_predictor_ros.conventions import REPORT_HORIZONS_MS
from motion_predictor_ros.data.recordings import Recordings
from motion_predictor_ros.errors import CheckpointError
from motion_predictor_ros.prediction.motion_deq.cell import Condition, State
from motion_predictor_ros.prediction.motion_deq.layers import Future, Mask, PairModule, Past
from motion_predictor_ros.prediction.motion_deq.model import MotionDEQ, MotionDEQConfig
from motion_predictor_ros.prediction.motion_deq.solver import SolverSettings
from motion_predictor_ros.skeleton.layout import SkeletonLayout
from motion_predictor_ros.training.augment import BodyShape, Degrader
from motion_predictor_ros.training.losses import (
    backward_through,
    contraction_hinge,
    horizon_weights,
    joint_error,
    leaves_of,
    phantom_backward,
)
from motion_predictor_ros.training.recipe import MotionDEQRecipe, training_clips
from motion_predictor_ros.training.windows import WindowSampler, every_window

ModuleT = TypeVar('ModuleT', bound=nn.Module)


@contextmanager
def pairs_in(module: nn.Module, dtype: torch.dtype | None) -> Iterator[None]:
    """Compute pairs of joints in `dtype`; states, nodes and weights keep theirs."""
    parts = [part for part in module.modules() if isinstance(part, PairModule)]
    before = [part.pair_dtype for part in parts]
    for part in parts:
        part.pair_dtype = dtype
    try:
        yield
    finally:
        for part, previous in zip(parts, before, strict=True):
            part.pair_dtype = previous


_CHUNK = 64


class Learner(ABC, Generic[ModuleT]):
    """A model and its training step on one batch; independent of the data."""

    kind = ''

    def __init__(
        self,
        build: Callable[[MotionDEQConfig], ModuleT],
        recipe: MotionDEQRecipe,
        device: torch.device,
    ) -> None:
        torch.manual_seed(recipe.schedule.seed)
        self.recipe, self.module = recipe, build(recipe.model).to(device)
        weights = horizon_weights(recipe.model.future, recipe.equilibrium.horizon_power)
        self._weights = weights.to(device, torch.float32)

    @abstractmethod
    def accumulate_gradients(
        self,
        past: Past,
        target: Future,
        visible: Mask | None,
        generator: torch.Generator,
        index: int,
    ) -> dict[str, float]:
        """Accumulate the gradients of step `index` and return its losses."""

    @abstractmethod
    def predict(self, past: Past) -> tuple[Future, dict[str, Float[Tensor, ' batch']]]:
        """Predict as the deployed model would; return also figures of each person."""


@dataclass(frozen=True)
class _Solved:
    """z*, and a state sampled from the trajectory."""

    state: State
    sampled: State
    residual: float


class MotionDEQLearner(Learner[MotionDEQ]):
    """MotionDEQ and its loss."""

    kind = 'motion_deq'

    def __init__(self, recipe: MotionDEQRecipe, device: torch.device) -> None:
        super().__init__(MotionDEQ, recipe, device)
        self.module.cell.recompute = recipe.equilibrium.recompute

    def accumulate_gradients(
        self,
        past: Past,
        target: Future,
        visible: Mask | None,
        generator: torch.Generator,
        index: int,
    ) -> dict[str, float]:
        """Accumulate the gradients of one batch, with one graph at a time."""
        equilibrium, last = self.recipe.equilibrium, past[:, -1]
        with torch.no_grad():
            leaves = leaves_of(self.module.encode(past, visible))
        solved = self._solve(past, visible, leaves, generator)

        def backward(state: State, truth: Tensor, weight: float) -> float:
            weights, terms = weight * self._weights, equilibrium.neumann_terms
            return phantom_backward(
                self.module, state, leaves, last, truth, weights, neumann_terms=terms
            )

        loss, sparse = backward(solved.state, target, 1.0), 0.0
        if equilibrium.sparse_weight > 0.0:
            sparse = backward(solved.sampled, target, equilibrium.sparse_weight)
        hinge = self._hinge(solved.sampled, leaves, index)
        # Encoded again, so that the graph of the features is not kept beside the others.
        backward_through(self.module.encode(past, visible), leaves)
        return {'loss': loss, 'sparse': sparse, 'hinge': hinge, 'residual': solved.residual}

    @torch.no_grad()
    def _solve(
        self, past: Past, visible: Mask | None, leaves: Condition, generator: torch.Generator
    ) -> '_Solved':
        """Return z* and one state of the trajectory.

        The others are released here, before the first graph is built.
        """
        settings = SolverSettings(max_steps=self.recipe.equilibrium.solver_steps)
        start = self.module.lift(past, visible)
        solution = self.module.solve(leaves, start, settings, keep_trajectory=True)
        pick = int(torch.randint(len(solution.trajectory), (), generator=generator))
        return _Solved(
            state=self.module.unpack(solution.state, leaves),
            sampled=self.module.unpack(solution.trajectory[pick], leaves),
            residual=float(solution.residual.median()),
        )

    def _hinge(self, sampled: State, leaves: Condition, index: int) -> float:
        equilibrium = self.recipe.equilibrium
        count = round(equilibrium.hinge_share * len(sampled.geometry))
        if equilibrium.hinge_weight == 0.0 or count == 0:
            return 0.0
        ramp = min(1.0, index / equilibrium.hinge_ramp_steps)
        weight = equilibrium.hinge_weight * (1.0 + 2.0 * ramp) / 3.0
        rows, limit = slice(count), equilibrium.hinge_limit
        value = contraction_hinge(self.module, sampled.rows(rows), leaves.rows(rows), limit)
        (weight * value).backward()
        return float(value.detach())

    def predict(self, past: Past) -> tuple[Future, dict[str, Float[Tensor, ' batch']]]:
        """Solve cold, with the settings of deployment."""
        predicted, _, solution = self.module(past, SolverSettings())
        return predicted, {'solver_steps': solution.steps.float()}


class MotionTask:
    """A learner with its data, ready for `loop.train`."""

    def __init__(
        self, name: str, recipe: MotionDEQRecipe, recordings: Recordings, learner: Learner[Any]
    ) -> None:
        layout = SkeletonLayout.load(recipe.layout)
        recordings.check_joints(layout.joint_names, f"the recipe's layout {recipe.layout!r}")
        model = recipe.model
        self.name, self.recipe, self.learner = name, recipe, learner
        self.kind, self.module = learner.kind, learner.module
        self.device = next(learner.module.parameters()).device
        self._layout = layout
        self._attribution = recordings.attribution
        self._started_from = ''
        length = model.past + model.future
        train = training_clips(recipe, recordings)
        held_out = recordings.select(lambda clip: clip.split == 'val')
        self._sampler = WindowSampler(
            train, length, model.period_s, layout.mirror, recipe.sampling, self.device
        )
        self._shape = BodyShape(layout, recipe.shape)
        self._degrader = Degrader(layout, model.period_s, recipe.degrade)
        self._validation = every_window(
            held_out, length, model.period_s, recipe.sampling.validation_stride_s
        )

    def start_from(self, path: Path) -> None:
        """Begin with the weights of a checkpoint instead of random ones.

        Parameters for missing joints start at zero if the checkpoint has none.

        Raises:
            CheckpointError: It holds another kind of model, or one of another shape.
        """
        checkpoint = load_checkpoint(path, self.kind)
        expected = self.module.state_dict()
        tensors = {
            name: torch.zeros_like(expected[name]) for name in expected if name.endswith('.unseen')
        }
        tensors |= {name: item for name, item in checkpoint.tensors.items() if name in expected}
        if {n: t.shape for n, t in tensors.items()} != {n: t.shape for n, t in expected.items()}:
            raise CheckpointError(f'{path} holds a model of another shape than the recipe')
        self.module.load_state_dict(tensors)
        self._started_from = f'{path.stem}@{checkpoint.digest}'

    def header(self) -> dict[str, Any]:
        """Return the header: configuration of the model and of its training."""
        return {
            'name': self.name,
            'config': dataclasses.asdict(self.recipe.model),
            'joint_names': list(self._layout.joint_names),
            'training': {
                'recipe': dataclasses.asdict(self.recipe),
                'attribution': list(self._attribution),
                'started_from': self._started_from,
            },
        }

    def step(self, index: int) -> dict[str, float]:
        """Accumulate the gradients of one batch; the batch follows from seed and index alone."""
        schedule, model = self.recipe.schedule, self.recipe.model
        generator = torch.Generator().manual_seed(schedule.seed * 1_000_003 + index)
        windows = self._shape.vary(self._sampler.draw(schedule.batch, generator), generator)
        past, target = windows.split([model.past, model.future], dim=1)
        past, visible = self._degrader.degrade(past, generator)
        with pairs_in(self.module, torch.bfloat16 if self.recipe.bfloat16 else None):
            return self.learner.accumulate_gradients(past, target, visible, generator, index)

    @torch.no_grad()
    def validate(self) -> tuple[dict[str, float], dict[str, Tensor]]:
        """Score held-out subjects with the inputs of the deployed model.

        The score is the mean, over the reported horizons, of the error relative to repeating the
        last frame.
        """
        past = self.recipe.model.past
        errors, still = [], []
        extra: dict[str, list[Tensor]] = {}
        for chunk in self._validation.split(_CHUNK):
            windows = chunk.to(self.device)
            target = windows[:, past:]
            predicted, details = self.learner.predict(windows[:, :past])
            errors.append(joint_error(predicted, target).mean(2))
            still.append(
                joint_error(windows[:, past - 1 : past].expand_as(target), target).mean(2)
            )
            for key, values in details.items():
                extra.setdefault(key, []).append(values)
        error, baseline = torch.cat(errors).mean(0), torch.cat(still).mean(0)
        figures = self._figures(error, baseline)
        figures |= {key: float(torch.cat(values).mean()) for key, values in extra.items()}
        return figures, {}

    def _figures(
        self, error: Float[Tensor, ' horizon'], baseline: Float[Tensor, ' horizon']
    ) -> dict[str, float]:
        period_ms = 1000.0 * self.recipe.model.period_s
        at = {ms: round(ms / period_ms) - 1 for ms in REPORT_HORIZONS_MS}
        kept = {ms: frame for ms, frame in at.items() if 0 <= frame < len(error)}
        figures = {f'mpjpe_mm_{ms}': 1000.0 * float(error[f]) for ms, f in kept.items()}
        ratios = [float(error[f] / baseline[f]) for f in kept.values()]
        return {'score': sum(ratios) / len(ratios), **figures}
