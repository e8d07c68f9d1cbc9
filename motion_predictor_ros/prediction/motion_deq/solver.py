# SPDX-License-Identifier: Apache-2.0
"""Solve z = f(z) by Anderson mixing, for each person in the batch on their own.

Stage: prediction. The mixing weights come from inner products of residuals and sum to one, so a
solver over equivariant states stays equivariant as long as the flattened state is a linear image
of them. A person who has converged stops changing: everybody gets the answer they would get alone.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Map = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class SolverSettings:
    """When to stop and how to mix.

    Attributes:
        tolerance: Relative residual |f(z) - z| / |f(z)| at which a person is solved.
        window: Past iterates that are mixed.
        ridge: Tikhonov term relative to the largest squared residual in the window.
        motion_tolerance_m: Stop too when the decoded motion changes by less than this, mean over
            joints and time [m]; 0 leaves it to the residual alone.
        to_the_end: Spend all steps. Answers are the same, as whoever is solved stays as they are,
            but a GPU is never asked whether somebody is not.
    """

    max_steps: int = 30
    tolerance: float = 1e-3
    window: int = 5
    ridge: float = 1e-4
    motion_tolerance_m: float = 0.0
    to_the_end: bool = False


@dataclass(frozen=True)
class FixedPoint:
    """What the solver found.

    Attributes:
        state: f(z) of each person's lowest-residual iterate z.
        residual: Relative residual of that iterate.
        steps: Evaluations of f spent until the person was solved or the solver gave up.
        trajectory: Iterates z_0, z_1, ... of the whole batch, if they were asked for.
        images: f of each of them; what the solver would return if it stopped there.
    """

    state: Float[Tensor, 'batch size']
    residual: Float[Tensor, ' batch']
    steps: Int[Tensor, ' batch']
    converged: Bool[Tensor, ' batch']
    trajectory: list[Float[Tensor, 'batch size']] = field(default_factory=list)
    images: list[Float[Tensor, 'batch size']] = field(default_factory=list)


@torch.no_grad()
def anderson(
    function: Map,
    start: Float[Tensor, 'batch size'],
    settings: SolverSettings,
    *,
    decode: Callable[[Tensor], Float[Tensor, 'batch point xyz=3']] | None = None,
    keep_trajectory: bool = False,
) -> FixedPoint:
    """Find a fixed point of `function` from `start`.

    Args:
        decode: The motion [m] that a state means; needed for `motion_tolerance_m` alone.

    A person whose values leave the finite keeps the best iterate found before.
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
        if not settings.to_the_end and not bool(progress.active.any()):
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
    """The best image of each person so far, and who is still being solved."""

    def __init__(
        self, start: Float[Tensor, 'batch size'], settings: SolverSettings, decode: Map | None
    ) -> None:
        self.best_state = start
        self.best = start.new_full((len(start),), torch.inf)
        self.steps = torch.zeros(len(start), dtype=torch.int64, device=start.device)
        self.active = torch.ones(len(start), dtype=torch.bool, device=start.device)
        self.settled = torch.zeros_like(self.active)
        self._settings = settings
        self._decode = decode if settings.motion_tolerance_m > 0.0 else None
        self._motion = start if self._decode is None else self._decode(start)

    def update(
        self, image: Float[Tensor, 'batch size'], difference: Float[Tensor, 'batch size']
    ) -> None:
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


def _mix(history: list[tuple[Tensor, Tensor]], ridge: float) -> Float[Tensor, 'batch size']:
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
