# SPDX-License-Identifier: Apache-2.0
"""MotionDEQ on a CPU: fused encoder and cell, and Anderson mixing for one person at a time.

Stage: prediction. Takes the steps and stops of `solver.anderson`. Each person is solved
separately: no result depends on the other people or waits for the slowest one.
"""

import math
from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64
from torch import Tensor

from motion_predictor_ros.prediction.motion_deq.cell import State
from motion_predictor_ros.prediction.motion_deq.cpu import kernels
from motion_predictor_ros.prediction.motion_deq.cpu.cell import FusedCell, FusedCondition
from motion_predictor_ros.prediction.motion_deq.cpu.encoder import FusedEncoder
from motion_predictor_ros.prediction.motion_deq.layers import Future, Mask, Past
from motion_predictor_ros.prediction.motion_deq.model import MotionDEQ
from motion_predictor_ros.prediction.motion_deq.solver import FixedPoint, SolverSettings
from motion_predictor_ros.runtime.jit import compiled, inlined
from motion_predictor_ros.runtime.threads import WorkerPool, limit_blas

Flat = Float32[np.ndarray, ' size']
"""A state: geometry [joint, xyz, channel], then patterns [joint, pattern]."""


class FusedMotionDEQ:
    """A trained model with frozen weights."""

    @torch.no_grad()
    def __init__(self, module: MotionDEQ, pool: WorkerPool | None = None) -> None:
        """Fold the weights; the model must be in float32 and on the CPU.

        Args:
            pool: Solves people in parallel; default: only the caller's thread.
        """
        limit_blas()
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
        positions: Past,
        visible: Mask | None,
        starts: Sequence[State | None],
        settings: SolverSettings,
    ) -> tuple[Future, State, FixedPoint]:
        """Predict future positions [m]; return also z* and the solver's result.

        Args:
            visible: None: all joints.
            starts: Initial state of each person, as a batch of one; None: from the last pose.
        """
        masks = [None] * len(starts) if visible is None else visible
        people = zip(positions, masks, starts, strict=True)
        solvers = self._pool.run([partial(self._solve, *person, settings) for person in people])
        best = np.stack([solver.best_state for solver in solvers])
        offsets = torch.stack([self.offsets(state) for state in best])
        fixed_point = FixedPoint(
            torch.from_numpy(best),
            torch.tensor([solver.best for solver in solvers], dtype=torch.float32),
            torch.tensor([solver.steps for solver in solvers]),
            torch.tensor([solver.converged for solver in solvers]),
        )
        return positions[:, -1:] + offsets, self._states(best), fixed_point

    @torch.no_grad()
    def _solve(
        self,
        observed: Float[Tensor, 'time joint xyz=3'],
        visible: Bool[Tensor, ' joint'] | None,
        start: State | None,
        settings: SolverSettings,
    ) -> 'AndersonSolver':
        """Find one person's fixed point."""
        past = observed.contiguous().numpy()
        first = self.flat(start) if start is not None else self._lifted(past, visible)
        return AndersonSolver(self, self._encoder.encode(past, visible), first, settings).solve()

    def image(self, flat: Flat, condition: FusedCondition, out: Flat) -> None:
        """Write f of a state."""
        self._cell(*self._parts(flat), condition, self._parts(out))

    def units(self, condition: FusedCondition) -> Flat:
        """Return the factors by which `MotionDEQ.pack` makes both parts of a state count alike."""
        units = np.full(self.size, 1.0 / math.sqrt(self.size - self.split), np.float32)
        units[: self.split] = 1.0 / (condition.scale * math.sqrt(self.split))
        return units

    def offsets(self, flat: Flat) -> Float[Tensor, 'horizon joint xyz=3']:
        """Return future positions relative to the last observed ones [m]."""
        geometry, _ = self._parts(flat)
        relative, mean = np.empty_like(geometry), np.empty(3, np.float32)
        kernels.centre(geometry, mean, relative)
        moved = torch.from_numpy(relative).flatten(0, 1) @ self._out
        return moved.view(*self._shape[:2], -1).permute(2, 0, 1)

    def flat(self, state: State) -> Flat:
        """Return the state of one person in the layout of the cell."""
        geometry = state.geometry[0].permute(1, 2, 0).reshape(-1).numpy()
        return np.concatenate([geometry, state.pattern[0].reshape(-1).numpy()])

    def _lifted(
        self, past: Float32[np.ndarray, 'time joint xyz=3'], visible: Bool[Tensor, ' joint'] | None
    ) -> Flat:
        geometry, pattern = self._encoder.lift(past, visible)
        return np.concatenate([geometry.ravel(), pattern.numpy().ravel()])

    def _states(self, flat: Float32[np.ndarray, 'batch size']) -> State:
        """Return states in the layout of the plain model, in the same memory."""
        geometry = torch.from_numpy(flat[:, : self.split].reshape(-1, *self._shape))
        patterns = torch.from_numpy(flat[:, self.split :].reshape(-1, *self._patterns))
        return State(geometry.permute(0, 3, 1, 2), patterns)

    def _parts(
        self, flat: Flat
    ) -> tuple[Float32[np.ndarray, 'joint xyz=3 channel'], Float32[np.ndarray, 'joint pattern']]:
        geometry, pattern = flat[: self.split], flat[self.split :]
        return geometry.reshape(self._shape), pattern.reshape(self._patterns)


