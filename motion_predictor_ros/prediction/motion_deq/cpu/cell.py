# SPDX-License-Identifier: Apache-2.0
"""The fixed-point cell for one person on a CPU: matrix products by torch, loops by numba.

Stage: prediction. Answers equal those of `FixedPointCell` to rounding. What differs:
    channels last            pairs are rows of matrices
    unordered pairs          distances are symmetric: half a product
    workspace                large intermediates are allocated once and fit the processor's cache
    joined products          receiver and sender weights are one matrix, so are query and key
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn
from torch.nn import functional

from motion_predictor_ros.prediction.motion_deq.cell import (
    ACTING,
    EquivariantLayer,
    FixedPointCell,
)
from motion_predictor_ros.prediction.motion_deq.cpu import kernels

Geometry = Float32[np.ndarray, 'joint xyz=3 channel']


@dataclass(frozen=True)
class FusedCondition:
    """One person's `Condition`, channels last; `category` is that of each ordered pair."""

    geometry: Float[Tensor, 'joint_xyz channel']
    pattern: Float[Tensor, 'joint pattern']
    velocity: Float32[np.ndarray, 'layer joint xyz=3 channel']
    category: Float[Tensor, 'pair acting']
    scale: float


class Workspace(threading.local):
    """Preallocated arrays for intermediates; `of` has the same memory as torch matrices.

    Each thread has its own: Python calls the constructor again in a thread's first access.
    """

    def __init__(self) -> None:
        self.of: dict[str, Tensor] = {}

    def array(self, name: str, *shape: int, columns: int = 1) -> Float32[np.ndarray, '...']:
        """Allocate an array; as a matrix its last `columns` axes are one."""
        array = np.zeros(shape, np.float32)
        width = int(np.prod(shape[-columns:]))
        self.of[name] = torch.from_numpy(array).view(-1, width)
        return array


class FusedCell:
    """A trained cell with frozen weights; float32, on a CPU."""

    @torch.no_grad()
    def __init__(self, cell: FixedPointCell, joints: int) -> None:
        """Fold the weights; the cell must be in float32 and on the CPU."""
        layers = [_FusedLayer(part) for part in cell.layers if isinstance(part, EquivariantLayer)]
        self._cell, self._layers = cell, layers
        self._inject_geometry = (cell.feedback * cell.inject_geometry.weight).mT.contiguous()
        self._inject_state = (cell.feedback * cell.inject_state.weight).mT.contiguous()
        self._inject_out = cell.inject_out.weight.mT.contiguous()
        self._workspace = _CellWorkspace(
            joints, len(self._inject_geometry), len(self._inject_state)
        )

    def __call__(
        self,
        geometry: Geometry,
        pattern: Float32[np.ndarray, 'joint pattern'],
        condition: FusedCondition,
        image: tuple[Geometry, Float32[np.ndarray, 'joint pattern']],
    ) -> None:
        """Evaluate f once, into `image`."""
        workspace, of = self._workspace, self._workspace.of
        kernels.centre(geometry, workspace.mean, workspace.relative)
        torch.addmm(condition.geometry, of['relative'], self._inject_geometry, out=of['geometry'])
        hidden = torch.addmm(condition.pattern, torch.from_numpy(pattern), self._inject_state)
        functional.silu(hidden, inplace=True)
        torch.addmm(self._cell.inject_out.bias, hidden, self._inject_out, out=of['pattern'])
        for layer, velocity in zip(self._layers, condition.velocity, strict=True):
            layer.update(workspace, velocity, condition.category)
        kernels.centre(workspace.geometry, workspace.mean, workspace.geometry)
        kernels.bound(workspace.geometry, condition.scale, image[0])
        torch.from_numpy(image[1]).copy_(self._cell.norm(of['pattern']))


