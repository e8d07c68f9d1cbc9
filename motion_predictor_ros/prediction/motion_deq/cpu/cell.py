# SPDX-License-Identifier: Apache-2.0
"""The fixed-point cell for one person as inference runs it on a CPU: a few matrix products.

Stage: prediction. The answers are those of `FixedPointCell` to rounding. What differs:
    channels last            pairs are rows, and what happens between products is compiled
    each pair once           distances are the same both ways: half a product
    nothing allocated        large intermediates have their place, which fits the processor's cache
    joined products          what receivers and senders say is one product, so are query and key
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn

from motion_predictor_ros.prediction.motion_deq.cell import (
    ACTING,
    EquivariantLayer,
    FixedPointCell,
)
from motion_predictor_ros.prediction.motion_deq.cpu import cell_kernels as kernels
from motion_predictor_ros.prediction.motion_deq.cpu.panel_product import PanelProduct


@dataclass(frozen=True)
class FusedCondition:
    """One person's `Condition`, channels last; a joint is in no category with itself."""

    geometry: Float[Tensor, 'joint_xyz channel']
    pattern: Float[Tensor, 'joint pattern']
    velocity: Float32[np.ndarray, 'layer joint xyz=3 channel']
    category: Float32[np.ndarray, 'joint joint-1 acting']
    scale: float


class Workspace(threading.local):
    """Where intermediates stand, as arrays; `of` has the same memory as matrices.

    Each thread has its own: Python makes one anew where a thread asks for the first time.
    """

    def __init__(self) -> None:
        self.of: dict[str, Tensor] = {}

    def array(self, name: str, *shape: int, columns: int = 1) -> Float32[np.ndarray, '...']:
        """Make room for an array; as a matrix its last `columns` axes are one."""
        array = np.zeros(shape, np.float32)
        width = int(np.prod(shape[-columns:]))
        self.of[name] = torch.from_numpy(array).view(-1, width)
        return array


class FusedCell:
    """A trained cell whose weights will not change any more; float32, on a CPU."""

    @torch.no_grad()
    def __init__(self, cell: FixedPointCell, joints: int) -> None:
        """Fold the weights; the cell must be in float32 and on the CPU."""
        layers = [_FusedLayer(each) for each in cell.layers if isinstance(each, EquivariantLayer)]
        self._cell, self._layers = cell, layers
        self._inject_geometry = (cell.feedback * cell.inject_geometry.weight).mT.contiguous()
        self._inject_state = (cell.feedback * cell.inject_state.weight).mT.contiguous()
        self._inject_out = cell.inject_out.weight.mT.contiguous()
        self._norm = cell.norm.weight.numpy(), cell.norm.bias.numpy(), float(cell.norm.eps)
        self._workspace = _CellWorkspace(
            joints, len(self._inject_geometry), len(self._inject_state)
        )

    def __call__(
        self,
        geometry: Float32[np.ndarray, 'joint xyz=3 channel'],
        pattern: Float32[np.ndarray, 'joint pattern'],
        condition: FusedCondition,
        image: tuple[
            Float32[np.ndarray, 'joint xyz=3 channel'], Float32[np.ndarray, 'joint pattern']
        ],
    ) -> None:
        """Evaluate f once, into `image`."""
        workspace, bent = self._workspace, torch.from_numpy(pattern)
        kernels.centre(geometry, workspace.mean, workspace.relative)
        torch.addmm(
            condition.geometry,
            workspace.of['relative'],
            self._inject_geometry,
            out=workspace.of['moved'],
        )
        hidden = torch.addmm(condition.pattern, bent, self._inject_state)
        torch.addmm(
            self._cell.inject_out.bias,
            nn.functional.silu(hidden, inplace=True),
            self._inject_out,
            out=workspace.of['pattern'],
        )
        for layer, velocity in zip(self._layers, condition.velocity, strict=True):
            layer.update_patterns(workspace, velocity, condition.category)
        kernels.centre(workspace.moved, workspace.mean, workspace.moved)
        kernels.bound(workspace.moved, condition.scale, image[0])
        kernels.norm(workspace.pattern, *self._norm, image[1])


