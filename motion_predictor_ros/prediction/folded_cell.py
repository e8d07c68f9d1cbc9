# SPDX-License-Identifier: Apache-2.0
"""The fixed-point cell for one person as inference runs it on a CPU: a few matrix products.

Stage: prediction. The answers are those of `FixedPointCell` to rounding. What differs:
    channels last            pairs are rows, and what happens between products is compiled
    each pair once           distances are the same both ways: half a product
    nothing allocated        large intermediates have their place, which fits the processor's cache
    joined products          what receivers and senders say is one product
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn
from torch.nn import functional

from motion_predictor_ros.prediction import cell_kernels as kernels
from motion_predictor_ros.prediction.cell import (
    ACTING,
    Condition,
    EquivariantLayer,
    FixedPointCell,
)


@dataclass(frozen=True)
class FoldedCondition:
    """One person's `Condition`, channels last, one velocity per layer."""

    geometry: Float[Tensor, 'joint_xyz channel']
    pattern: Float[Tensor, 'joint pattern']
    velocity: tuple[Float32[np.ndarray, 'joint xyz=3 channel'], ...]
    category: Float32[np.ndarray, 'acting joint joint']
    scale: float


class FoldedCell:
    """A trained cell whose weights will not change any more; float32, on a CPU."""

    @torch.no_grad()
    def __init__(self, cell: FixedPointCell, joints: int) -> None:
        """Fold the weights; the cell must be in float32 and on the CPU."""
        layers = [_FoldedLayer(each) for each in cell.layers if isinstance(each, EquivariantLayer)]
        self._cell, self._layers = cell, layers
        self._inject_geometry = (cell.feedback * cell.inject_geometry.weight).mT.contiguous()
        self._inject_state = (cell.feedback * cell.inject_state.weight).mT.contiguous()
        self._inject_out = cell.inject_out.weight.mT.contiguous()
        self._room = _Room(joints, len(self._inject_geometry), len(self._inject_state))

    def fold(self, condition: Condition, person: int) -> FoldedCondition:
        """Return one person's condition as `__call__` reads it."""
        layers = condition.velocity[person].chunk(len(self._layers))
        return FoldedCondition(
            torch.from_numpy(channels_last(condition.geometry[person])).flatten(0, 1),
            condition.pattern[person],
            tuple(channels_last(each) for each in layers),
            condition.category[person].contiguous().numpy(),
            float(condition.scale[person]),
        )

    def __call__(
        self,
        geometry: Float32[np.ndarray, 'joint xyz=3 channel'],
        pattern: Float[Tensor, 'joint pattern'],
        condition: FoldedCondition,
    ) -> tuple[Float32[np.ndarray, 'joint xyz=3 channel'], Float[Tensor, 'joint pattern']]:
        """Evaluate f once; the geometry that comes out is overwritten by the next call."""
        room = self._room
        kernels.centre(geometry, room.mean, room.relative)
        torch.addmm(
            condition.geometry, room.of['relative'], self._inject_geometry, out=room.of['moved']
        )
        hidden = torch.addmm(condition.pattern, pattern, self._inject_state)
        functional.silu(hidden, inplace=True)
        pattern = torch.addmm(self._cell.inject_out.bias, hidden, self._inject_out)
        for layer, velocity in zip(self._layers, condition.velocity, strict=True):
            pattern = layer.learn(room, pattern, velocity, condition.category)
        kernels.centre(room.moved, room.mean, room.moved)
        kernels.bound(room.moved, condition.scale)
        return room.moved, self._cell.norm(pattern)


