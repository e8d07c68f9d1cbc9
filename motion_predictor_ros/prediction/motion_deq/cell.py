# SPDX-License-Identifier: Apache-2.0
"""The map f(z, x) whose fixed point is the prediction: injection, equivariant layers, a norm.

Stage: prediction. Source: MotionDEQ (EGFL, IPFL, F_EGI, F_IPI) on the layer of EqMotion.
Deviations, and why:
    * the state comes back scaled by `feedback`, the observation in full. At 1, as published,
      training stalled (docs/motion_deq.md); the maps that read the state can still scale it up.
    * G is divided per joint by sqrt(1 + rms_j^2 / rms(X_G)^2) and H passes a LayerNorm: without a
      bound on the state, training drifts away from contraction.
    * messages and aggregation are means over joints instead of sums: the same function up to the
      weights' scale, and it does not depend on how many joints a skeleton has.
"""

from dataclasses import dataclass, replace
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from motion_predictor_ros.prediction.motion_deq.layers import (
    Geometry,
    PairLinear,
    PairMix,
    PairModule,
    Patterns,
    centred,
    mix,
    mix_channels,
    mix_onto,
    mlp,
)
from motion_predictor_ros.runtime.tensors import TensorBatch

ACTING = 2
"""Edge categories that act; the others mean "no interaction"."""


@dataclass(frozen=True)
class State(TensorBatch):
    """z = (G, H): geometry relative to its mean, and invariant patterns."""

    geometry: Geometry
    pattern: Patterns


@dataclass(frozen=True)
class Condition(TensorBatch):
    """What f reads of the observation, computed once.

    Attributes:
        geometry: Phi (X_G - M(X_G)), the injected geometry.
        pattern: The part of F_IPI's first layer that reads X_H.
        velocity: W_vel V of all layers, concatenated.
        category: Of each ordered pair, those that act.
        scale: rms of X_G; the unit in which the state's geometry is bounded.
    """

    geometry: Geometry
    pattern: Patterns
    velocity: Float[Tensor, 'batch layer_channel joint xyz=3']
    category: Float[Tensor, 'batch acting joint joint']
    scale: Float[Tensor, ' batch']


class EquivariantLayer(PairModule):
    """EGFL and IPFL: one round of geometric and pattern learning."""

    def __init__(self, channels: int, patterns: int) -> None:
        super().__init__()
        self.pair_in = PairLinear(patterns, channels, (1 + ACTING) * patterns)
        self.message_out = PairMix(patterns, patterns)
        self.category_out = nn.Linear(ACTING * patterns, patterns, bias=False)
        self.category_bias = nn.Parameter(torch.zeros(patterns, ACTING))
        self.weight_out = PairMix(patterns, channels)
        self.attention = nn.Linear(patterns, channels)
        self.velocity = nn.Linear(channels, channels, bias=False)
        self.query = nn.Linear(channels, channels, bias=False)
        self.key = nn.Linear(channels, channels, bias=False)
        self.update = mlp(2 * patterns, patterns, patterns)
        nn.init.uniform_(self.weight_out.weight, -1e-2, 1e-2)

    def forward(self, state: State, condition: Condition) -> State:
        """Return the state after one round.

        With the first layers m_ij and c_ijk of the MLPs for messages and for category k, which
        read the same h_i, h_j and |g_i - g_j|:
            h_i <- h_i + MLP([h_i, mean_j silu(W_m silu(m_ij) + b_m)])
        """
        geometry, pattern = state.geometry, state.pattern
        width = pattern.shape[2]
        of_message, of_weight = self.pair_in.parts(
            pattern, self.edges(geometry), (width, ACTING * width)
        )
        moved = self.move(state, of_weight, condition)
        message = self._message(functional.silu(of_message), pattern)
        return State(moved, pattern + self.update(torch.cat([pattern, message], dim=-1)))

    def move(
        self, state: State, of_weight: Float[Tensor, 'batch _ pair'], condition: Condition
    ) -> Geometry:
        """Return the geometry after inner attention, aggregation and velocity.

            g_i <- phi(g_i + a_i (g_i - M(G)) + 1/J sum_j w_ij (g_i - g_j) + W_vel v_i)

        with attention a_i = silu(W_a h_i) and the nonlinearity phi of vectors.

        Args:
            of_weight: First layer of each acting category's MLP, before its nonlinearity.
        """
        geometry = state.geometry
        weight = self._weights(of_weight, condition.category).to(geometry.dtype)
        attention = functional.silu(self.attention(state.pattern)).transpose(1, 2)[..., None]
        moved = geometry + attention * centred(geometry)
        pulled = weight.sum(-1, keepdim=True) * geometry - weight @ geometry
        moved = moved + pulled / geometry.shape[2]
        return self._vector_nonlinearity(moved + condition.velocity)

    def _message(self, hidden: Float[Tensor, 'batch pattern pair'], pattern: Patterns) -> Patterns:
        """Return the mean message to each joint."""
        joints = pattern.shape[1]
        message = functional.silu(self.message_out(hidden)).unflatten(2, (joints, joints))
        # Not of a joint to itself.
        others = 1.0 - torch.eye(joints, dtype=message.dtype, device=message.device)
        total = (message * others).sum(3).to(pattern.dtype)
        return total.transpose(1, 2) / max(joints - 1, 1)

    def _weights(
        self,
        of_weight: Float[Tensor, 'batch _ pair'],
        category: Float[Tensor, 'batch acting joint joint'],
    ) -> Float[Tensor, 'batch channel joint joint']:
        """Return w_ij = W_w silu(sum_k x_ijk (W_k silu(c_ijk) + b_k)) + b_w, with categories x."""
        acting = category.flatten(2).to(of_weight.dtype)
        gated = functional.silu(of_weight).unflatten(1, (ACTING, -1)) * acting[:, :, None]
        bias = mix(self.category_bias, acting)
        mixed = mix_onto(bias, self.category_out.weight, gated.flatten(1, 2))
        return self.weight_out(functional.silu(mixed)).unflatten(2, category.shape[2:])

    def _vector_nonlinearity(self, geometry: Geometry) -> Geometry:
        """Return q - min(q.k, 0) / (|k|^2 + 1e-4) k + M of queries q and keys k."""
        mean = geometry.mean(dim=(1, 2), keepdim=True)
        query = mix_channels(self.query.weight, geometry - mean)
        key = mix_channels(self.key.weight, geometry - mean)
        along = (query * key).sum(-1, keepdim=True)
        against = along.clamp_max(0.0) / (key.square().sum(-1, keepdim=True) + 1e-4)
        return query - against * key + mean


