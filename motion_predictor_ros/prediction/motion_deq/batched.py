# SPDX-License-Identifier: Apache-2.0
"""MotionDEQ for inference in plain torch: all people in one batch, on any device.

Stage: prediction. As a CUDA graph it takes all steps that the settings allow; a person who has
converged stays as they are, so results are the same and the CPU never waits for the GPU.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from motion_predictor_ros.prediction.motion_deq.cell import State
from motion_predictor_ros.prediction.motion_deq.layers import Future, Mask, Past
from motion_predictor_ros.prediction.motion_deq.model import MotionDEQ
from motion_predictor_ros.prediction.motion_deq.solver import FixedPoint, SolverSettings
from motion_predictor_ros.runtime.cuda_graph import Graphs


class BatchedMotionDEQ:
    """A trained model with frozen weights."""

    def __init__(self, module: MotionDEQ, *, cuda_graph: bool = False) -> None:
        self._module, self._all_steps = module, cuda_graph
        self._run: Callable[..., Any] = Graphs(self._solve) if cuda_graph else self._solve

    def predict(
        self,
        positions: Past,
        visible: Mask | None,
        starts: Sequence[State | None],
        settings: SolverSettings,
    ) -> tuple[Future, State, FixedPoint]:
        """Predict future positions [m]; return also z* and the solver's result.

        Args:
            visible: None: all joints.
            starts: Initial state of each person, as a batch of one; None: from the last pose.
        """
        config = self._module.config
        empty = State(
            positions.new_zeros(1, config.channels, config.joints, 3),
            positions.new_zeros(1, config.joints, config.patterns),
        )
        start = State.cat([empty if state is None else state for state in starts])
        is_warm = torch.tensor([state is not None for state in starts]).to(positions.device)
        if visible is None:
            visible = positions.new_ones((len(positions), config.joints), dtype=torch.bool)
        settings = dataclasses.replace(settings, all_steps=self._all_steps)
        result: tuple[Future, State, FixedPoint]
        result = self._run(settings, positions, visible, is_warm, start)
        return result

    def _solve(
        self,
        settings: SolverSettings,
        positions: Past,
        visible: Mask,
        is_warm: Bool[Tensor, ' batch'],
        start: State,
    ) -> tuple[Future, State, FixedPoint]:
        module = self._module
        condition, lifted = module.encode(positions, visible), module.lift(positions, visible)
        start = State(
            torch.where(is_warm[:, None, None, None], start.geometry, lifted.geometry),
            torch.where(is_warm[:, None, None], start.pattern, lifted.pattern),
        )
        fixed_point = module.solve(condition, start, settings)
        state = module.unpack(fixed_point.state, condition)
        return module.decode(state, positions[:, -1]), state, fixed_point
