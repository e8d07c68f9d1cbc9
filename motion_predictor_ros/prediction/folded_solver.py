# SPDX-License-Identifier: Apache-2.0
"""Anderson mixing around the folded cell: what `fixed_point.anderson` does, one person at a time.

Stage: prediction. The same steps and the same stops, without the overhead of small tensors; of the
Gram matrix of residuals only the new row is computed. Everybody is solved alone: nobody waits for
the slowest, and nobody's answer depends on who else is there.
"""

import math

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from motion_predictor_ros.prediction.cell import Condition, State
from motion_predictor_ros.prediction.fixed_point import FixedPoint, SolverSettings
from motion_predictor_ros.prediction.folded_cell import (
    FoldedCell,
    FoldedCondition,
    channels_first,
    channels_last,
)
from motion_predictor_ros.prediction.motion_deq import MotionDEQ


class FoldedSolver:
    """Finds fixed points of a trained model whose weights will not change any more."""

    @torch.no_grad()
    def __init__(self, module: MotionDEQ) -> None:
        """Fold the weights; the model must be in float32 and on the CPU."""
        config = module.config
        self._module, self._cell = module, FoldedCell(module.cell, config.joints)
        self._shape = config.joints, 3, config.channels
        self._split = 3 * config.joints * config.channels
        self._patterns = config.joints, config.patterns

    def solve(
        self, condition: Condition, start: State, settings: SolverSettings
    ) -> tuple[State, FixedPoint]:
        """Return z* = f(z*, x), and how it was found; `MotionDEQ.solve` and `unpack` in one."""
        geometry = channels_last(start.geometry).reshape(len(start.geometry), -1)
        pattern = start.pattern.flatten(1).numpy()
        flat = np.concatenate([geometry, pattern], axis=1)
        runs = [
            _Run(self, self._cell.fold(condition, person), row, settings).to_its_end()
            for person, row in enumerate(flat)
        ]
        best = np.stack([run.best_state for run in runs])
        state = State(
            channels_first(best[:, : self._split].reshape(-1, *self._shape)),
            torch.from_numpy(best[:, self._split :].reshape(-1, *self._patterns)),
        )
        residual = torch.tensor([run.best for run in runs], dtype=torch.float32)
        steps = torch.tensor([run.steps for run in runs])
        converged = torch.tensor([run.converged for run in runs])
        return state, FixedPoint(torch.from_numpy(best), residual, steps, converged)

    def image(
        self, flat: Float32[np.ndarray, ' size'], condition: FoldedCondition
    ) -> Float32[np.ndarray, ' size']:
        """Return f of a flat state."""
        pattern = torch.from_numpy(flat[self._split :].reshape(self._patterns))
        place = flat[: self._split].reshape(self._shape)
        geometry, after = self._cell(place, pattern, condition)
        return np.concatenate([geometry.ravel(), after.numpy().ravel()])

    def weights(self, condition: FoldedCondition) -> Float32[np.ndarray, ' size']:
        """Return what makes both parts of a flat state count alike, as `MotionDEQ.pack` does."""
        joints, patterns = self._patterns
        weights = np.empty(self._split + joints * patterns, np.float32)
        weights[: self._split] = 1.0 / (condition.scale * math.sqrt(self._split))
        weights[self._split :] = 1.0 / math.sqrt(joints * patterns)
        return weights

    def motion(self, flat: Float32[np.ndarray, ' size']) -> Tensor:
        """Return how far joints will have moved in each coordinate, as a flat state says [m]."""
        geometry = channels_first(flat[: self._split].reshape(1, *self._shape))
        pattern = torch.from_numpy(flat[self._split :].reshape(1, *self._patterns))
        return self._module.offsets(State(geometry, pattern))[0]


def fold(module: MotionDEQ) -> FoldedSolver | None:
    """Fold a model if it is one for the CPU, in float32; None if not."""
    weight = module.out.weight
    fits = weight.device.type == 'cpu' and weight.dtype == torch.float32
    return FoldedSolver(module) if fits else None


class _Run:
    """One person's search.

    Attributes:
        best: The lowest relative residual so far; `best_state` is the image it belongs to.
    """

    def __init__(
        self,
        solver: FoldedSolver,
        condition: FoldedCondition,
        start: Float32[np.ndarray, ' size'],
        settings: SolverSettings,
    ) -> None:
        self._solver, self._condition, self._settings = solver, condition, settings
        self._current = self.best_state = start
        self.best, self.steps, self._settled = math.inf, 0, False
        self._weights = solver.weights(condition)
        self._images = np.empty((settings.window, len(start)), np.float32)
        self._residuals = np.empty_like(self._images)
        self._gram = np.empty((settings.window, settings.window))
        by_motion = settings.motion_tolerance_m > 0.0
        self._motion = solver.motion(start) if by_motion else None

    @property
    def converged(self) -> bool:
        return self._settled or self.best <= self._settings.tolerance

    def to_its_end(self) -> '_Run':
        while self.steps < self._settings.max_steps:
            image = self._solver.image(self._current, self._condition)
            slot = self.steps % self._settings.window
            residual = self._residuals[slot]
            np.multiply(image - self._current, self._weights, out=residual)
            self._images[slot] = image
            self.steps += 1
            length = max(float(np.linalg.norm(image * self._weights)), 1e-12)
            relative = float(np.linalg.norm(residual)) / length
            if relative < self.best:
                self.best, self.best_state = relative, image
            self._judge_motion(image)
            if self.converged or not math.isfinite(relative):
                break
            self._current = self._mixed(slot)
        return self

    def _judge_motion(self, image: Float32[np.ndarray, ' size']) -> None:
        """Note whether the motion has stopped changing."""
        if self._motion is not None:
            before, self._motion = self._motion, self._solver.motion(image)
            change = float((self._motion - before).norm(dim=-1).mean())
            self._settled = change < self._settings.motion_tolerance_m

    def _mixed(self, slot: int) -> Float32[np.ndarray, ' size']:
        """Combine past images with the weights (sum 1) that make the mixed residual smallest."""
        count = min(self.steps, self._settings.window)
        row = self._residuals[:count] @ self._residuals[slot]
        self._gram[slot, :count] = self._gram[:count, slot] = row
        gram = self._gram[:count, :count]
        system = gram / max(gram.diagonal().max(), 1e-30)
        system.flat[:: count + 1] += self._settings.ridge
        weights = np.linalg.solve(system, np.ones(count))
        mixed: Float32[np.ndarray, ' size']
        mixed = (weights / weights.sum()).astype(np.float32) @ self._images[:count]
        return mixed
