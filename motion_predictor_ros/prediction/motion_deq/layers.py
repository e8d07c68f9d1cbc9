# SPDX-License-Identifier: Apache-2.0
"""Building blocks that the features and the fixed-point cell share.

Stage: prediction. Pairs of joints are flattened to one axis, `pair = joint * joint`, row-major.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

Past = Float[Tensor, 'batch time joint xyz=3']
Future = Float[Tensor, 'batch horizon joint xyz=3']
Geometry = Float[Tensor, 'batch channel joint xyz=3']
Patterns = Float[Tensor, 'batch joint pattern']
Mask = Bool[Tensor, 'batch joint']
"""True where a joint was observed."""


def centred(geometry: Geometry) -> Geometry:
    """Subtract M(G), the one mean vector over channels and joints."""
    return geometry - geometry.mean(dim=(1, 2), keepdim=True)


class _PairDistances(torch.autograd.Function):
    """|g_i - g_j| = sqrt(|g_i|^2 + |g_j|^2 - 2 g_i . g_j), with a gradient of few passes."""

    @staticmethod
    def forward(ctx: Any, geometry: Tensor) -> Tensor:
        square = geometry.square().sum(-1)
        sums = (square[..., :, None] + square[..., None, :]).flatten(0, 1)
        rows = geometry.flatten(0, 1)
        squared = torch.baddbmm(sums, rows, rows.transpose(1, 2), alpha=-2.0)
        distance = squared.clamp_min_(1e-8).sqrt_().unflatten(0, geometry.shape[:2])
        ctx.save_for_backward(geometry, distance)
        return distance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        geometry, distance = ctx.saved_tensors
        # d|g_i - g_j| / dg_i = (g_i - g_j) / |g_i - g_j|, from the pairs (i, j) and (j, i).
        pull = gradient / distance
        total = (pull.sum(-1) + pull.sum(-2))[..., None]
        return total * geometry - pull @ geometry - pull.transpose(-1, -2) @ geometry


def pair_distances(geometry: Geometry) -> Float[Tensor, 'batch channel joint joint']:
    """Return |g_i - g_j| per channel, at least 1e-4."""
    distance: Tensor = _PairDistances.apply(geometry)  # type: ignore[no-untyped-call]
    return distance


def mix(
    weight: Float[Tensor, 'mixed channel'], columns: Float[Tensor, 'batch channel column']
) -> Float[Tensor, 'batch mixed column']:
    """Multiply each person's columns by one matrix, without a copy in another layout."""
    return torch.bmm(weight.to(columns.dtype).expand(len(columns), -1, -1), columns)


def mix_onto(
    base: Float[Tensor, '#batch mixed #column'],
    weight: Float[Tensor, 'mixed channel'],
    columns: Float[Tensor, 'batch channel column'],
) -> Float[Tensor, 'batch mixed column']:
    """Return `base` plus `mix`, in one pass."""
    weights = weight.to(columns.dtype).expand(len(columns), -1, -1)
    return torch.baddbmm(base.to(columns.dtype), weights, columns)


def mix_channels(
    weight: Float[Tensor, 'mixed channel'], geometry: Geometry
) -> Float[Tensor, 'batch mixed joint xyz=3']:
    """Apply a linear map over channels; it commutes with rotations."""
    return mix(weight, geometry.flatten(2)).unflatten(2, geometry.shape[2:])


def mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Two linear layers with a SiLU between."""
    return nn.Sequential(nn.Linear(inputs, hidden), nn.SiLU(), nn.Linear(hidden, outputs))


class PairModule(nn.Module):
    """A module on pairs of joints, which take most of the time.

    Attributes:
        pair_dtype: Dtype of pairs; None: that of the parameters.
    """

    pair_dtype: torch.dtype | None = None

    def edges(self, geometry: Geometry) -> Float[Tensor, 'batch channel pair']:
        """Return the distances of all pairs, in the dtype of pairs."""
        return pair_distances(geometry).flatten(2).to(self.pair_dtype or geometry.dtype)


class PairLinear(nn.Module):
    """Linear map W_r h_i + W_s h_j + W_e e_ij of each ordered pair (i, j).

    The first two are computed per joint and broadcast, which is `joint` times cheaper.
    """

    def __init__(self, node: int, edge: int, outputs: int) -> None:
        super().__init__()
        self.outputs = outputs
        self.receiver = nn.Linear(node, outputs)
        self.sender = nn.Linear(node, outputs, bias=False)
        self.edge = nn.Linear(edge, outputs, bias=False)

    def forward(
        self, node: Float[Tensor, 'batch joint node'], edge: Float[Tensor, 'batch edge pair']
    ) -> Float[Tensor, 'batch out pair']:
        """Return one output column per ordered pair (receiver i, sender j)."""
        return self.parts(node, edge, (self.outputs,))[0]

    def parts(
        self,
        node: Float[Tensor, 'batch joint node'],
        edge: Float[Tensor, 'batch edge pair'],
        sizes: Sequence[int],
    ) -> list[Float[Tensor, 'batch _ pair']]:
        """Return the outputs in parts of these sizes; splitting them later would cost a copy."""
        sizes = list(sizes)
        receiver = self.receiver(node).to(edge.dtype).transpose(1, 2).split(sizes, 1)
        sender = self.sender(node).to(edge.dtype).transpose(1, 2).split(sizes, 1)
        weight = self.edge.weight.split(sizes)
        return [
            mix_onto((r[..., :, None] + s[..., None, :]).flatten(2), w, edge)
            for r, s, w in zip(receiver, sender, weight, strict=True)
        ]


class PairMix(nn.Linear):
    """Linear layer over the channels of pairs: [batch, in, pair] -> [batch, out, pair]."""

    def forward(self, pairs: Float[Tensor, 'batch channel pair']) -> Tensor:
        """Apply the layer to each pair."""
        return mix_onto(self.bias[None, :, None], self.weight, pairs)
