# SPDX-License-Identifier: Apache-2.0
"""MotionDEQ as inference runs it on a CPU: folded encoder and cell, Anderson mixing between.

Stage: prediction. The same steps and the same stops as `fixed_point.anderson`, without the
overhead of small tensors. Everybody is solved alone: nobody waits for the slowest, and nobody's
answer depends on who else is there.
"""

import math
from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64
from torch import Tensor

from motion_predictor_ros.prediction.motion_deq.cell import State
from motion_predictor_ros.prediction.motion_deq.cpu import solver as kernels
from motion_predictor_ros.prediction.motion_deq.cpu.cell import FusedCell, FusedCondition
from motion_predictor_ros.prediction.motion_deq.cpu.cell_kernels import centre
from motion_predictor_ros.prediction.motion_deq.cpu.encoder import FusedEncoder
from motion_predictor_ros.prediction.motion_deq.model import MotionDEQ
from motion_predictor_ros.prediction.motion_deq.solver import FixedPoint, SolverSettings
from motion_predictor_ros.runtime.jit import compiled
from motion_predictor_ros.runtime.threads import WorkerPool

_summing = partial(compiled, rounding=('contract', 'reassoc'))


@_summing
def difference(
    image: Float32[np.ndarray, ' size'],
    current: Float32[np.ndarray, ' size'],
    split: int,
    units: tuple[float, float],
    residual: Float32[np.ndarray, ' size'],
) -> float:
    """Write f(z) - z, both parts in their unit; return how long it is beside f(z).

    Args:
        split: Where geometry ends and patterns begin.
    """
    apart, whole = np.float32(0.0), np.float32(0.0)
    for part in range(2):
        begin, end = (0, split) if part == 0 else (split, len(image))
        new, old, out = image[begin:end], current[begin:end], residual[begin:end]
        unit = np.float32(units[part])
        for place in range(len(new)):
            own = unit * new[place]
            off = own - unit * old[place]
            out[place] = off
            apart += off * off
            whole += own * own
    return float(np.sqrt(apart) / max(np.sqrt(whole), np.float32(1e-12)))


@_summing
def mix(
    images: Float32[np.ndarray, 'window size'],
    residuals: Float32[np.ndarray, 'window size'],
    gram: Float64[np.ndarray, 'window window'],
    newest: int,
    count: int,
    ridge: float,
    mixed: Float32[np.ndarray, ' size'],
) -> None:
    """Combine images with the weights (sum 1) that make the mixed residual smallest.

    Of the Gram matrix of residuals only the row of the newest is computed.
    """
    last, largest = residuals[newest], 1e-30
    for k in range(count):
        row, total = residuals[k], np.float32(0.0)
        for place in range(len(last)):
            total += row[place] * last[place]
        gram[newest, k] = gram[k, newest] = total
    for k in range(count):
        largest = max(largest, gram[k, k])
    system, weights = np.empty_like(gram), np.empty(len(gram))
    for k in range(count):
        for other in range(count):
            system[k, other] = gram[k, other] / largest + (ridge if k == other else 0.0)
    _solve(system, weights, count)
    whole = 0.0
    for k in range(count):
        whole += weights[k]
    for k in range(count):
        row, weight = images[k], np.float32(weights[k] / whole)
        for place in range(len(mixed)):
            mixed[place] = weight * row[place] + (mixed[place] if k else np.float32(0.0))


@compiled
def _solve(
    system: Float64[np.ndarray, 'window window'],
    right: Float64[np.ndarray, ' window'],
    count: int,
) -> None:
    """Solve A w = 1 of a positive definite A, the first `count` rows, by elimination."""
    for k in range(count):
        right[k] = 1.0
    for k in range(count):
        for below in range(k + 1, count):
            factor = system[below, k] / system[k, k]
            for column in range(k + 1, count):
                system[below, column] -= factor * system[k, column]
            right[below] -= factor * right[k]
    for k in range(count - 1, -1, -1):
        for column in range(k + 1, count):
            right[k] -= system[k, column] * right[column]
        right[k] /= system[k, k]


Flat = Float32[np.ndarray, ' size']
"""A state: geometry [joint, xyz, channel], then patterns [joint, pattern]."""


