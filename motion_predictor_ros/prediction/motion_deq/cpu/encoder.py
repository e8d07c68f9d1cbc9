# SPDX-License-Identifier: Apache-2.0
"""What f needs of an observation, for one person as inference runs it on a CPU.

Stage: prediction. The answers are those of `MotionDEQ.condition` and `lift` to rounding. From
positions to X_G, to V and to W_vel V of each layer all is linear: the transform in time, the
continuation by the last frame and the weights are one matrix. So are speeds and turns with the
first layer of the MLP that reads them. Edges are the same both ways: half of each product.
"""

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32
from torch import Tensor, nn
from torch.nn import functional

from motion_predictor_ros.prediction.motion_deq.cell import ACTING, EquivariantLayer
from motion_predictor_ros.prediction.motion_deq.cpu import encoder_kernels as kernels
from motion_predictor_ros.prediction.motion_deq.cpu.cell import (
    FusedCondition,
    Workspace,
    side_by_side,
    split_mlp,
)
from motion_predictor_ros.prediction.motion_deq.cpu.cell_kernels import pair_distances
from motion_predictor_ros.prediction.motion_deq.features import (
    EdgeCategories,
    GeometricFeatures,
    PatternFeatures,
)
from motion_predictor_ros.prediction.motion_deq.model import MotionDEQ

_LEAST_M = 1e-4
"""The distance of a joint from itself, as `layers.pair_distances` has it [m]."""


class FusedEncoder:
    """The encoder of a trained model whose weights will not change any more."""

    @torch.no_grad()
    def __init__(self, module: MotionDEQ) -> None:
        """Fold the weights; the model must be in float32 and on the CPU."""
        config, cell = module.config, module.cell
        layers = [each for each in cell.layers if isinstance(each, EquivariantLayer)]
        self._series = _FusedSeries(module.geometric, layers, config.past)
        self._patterns = _FusedPatterns(module.patterns)
        self._categories = _FusedCategories(module.categories)
        self._inject_geometry = cell.inject_geometry.weight.mT.contiguous()
        self._inject_pattern = cell.inject_pattern.weight.mT.contiguous()
        self._inject_bias = cell.inject_pattern.bias
        self._workspace = _EncoderWorkspace(
            config.joints, config.past, config.channels, config.patterns, config.categories
        )
        shape = config.joints, 3, config.channels
        self._shapes = shape, (len(layers), *shape)

    def encode(
        self,
        positions: Float32[np.ndarray, 'time joint xyz=3'],
        seen: Bool[Tensor, ' joint'] | None,
    ) -> FusedCondition:
        """Return what f needs of what was observed [m].

        Args:
            seen: Which joints were; None: all of them.
        """
        workspace = self._workspace
        geometry, velocity = (np.empty(each, np.float32) for each in self._shapes)
        scale = self._series(workspace, positions, geometry, velocity)
        pattern = self._patterns(workspace, seen)
        return FusedCondition(
            torch.mm(torch.from_numpy(geometry).flatten(0, 1), self._inject_geometry),
            torch.addmm(self._inject_bias, pattern, self._inject_pattern),
            velocity,
            self._categories(workspace, pattern),
            scale,
        )

    def lift(
        self,
        positions: Float32[np.ndarray, 'time joint xyz=3'],
        seen: Bool[Tensor, ' joint'] | None,
    ) -> tuple[Float32[np.ndarray, 'joint xyz=3 channel'], Float[Tensor, 'joint pattern']]:
        """Return z_0 of somebody standing still in the last pose."""
        geometry, velocity = (np.empty(each, np.float32) for each in self._shapes)
        still = np.ascontiguousarray(np.broadcast_to(positions[-1], positions.shape))
        self._series(self._workspace, still, geometry, velocity)
        return geometry, self._patterns(self._workspace, seen)


class _EncoderWorkspace(Workspace):
    """Where the intermediates of the encoder stand."""

    def __init__(
        self, joints: int, past: int, channels: int, patterns: int, categories: int
    ) -> None:
        super().__init__()
        twins = joints * (joints - 1) // 2
        self.relative = self.array('relative', joints, 3, past)
        self.pace = self.array('pace', joints, 2, past, columns=2)
        self.both = self.array('both', joints, 3, 2, channels, columns=2)
        self.distances = self.array('distances', twins, 2 * channels)
        self.nodes = self.array('nodes', joints, 2, patterns, columns=2)
        self.told = self.array('told', joints, patterns)
        self.hidden = self.array('hidden', joints, joints - 1, patterns)
        self.shares = self.array('shares', joints, joints - 1, categories)


