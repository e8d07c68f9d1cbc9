# SPDX-License-Identifier: Apache-2.0
"""The map f(z, x) whose fixed point is the prediction: injection, one equivariant layer, a norm.

Stage: prediction. Source: MotionDEQ (EGFL, IPFL, F_EGI, F_IPI) on the layer of EqMotion.
Deviations, and why:
    * G is divided per joint by sqrt(1 + rms_j^2 / rms(X_G)^2) and H passes a LayerNorm: without a
      bound on the state, training drifts away from contraction.
    * messages and aggregation are means over joints instead of sums: the same function up to the
      weights' scale, and it does not depend on how many joints a skeleton has.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from motion_predictor_ros.prediction.layers import (
    PairLinear,
    PairMix,
    centred,
    mix,
    mix_channels,
    mlp,
    pair_distances,
)

ACTING = 2
"""Edge categories that act; the others mean "no interaction"."""


@dataclass(frozen=True)
class State:
    """z = (G, H): geometry relative to its mean, and invariant patterns."""

    geometry: Float[Tensor, 'batch channel joint xyz=3']
    pattern: Float[Tensor, 'batch joint pattern']


@dataclass(frozen=True)
class Condition:
    """What every evaluation of f needs of the observation, computed once.

    Attributes:
        geometry: Phi (X_G - M(X_G)), the injected geometry.
        pattern: The part of F_IPI's first layer that sees X_H.
        velocity: W_vel V.
        category: Of each ordered pair, only the acting ones.
        scale: rms of X_G; the unit in which the state's geometry is bounded.
    """

    geometry: Float[Tensor, 'batch channel joint xyz=3']
    pattern: Float[Tensor, 'batch joint pattern']
    velocity: Float[Tensor, 'batch channel joint xyz=3']
    category: Float[Tensor, 'batch acting joint joint']
    scale: Float[Tensor, ' batch']


class EquivariantLayer(nn.Module):
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
        """Return the state after one round."""
        geometry, pattern = state.geometry, state.pattern
        message, weight = self._pairs(geometry, pattern, condition.category)
        attention = functional.silu(self.attention(pattern)).transpose(1, 2)[..., None]
        moved = geometry + attention * centred(geometry)
        moved = moved + weight.sum(-1, keepdim=True) * geometry - weight @ geometry
        moved = self._vector_nonlinearity(moved + condition.velocity)
        pattern = pattern + self.update(torch.cat([pattern, message], dim=-1))
        return State(moved, pattern)

    def _pairs(
        self,
        geometry: Float[Tensor, 'batch channel joint xyz=3'],
        pattern: Float[Tensor, 'batch joint pattern'],
        category: Float[Tensor, 'batch acting joint joint'],
    ) -> tuple[Float[Tensor, 'batch joint pattern'], Float[Tensor, 'batch channel joint joint']]:
        """Return the mean message to each joint and the aggregation weights w_ij.

        The message MLP and the MLP of each category see the same inputs: one first layer serves
        them all.
        """
        joints, width = pattern.shape[1:]
        distance = pair_distances(geometry).flatten(2)
        hidden = functional.silu(self.pair_in(pattern, distance))
        of_message, of_category = hidden.split([width, ACTING * width], dim=1)
        message = functional.silu(self.message_out(of_message))
        # The pair (i, i) says nothing of another joint.
        others = 1.0 - torch.eye(joints, dtype=message.dtype, device=message.device)
        message = (message.unflatten(2, (joints, joints)) * others).sum(3)
        acting = category.flatten(2)
        gated = of_category.unflatten(1, (ACTING, width)) * acting[:, :, None]
        mixed = mix(self.category_out.weight, gated.flatten(1, 2))
        mixed = functional.silu(mixed + mix(self.category_bias, acting))
        weight = self.weight_out(mixed).unflatten(2, (joints, joints)) / joints
        return message.transpose(1, 2) / max(joints - 1, 1), weight

    def _vector_nonlinearity(
        self, geometry: Float[Tensor, 'batch channel joint xyz=3']
    ) -> Float[Tensor, 'batch channel joint xyz=3']:
        """Remove from each query the part that points against its key."""
        mean = geometry.mean(dim=(1, 2), keepdim=True)
        query = mix_channels(self.query.weight, geometry - mean)
        key = mix_channels(self.key.weight, geometry - mean)
        along = (query * key).sum(-1, keepdim=True)
        against = along.clamp_max(0.0) / (key.square().sum(-1, keepdim=True) + 1e-4)
        return query - against * key + mean


class FixedPointCell(nn.Module):
    """f(z, x): inject the observation into the state, run the layer, bound the result."""

    def __init__(self, channels: int, patterns: int) -> None:
        super().__init__()
        self.inject_geometry = nn.Linear(channels, channels, bias=False)
        self.inject_state = nn.Linear(patterns, patterns, bias=False)
        self.inject_pattern = nn.Linear(patterns, patterns)
        self.inject_out = nn.Linear(patterns, patterns)
        self.layer = EquivariantLayer(channels, patterns)
        self.norm = nn.LayerNorm(patterns)

    def condition(
        self,
        geometry: Float[Tensor, 'batch channel joint xyz=3'],
        velocity: Float[Tensor, 'batch channel joint xyz=3'],
        pattern: Float[Tensor, 'batch joint pattern'],
        category: Float[Tensor, 'batch category joint joint'],
    ) -> Condition:
        """Compute what does not change while the fixed point is sought."""
        relative = centred(geometry)
        return Condition(
            geometry=mix_channels(self.inject_geometry.weight, relative),
            pattern=self.inject_pattern(pattern),
            velocity=mix_channels(self.layer.velocity.weight, velocity),
            category=category[:, :ACTING],
            scale=relative.square().mean(dim=(1, 2, 3)).clamp_min(1e-12).sqrt(),
        )

    def forward(self, state: State, condition: Condition) -> State:
        """Evaluate f once."""
        geometry = mix_channels(self.inject_geometry.weight, centred(state.geometry))
        pattern = functional.silu(self.inject_state(state.pattern) + condition.pattern)
        injected = State(geometry + condition.geometry, self.inject_out(pattern))
        raw = self.layer(injected, condition)
        return State(self._bound(raw.geometry, condition.scale), self.norm(raw.pattern))

    @staticmethod
    def _bound(
        geometry: Float[Tensor, 'batch channel joint xyz=3'], scale: Float[Tensor, ' batch']
    ) -> Float[Tensor, 'batch channel joint xyz=3']:
        """Limit each joint's rms to `scale`, smoothly: G / sqrt(1 + rms_j^2 / scale^2)."""
        relative = centred(geometry)
        rms2 = relative.square().mean(dim=(1, 3), keepdim=True)
        return relative / torch.sqrt(1.0 + rms2 / scale[:, None, None, None].square())
