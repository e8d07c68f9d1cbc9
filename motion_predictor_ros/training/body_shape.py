# SPDX-License-Identifier: Apache-2.0
"""Vary the bodies of recorded people and how they hold them: few were recorded, all kinds come."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from motion_predictor_ros.config import param
from motion_predictor_ros.skeleton.layout import SkeletonLayout


@dataclass(frozen=True)
class BodyShapeConfig:
    """How far bodies are varied; 1, and 0 for the posture, leave them as they were recorded."""

    size: float = param(
        1.0, 'scale people, and how far they move, up to this factor [-]', low=1.0, high=2.0
    )
    bones: float = param(
        1.0, 'scale each bone, left and right alike, up to this factor [-]', low=1.0, high=2.0
    )
    posture_deg: float = param(
        0.0,
        'turn each bone, and all that hangs from it, by a rotation that lasts the whole window;'
        ' standard deviation about each axis [deg]',
        low=0.0,
        high=45.0,
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
        self._parents = layout.parents

    def vary(
        self, windows: Float[Tensor, 'batch time joint xyz=3'], generator: torch.Generator
    ) -> Float[Tensor, 'batch time joint xyz=3']:
        """Return the windows [m] with other bones, each moving as it did in the recording.

        The root's path is scaled with the size about where it begins.
        """
        config = self._config
        if config.size == config.bones == 1.0 and config.posture_deg == 0.0:
            return windows
        change = self._lengths(len(windows), generator)
        if config.posture_deg > 0.0:
            change = self._turns(len(windows), generator) @ change
        start = windows[:, :1, self._roots.to(windows.device)].mean(2, keepdim=True)
        bones = self._to_bones.to(windows) @ (windows - start)
        bones = (change.to(windows)[:, None] @ bones[..., None])[..., 0]
        return self._to_joints.to(windows) @ bones + start

    def _lengths(
        self, batch: int, generator: torch.Generator
    ) -> Float64[Tensor, 'batch joint 3 3']:
        """Draw by how much each bone is longer."""
        count = len(self._same)
        drawn = 2.0 * torch.rand(batch, 1 + count, generator=generator, dtype=torch.float64) - 1.0
        factor = self._config.bones ** drawn[:, 1:][:, self._same]
        factor = torch.where(self._roots, torch.ones_like(factor), factor)
        factor = factor * self._config.size ** drawn[:, :1]
        return factor[..., None, None] * torch.eye(3, dtype=torch.float64)

    def _turns(self, batch: int, generator: torch.Generator) -> Float64[Tensor, 'batch joint 3 3']:
        """Draw how each bone is turned: by its own rotation after those of all it hangs from."""
        vectors = math.radians(self._config.posture_deg) * torch.randn(
            batch, len(self._same), 3, generator=generator, dtype=torch.float64
        )
        own = torch.linalg.matrix_exp(_cross_matrices(vectors))
        turned: dict[int, Tensor] = {-1: torch.eye(3, dtype=torch.float64).expand(batch, 3, 3)}
        while len(turned) <= len(self._parents):
            for joint, parent in enumerate(self._parents):
                if parent in turned and joint not in turned:
                    turned[joint] = turned[-1] if parent < 0 else own[:, joint] @ turned[parent]
        return torch.stack([turned[joint] for joint in range(len(self._parents))], 1)


def _cross_matrices(vectors: Float64[Tensor, '*batch 3']) -> Float64[Tensor, '*batch 3 3']:
    x, y, z = vectors.unbind(-1)
    zero = torch.zeros_like(x)
    rows = [zero, -z, y, z, zero, -x, -y, x, zero]
    return torch.stack(rows, -1).unflatten(-1, (3, 3))
