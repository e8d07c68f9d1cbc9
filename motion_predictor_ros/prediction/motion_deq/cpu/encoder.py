# SPDX-License-Identifier: Apache-2.0
"""The observation encoder for one person on a CPU.

Stage: prediction. Answers equal those of `MotionDEQ.condition` and `lift` to rounding. From
positions to X_G, to V and to W_vel V of each layer all is linear: transform in time, continuation
by the last frame and weights are one matrix. So are speeds and turns with the first layer of the
MLP that reads them. Edges are symmetric: products are computed for unordered pairs.
"""

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32
from torch import Tensor, nn
from torch.nn import functional

from motion_predictor_ros.prediction.motion_deq.cell import ACTING, EquivariantLayer
from motion_predictor_ros.prediction.motion_deq.cpu import kernels
from motion_predictor_ros.prediction.motion_deq.cpu.cell import (
    FusedCondition,
    Geometry,
    side_by_side,
    split_mlp,
)
from motion_predictor_ros.prediction.motion_deq.features import (
    EdgeCategories,
    GeometricFeatures,
    PatternFeatures,
)
from motion_predictor_ros.prediction.motion_deq.model import MotionDEQ

_MIN_DISTANCE = 1e-4
"""The distance of a joint from itself in `layers.pair_distances`."""


class FusedEncoder:
    """The encoder of a trained model with frozen weights."""

    @torch.no_grad()
    def __init__(self, module: MotionDEQ) -> None:
        """Fold the weights; the model must be in float32 and on the CPU."""
        config, cell = module.config, module.cell
        layers = [layer for layer in cell.layers if isinstance(layer, EquivariantLayer)]
        self._series = _FusedSeries(module.geometric, layers, config.past)
        self._patterns = _FusedPatterns(module.patterns)
        self._categories = _FusedCategories(module.categories, config.joints)
        self._inject_geometry = cell.inject_geometry.weight.mT.contiguous()
        self._inject_pattern = cell.inject_pattern.weight.mT.contiguous()
        self._inject_bias = cell.inject_pattern.bias

    def encode(
        self,
        positions: Float32[np.ndarray, 'time joint xyz=3'],
        visible: Bool[Tensor, ' joint'] | None,
    ) -> FusedCondition:
        """Return what f needs of observed positions [m].

        Args:
            visible: None: all joints.
        """
        relative, pace = _observe(positions)
        series, pattern = self._series(relative), self._patterns(pace, visible)
        geometry, velocity = series[:, :, 0], series[:, :, 1]
        # rms(X_G), as in `FixedPointCell.condition`
        scale = max(float(np.square(geometry, dtype=np.float64).mean()), 1e-12) ** 0.5
        edges = np.ascontiguousarray(np.concatenate([geometry, velocity], axis=2))
        return FusedCondition(
            (torch.from_numpy(geometry).flatten(0, 1) @ self._inject_geometry).numpy(),
            torch.addmm(self._inject_bias, pattern, self._inject_pattern).numpy(),
            np.ascontiguousarray(series[:, :, 2:].transpose(2, 0, 1, 3)),
            self._categories(edges, pattern).numpy(),
            scale,
        )

    def lift(
        self,
        positions: Float32[np.ndarray, 'time joint xyz=3'],
        visible: Bool[Tensor, ' joint'] | None,
    ) -> tuple[Geometry, Float[Tensor, 'joint pattern']]:
        """Return z_0: the features of a person standing still in the last pose."""
        still = np.ascontiguousarray(np.broadcast_to(positions[-1], positions.shape))
        relative, pace = _observe(still)
        return np.ascontiguousarray(self._series(relative)[:, :, 0]), self._patterns(pace, visible)


def _observe(
    positions: Float32[np.ndarray, 'time joint xyz=3'],
) -> tuple[Float32[np.ndarray, 'joint xyz=3 time'], Float32[Tensor, 'joint two_time']]:
    """Return positions about their mean [m]; speeds and turns of each joint."""
    frames, joints, _ = positions.shape
    relative, pace = (np.empty((joints, axes, frames), np.float32) for axes in (3, 2))
    kernels.observe(positions, relative, pace)
    return relative, torch.from_numpy(pace).flatten(1)


class _FusedSeries:
    """`GeometricFeatures`, and W_vel of each layer applied to V."""

    def __init__(
        self, features: GeometricFeatures, layers: list[EquivariantLayer], past: int
    ) -> None:
        frames = features.dct.shape[0]
        padded = torch.eye(past, dtype=torch.float64)
        padded = torch.cat([padded, padded[-1:].expand(frames - past, -1)])
        steps = padded.diff(dim=0)
        dct = features.dct.double()
        positions, paces = dct @ padded, dct @ torch.cat([steps[:1], steps])
        weight, velocity = features.position.weight.double(), features.velocity.weight.double()
        maps = [weight @ positions, velocity @ paces]
        maps += [layer.velocity.weight.double() @ velocity @ paces for layer in layers]
        self._maps = side_by_side(*maps).float()
        self._mean_weights = positions.mean(dim=0).float().numpy()
        self._row_sums = weight.sum(dim=1).float().numpy()

    def __call__(
        self, relative: Float32[np.ndarray, 'joint xyz=3 time']
    ) -> Float32[np.ndarray, 'joint xyz=3 part channel']:
        """Return X_G - M(X_G), V and W_vel V of each layer.

        `GeometricFeatures` subtracts M(X~) of the transformed positions X~ before W_x. Here
            W_x (X~ - M(X~)) = W_x X~ - rowsum(W_x) M(X~)
        """
        joints, channels = len(relative), len(self._row_sums)
        series = torch.mm(torch.from_numpy(relative).flatten(0, 1), self._maps).numpy()
        series = series.reshape(joints, 3, -1, channels)
        mean = (relative @ self._mean_weights).mean(axis=0)
        geometry = series[:, :, 0]
        geometry -= mean[:, None] * self._row_sums
        geometry -= geometry.mean(axis=(0, 2))[:, None]
        return series