class AndersonSolver:
    """Anderson mixing for one person.

    With images F_k = f(z_k) and residuals r_k = u (F_k - z_k) of the last `window` steps:
        w minimises |sum_k w_k r_k|^2 + ridge max_k |r_k|^2 |w|^2  with  sum_k w_k = 1
        z <- sum_k w_k F_k

    Attributes:
        best: The lowest relative residual |r| / |u F| so far; `best_state` is its image.
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
        self._current, self.best_state = start.copy(), start
        self.best, self.steps, self._settled = math.inf, 0, False
        self._units = model.units(condition)
        self._images = np.empty((settings.window, len(start)), np.float32)
        self._residuals = np.empty_like(self._images)
        self._gram = np.zeros((settings.window, settings.window))
        self._system = np.empty((settings.window, settings.window + 1))
        by_motion = settings.motion_tolerance_m > 0.0
        self._motion = model.offsets(start) if by_motion else None

    @property
    def converged(self) -> bool:
        """Whether the residual is small enough, or the motion has settled."""
        return self._settled or self.best <= self._settings.tolerance

    def solve(self) -> 'AndersonSolver':
        """Evaluate f until the person is solved or the steps are used up."""
        settings, model = self._settings, self._model
        while self.steps < settings.max_steps:
            slot = self.steps % settings.window
            model.image(self._current, self._condition, self._images[slot])
            self.steps += 1
            relative = _mix(
                slot, min(self.steps, settings.window), settings.ridge, self._units,
                self._images, self._residuals, self._gram, self._system, self._current,
            )  # fmt: skip
            if relative < self.best:
                self.best, self.best_state = relative, self._images[slot].copy()
            self._check_motion(self._images[slot])
            if self.converged or not math.isfinite(relative):
                break
        return self

    def _check_motion(self, image: Flat) -> None:
        """Note whether the motion has stopped changing."""
        if self._motion is not None:
            before, self._motion = self._motion, self._model.offsets(image)
            change = float((self._motion - before).norm(dim=-1).mean())
            self._settled = change < self._settings.motion_tolerance_m


@partial(inlined, early=True)
def _solve_positive(
    gram: Float64[np.ndarray, 'window window'],
    count: int,
    ridge: float,
    system: Float64[np.ndarray, 'window window+1'],
) -> None:
    """Solve (G / max diag G + ridge I) w = 1 by elimination, which needs no pivots here.

    Args:
        system: Workspace; column `count` becomes w.
    """
    top = 1e-30
    for k in range(count):
        top = max(top, gram[k, k])
    for i in range(count):
        for j in range(count):
            system[i, j] = gram[i, j] / top + (ridge if i == j else 0.0)
        system[i, count] = 1.0
    for k in range(count):
        for i in range(k + 1, count):
            factor = system[i, k] / system[k, k]
            for j in range(k, count + 1):
                system[i, j] -= factor * system[k, j]
    for k in range(count - 1, -1, -1):
        for j in range(k + 1, count):
            system[k, count] -= system[k, j] * system[j, count]
        system[k, count] /= system[k, k]


@partial(compiled, rounding=('contract', 'reassoc'))
def _mix(
    newest: int,
    count: int,
    ridge: float,
    units: Flat,
    images: Float32[np.ndarray, 'window size'],
    residuals: Float32[np.ndarray, 'window size'],
    gram: Float64[np.ndarray, 'window window'],
    system: Float64[np.ndarray, 'window window+1'],
    current: Flat,
) -> float:
    """Mix the images into `current`; of the Gram matrix only the row of the newest changes.

    Args:
        newest: Row of the newest image, whose residual is computed here.
        count: Rows in use.
        system: Workspace.

    Returns:
        The newest relative residual; if it is not finite, `current` stays.
    """
    image, residual = images[newest], residuals[newest]
    square, length2 = np.float32(0.0), np.float32(0.0)
    for i in range(len(current)):
        residual[i] = units[i] * (image[i] - current[i])
        square += residual[i] * residual[i]
        length2 += (units[i] * image[i]) * (units[i] * image[i])
    relative = math.sqrt(square) / max(math.sqrt(length2), 1e-12)
    if not math.isfinite(relative):
        return relative
    for k in range(count):
        product = np.float32(0.0)
        for i in range(len(current)):
            product += residuals[k, i] * residual[i]
        gram[newest, k] = gram[k, newest] = product
    _solve_positive(gram, count, ridge, system)
    total = 0.0
    for k in range(count):
        total += system[k, count]
    for i in range(len(current)):
        current[i] = np.float32(0.0)
    for k in range(count):
        weight = np.float32(system[k, count] / total)
        for i in range(len(current)):
            current[i] += weight * images[k, i]
    return relative
