# SPDX-License-Identifier: Apache-2.0
"""Features of the observed second: x = {X_G, X_H, X_C} of MotionDEQ.

Stage: prediction. All geometry is relative to its mean M(.), so nothing here or later
depends on the origin of the frame; rotations commute with every linear map because each acts on
channels only, never on xyz. Geometry is [batch, channel, joint, xyz] and pairs are
[batch, channel, joint, joint]: distances and aggregation are then batched matrix products and no
[batch, joint, joint, channel, xyz] tensor is ever built.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from motion_predictor_ros.prediction.motion_deq.layers import (
    Geometry,
    Mask,
    PairLinear,
    PairMix,
    PairModule,
    Past,
    Patterns,
    centred,
    mix_channels,
    mlp,
)
from motion_predictor_ros.runtime.tensors import TensorBatch

_STILL_M = 1e-3
"""Displacement per frame below which a joint's turning angle fades out [m]."""


def dct_matrix(length: int) -> Float[Tensor, 'coef time']:
    """Build the orthonormal DCT-II; its transpose is the inverse."""
    time = torch.arange(length, dtype=torch.float64)
    coef = time[:, None]
    matrix = torch.cos(math.pi * (time + 0.5) * coef / length) * math.sqrt(2.0 / length)
    matrix[0] = math.sqrt(1.0 / length)
    return matrix


@dataclass(frozen=True)
class Features(TensorBatch):
    """x = {X_G, V, X_H}: the observation, independent of the origin.

    Attributes:
        geometry: X_G - M(X_G).
    """

    geometry: Geometry
    velocity: Geometry
    pattern: Patterns


class GeometricFeatures(nn.Module):
    """X_G and V: positions and velocities as DCT coefficients mixed into channels.

    The observation is continued by its last frame to `past + future` frames before the transform,
    so that the coefficients span the time that is to be predicted [MotionDEQ, after LTD].
    """

    dct: Tensor

    def __init__(self, past: int, future: int, channels: int) -> None:
        super().__init__()
        self.future = future
        self.register_buffer(
            'dct', dct_matrix(past + future).to(torch.get_default_dtype()), persistent=False
        )
        self.position = nn.Linear(past + future, channels, bias=False)
        self.velocity = nn.Linear(past + future, channels, bias=False)

    def forward(self, positions: Past) -> tuple[Geometry, Geometry]:
        """Return (X_G, V) of observed positions [m]."""
        still = positions[:, -1:].expand(-1, self.future, -1, -1)
        padded = torch.cat([positions, still], dim=1)
        padded = padded - positions.mean(dim=(1, 2), keepdim=True)
        steps = padded.diff(dim=1)
        steps = torch.cat([steps[:, :1], steps], dim=1)
        geometry = self._mix(self.position, padded, centre=True)
        return geometry, self._mix(self.velocity, steps, centre=False)

    def _mix(self, weight: nn.Linear, series: Past, *, centre: bool) -> Geometry:
        dct = self.dct.to(series.dtype)
        coefficients = mix_channels(dct, series)
        if centre:
            coefficients = centred(coefficients)
        return mix_channels(weight.weight, coefficients)


class PatternFeatures(nn.Module):
    """X_H: rotation-invariant features of each joint's motion.

    With steps d_t = x_t - x_(t-1):
        speed_t = 10 |d_t|                                       [dm per frame]
        turn_t  = d_t . d_(t-1) / (|d_t| |d_(t-1)| + 1e-6)       fades where a joint hardly moves
    and a trained vector per joint; another one marks joints that were not observed. The turning
    angle itself has an infinite slope where motion is straight, hence its cosine.
    """

    def __init__(self, past: int, joints: int, patterns: int, *, masked: bool = False) -> None:
        super().__init__()
        half = patterns // 2
        self.speed = nn.Linear(past, half)
        self.turn = nn.Linear(past, half)
        self.identity = nn.Parameter(torch.randn(joints, patterns) * 0.1)
        self.unseen = nn.Parameter(torch.randn(joints, patterns) * 0.1) if masked else None
        self.mix = mlp(2 * half + patterns, patterns, patterns)

    def forward(self, positions: Past, visible: Mask | None = None) -> Patterns:
        """Return the patterns of observed positions [m].

        Args:
            visible: None: all joints.
        """
        steps = positions.diff(dim=1)
        steps = torch.cat([steps[:, :1], steps], dim=1)
        speed = (steps.square().sum(-1) + 1e-12).sqrt()
        dots = (steps[:, 1:] * steps[:, :-1]).sum(-1)
        turn = dots / (speed[:, 1:] * speed[:, :-1] + _STILL_M**2)
        turn = torch.cat([turn[:, :1], turn], dim=1)
        joint_series = (10.0 * speed).transpose(1, 2), turn.transpose(1, 2)
        identity = self.identity.expand(len(positions), -1, -1)
        if self.unseen is not None and visible is not None:
            zero = torch.zeros_like(self.unseen)  # a number would be copied to the GPU
            identity = identity + torch.where(visible[..., None], zero, self.unseen)
        parts = [self.speed(joint_series[0]), self.turn(joint_series[1]), identity]
        return self.mix(torch.cat(parts, dim=-1))


class EdgeCategories(PairModule):
    """X_C: soft category of every ordered pair of joints, inferred once per observation.

    As in EqMotion, four categories of which the first two act in the layer: a pair can also be
    assigned to "no interaction".
    """

    def __init__(self, channels: int, patterns: int, categories: int) -> None:
        super().__init__()
        self.distance = PairMix(2 * channels, patterns)
        self.message_in = PairLinear(patterns, patterns, patterns)
        self.node = mlp(2 * patterns, patterns, patterns)
        self.pair_in = PairLinear(patterns, 2 * channels, patterns)
        self.out = PairMix(patterns, categories)

    def forward(
        self, geometry: Geometry, velocity: Geometry, pattern: Patterns
    ) -> Float[Tensor, 'batch category joint joint']:
        """Return the categories, which sum to one over `category`."""
        joints = geometry.shape[2]
        distance = self.edges(torch.cat([geometry, velocity], dim=1))
        edge = functional.silu(self.distance(distance))
        message = functional.silu(self.message_in(pattern, edge))
        message = message.unflatten(2, (joints, joints)).mean(3).to(pattern.dtype)
        node = self.node(torch.cat([pattern, message.transpose(1, 2)], dim=-1))
        hidden = functional.silu(self.pair_in(node, distance))
        category = self.out(hidden).to(pattern.dtype)
        return category.softmax(dim=1).unflatten(2, (joints, joints))