class _FusedSeries:
    """`GeometricFeatures`, and W_vel of each layer upon them."""

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
        maps += [each.velocity.weight.double() @ velocity @ paces for each in layers]
        self._maps = side_by_side(*maps).float()
        self._lean = positions.mean(dim=0).float().numpy()
        self._heavy = weight.sum(dim=1).float().numpy()

    def __call__(
        self,
        workspace: _EncoderWorkspace,
        positions: Float32[np.ndarray, 'time joint xyz=3'],
        geometry: Float32[np.ndarray, 'joint xyz=3 channel'],
        velocity: Float32[np.ndarray, 'layer joint xyz=3 channel'],
    ) -> float:
        """Write X_G - M(X_G) and W_vel V of each layer; return rms(X_G).

        The room has X_G and V side by side then, and the pace of each joint.
        """
        kernels.series(positions, workspace.relative, workspace.pace)
        raw = torch.mm(workspace.of['relative'], self._maps).numpy()
        raw = raw.reshape(*geometry.shape[:2], -1, geometry.shape[2])
        lean, heavy = self._lean, self._heavy
        return float(
            kernels.share_out(
                raw, workspace.relative, lean, heavy, geometry, workspace.both, velocity
            )
        )


class _FusedPatterns:
    """`PatternFeatures`."""

    def __init__(self, features: PatternFeatures) -> None:
        first, _, second = features.mix
        assert isinstance(first, nn.Linear) and isinstance(second, nn.Linear)
        half = features.speed.out_features
        of_speed, of_turn, of_identity = first.weight.split(
            [half, half, features.identity.shape[1]], dim=1
        )
        self._load_shedder = side_by_side(
            torch.cat([of_speed @ features.speed.weight, of_turn @ features.turn.weight], dim=1)
        )
        bias = first.bias + of_speed @ features.speed.bias + of_turn @ features.turn.bias
        self._bias = bias + features.identity @ of_identity.mT
        self._unseen = None if features.unseen is None else features.unseen @ of_identity.mT
        self._second, self._second_bias = second.weight.mT.contiguous(), second.bias

    def __call__(
        self, workspace: _EncoderWorkspace, seen: Bool[Tensor, ' joint'] | None
    ) -> Float[Tensor, 'joint pattern']:
        """Return X_H, by the pace in the room."""
        bias = self._bias
        if self._unseen is not None and seen is not None:
            bias = bias + torch.where(seen[:, None], 0.0, self._unseen)
        hidden = torch.addmm(bias, workspace.of['pace'], self._load_shedder)
        functional.silu(hidden, inplace=True)
        return torch.addmm(self._second_bias, hidden, self._second)


class _FusedCategories:
    """`EdgeCategories`, of those categories that act."""

    def __init__(self, categories: EdgeCategories) -> None:
        message, pair = categories.message_in, categories.pair_in
        self._distance = categories.distance.weight.mT.contiguous()
        self._distance_bias = categories.distance.bias
        self._edge = message.edge.weight.mT.contiguous()
        alone = categories.distance.weight.sum(dim=1) * _LEAST_M + categories.distance.bias
        self._own = (message.edge.weight @ functional.silu(alone)).numpy()
        self._sides = [
            side_by_side(each.receiver.weight, each.sender.weight) for each in (message, pair)
        ]
        self._sides_bias = [
            torch.cat([each.receiver.bias, torch.zeros_like(each.receiver.bias)])
            for each in (message, pair)
        ]
        self._node = split_mlp(categories.node)
        self._pair_edge = pair.edge.weight.mT.contiguous()
        self._out = categories.out.weight.mT.contiguous()
        self._out_bias = categories.out.bias.numpy()

    def __call__(
        self, workspace: _EncoderWorkspace, pattern: Float[Tensor, 'joint pattern']
    ) -> Float32[np.ndarray, 'joint joint-1 acting']:
        """Return the categories of each ordered pair, by X_G and V in the room."""
        of, joints = workspace.of, len(pattern)
        pair_distances(workspace.both.reshape(joints, 3, -1), workspace.distances)
        edges = torch.addmm(self._distance_bias, of['distances'], self._distance)
        edges = torch.mm(functional.silu(edges, inplace=True), self._edge)
        torch.addmm(self._sides_bias[0], pattern, self._sides[0], out=of['nodes'])
        kernels.gather_edges(edges.numpy(), self._own, workspace.nodes, workspace.told)
        one, other, bias, second, second_bias = self._node
        hidden = torch.addmm(bias, pattern, one).addmm_(of['told'], other)
        node = torch.addmm(second_bias, functional.silu(hidden, inplace=True), second)
        torch.addmm(self._sides_bias[1], node, self._sides[1], out=of['nodes'])
        edges = torch.mm(of['distances'], self._pair_edge)
        kernels.hidden_edges(edges.numpy(), workspace.nodes, workspace.hidden)
        torch.mm(of['hidden'], self._out, out=of['shares'])
        acting = np.empty((joints, joints - 1, ACTING), np.float32)
        kernels.acting_shares(workspace.shares, self._out_bias, acting)
        return acting