class _FusedPatterns:
    """`PatternFeatures`."""

    def __init__(self, features: PatternFeatures) -> None:
        first, _, second = features.mix
        assert isinstance(first, nn.Linear) and isinstance(second, nn.Linear)
        half = features.speed.out_features
        of_speed, of_turn, of_identity = first.weight.split(
            [half, half, features.identity.shape[1]], dim=1
        )
        self._of_pace = side_by_side(
            torch.cat([of_speed @ features.speed.weight, of_turn @ features.turn.weight], dim=1)
        )
        bias = first.bias + of_speed @ features.speed.bias + of_turn @ features.turn.bias
        self._bias = bias + features.identity @ of_identity.mT
        self._unseen = None if features.unseen is None else features.unseen @ of_identity.mT
        self._second, self._second_bias = second.weight.mT.contiguous(), second.bias

    def __call__(
        self, pace: Float32[Tensor, 'joint two_time'], visible: Bool[Tensor, ' joint'] | None
    ) -> Float[Tensor, 'joint pattern']:
        """Return X_H."""
        bias = self._bias
        if self._unseen is not None and visible is not None:
            bias = bias + torch.where(visible[:, None], 0.0, self._unseen)
        hidden = torch.addmm(bias, pace, self._of_pace)
        functional.silu(hidden, inplace=True)
        return torch.addmm(self._second_bias, hidden, self._second)


class _FusedCategories:
    """`EdgeCategories`, of those categories that act."""

    def __init__(self, categories: EdgeCategories, joints: int) -> None:
        low, high = torch.triu_indices(joints, joints, 1)
        unordered = torch.empty(joints, joints, dtype=torch.int64)
        unordered[low, high] = unordered[high, low] = torch.arange(len(low))
        apart = ~torch.eye(joints, dtype=torch.bool)
        self._unordered = unordered[apart]  # of each ordered pair (i, j)
        self._others = torch.arange(joints).expand(joints, -1)[apart]  # j
        message, pair = categories.message_in, categories.pair_in
        self._distance = categories.distance.weight.mT.contiguous()
        self._distance_bias = categories.distance.bias
        self._edge = message.edge.weight.mT.contiguous()
        alone = categories.distance.weight.sum(dim=1) * _MIN_DISTANCE + categories.distance.bias
        self._self_edge = message.edge.weight @ functional.silu(alone)
        self._sides = [
            side_by_side(part.receiver.weight, part.sender.weight) for part in (message, pair)
        ]
        self._sides_bias = [
            torch.cat([part.receiver.bias, torch.zeros_like(part.receiver.bias)])
            for part in (message, pair)
        ]
        self._node = split_mlp(categories.node)
        self._pair_edge = pair.edge.weight.mT.contiguous()
        self._out = categories.out.weight.mT.contiguous()
        self._out_bias = categories.out.bias

    def __call__(
        self, edge_features: Geometry, pattern: Float[Tensor, 'joint pattern']
    ) -> Float[Tensor, 'pair acting']:
        """Return the categories of each ordered pair.

        Args:
            edge_features: X_G and V, side by side.
        """
        distances = pattern.new_empty(len(self._others) // 2, edge_features.shape[2])
        kernels.pair_distances(edge_features, distances.numpy())
        edges = torch.addmm(self._distance_bias, distances, self._distance)
        edges = torch.mm(functional.silu(edges, inplace=True), self._edge)
        sides = torch.addmm(self._sides_bias[0], pattern, self._sides[0])
        hidden = self._hidden(sides, edges)
        # The mean message, that of a joint to itself included.
        receiver, sender = sides.chunk(2, dim=1)
        to_self = functional.silu(self._self_edge + receiver + sender)
        message = (hidden.sum(dim=1) + to_self) / len(to_self)
        of_pattern, of_message, bias, second, second_bias = self._node
        hidden = torch.addmm(bias, pattern, of_pattern).addmm_(message, of_message)
        node = torch.addmm(second_bias, functional.silu(hidden, inplace=True), second)
        sides = torch.addmm(self._sides_bias[1], node, self._sides[1])
        hidden = self._hidden(sides, distances @ self._pair_edge)
        logits = torch.addmm(self._out_bias, hidden.flatten(0, 1), self._out)
        return logits.softmax(dim=1)[:, :ACTING].contiguous()

    def _hidden(
        self, sides: Float[Tensor, 'joint sides'], edges: Float[Tensor, 'unordered width']
    ) -> Float[Tensor, 'joint joint-1 width']:
        """Return silu(a_i + b_j + e_ij) of ordered pairs, with sides (a, b) and e_ij = e_ji."""
        receiver, sender = sides.chunk(2, dim=1)
        sums = edges.index_select(0, self._unordered)
        sums += sender.index_select(0, self._others)
        sums = sums.view(len(sides), -1, sums.shape[1])
        sums += receiver[:, None]
        return functional.silu(sums, inplace=True)