class FusedMotionDEQ:
    """A trained model whose weights will not change any more."""

    @torch.no_grad()
    def __init__(self, module: MotionDEQ, pool: WorkerPool | None = None) -> None:
        """Fold the weights; the model must be in float32 and on the CPU.

        Args:
            pool: People are shared out to its threads; default: only the caller's.
        """
        config = module.config
        self._pool = pool or WorkerPool(1)
        self._encoder = FusedEncoder(module)
        self._cell = FusedCell(module.cell, config.joints)
        self._out = (module.inverse_dct @ module.out.weight).mT.contiguous()
        self._shape = config.joints, 3, config.channels
        self.split = 3 * config.joints * config.channels
        self._patterns = config.joints, config.patterns
        self.size = self.split + config.joints * config.patterns

    @torch.no_grad()
    def predict(
        self,
        positions: Float[Tensor, 'batch time joint xyz=3'],
        seen: Bool[Tensor, 'batch joint'] | None,
        starts: Sequence[State | None],
        settings: SolverSettings,
    ) -> tuple[Float[Tensor, 'batch horizon joint xyz=3'], State, FixedPoint]:
        """Predict future positions [m]; return also z* and how it was found.

        Args:
            seen: Which joints were; None: all of them.
            starts: Where to start, as a batch of one; None: from the last pose.
        """
        everybody = zip(
            positions, [None] * len(starts) if seen is None else seen, starts, strict=True
        )
        runs = self._pool.run([partial(self._solve, *each, settings) for each in everybody])
        best = np.stack([run.best_state for run in runs])
        offsets = torch.stack([self.offsets(each) for each in best])
        found = FixedPoint(
            torch.from_numpy(best),
            torch.tensor([run.best for run in runs], dtype=torch.float32),
            torch.tensor([run.steps for run in runs]),
            torch.tensor([run.converged for run in runs]),
        )
        return positions[:, -1:] + offsets, self._states(best), found

    @torch.no_grad()
    def _solve(
        self,
        observed: Float[Tensor, 'time joint xyz=3'],
        seen: Bool[Tensor, ' joint'] | None,
        start: State | None,
        settings: SolverSettings,
    ) -> 'AndersonSolver':
        """Search one person's fixed point, in whatever thread."""
        past = observed.contiguous().numpy()
        first = self.flat(start) if start is not None else self._lifted(past, seen)
        return AndersonSolver(self, self._encoder.encode(past, seen), first, settings).solve()

    def image(self, flat: Flat, condition: FusedCondition, out: Flat) -> None:
        """Write f of a state."""
        self._cell(*self._parts(flat), condition, self._parts(out))

    def units(self, condition: FusedCondition) -> tuple[float, float]:
        """Return what makes both parts of a state count alike, as `MotionDEQ.pack` does."""
        patterns = math.sqrt(self.size - self.split)
        return 1.0 / (condition.scale * math.sqrt(self.split)), 1.0 / patterns

    def offsets(self, flat: Flat) -> Float[Tensor, 'horizon joint xyz=3']:
        """Return where joints will be, from where they were last seen [m]."""
        geometry, _ = self._parts(flat)
        relative, mean = np.empty_like(geometry), np.empty(3, np.float32)
        centre(geometry, mean, relative)
        moved = torch.from_numpy(relative).flatten(0, 1) @ self._out
        return moved.view(*self._shape[:2], -1).permute(2, 0, 1)

    def flat(self, state: State) -> Flat:
        """Return the state of one person, as the cell reads it."""
        geometry = state.geometry[0].permute(1, 2, 0).reshape(-1).numpy()
        return np.concatenate([geometry, state.pattern[0].reshape(-1).numpy()])

    def _lifted(
        self,
        past: Float32[np.ndarray, 'time joint xyz=3'],
        seen: Bool[Tensor, ' joint'] | None,
    ) -> Flat:
        geometry, pattern = self._encoder.lift(past, seen)
        return np.concatenate([geometry.ravel(), pattern.numpy().ravel()])

    def _states(self, flat: Float32[np.ndarray, 'batch size']) -> State:
        """Return states as the plain model has them, in the same memory."""
        geometry = torch.from_numpy(flat[:, : self.split].reshape(-1, *self._shape))
        patterns = torch.from_numpy(flat[:, self.split :].reshape(-1, *self._patterns))
        return State(geometry.permute(0, 3, 1, 2), patterns)

    def _parts(
        self, flat: Flat
    ) -> tuple[Float32[np.ndarray, 'joint xyz=3 channel'], Float32[np.ndarray, 'joint pattern']]:
        geometry, pattern = flat[: self.split], flat[self.split :]
        return geometry.reshape(self._shape), pattern.reshape(self._patterns)


def fold(module: MotionDEQ, pool: WorkerPool | None = None) -> FusedMotionDEQ | None:
    """Fold a model if it is one for the CPU, in float32; None if not."""
    weight = module.out.weight
    fits = weight.device.type == 'cpu' and weight.dtype == torch.float32
    return FusedMotionDEQ(module, pool) if fits else None


class AndersonSolver:
    """One person's search.

    Attributes:
        best: The lowest relative residual so far; `best_state` is the image it belongs to.
        steps: Evaluations of f so far.
    """

    def __init__(
        self,
        model: FusedMotionDEQ,
        condition: FusedCondition,
        start: Flat,
        settings: SolverSettings,
    ) -> None:
        self._model, self._condition, self._settings = model, condition, settings
        self._current = self.best_state = start
        self.best, self.steps, self._settled = math.inf, 0, False
        self._units = model.units(condition)
        self._images = np.empty((settings.window, len(start)), np.float32)
        self._residuals = np.empty_like(self._images)
        self._mixed = np.empty_like(start)
        self._gram = np.zeros((settings.window, settings.window))
        by_motion = settings.motion_tolerance_m > 0.0
        self._motion = model.offsets(start) if by_motion else None

    @property
    def converged(self) -> bool:
        """Whether the residual is small enough, or the motion has settled."""
        return self._settled or self.best <= self._settings.tolerance

    def solve(self) -> 'AndersonSolver':
        """Evaluate f until the person is solved or too much has been tried."""
        settings, model = self._settings, self._model
        while self.steps < settings.max_steps:
            slot = self.steps % settings.window
            image, residual = self._images[slot], self._residuals[slot]
            model.image(self._current, self._condition, image)
            self.steps += 1
            relative = kernels.difference(image, self._current, model.split, self._units, residual)
            if relative < self.best:
                self.best, self.best_state = relative, image.copy()
            self._judge_motion(image)
            if self.converged or not math.isfinite(relative):
                break
            count = min(self.steps, settings.window)
            kernels.mix(
                self._images,
                self._residuals,
                self._gram,
                slot,
                count,
                settings.ridge,
                self._mixed,
            )
            self._current = self._mixed
        return self

    def _judge_motion(self, image: Flat) -> None:
        """Note whether the motion has stopped changing."""
        if self._motion is not None:
            before, self._motion = self._motion, self._model.offsets(image)
            change = float((self._motion - before).norm(dim=-1).mean())
            self._settled = change < self._settings.motion_tolerance_m
