# SPDX-License-Identifier: Apache-2.0
"""Carry a fixed point over to the next observation: the Equivariant Correction Adapter.

Stage: prediction. Source: MotionDEQ, streaming: H = H* + MLP(H'), G = G* + W (G' - M(G')), where
(G', H') lift how far the last prediction was from what was then seen. Added here, as they say more
of where the fixed point has gone and cost next to nothing:
    * a learnt shift of the state along its own time axis, W_s G*, per model frame elapsed;
    * how the features of the observation changed, W_x dX_G + W_v dV and dX_H.
Each map acts on channels only, so the corrected state turns with the room.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from motion_predictor_ros.prediction.motion_deq.cell import State
from motion_predictor_ros.prediction.motion_deq.features import Features
from motion_predictor_ros.prediction.motion_deq.layers import centred, mix_channels, mlp

_LENGTH_M = 0.05
"""Deviations of this size fill the range of the invariant features [m]."""

_DEVIATION_PATTERNS = 8


@dataclass(frozen=True)
class Novelty:
    """What has changed since the fixed point that is to be carried over.

    Attributes:
        deviation: [m] last observed pose less what had been predicted for that time.
        elapsed: Time since the last observation, in frames of the model clock.
    """

    before: Features
    now: Features
    deviation: Float[Tensor, 'batch joint xyz=3']
    elapsed: Float[Tensor, ' batch']


class CorrectionAdapter(nn.Module):
    """Guess the next fixed point from the last one; untrained, it changes nothing."""

    def __init__(self, channels: int, patterns: int) -> None:
        super().__init__()
        self.shift = nn.Linear(channels, channels, bias=False)
        self.deviation = nn.Linear(2, channels, bias=False)
        self.geometry = nn.Linear(channels, channels, bias=False)
        self.velocity = nn.Linear(channels, channels, bias=False)
        self.lengths = nn.Linear(2, _DEVIATION_PATTERNS)
        self.pattern = mlp(3 * patterns + _DEVIATION_PATTERNS + 1, patterns, patterns)
        maps = (self.shift, self.deviation, self.geometry, self.velocity, self.pattern[2])
        for parameter in (each for last in maps for each in last.parameters()):
            nn.init.zeros_(parameter)

    def forward(self, state: State, news: Novelty) -> State:
        """Return where to start solving for the new observation."""
        # Each joint's own deviation, and what is left of it without that of the whole body.
        deviation = news.deviation[:, None]
        deviation = torch.cat([deviation, deviation - deviation.mean(2, keepdim=True)], dim=1)
        return State(self._geometry(state, news, deviation), self._pattern(state, news, deviation))

    def _geometry(
        self, state: State, news: Novelty, deviation: Float[Tensor, 'batch two joint xyz=3']
    ) -> Float[Tensor, 'batch channel joint xyz=3']:
        elapsed = news.elapsed[:, None, None, None]
        return (
            state.geometry
            + elapsed * mix_channels(self.shift.weight, centred(state.geometry))
            + mix_channels(self.deviation.weight, deviation)
            + mix_channels(self.geometry.weight, news.now.geometry - news.before.geometry)
            + mix_channels(self.velocity.weight, news.now.velocity - news.before.velocity)
        )

    def _pattern(
        self, state: State, news: Novelty, deviation: Float[Tensor, 'batch two joint xyz=3']
    ) -> Float[Tensor, 'batch joint pattern']:
        lengths = (deviation.square().sum(-1) + 1e-12).sqrt().transpose(1, 2) / _LENGTH_M
        elapsed = news.elapsed[:, None, None].expand(-1, state.pattern.shape[1], 1)
        change = news.now.pattern - news.before.pattern
        parts = [state.pattern, news.now.pattern, change, self.lengths(lengths), elapsed]
        return state.pattern + self.pattern(torch.cat(parts, dim=-1))
