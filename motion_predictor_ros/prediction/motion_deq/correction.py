# SPDX-License-Identifier: Apache-2.0
"""Predict the next fixed point from the last one: the Equivariant Correction Adapter.

Stage: prediction. Source: MotionDEQ, streaming: H = H* + MLP(H'), G = G* + W (G' - M(G')), where
(G', H') lift the deviation of the new observation from the last prediction. Added here:
    * a trained shift of the state along its own time axis, W_s G*, per model frame elapsed;
    * the change of the features of the observation, W_x dX_G + W_v dV and dX_H.
Each map acts on channels only, so the corrected state is equivariant.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from motion_predictor_ros.prediction.motion_deq.cell import State
from motion_predictor_ros.prediction.motion_deq.features import Features
from motion_predictor_ros.prediction.motion_deq.layers import (
    Geometry,
    Patterns,
    centred,
    mix_channels,
    mlp,
)

_LENGTH_M = 0.05
"""Deviations of this size fill the range of the invariant features [m]."""

_DEVIATION_PATTERNS = 8


@dataclass(frozen=True)
class Innovation:
    """Changes since the last fixed point.

    Attributes:
        deviation: [m] last observed pose less what had been predicted for that time.
        before, now: Features of the last and of the new observation.
        elapsed: Time between them, in frames of the model clock.
    """

    before: Features
    now: Features
    deviation: Float[Tensor, 'batch joint xyz=3']
    elapsed: Float[Tensor, ' batch']


class CorrectionAdapter(nn.Module):
    """Predicts the next fixed point; untrained, it returns the last one."""

    def __init__(self, channels: int, patterns: int) -> None:
        super().__init__()
        self.shift = nn.Linear(channels, channels, bias=False)
        self.deviation = nn.Linear(2, channels, bias=False)
        self.geometry = nn.Linear(channels, channels, bias=False)
        self.velocity = nn.Linear(channels, channels, bias=False)
        self.lengths = nn.Linear(2, _DEVIATION_PATTERNS)
        self.pattern = mlp(3 * patterns + _DEVIATION_PATTERNS + 1, patterns, patterns)
        maps = (self.shift, self.deviation, self.geometry, self.velocity, self.pattern[2])
        for parameter in (p for module in maps for p in module.parameters()):
            nn.init.zeros_(parameter)

    def forward(self, state: State, innovation: Innovation) -> State:
        """Return the initial state for the new observation."""
        # Of each joint, and of each joint relative to the whole body.
        deviation = innovation.deviation[:, None]
        deviation = torch.cat([deviation, deviation - deviation.mean(2, keepdim=True)], dim=1)
        return State(
            self._geometry(state, innovation, deviation),
            self._pattern(state, innovation, deviation),
        )

    def _geometry(
        self,
        state: State,
        innovation: Innovation,
        deviation: Float[Tensor, 'batch two joint xyz=3'],
    ) -> Geometry:
        elapsed = innovation.elapsed[:, None, None, None]
        return (
            state.geometry
            + elapsed * mix_channels(self.shift.weight, centred(state.geometry))
            + mix_channels(self.deviation.weight, deviation)
            + mix_channels(
                self.geometry.weight, innovation.now.geometry - innovation.before.geometry
            )
            + mix_channels(
                self.velocity.weight, innovation.now.velocity - innovation.before.velocity
            )
        )

    def _pattern(
        self,
        state: State,
        innovation: Innovation,
        deviation: Float[Tensor, 'batch two joint xyz=3'],
    ) -> Patterns:
        lengths = (deviation.square().sum(-1) + 1e-12).sqrt().transpose(1, 2) / _LENGTH_M
        elapsed = innovation.elapsed[:, None, None].expand(-1, state.pattern.shape[1], 1)
        change = innovation.now.pattern - innovation.before.pattern
        parts = [state.pattern, innovation.now.pattern, change, self.lengths(lengths), elapsed]
        return state.pattern + self.pattern(torch.cat(parts, dim=-1))
