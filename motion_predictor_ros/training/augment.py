# SPDX-License-Identifier: Apache-2.0
"""Augmentation: body shapes, and camera faults (noise, low rates, joints out of sight)."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from motion_predictor_ros.config import param, share
from motion_predictor_ros.prediction.motion_deq.layers import Mask, Past
from motion_predictor_ros.skeleton.completion import NearestJoints
from motion_predictor_ros.skeleton.layout import SkeletonLayout


@dataclass(frozen=True)
class BodyShapeConfig:
    """Variation of bodies; 1 leaves them as recorded."""

    size: float = param(
        1.0, 'scale people, and their paths, up to this factor [-]', low=1.0, high=2.0
    )
    bones: float = param(
        1.0, 'scale each bone, left and right alike, up to this factor [-]', low=1.0, high=2.0
    )


class BodyShape:
    """Scales windows of one skeleton by random factors per window."""

    def __init__(self, layout: SkeletonLayout, config: BodyShapeConfig) -> None:
        self._config = config
        bones = torch.eye(len(layout.joint_names), dtype=torch.float64)
        for parent, child in layout.bones:
            bones[child, parent] = -1.0
        self._to_bones, self._to_joints = bones, torch.linalg.inv(bones)
        # Mirrored joints have the factor of the first of the two.
        self._same = torch.tensor([min(i, other) for i, other in enumerate(layout.mirror)])
        self._roots = torch.tensor([parent < 0 for parent in layout.parents])

    def vary(self, windows: Past, generator: torch.Generator) -> Past:
        """Return the windows [m] with scaled bones in their recorded directions.

        The root's path is scaled with the size about where it begins.
        """
        config = self._config
        if config.size == config.bones == 1.0:
            return windows
        size = len(windows), 1 + len(self._same)
        drawn = 2.0 * torch.rand(size, generator=generator, dtype=torch.float64) - 1.0
        factor = config.bones ** drawn[:, 1:][:, self._same]
        factor = torch.where(self._roots, torch.ones_like(factor), factor)
        factor = (factor * config.size ** drawn[:, :1]).to(windows)[:, None, :, None]
        start = windows[:, :1, self._roots.to(windows.device)].mean(2, keepdim=True)
        bones = self._to_bones.to(windows) @ (windows - start)
        return self._to_joints.to(windows) @ (factor * bones) + start


_ALONE = 0.1
"""Probability of a single missing joint, in windows with missing joints."""


@dataclass(frozen=True)
class DegradeConfig:
    """Share of windows with each fault; faults are independent."""

    noisy: float = share(0.0, 'share of windows with noise [-]')
    noise_m: float = param(
        0.03, 'largest deviation of a coordinate, drawn per window [m]', low=0.0, high=0.2
    )
    slow: float = share(0.0, 'share of windows observed at a low rate [-]')
    slowest_hz: float = param(
        12.0, 'lowest rate; the highest is that of the model clock [Hz]', low=1.0, high=200.0
    )
    missing: float = share(0.0, 'share of windows with missing joints [-]')


class Degrader:
    """Degrade observations of one skeleton on one clock."""

    def __init__(self, layout: SkeletonLayout, period_s: float, config: DegradeConfig) -> None:
        self._config = config
        self._fastest_hz = 1.0 / period_s
        self._nearest = NearestJoints(layout)
        self._mirror = np.array(layout.mirror)
        self._subtrees = _subtrees(layout)
        self._roots = np.array(layout.parents) < 0
        self._limbs = np.flatnonzero(np.array(layout.parents) >= 0)

    def degrade(self, past: Past, generator: torch.Generator) -> tuple[Past, Mask | None]:
        """Return a degraded observation [m], and which joints were observed.

        A missing joint has its substitute's positions. None instead of the mask: all observed.
        """
        config = self._config
        if config.noisy > 0.0:
            past = past + self._noise(past, generator)
        if config.slow > 0.0:
            past = self._slow(past, generator)
        if config.missing == 0.0:
            return past, None
        seen = self._seen(len(past), generator)
        chosen = torch.from_numpy(self._nearest.choose(seen)).to(past.device)
        at = chosen[:, None, :, None].expand_as(past)
        return past.gather(2, at), torch.from_numpy(seen).to(past.device)

    def _noise(self, past: Tensor, generator: torch.Generator) -> Tensor:
        share, size = torch.rand(2, len(past), generator=generator)
        sigma_m = self._config.noise_m * size * (share < self._config.noisy)
        white = torch.randn(past.shape, generator=generator)
        return (sigma_m[:, None, None, None] * white).to(past.device, past.dtype)

    def _slow(self, past: Tensor, generator: torch.Generator) -> Tensor:
        """Keep samples at a lower rate, the newest among them, and join them by straight lines."""
        share, size = torch.rand(2, len(past), generator=generator)
        slowest = self._config.slowest_hz / self._fastest_hz
        rate = slowest + (1.0 - slowest) * size
        rate = torch.where(share < self._config.slow, rate, torch.ones_like(rate))
        last = past.shape[1] - 1
        # Time before the newest sample, in samples of the slower camera.
        age = torch.arange(last, -1, -1) * rate[:, None]
        newer, part = age.floor(), age - age.floor()
        at = [(last - item / rate[:, None]).clamp(0, last) for item in (newer, newer + 1.0)]
        ends = [_at(past, place) for place in at]
        return torch.lerp(ends[0], ends[1], part.to(past)[..., None, None])

    def _seen(self, batch: int, generator: torch.Generator) -> Bool[np.ndarray, 'batch joint']:
        """Draw limbs out of sight, half of them with the limb opposite, and single joints."""
        share, both, some = torch.rand(3, batch, generator=generator).numpy()
        pick = torch.randint(len(self._limbs), (batch,), generator=generator).numpy()
        alone = torch.rand(batch, len(self._mirror), generator=generator).numpy() < _ALONE
        limb = self._limbs[pick]
        hidden = self._subtrees[limb]
        hidden |= self._subtrees[self._mirror[limb]] & (both < 0.5)[:, None]
        hidden = np.where((some < 0.5)[:, None], alone, hidden)
        hidden[:, self._roots] = False
        too_many = hidden.sum(axis=1) > hidden.shape[1] // 2
        return ~(hidden & ((share < self._config.missing) & ~too_many)[:, None])


def _at(past: Past, frame: Float[Tensor, 'batch time']) -> Past:
    """Return the positions at fractional frames."""
    low = frame.floor().clamp_max(past.shape[1] - 2).long()
    part = (frame - low).to(past)[..., None, None]
    rows = torch.arange(len(past))[:, None]
    return torch.lerp(past[rows, low], past[rows, low + 1], part)


def _subtrees(layout: SkeletonLayout) -> Bool[np.ndarray, 'joint joint']:
    """Return for each joint which joints hang from it, itself among them."""
    below = np.eye(len(layout.joint_names), dtype=bool)
    for _ in layout.joint_names:
        for parent, child in layout.bones:
            below[parent] |= below[child]
    return below
