# SPDX-License-Identifier: Apache-2.0
"""Solve z = f(z) by Anderson mixing, for each person of the batch separately.

Stage: prediction. The mixing weights come from inner products of residuals and sum to one, so a
solver over equivariant states stays equivariant as long as the flattened state is a linear image
of them. A person who has converged stops changing, so a result does not depend on the batch.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from motion_predictor_ros.runtime.tensors import TensorBatch

Map = Callable[[Tensor], Tensor]
Flat = Float[Tensor, 'batch size']


@dataclass(frozen=True)
class SolverSettings:
    """When to stop and how to mix.

    Attributes:
        tolerance: Relative residual |f(z) - z| / |f(z)| at which a person is solved.
        window: Past iterates that are mixed.
        ridge: Tikhonov term relative to the largest squared residual in the window.
        motion_tolerance_m: Stop too when the decoded motion changes by less than this, mean over
            joints and time [m]; 0 leaves it to the residual alone.
        all_steps: Take all steps, as a CUDA graph must. Results are the same, because people who
            have converged stay as they are.
    """

    max_steps: int = 30
    tolerance: float = 1e-3
    window: int = 5
    ridge: float = 1e-4
    motion_tolerance_m: float = 0.0
    all_steps: bool = False


@dataclass(frozen=True)
class FixedPoint(TensorBatch):
    """The solver's result.

    Attributes:
        state: f(z) of each person's lowest-residual iterate z.
        residual: Relative residual of that iterate.
        steps: Evaluations of f until the person was solved or the solver gave up.
        trajectory: Iterates z_0, z_1, ... of the whole batch, if kept.
        images: f of each of them, which the solver would return if it stopped there.
    """

    state: Flat
    residual: Float[Tensor, ' batch']
    steps: Int[Tensor, ' batch']
    converged: Bool[Tensor, ' batch']
    trajectory: list[Flat] = field(default_factory=list)
    images: list[Flat] = field(default_factory=list)


@torch.no_grad()
def anderson(
    function: Map,
    start: Flat,
    settings: SolverSettings,
    *,
    decode: Callable[[Tensor], Float[Tensor, 'batch point xyz=3']] | None = None,
    keep_trajectory: bool = False,
) -> FixedPoint:
    """Find a fixed point of `function` from `start`.

    With images F_k = f(z_k) and residuals r_k = F_k - z_k of the last `window` steps:
        w minimises |sum_k w_k r_k|^2 + ridge max_k |r_k|^2 |w|^2  with  sum_k w_k = 1
        z <- sum_k w_k F_k


    Args:
        decode: Motion of a state [m]; needed for `motion_tolerance_m` alone.

    A person with non-finite values keeps the best iterate before them.
    """
    current, progress = start, _Progress(start, settings, decode)
    history: list[tuple[Tensor, Tensor]] = []
    trajectory: list[Tensor] = []
    images: list[Tensor] = []
    for _ in range(settings.max_steps):
        image = function(current)
        if keep_trajectory:
            trajectory.append(current)
            images.append(image)
        difference = image - current
        progress.update(image, difference)
        if not settings.all_steps and not bool(progress.active.any()):
            break
        history = [*history, (image, difference)][-settings.window :]
        mixed = _mix(history, settings.ridge)
        current = torch.where(progress.active[:, None], mixed, current)
    return FixedPoint(
        progress.best_state,
        progress.best,
        progress.steps,
        (progress.best <= settings.tolerance) | progress.settled,
        trajectory,
        images,
    )


class _Progress:
    """The best image of each person so far, and which people are not solved yet."""

    def __init__(self, start: Flat, settings: SolverSettings, decode: Map | None) -> None:
        self.best_state = start
        self.best = start.new_full((len(start),), torch.inf)
        self.steps = torch.zeros(len(start), dtype=torch.int64, device=start.device)
        self.active = torch.ones(len(start), dtype=torch.bool, device=start.device)
        self.settled = torch.zeros_like(self.active)
        self._settings = settings
        self._decode = decode if settings.motion_tolerance_m > 0.0 else None
        self._motion = start if self._decode is None else self._decode(start)

    def update(self, image: Flat, difference: Flat) -> None:
        """Take in f(z) and f(z) - z."""
        relative = difference.norm(dim=1) / image.norm(dim=1).clamp_min(1e-12)
        self.steps += self.active
        better = self.active & (relative < self.best)
        self.best = torch.where(better, relative, self.best)
        self.best_state = torch.where(better[:, None], image, self.best_state)
        if self._decode is not None:
            before, self._motion = self._motion, self._decode(image)
            change = (self._motion - before).norm(dim=-1).mean(1)
            self.settled |= self.active & (change < self._settings.motion_tolerance_m)
        unsolved = (self.best > self._settings.tolerance) & ~self.settled
        self.active = self.active & torch.isfinite(relative) & unsolved


def _mix(history: list[tuple[Tensor, Tensor]], ridge: float) -> Flat:
    """Combine past images with the weights (sum 1) that make the mixed residual smallest."""
    images = torch.stack([image for image, _ in history], 1)
    residuals = torch.stack([difference for _, difference in history], 1)
    gram = residuals @ residuals.transpose(1, 2)
    largest = gram.diagonal(dim1=1, dim2=2).amax(1).clamp_min(1e-30)[:, None, None]
    count = gram.shape[1]
    system = gram / largest + ridge * torch.eye(count, dtype=gram.dtype, device=gram.device)
    # solve_ex does not raise: a person with non-finite values must not stop the others.
    weights, _ = torch.linalg.solve_ex(system, system.new_ones(len(system), count, 1))
    weights = weights / weights.sum(1, keepdim=True)
    return (weights * images).sum(1)
