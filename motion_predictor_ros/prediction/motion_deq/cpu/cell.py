# SPDX-License-Identifier: Apache-2.0
"""The fixed-point cell for one person on a CPU, compiled by numba; matrix products by BLAS.

Stage: prediction. Answers equal those of `FixedPointCell` to rounding. What differs:
    one call                 f is evaluated without Python, so that threads run side by side
    channels last            pairs are rows of matrices
    unordered pairs          distances are symmetric: half a product
    workspace                intermediates are allocated once and fit the processor's cache
    joined products          receiver and sender weights are one matrix, so are query and key
    silu                     by a rational function, in loops that also add, gate or average
"""

import threading
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn

from motion_predictor_ros.prediction.motion_deq.cell import (
    ACTING,
    EquivariantLayer,
    FixedPointCell,
)
from motion_predictor_ros.prediction.motion_deq.cpu import kernels
from motion_predictor_ros.runtime.jit import compiled, inlined

Array = Float32[np.ndarray, '...']
Geometry = Float32[np.ndarray, 'joint xyz=3 channel']


class FusedCondition(NamedTuple):
    """One person's `Condition`, channels last; `category` is that of each ordered pair."""

    geometry: Float32[np.ndarray, 'joint_xyz channel']
    pattern: Float32[np.ndarray, 'joint pattern']
    velocity: Float32[np.ndarray, 'layer joint xyz=3 channel']
    category: Float32[np.ndarray, 'pair acting']
    scale: float


class _CellWeights(NamedTuple):
    """Weights of the cell around its layers, as [input, output]; biases are rows."""

    inject_geometry: Array
    inject_state: Array
    inject_out: Array
    inject_bias: Array
    norm: Array
    norm_bias: Array


class _LayerWeights(NamedTuple):
    """Weights of all `EquivariantLayer`s, side by side where they multiply the same rows."""

    edge: Array
    nodes: Array
    nodes_bias: Array
    message: Array
    message_bias: Array
    category: Array
    category_bias: Array
    weight: Array
    weight_bias: Array
    attention: Array
    attention_bias: Array
    query_key: Array
    of_pattern: Array
    of_message: Array
    hidden_bias: Array
    update: Array
    update_bias: Array


class _CellArrays(NamedTuple):
    """Intermediates; `..._rows` is the same memory as a matrix."""

    mean: Array
    relative: Array
    relative_rows: Array
    geometry: Array
    geometry_rows: Array
    moved: Array
    query_key: Array
    query_key_rows: Array
    distances: Array
    edges: Array
    nodes: Array
    node_rows: Array
    hidden: Array
    of_category: Array
    message: Array
    message_rows: Array
    mixed: Array
    weight: Array
    weight_rows: Array
    attention: Array
    pattern: Array
    mean_message: Array
    inner: Array
    added: Array


class FusedCell:
    """A trained cell with frozen weights; float32, on a CPU."""

    @torch.no_grad()
    def __init__(self, cell: FixedPointCell, joints: int) -> None:
        """Fold the weights; the cell must be in float32 and on the CPU."""
        layers = [part for part in cell.layers if isinstance(part, EquivariantLayer)]
        stacked = zip(*(_layer_weights(layer) for layer in layers), strict=True)
        self._layers = _LayerWeights(*(np.stack(arrays) for arrays in stacked))
        self._weights = _CellWeights(
            _matrix(cell.feedback * cell.inject_geometry.weight),
            _matrix(cell.feedback * cell.inject_state.weight),
            _matrix(cell.inject_out.weight),
            _row(cell.inject_out.bias),
            _row(cell.norm.weight),
            _row(cell.norm.bias),
        )
        self._workspace = _CellWorkspace(
            joints, len(self._weights.inject_geometry), len(self._weights.inject_state)
        )

    def __call__(
        self,
        geometry: Geometry,
        pattern: Float32[np.ndarray, 'joint pattern'],
        condition: FusedCondition,
        image: tuple[Geometry, Float32[np.ndarray, 'joint pattern']],
    ) -> None:
        """Evaluate f once, into `image`."""
        arrays = self._workspace.arrays
        _evaluate(geometry, pattern, self._weights, self._layers, condition, arrays, *image)


