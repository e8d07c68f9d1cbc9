# SPDX-License-Identifier: Apache-2.0
"""Vary the bones of recorded people: few were recorded, all kinds will come."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from motion_predictor_ros.config import param
from motion_predictor_ros.skeleton.layout import SkeletonLayout


@dataclass(frozen=True)
class BodyShapeConfig:
    """How far bodies are varied; 1 leaves them as they were recorded."""

    size: float = param(
        1.0, 'scale people, and how far they move, up to this factor [-]', low=1.0, high=2.0
    )
    bones: float = param(
        1.0, 'scale each bone, left and right alike, up to this factor [-]', low=1.0, high=2.0
    )


class BodyShape:
    """Scale windows of one skeleton, each window by factors of its own."""

    def __init__(self, layout: SkeletonLayout, config: BodyShapeConfig) -> None:
        self._config = config
        count = len(layout.joint_names)
        bones = torch.eye(count, dtype=torch.float64)
        for parent, child in layout.bones:
            bones[child, parent] = -1.0
        self._to_bones = bones
        self._to_joints = torch.linalg.inv(bones)
        # Mirrored joints draw the factor of the first of the two.
        self._same = torch.tensor([min(i, other) for i, other in enumerate(layout.mirror)])
        self._roots = torch.tensor([parent < 0 for parent in layout.parents])

    def vary(
        self, windows: Float[Tensor, 'batch time joint xyz=3'], generator: torch.Generator
    ) -> Float[Tensor, 'batch time joint xyz=3']:
        """Return the windows [m] with other bones; directions of bones stay as they were.

        The root's path is scaled with the size about where it begins.
        """
        if self._config.size == self._config.bones == 1.0:
            return windows
        batch, count = len(windows), len(self._same)
        drawn = 2.0 * torch.rand(batch, 1 + count, generator=generator, dtype=torch.float64) - 1.0
        factor = self._config.bones ** drawn[:, 1:][:, self._same]
        factor = torch.where(self._roots, torch.ones_like(factor), factor)
        factor = factor * self._config.size ** drawn[:, :1]
        change = (self._to_joints * factor[:, None, :]) @ self._to_bones
        change = change.to(windows.device, windows.dtype)
        start = windows[:, :1, self._roots.to(windows.device)].mean(2, keepdim=True)
        return change[:, None] @ (windows - start) + start