class _CellWorkspace(Workspace):
    """Intermediates of the cell."""

    def __init__(self, joints: int, channels: int, patterns: int) -> None:
        super().__init__()
        parts, pairs = 1 + ACTING, joints * (joints - 1)
        self.mean = np.empty(3, np.float32)
        self.relative = self.array('relative', joints, 3, channels)
        self.geometry = self.array('geometry', joints, 3, channels)
        self.moved = self.array('moved', joints, 3, channels)
        self.query_key = self.array('query_key', joints, 3, 2, channels, columns=2)
        self.distances = self.array('distances', pairs // 2, channels)
        self.edges = self.array('edges', pairs // 2, parts * patterns)
        self.nodes = self.array('nodes', joints, 2, parts * patterns, columns=2)
        self.attention = self.array('attention', joints, channels)
        self.hidden = self.array('hidden', joints, joints - 1, parts * patterns)
        # Views of the hidden layer: first the message, then one part per acting category.
        self.of_message = self.of['hidden'][:, :patterns]
        self.of_category = self.of['hidden'][:, patterns:]
        self.gated = self.of_category.unflatten(1, (ACTING, patterns))
        self.array('message', joints, joints - 1, patterns)
        self.messages = self.of['message'].view(joints, joints - 1, patterns)
        self.array('mean_message', joints, patterns)
        self.array('mixed', pairs, patterns)
        self.weight = self.array('weight', joints, joints - 1, channels)
        self.array('pattern', joints, patterns)


class _FusedLayer:
    """Weights of one `EquivariantLayer`, side by side where they multiply the same rows."""

    def __init__(self, layer: EquivariantLayer) -> None:
        pair = layer.pair_in
        self._nodes = side_by_side(pair.receiver.weight, pair.sender.weight)
        self._nodes_bias = torch.cat([pair.receiver.bias, torch.zeros_like(pair.receiver.bias)])
        self._attention = layer.attention.weight.mT.contiguous()
        self._attention_bias = layer.attention.bias
        self._edge = pair.edge.weight.mT.contiguous()
        self._message = layer.message_out.weight.mT.contiguous()
        self._message_bias = layer.message_out.bias
        self._category = layer.category_out.weight.mT.contiguous()
        self._category_bias = layer.category_bias.mT.contiguous()
        self._weight = layer.weight_out.weight.mT.contiguous()
        self._weight_bias = layer.weight_out.bias
        self._query_key = side_by_side(layer.query.weight, layer.key.weight)
        self._update = split_mlp(layer.update)

    def update(
        self, workspace: _CellWorkspace, velocity: Geometry, category: Float[Tensor, 'pair acting']
    ) -> None:
        """Do one round: new geometry and patterns in the workspace.

        With the first layers a_i + b_j + e_ij of the MLPs of message and categories:
            m_i = mean_j silu(W_m silu(hidden_ij) + b_m)
            h_i <- h_i + MLP([h_i, m_i])
        """
        of = workspace.of
        kernels.pair_distances(workspace.geometry, workspace.distances)
        torch.mm(of['distances'], self._edge, out=of['edges'])
        torch.addmm(self._nodes_bias, of['pattern'], self._nodes, out=of['nodes'])
        kernels.pair_sums(workspace.edges, workspace.nodes, workspace.hidden)
        functional.silu(of['hidden'], inplace=True)
        torch.addmm(self._message_bias, workspace.of_message, self._message, out=of['message'])
        functional.silu(of['message'], inplace=True)
        torch.mean(workspace.messages, dim=1, out=of['mean_message'])
        torch.addmm(self._attention_bias, of['pattern'], self._attention, out=of['attention'])
        functional.silu(of['attention'], inplace=True)
        self._move(workspace, velocity, category)
        from_pattern, from_message, bias, second, second_bias = self._update
        hidden = torch.addmm(bias, of['pattern'], from_pattern)
        hidden.addmm_(of['mean_message'], from_message)
        functional.silu(hidden, inplace=True)
        of['pattern'].add_(torch.addmm(second_bias, hidden, second))

    def _move(
        self, workspace: _CellWorkspace, velocity: Geometry, category: Float[Tensor, 'pair acting']
    ) -> None:
        """Apply inner attention, aggregation, velocity and the vector nonlinearity.

        With the categories c_ijk of a pair, the aggregation weights are
            w_ij = W_w silu(sum_k c_ijk (W_k silu(hidden_ijk) + b_k)) + b_w
        """
        of = workspace.of
        workspace.gated.mul_(category[:, :, None])
        torch.mm(category, self._category_bias, out=of['mixed'])
        of['mixed'].addmm_(workspace.of_category, self._category)
        functional.silu(of['mixed'], inplace=True)
        torch.addmm(self._weight_bias, of['mixed'], self._weight, out=of['weight'])
        kernels.centre(workspace.geometry, workspace.mean, workspace.relative)
        kernels.move(
            workspace.geometry,
            workspace.relative,
            workspace.attention,
            workspace.weight,
            velocity,
            workspace.moved,
        )
        kernels.centre(workspace.moved, workspace.mean, workspace.relative)
        torch.mm(of['relative'], self._query_key, out=of['query_key'])
        kernels.vector_nonlinearity(workspace.query_key, workspace.mean, workspace.geometry)


def side_by_side(*weights: Float[Tensor, 'out inner']) -> Float[Tensor, 'inner all_out']:
    """Return the matrix that applies several weights to rows at once."""
    return torch.cat(weights).mT.contiguous()


def split_mlp(layers: nn.Sequential) -> Sequence[Tensor]:
    """Split the first layer of an MLP of [a, b], both of the same width.

    Returns:
        Transposed weights for a and for b, first bias, transposed second weight, second bias.
    """
    first, _, second = layers
    assert isinstance(first, nn.Linear) and isinstance(second, nn.Linear)
    of_a, of_b = (half.mT.contiguous() for half in first.weight.chunk(2, dim=1))
    return of_a, of_b, first.bias, second.weight.mT.contiguous(), second.bias
