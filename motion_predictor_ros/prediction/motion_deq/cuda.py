# SPDX-License-Identifier: Apache-2.0
"""MotionDEQ as inference runs it on a GPU that replays graphs: all of it one function of tensors.

Stage: prediction. The same numbers as those of `MotionDEQ`: everybody gets all the steps that the
settings allow, and whoever is solved before stays as they are. So the CPU never has to ask.
"""

import dataclasses
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from motion_predictor_ros.prediction.motion_deq.cell import State
from motion_predictor_ros.prediction.motion_deq.model import MotionDEQ
from motion_predictor_ros.prediction.motion_deq.solver import FixedPoint, SolverSettings
from motion_predictor_ros.runtime.cuda_graph import Answer, Graphs


class GraphedMotionDEQ:
    """A trained model whose weights will not change any more, on a GPU."""

    def __init__(self, module: MotionDEQ) -> None:
        """Capture nothing yet."""
        self._module, self._run = module, Graphs(self._solved)

    def predict(
        self,
        positions: Float[Tensor, 'batch time joint xyz=3'],
        seen: Bool[Tensor, 'batch joint'] | None,
        starts: Sequence[State | None],
        settings: SolverSettings,
    ) -> tuple[Float[Tensor, 'batch horizon joint xyz=3'], State, FixedPoint]:
        """Predict future positions [m]; return also z* and how it was found.

        Args:
            seen: Which joints were; None: all of them.
            starts: Where to start, as a batch of one; None: from the last pose.
        """
        steady = dataclasses.replace(settings, to_the_end=True)
        inputs = positions, self._all_seen(positions, seen), *self._joined(starts, positions)
        future, geometry, pattern, flat, residual, steps, converged = self._run(steady, *inputs)
        found = FixedPoint(flat, residual, steps, converged)
        return future, State(geometry, pattern), found

    def _solved(
        self,
        settings: SolverSettings,
        positions: Float[Tensor, 'batch time joint xyz=3'],
        seen: Bool[Tensor, 'batch joint'],
        known: Bool[Tensor, ' batch'],
        geometry: Float[Tensor, 'batch channel joint xyz=3'],
        pattern: Float[Tensor, 'batch joint pattern'],
    ) -> Answer:
        """Return what `predict` does, of people known from before and of others."""
        module = self._module
        condition, lifted = module.encode(positions, seen), module.lift(positions, seen)
        start = State(
            torch.where(known[:, None, None, None], geometry, lifted.geometry),
            torch.where(known[:, None, None], pattern, lifted.pattern),
        )
        found = module.solve(condition, start, settings)
        state = module.unpack(found.state, condition)
        future = module.decode(state, positions[:, -1])
        how = found.state, found.residual, found.steps, found.converged
        return future, state.geometry, state.pattern, *how

    def _all_seen(
        self,
        positions: Float[Tensor, 'batch time joint xyz=3'],
        seen: Bool[Tensor, 'batch joint'] | None,
    ) -> Bool[Tensor, 'batch joint']:
        shape = len(positions), self._module.config.joints
        return positions.new_ones(shape, dtype=torch.bool) if seen is None else seen

    def _joined(
        self, starts: Sequence[State | None], positions: Float[Tensor, 'batch time joint xyz=3']
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return who is known from before, and where all start; what is said of others is void."""
        config = self._module.config
        known = torch.tensor([each is not None for each in starts]).to(positions.device)
        nowhere = State(
            positions.new_zeros(1, config.channels, config.joints, 3),
            positions.new_zeros(1, config.joints, config.patterns),
        )
        each = [nowhere if start is None else start for start in starts]
        geometry = torch.cat([start.geometry for start in each])
        return known, geometry, torch.cat([start.pattern for start in each])