class _Room:
    """Where intermediates stand, as arrays; `of` has the same memory as matrices."""

    def __init__(self, joints: int, channels: int, patterns: int) -> None:
        parts = 1 + ACTING
        self.of: dict[str, Tensor] = {}
        self.mean = np.empty(3, np.float32)
        self.relative = self._array('relative', (joints, 3), channels)
        self.moved = self._array('moved', (joints, 3), channels)
        self.pulled = self._array('pulled', (joints, 3), channels)
        self.query = self._array('query', (joints, 3), channels)
        self.key = self._array('key', (joints, 3), channels)
        self.distances = self._array('distances', (joints * (joints + 1) // 2,), channels)
        edges = self._array('edges', (joints * (joints + 1) // 2,), parts * patterns)
        self.edges = edges.reshape(len(edges), parts, patterns)
        nodes = self._array('nodes', (joints,), 2 * parts * patterns)
        self.nodes = nodes.reshape(joints, 2, parts, patterns)
        self.attention = self._array('attention', (joints,), channels)
        self.message = self._array('message', (joints, joints), patterns)
        self.answer = self._array('answer', (joints, joints), patterns)
        gated = self._array('gated', (joints, joints), ACTING * patterns)
        self.gated = gated.reshape(joints, joints, ACTING, patterns)
        self.joined = self._array('joined', (joints, joints), patterns)
        self.weight = self._array('weight', (joints, joints), channels)
        self.told = self._array('told', (joints,), patterns)

    def _array(self, name: str, lead: tuple[int, ...], columns: int) -> np.ndarray:
        array = np.empty((*lead, columns), np.float32)
        self.of[name] = torch.from_numpy(array).view(-1, columns)
        return array


class _FoldedLayer:
    """Weights of one `EquivariantLayer`, side by side where the same rows meet them."""

    def __init__(self, layer: EquivariantLayer) -> None:
        pair = layer.pair_in
        self._nodes = torch.cat([pair.receiver.weight, pair.sender.weight]).mT.contiguous()
        silent = torch.zeros_like(pair.receiver.bias)
        self._nodes_bias = torch.cat([pair.receiver.bias, silent])
        self._attention = layer.attention.weight.mT.contiguous()
        self._attention_bias = layer.attention.bias
        self._edge = pair.edge.weight.mT.contiguous()
        self._message = layer.message_out.weight.mT.contiguous()
        self._message_bias = layer.message_out.bias.numpy()
        self._category = layer.category_out.weight.mT.contiguous()
        self._category_bias = layer.category_bias.mT.contiguous().numpy()
        self._weight = layer.weight_out.weight.mT.contiguous()
        self._weight_bias = layer.weight_out.bias.numpy()
        self._query = layer.query.weight.mT.contiguous()
        self._key = layer.key.weight.mT.contiguous()
        first, _, second = layer.update
        assert isinstance(first, nn.Linear) and isinstance(second, nn.Linear)
        self._own, self._told = (each.mT.contiguous() for each in first.weight.chunk(2, dim=1))
        self._own_bias = first.bias
        self._update, self._update_bias = second.weight.mT.contiguous(), second.bias

    def learn(
        self,
        room: _Room,
        pattern: Float[Tensor, 'joint pattern'],
        velocity: Float32[np.ndarray, 'joint xyz=3 channel'],
        category: Float32[np.ndarray, 'acting joint joint'],
    ) -> Float[Tensor, 'joint pattern']:
        """Do one round: move the room's geometry, return the patterns after it."""
        of = room.of
        kernels.pair_distances(room.moved, room.distances)
        torch.mm(of['distances'], self._edge, out=of['edges'])
        torch.addmm(self._nodes_bias, pattern, self._nodes, out=of['nodes'])
        torch.addmm(self._attention_bias, pattern, self._attention, out=of['attention'])
        kernels.hidden_pairs(room.edges, room.nodes, category, room.message, room.gated)
        torch.mm(of['message'], self._message, out=of['answer'])
        kernels.gather_messages(room.answer, self._message_bias, room.told)
        self._move(room, velocity, category)
        hidden = torch.addmm(self._own_bias, pattern, self._own).addmm_(of['told'], self._told)
        functional.silu(hidden, inplace=True)
        return torch.addmm(self._update_bias, hidden, self._update).add_(pattern)

    def _move(
        self,
        room: _Room,
        velocity: Float32[np.ndarray, 'joint xyz=3 channel'],
        category: Float32[np.ndarray, 'acting joint joint'],
    ) -> None:
        """Attention, aggregation, velocity and the vector nonlinearity."""
        of = room.of
        torch.mm(of['gated'], self._category, out=of['joined'])
        kernels.join_categories(room.joined, category, self._category_bias)
        torch.mm(of['joined'], self._weight, out=of['weight'])
        kernels.centre(room.moved, room.mean, room.relative)
        places, bias = (room.moved, room.relative, room.attention), self._weight_bias
        kernels.move(*places, room.weight, bias, velocity, room.pulled)
        kernels.centre(room.pulled, room.mean, room.relative)
        torch.mm(of['relative'], self._query, out=of['query'])
        torch.mm(of['relative'], self._key, out=of['key'])
        kernels.bend_vectors(room.query, room.key, room.mean, room.moved)


def channels_last(
    geometry: Float[Tensor, '*batch channel joint xyz=3'],
) -> Float32[np.ndarray, '*batch joint xyz=3 channel']:
    """Return an array of its own, as kernels read it."""
    return geometry.movedim(-3, -1).contiguous().numpy()


def channels_first(
    geometry: Float32[np.ndarray, '*batch joint xyz=3 channel'],
) -> Float[Tensor, '*batch channel joint xyz=3']:
    """Undo `channels_last`."""
    return torch.from_numpy(geometry).movedim(-1, -3).contiguous()