class FixedPointCell(nn.Module):
    """f(z, x): inject the observation into the state, run the layers, bound the result.

    Attributes:
        recompute: Release each layer's graph and build it again for the gradient: less memory,
            more time.
    """

    recompute = False

    def __init__(
        self, channels: int, patterns: int, layers: int = 1, feedback: float = 1.0
    ) -> None:
        super().__init__()
        self.feedback = feedback
        self.inject_geometry = nn.Linear(channels, channels, bias=False)
        self.inject_state = nn.Linear(patterns, patterns, bias=False)
        self.inject_pattern = nn.Linear(patterns, patterns)
        self.inject_out = nn.Linear(patterns, patterns)
        self.layers = nn.ModuleList(EquivariantLayer(channels, patterns) for _ in range(layers))
        self.norm = nn.LayerNorm(patterns)

    def condition(
        self,
        geometry: Geometry,
        velocity: Geometry,
        pattern: Patterns,
        category: Float[Tensor, 'batch category joint joint'],
    ) -> Condition:
        """Compute what is constant while the fixed point is solved for."""
        relative = centred(geometry)
        return Condition(
            geometry=mix_channels(self.inject_geometry.weight, relative),
            pattern=self.inject_pattern(pattern),
            velocity=self.velocities(velocity),
            category=category[:, :ACTING],
            scale=relative.square().mean(dim=(1, 2, 3)).clamp_min(1e-12).sqrt(),
        )

    def velocities(self, velocity: Geometry) -> Float[Tensor, 'batch layer_channel joint xyz=3']:
        """Return W_vel V of all layers."""
        weights = torch.cat([layer.velocity.weight for layer in self._layers()])
        return mix_channels(weights, velocity)

    def forward(self, state: State, condition: Condition) -> State:
        """Evaluate f once."""
        raw = self.inject(state, condition)
        velocities = condition.velocity.chunk(len(self.layers), dim=1)
        for layer, velocity in zip(self._layers(), velocities, strict=True):
            raw = self._run(layer, raw, replace(condition, velocity=velocity))
        return State(self._bound(raw.geometry, condition.scale), self.norm(raw.pattern))

    def inject(self, state: State, condition: Condition) -> State:
        """Return (P, Q): the state with the observation in it (F_EGI, F_IPI)."""
        back = self.feedback * centred(state.geometry)
        geometry = mix_channels(self.inject_geometry.weight, back)
        pattern = self.inject_state(self.feedback * state.pattern) + condition.pattern
        pattern = functional.silu(pattern)
        return State(geometry + condition.geometry, self.inject_out(pattern))

    def _run(self, layer: EquivariantLayer, state: State, condition: Condition) -> State:
        if not (self.recompute and torch.is_grad_enabled()):
            return layer(state, condition)
        image: State
        image = checkpoint(layer, state, condition, use_reentrant=False, preserve_rng_state=False)
        return image

    def _layers(self) -> list[EquivariantLayer]:
        return cast(list[EquivariantLayer], list(self.layers))

    @staticmethod
    def _bound(geometry: Geometry, scale: Float[Tensor, ' batch']) -> Geometry:
        """Limit each joint's rms to `scale`, smoothly: G / sqrt(1 + rms_j^2 / scale^2)."""
        relative = centred(geometry)
        rms2 = relative.square().mean(dim=(1, 3), keepdim=True)
        return relative / torch.sqrt(1.0 + rms2 / scale[:, None, None, None].square())
