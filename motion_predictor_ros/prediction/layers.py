# SPDX-License-Identifier: Apache-2.0
"""Building blocks that the features and the fixed-point cell share.

Stage: prediction. Pairs of joints are flattened to one axis, `pair = joint * joint`, row-major.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn


def centred(
    geometry: Float[Tensor, 'batch channel joint xyz=3'],
) -> Float[Tensor, 'batch channel joint xyz=3']:
    """Subtract M(G), the one mean vector over channels and joints."""
    return geometry - geometry.mean(dim=(1, 2), keepdim=True)


def pair_distances(
    geometry: Float[Tensor, 'batch channel joint xyz=3'],
) -> Float[Tensor, 'batch channel joint joint']:
    """Return |g_i - g_j| per channel, in Gram form."""
    gram = geometry @ geometry.transpose(-1, -2)
    square = geometry.square().sum(-1)
    squared = square[..., :, None] + square[..., None, :] - 2.0 * gram
    return squared.clamp_min(1e-8).sqrt()


def mix(
    weight: Float[Tensor, 'mixed channel'], columns: Float[Tensor, 'batch channel column']
) -> Float[Tensor, 'batch mixed column']:
    """Multiply each person's columns by one matrix, without copying them into another layout."""
    return torch.bmm(weight.expand(len(columns), -1, -1), columns)


def mix_channels(
    weight: Float[Tensor, 'mixed channel'], geometry: Float[Tensor, 'batch channel joint xyz=3']
) -> Float[Tensor, 'batch mixed joint xyz=3']:
    """Apply a linear map over channels; it commutes with rotations."""
    return mix(weight, geometry.flatten(2)).unflatten(2, geometry.shape[2:])


def mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Two linear layers with a SiLU between."""
    return nn.Sequential(nn.Linear(inputs, hidden), nn.SiLU(), nn.Linear(hidden, outputs))


class PairLinear(nn.Module):
    """Linear map of [h_i, h_j, e_ij] without building the concatenation.

    The parts of the nodes are computed per joint and broadcast, which is `joint` times cheaper.
    """

    def __init__(self, node: int, edge: int, outputs: int) -> None:
        super().__init__()
        self.receiver = nn.Linear(node, outputs)
        self.sender = nn.Linear(node, outputs, bias=False)
        self.edge = nn.Linear(edge, outputs, bias=False)

    def forward(
        self, node: Float[Tensor, 'batch joint node'], edge: Float[Tensor, 'batch edge pair']
    ) -> Float[Tensor, 'batch out pair']:
        """Return one output column per ordered pair (receiver i, sender j)."""
        receiver = self.receiver(node).transpose(1, 2)[..., :, None]
        sender = self.sender(node).transpose(1, 2)[..., None, :]
        joints = node.shape[1]
        pairs = mix(self.edge.weight, edge).unflatten(2, (joints, joints))
        return (pairs + receiver).add_(sender).flatten(2)


class PairMix(nn.Linear):
    """Linear layer over the channels of pairs: [batch, in, pair] -> [batch, out, pair]."""

    def forward(self, pairs: Float[Tensor, 'batch channel pair']) -> Tensor:
        """Apply the layer to each pair."""
        return mix(self.weight, pairs) + self.bias[:, None]
