# SPDX-License-Identifier: Apache-2.0
"""MotionDEQ: the predicted motion is decoded from the fixed point of equivariant layers.

Stage: prediction. Source: "Progressive Guessing to Fixed Point: Rethinking Human Motion Prediction
with Deep Equilibrium Models" (CVPR 2026), on the backbone of EqMotion (CVPR 2023).
    observe    x = {X_G, X_H, V}, the features of the observation
    condition  the edge categories X_C and all of f that depends on x alone
    solve      z* = f(z*, x), Anderson mixing from z_0 = F_DL(last frame) or from an earlier z*
    decode     Y = X_last + iDCT(W_o (G - M(G)))
Each part is equivariant (theorem 1): a rotation or translation of the input is one of Y.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from motion_predictor_ros.config import param
from motion_predictor_ros.prediction.motion_deq.cell import Condition, FixedPointCell, State
from motion_predictor_ros.prediction.motion_deq.correction import CorrectionAdapter
from motion_predictor_ros.prediction.motion_deq.features import (
    EdgeCategories,
    Features,
    GeometricFeatures,
    PatternFeatures,
    dct_matrix,
)
from motion_predictor_ros.prediction.motion_deq.layers import (
    Future,
    Mask,
    Past,
    centred,
    mix_channels,
)
from motion_predictor_ros.prediction.motion_deq.solver import (
    FixedPoint,
    Flat,
    SolverSettings,
    anderson,
)


@dataclass(frozen=True)
class MotionDEQConfig:
    """Shape of the model; stored with its weights."""

    joints: int = param(18, 'joints of the skeleton [-]', low=2, high=128)
    past: int = param(25, 'observed frames [-]', low=3, high=200)
    future: int = param(25, 'predicted frames [-]', low=1, high=400)
    period_s: float = param(0.04, 'model clock [s]', low=0.005, high=0.5)
    channels: int = param(96, 'geometric channels C [-]', low=4, high=1024)
    patterns: int = param(64, 'pattern channels D [-]', low=4, high=1024)
    layers: int = param(1, 'equivariant layers in f [-]', low=1, high=16)
    feedback: float = param(1.0, 'scale of the state where it enters f [-]', low=0.0, high=1.0)
    categories: int = param(4, 'edge categories K, of which two act [-]', low=2, high=16)
    masked: bool = param(False, 'trained with missing joints [-]')
    correction: bool = param(False, 'has a correction adapter for streams [-]')


class MotionDEQ(nn.Module):
    """Equivariant deep-equilibrium motion predictor."""

    inverse_dct: Tensor

    def __init__(self, config: MotionDEQConfig) -> None:
        super().__init__()
        self.config = config
        channels, patterns = config.channels, config.patterns
        self.geometric = GeometricFeatures(config.past, config.future, channels)
        self.patterns = PatternFeatures(config.past, config.joints, patterns, masked=config.masked)
        self.categories = EdgeCategories(channels, patterns, config.categories)
        self.cell = FixedPointCell(channels, patterns, config.layers, config.feedback)
        self.correction = CorrectionAdapter(channels, patterns) if config.correction else None
        self.out = nn.Linear(channels, config.future, bias=False)
        nn.init.uniform_(self.out.weight, -1e-2, 1e-2)
        self.register_buffer(
            'inverse_dct',
            dct_matrix(config.future).T.to(torch.get_default_dtype()),
            persistent=False,
        )

    def observe(self, positions: Past, visible: Mask | None = None) -> Features:
        """Return the features of an observation [m].

        Args:
            visible: None: all joints. Others have the position of a visible neighbour.
        """
        geometry, velocity = self.geometric(positions)
        return Features(centred(geometry), velocity, self.patterns(positions, visible))

    def condition(self, features: Features) -> Condition:
        """Compute everything in f that depends on the observation alone."""
        category = self.categories(features.geometry, features.velocity, features.pattern)
        return self.cell.condition(
            features.geometry, features.velocity, features.pattern, category
        )

    def encode(self, positions: Past, visible: Mask | None = None) -> Condition:
        """Observe and condition in one."""
        return self.condition(self.observe(positions, visible))

    def lift(self, positions: Past, visible: Mask | None = None) -> State:
        """Return z_0 = F_DL: the features of a person standing still in the last pose."""
        still = self.observe(positions[:, -1:].expand_as(positions), visible)
        return State(still.geometry, still.pattern)

    def decode(self, state: State, last: Float[Tensor, 'batch joint xyz=3']) -> Future:
        """Return F_EOL of a state: future positions [m]."""
        return last[:, None] + self.offsets(state)

    def offsets(self, state: State) -> Future:
        """Return future positions relative to the last observed ones [m]."""
        coefficients = mix_channels(self.out.weight, centred(state.geometry))
        inverse = self.inverse_dct.to(coefficients.dtype)
        return mix_channels(inverse, coefficients)

    def pack(self, state: State, condition: Condition) -> Flat:
        """Flatten a state so that G and H count alike in the solver's inner products."""
        geometry, pattern = state.geometry.flatten(1), state.pattern.flatten(1)
        scale = condition.scale[:, None] * math.sqrt(geometry.shape[1])
        return torch.cat([geometry / scale, pattern / math.sqrt(pattern.shape[1])], dim=1)

    def unpack(self, flat: Flat, condition: Condition) -> State:
        """Undo `pack`."""
        config = self.config
        count = config.channels * config.joints * 3
        scale = condition.scale[:, None] * math.sqrt(count)
        geometry = (flat[:, :count] * scale).unflatten(1, (config.channels, config.joints, 3))
        pattern = flat[:, count:] * math.sqrt(config.joints * config.patterns)
        return State(geometry, pattern.unflatten(1, (config.joints, config.patterns)))

    def solve(
        self,
        condition: Condition,
        start: State,
        settings: SolverSettings,
        *,
        keep_trajectory: bool = False,
    ) -> FixedPoint:
        """Find z* = f(z*, x), without gradient."""

        def function(flat: Tensor) -> Tensor:
            return self.pack(self.cell(self.unpack(flat, condition), condition), condition)

        def motion(flat: Tensor) -> Tensor:
            return self.offsets(self.unpack(flat, condition)).flatten(1, 2)

        packed = self.pack(start, condition).detach()
        return anderson(function, packed, settings, decode=motion, keep_trajectory=keep_trajectory)

    def forward(
        self,
        positions: Past,
        settings: SolverSettings,
        start: State | None = None,
        visible: Mask | None = None,
    ) -> tuple[Future, State, FixedPoint]:
        """Predict future positions [m]; return also z* and the solver's result."""
        condition = self.encode(positions, visible)
        state = self.lift(positions, visible) if start is None else start
        solved = self.solve(condition, state, settings)
        fixed = self.unpack(solved.state, condition)
        return self.decode(fixed, positions[:, -1]), fixed, solved
