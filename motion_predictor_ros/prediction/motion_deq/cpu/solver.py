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
from jaxtyping import Bool, Float, Float32
from torch import Tensor

from motion_predictor_ros.prediction.motion_deq.cell import State
from motion_predictor_ros.prediction.motion_deq.cpu import kernels
from motion_predictor_ros.prediction.motion_deq.cpu.cell import FusedCell, FusedCondition
from motion_predictor_ros.prediction.motion_deq.cpu.encoder import FusedEncoder
from motion_predictor_ros.prediction.motion_deq.layers import Future, Mask, Past
from motion_predictor_ros.prediction.motion_deq.model import MotionDEQ
from motion_predictor_ros.prediction.motion_deq.solver import FixedPoint, SolverSettings
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
        best = np.stack([solver.best_state.numpy() for solver in solvers])
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

    def units(self, condition: FusedCondition) -> Float[Tensor, ' size']:
        """Return the factors by which `MotionDEQ.pack` makes both parts of a state count alike."""
        geometry = 1.0 / (condition.scale * math.sqrt(self.split))
        patterns = 1.0 / math.sqrt(self.size - self.split)
        units = torch.full((self.size,), patterns, dtype=torch.float32)
        units[: self.split] = geometry
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
        self._current = self.best_state = torch.from_numpy(start)
        self.best, self.steps, self._settled = math.inf, 0, False
        self._units = model.units(condition)
        self._images = torch.empty(settings.window, len(start), dtype=torch.float32)
        self._residuals = torch.empty_like(self._images)
        self._gram = np.zeros((settings.window, settings.window))
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
            image, residual = self._images[slot], self._residuals[slot]
            model.image(self._current.numpy(), self._condition, image.numpy())
            self.steps += 1
            torch.sub(image, self._current, out=residual).mul_(self._units)
            length = max(float((image * self._units).norm()), 1e-12)
            relative = float(residual.norm()) / length
            if relative < self.best:
                self.best, self.best_state = relative, image.clone()
            self._check_motion(image.numpy())
            if self.converged or not math.isfinite(relative):
                break
            self._current = self._mix(slot, min(self.steps, settings.window))
        return self

    def _mix(self, newest: int, count: int) -> Float[Tensor, ' size']:
        """Combine the images. Of the Gram matrix only the row of the newest residual changes."""
        row = torch.mv(self._residuals[:count], self._residuals[newest]).double().numpy()
        self._gram[newest, :count] = self._gram[:count, newest] = row
        gram = self._gram[:count, :count]
        system = gram / max(gram.diagonal().max(), 1e-30)
        system[np.diag_indices(count)] += self._settings.ridge
        weights = np.linalg.solve(system, np.ones(count))
        weights /= weights.sum()
        return torch.from_numpy(weights).float() @ self._images[:count]

    def _check_motion(self, image: Flat) -> None:
        """Note whether the motion has stopped changing."""
        if self._motion is not None:
            before, self._motion = self._motion, self._model.offsets(image)
            change = float((self._motion - before).norm(dim=-1).mean())
            self._settled = change < self._settings.motion_tolerance_m
