# SPDX-License-Identifier: Apache-2.0
"""The observation encoder for one person on a CPU.

Stage: prediction. Answers equal those of `MotionDEQ.condition` and `lift` to rounding. From
positions to X_G, to V and to W_vel V of each layer all is linear: transform in time, continuation
by the last frame and weights are one matrix. So are speeds and turns with the first layer of the
MLP that reads them. Edges are symmetric: products are computed for unordered pairs.
"""

import threading

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
        self._categories = _FusedCategories(module.categories)
        self._inject_geometry = cell.inject_geometry.weight.mT.contiguous()
        self._inject_pattern = cell.inject_pattern.weight.mT.contiguous()
        self._inject_bias = cell.inject_pattern.bias
        self._workspace = _EncoderWorkspace(
            config.joints, config.past, config.channels, config.patterns
        )

    def encode(
        self,
        positions: Float32[np.ndarray, 'time joint xyz=3'],
        visible: Bool[Tensor, ' joint'] | None,
    ) -> FusedCondition:
        """Return what f needs of observed positions [m].

        Args:
            visible: None: all joints.
        """
        workspace = self._workspace
        series = self._series(workspace, positions)
        geometry, velocity = series[:, :, 0], series[:, :, 1]
        pattern = self._patterns(workspace, visible)
        # rms(X_G), as in `FixedPointCell.condition`
        scale = max(float(np.square(geometry, dtype=np.float64).mean()), 1e-12) ** 0.5
        edges = np.ascontiguousarray(np.concatenate([geometry, velocity], axis=2))
        return FusedCondition(
            (torch.from_numpy(geometry).flatten(0, 1) @ self._inject_geometry).numpy(),
            torch.addmm(self._inject_bias, pattern, self._inject_pattern).numpy(),
            np.ascontiguousarray(series[:, :, 2:].transpose(2, 0, 1, 3)),
            self._categories(workspace, edges, pattern).numpy(),
            scale,
        )

    def lift(
        self,
        positions: Float32[np.ndarray, 'time joint xyz=3'],
        visible: Bool[Tensor, ' joint'] | None,
    ) -> tuple[Geometry, Float[Tensor, 'joint pattern']]:
        """Return z_0: the features of a person standing still in the last pose."""
        still = np.ascontiguousarray(np.broadcast_to(positions[-1], positions.shape))
        geometry = np.ascontiguousarray(self._series(self._workspace, still)[:, :, 0])
        return geometry, self._patterns(self._workspace, visible)


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


class _EncoderWorkspace(Workspace):
    """Intermediates of the encoder."""

    def __init__(self, joints: int, past: int, channels: int, patterns: int) -> None:
        super().__init__()
        pairs = joints * (joints - 1) // 2
        self.relative = self.array('relative', joints, 3, past)
        self.pace = self.array('pace', joints, 2, past, columns=2)
        self.distances = self.array('distances', pairs, 2 * channels)
        self.nodes = self.array('nodes', joints, 2, patterns, columns=2)
        self.hidden = self.array('hidden', joints, joints - 1, patterns)
        self.hidden_by_joint = self.of['hidden'].view(joints, joints - 1, patterns)


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
        self, workspace: _EncoderWorkspace, positions: Float32[np.ndarray, 'time joint xyz=3']
    ) -> Float32[np.ndarray, 'joint xyz=3 part channel']:
        """Return X_G - M(X_G), V and W_vel V of each layer.

        `GeometricFeatures` subtracts M(X~) of the transformed positions X~ before W_x. Here
            W_x (X~ - M(X~)) = W_x X~ - rowsum(W_x) M(X~)
        Leaves the pace of each joint in the workspace.
        """
        kernels.observe(positions, workspace.relative, workspace.pace)
        joints, channels = len(workspace.relative), len(self._row_sums)
        series = torch.mm(workspace.of['relative'], self._maps).numpy()
        series = series.reshape(joints, 3, -1, channels)
        mean = (workspace.relative @ self._mean_weights).mean(axis=0)
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
        self, workspace: _EncoderWorkspace, visible: Bool[Tensor, ' joint'] | None
    ) -> Float[Tensor, 'joint pattern']:
        """Return X_H from the pace in the workspace."""
        bias = self._bias
        if self._unseen is not None and visible is not None:
            bias = bias + torch.where(visible[:, None], 0.0, self._unseen)
        hidden = torch.addmm(bias, workspace.of['pace'], self._of_pace)
        functional.silu(hidden, inplace=True)
        return torch.addmm(self._second_bias, hidden, self._second)


class _FusedCategories:
    """`EdgeCategories`, of those categories that act."""

    def __init__(self, categories: EdgeCategories) -> None:
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
        self,
        workspace: _EncoderWorkspace,
        edge_features: Geometry,
        pattern: Float[Tensor, 'joint pattern'],
    ) -> Float[Tensor, 'pair acting']:
        """Return the categories of each ordered pair.

        Args:
            edge_features: X_G and V, side by side.
        """
        of = workspace.of
        kernels.pair_distances(edge_features, workspace.distances)
        edges = torch.addmm(self._distance_bias, of['distances'], self._distance)
        edges = torch.mm(functional.silu(edges, inplace=True), self._edge)
        torch.addmm(self._sides_bias[0], pattern, self._sides[0], out=of['nodes'])
        kernels.pair_sums(edges.numpy(), workspace.nodes, workspace.hidden)
        functional.silu(of['hidden'], inplace=True)
        # The mean message, that of a joint to itself included.
        receiver, sender = of['nodes'].chunk(2, dim=1)
        to_self = functional.silu(self._self_edge + receiver + sender)
        message = (workspace.hidden_by_joint.sum(dim=1) + to_self) / len(to_self)
        of_pattern, of_message, bias, second, second_bias = self._node
        hidden = torch.addmm(bias, pattern, of_pattern).addmm_(message, of_message)
        node = torch.addmm(second_bias, functional.silu(hidden, inplace=True), second)
        torch.addmm(self._sides_bias[1], node, self._sides[1], out=of['nodes'])
        edges = torch.mm(of['distances'], self._pair_edge)
        kernels.pair_sums(edges.numpy(), workspace.nodes, workspace.hidden)
        functional.silu(of['hidden'], inplace=True)
        logits = torch.addmm(self._out_bias, of['hidden'], self._out)
        return logits.softmax(dim=1)[:, :ACTING].contiguous()