class _CellWorkspace(threading.local):
    """Each thread's intermediates, which fit the processor's cache."""

    def __init__(self, joints: int, channels: int, patterns: int) -> None:
        pairs = joints * (joints - 1)

        def array(*shape: int) -> Array:
            return np.zeros(shape, np.float32)

        def both(*shape: int, columns: int = 1) -> tuple[Array, Array]:
            values = array(*shape)
            return values, values.reshape(-1, int(np.prod(shape[-columns:])))

        self.arrays = _CellArrays(
            array(3),
            *both(joints, 3, channels),
            *both(joints, 3, channels),
            array(joints, 3, channels),
            *both(joints, 3, 2, channels, columns=2),
            array(pairs // 2, channels),
            array(pairs // 2, (1 + ACTING) * patterns),
            *both(joints, 2, (1 + ACTING) * patterns, columns=2),
            array(pairs, patterns),
            array(pairs, ACTING * patterns),
            *both(joints, joints - 1, patterns),
            array(pairs, patterns),
            *both(joints, joints - 1, channels),
            array(joints, channels),
            *(array(joints, patterns) for _ in range(4)),
        )


def _layer_weights(layer: EquivariantLayer) -> _LayerWeights:
    pair = layer.pair_in
    of_pattern, of_message, hidden_bias, update, update_bias = split_mlp(layer.update)
    return _LayerWeights(
        _matrix(pair.edge.weight),
        side_by_side(pair.receiver.weight, pair.sender.weight).numpy(),
        _row(torch.cat([pair.receiver.bias, torch.zeros_like(pair.receiver.bias)])),
        _matrix(layer.message_out.weight),
        _row(layer.message_out.bias)[0],
        _matrix(layer.category_out.weight),
        _matrix(layer.category_bias),
        _matrix(layer.weight_out.weight),
        _row(layer.weight_out.bias)[0],
        _matrix(layer.attention.weight),
        _row(layer.attention.bias),
        side_by_side(layer.query.weight, layer.key.weight).numpy(),
        of_pattern.numpy(),
        of_message.numpy(),
        _row(hidden_bias),
        update.numpy(),
        _row(update_bias),
    )


@compiled
def _evaluate(
    geometry: Geometry,
    pattern: Float32[np.ndarray, 'joint pattern'],
    weights: _CellWeights,
    layers: _LayerWeights,
    condition: FusedCondition,
    arrays: _CellArrays,
    geometry_image: Geometry,
    pattern_image: Float32[np.ndarray, 'joint pattern'],
) -> None:
    """Evaluate f once, without Python: threads do not wait for each other's interpreter lock."""
    kernels.centre(geometry, arrays.mean, arrays.relative)
    np.dot(arrays.relative_rows, weights.inject_geometry, arrays.geometry_rows)
    kernels.add_rows(arrays.geometry_rows, condition.geometry)
    np.dot(pattern, weights.inject_state, arrays.inner)
    kernels.add_silu(arrays.inner, condition.pattern)
    np.dot(arrays.inner, weights.inject_out, arrays.pattern)
    kernels.add_rows(arrays.pattern, weights.inject_bias)
    for layer in range(len(condition.velocity)):
        _update(layer, layers, condition.velocity[layer], condition.category, arrays)
    kernels.centre(arrays.geometry, arrays.mean, arrays.geometry)
    kernels.bound(arrays.geometry, condition.scale, geometry_image)
    kernels.normalise(arrays.pattern, weights.norm[0], weights.norm_bias[0], pattern_image)


@partial(inlined, early=True)
def _update(
    layer: int,
    weights: _LayerWeights,
    velocity: Geometry,
    category: Float32[np.ndarray, 'pair acting'],
    arrays: _CellArrays,
) -> None:
    """Do one round of `EquivariantLayer`: new geometry and patterns in the arrays.

    With the first layers a_i + b_j + e_ij of the MLPs of message (k = 0) and categories x_ijk:
        hidden_ijk = silu(a_ik + b_jk + e_ijk)
        m_i  = mean_j silu(W_m hidden_ij0 + b_m)
        w_ij = W_w silu(sum_k x_ijk (W_k hidden_ijk + b_k)) + b_w
        h_i <- h_i + MLP([h_i, m_i])
    """
    kernels.pair_distances(arrays.geometry, arrays.distances)
    np.dot(arrays.distances, weights.edge[layer], arrays.edges)
    np.dot(arrays.pattern, weights.nodes[layer], arrays.node_rows)
    kernels.add_rows(arrays.node_rows, weights.nodes_bias[layer])
    kernels.hidden_pairs(arrays.edges, arrays.nodes, category, arrays.hidden, arrays.of_category)
    np.dot(arrays.hidden, weights.message[layer], arrays.message_rows)
    kernels.mean_messages(arrays.message, weights.message_bias[layer], arrays.mean_message)
    np.dot(arrays.of_category, weights.category[layer], arrays.mixed)
    kernels.add_mixed_bias(arrays.mixed, category, weights.category_bias[layer])
    np.dot(arrays.mixed, weights.weight[layer], arrays.weight_rows)
    np.dot(arrays.pattern, weights.attention[layer], arrays.attention)
    kernels.add_silu(arrays.attention, weights.attention_bias[layer])
    kernels.centre(arrays.geometry, arrays.mean, arrays.relative)
    kernels.move(
        arrays.geometry, arrays.relative, arrays.attention,
        arrays.weight, weights.weight_bias[layer], velocity, arrays.moved,
    )  # fmt: skip
    kernels.centre(arrays.moved, arrays.mean, arrays.relative)
    np.dot(arrays.relative_rows, weights.query_key[layer], arrays.query_key_rows)
    kernels.vector_nonlinearity(arrays.query_key, arrays.mean, arrays.geometry)
    np.dot(arrays.pattern, weights.of_pattern[layer], arrays.inner)
    np.dot(arrays.mean_message, weights.of_message[layer], arrays.added)
    kernels.add_rows(arrays.inner, arrays.added)
    kernels.add_silu(arrays.inner, weights.hidden_bias[layer])
    np.dot(arrays.inner, weights.update[layer], arrays.added)
    kernels.add_rows(arrays.pattern, arrays.added)
    kernels.add_rows(arrays.pattern, weights.update_bias[layer])


def _matrix(weight: Float[Tensor, 'out inner']) -> Array:
    """Transpose the weight of a linear layer."""
    array: Array = weight.detach().mT.contiguous().numpy()
    return array


def _row(bias: Float[Tensor, ' out']) -> Array:
    array: Array = bias.detach()[None].contiguous().numpy()
    return array


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