class _CellWorkspace(Workspace):
    """Where the intermediates of the cell stand."""

    def __init__(self, joints: int, channels: int, patterns: int) -> None:
        super().__init__()
        parts, twins = 1 + ACTING, joints * (joints - 1) // 2
        pairs = joints, joints - 1
        self.mean = np.empty(3, np.float32)
        self.relative = self.array('relative', joints, 3, channels)
        self.moved = self.array('moved', joints, 3, channels)
        self.pulled = self.array('pulled', joints, 3, channels)
        self.pair = self.array('pair', joints, 3, 2, channels, columns=2)
        self.distances = self.array('distances', twins, channels)
        self.edges = self.array('edges', twins, parts, patterns, columns=2)
        self.nodes = self.array('nodes', joints, 2, parts, patterns, columns=3)
        self.attention = self.array('attention', joints, channels)
        self.message = self.array('message', *pairs, patterns)
        self.answer = self.array('answer', *pairs, patterns)  # of messages, then of categories
        self.gated = self.array('gated', *pairs, ACTING, patterns, columns=2)
        self.weight = self.array('weight', *pairs, channels)
        self.told = self.array('told', joints, patterns)
        self.pattern = self.array('pattern', joints, patterns)


class _FusedLayer:
    """Weights of one `EquivariantLayer`, side by side where the same rows meet them."""

    def __init__(self, layer: EquivariantLayer) -> None:
        pair = layer.pair_in
        silent = torch.zeros_like(pair.receiver.bias)
        self._nodes = PanelProduct(
            side_by_side(pair.receiver.weight, pair.sender.weight),
            torch.cat([pair.receiver.bias, silent]),
        )
        self._attention = layer.attention.weight.mT.contiguous()
        self._attention_bias = layer.attention.bias
        self._edge = PanelProduct(pair.edge.weight.mT)
        self._message = PanelProduct(layer.message_out.weight.mT)
        self._message_bias = layer.message_out.bias.numpy()
        self._category = PanelProduct(layer.category_out.weight.mT)
        self._category_bias = layer.category_bias.mT.contiguous().numpy()
        self._weight = layer.weight_out.weight.mT.contiguous()
        self._weight_bias = layer.weight_out.bias.numpy()
        self._pair = side_by_side(layer.query.weight, layer.key.weight)
        self._own, self._told, self._own_bias, self._update, self._update_bias = split_mlp(
            layer.update
        )

    def update_patterns(
        self,
        workspace: _CellWorkspace,
        velocity: Float32[np.ndarray, 'joint xyz=3 channel'],
        category: Float32[np.ndarray, 'joint joint-1 acting'],
    ) -> None:
        """Do one round: move the room's geometry and learn its patterns."""
        of = workspace.of
        kernels.pair_distances(workspace.moved, workspace.distances)
        self._edge(of['distances'], of['edges'])
        self._nodes(of['pattern'], of['nodes'])
        torch.addmm(self._attention_bias, of['pattern'], self._attention, out=of['attention'])
        kernels.hidden_pairs(
            workspace.edges, workspace.nodes, category, workspace.message, workspace.gated
        )
        self._message(of['message'], of['answer'])
        kernels.gather_messages(workspace.answer, self._message_bias, workspace.told)
        self._move(workspace, velocity, category)
        hidden = torch.addmm(self._own_bias, of['pattern'], self._own)
        hidden.addmm_(of['told'], self._told)
        nn.functional.silu(hidden, inplace=True)
        of['pattern'].add_(torch.addmm(self._update_bias, hidden, self._update))

    def _move(
        self,
        workspace: _CellWorkspace,
        velocity: Float32[np.ndarray, 'joint xyz=3 channel'],
        category: Float32[np.ndarray, 'joint joint-1 acting'],
    ) -> None:
        """Attention, aggregation, velocity and the vector nonlinearity."""
        of = workspace.of
        self._category(of['gated'], of['answer'])
        kernels.join_categories(workspace.answer, category, self._category_bias)
        torch.mm(of['answer'], self._weight, out=of['weight'])
        kernels.centre(workspace.moved, workspace.mean, workspace.relative)
        places, bias = (
            (workspace.moved, workspace.relative, workspace.attention),
            self._weight_bias,
        )
        kernels.move(*places, workspace.weight, bias, velocity, workspace.pulled)
        kernels.centre(workspace.pulled, workspace.mean, workspace.relative)
        torch.mm(of['relative'], self._pair, out=of['pair'])
        kernels.vector_nonlinearity(workspace.pair, workspace.mean, workspace.moved)


def side_by_side(*weights: Float[Tensor, 'out inner']) -> Float[Tensor, 'inner all_out']:
    """Return what maps rows by several weights at once."""
    return torch.cat(weights).mT.contiguous()


def split_mlp(layers: nn.Sequential) -> Sequence[Tensor]:
    """Return what an MLP of [a, b], both as wide, does to rows of a and of b, and then to both.

    In the order: of a, of b, bias, second layer, its bias.
    """
    first, _, second = layers
    assert isinstance(first, nn.Linear) and isinstance(second, nn.Linear)
    one, other = (each.mT.contiguous() for each in first.weight.chunk(2, dim=1))
    return one, other, first.bias, second.weight.mT.contiguous(), second.bias
