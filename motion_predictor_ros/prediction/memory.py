# SPDX-License-Identifier: Apache-2.0
"""What is kept of each person from one prediction to the next, and how it becomes a start.

Stage: prediction. Without a correction adapter the last fixed point itself is the start.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from motion_predictor_ros.conventions import NS_PER_S
from motion_predictor_ros.prediction.cell import State
from motion_predictor_ros.prediction.correction import Novelty
from motion_predictor_ros.prediction.features import Features
from motion_predictor_ros.prediction.motion_deq import MotionDEQ
from motion_predictor_ros.skeleton.frame import Window


@dataclass(frozen=True)
class Memory:
    """One person's last prediction, as a batch of one.

    Attributes:
        seen: What was observed; None where there is no adapter to read it.
        path: [m] the last observed pose, then the predicted ones, one per model frame.
    """

    stamp_ns: int
    state: State
    seen: Features | None
    path: Float64[np.ndarray, 'time joint xyz=3']

    def predicted(self, frames: float) -> Float64[np.ndarray, 'joint xyz=3']:
        """Return the pose predicted for so many frames later [m]; beyond the end the last one."""
        low = min(int(frames), len(self.path) - 2)
        part = min(frames - low, 1.0)
        return (1.0 - part) * self.path[low] + part * self.path[low + 1]


def carry_over(
    module: MotionDEQ, memories: Sequence[Memory], windows: Sequence[Window], now: Features
) -> State:
    """Return where to start solving for the windows of people who are remembered."""
    state = State(
        torch.cat([memory.state.geometry for memory in memories]),
        torch.cat([memory.state.pattern for memory in memories]),
    )
    if module.correction is None:
        return state
    seen = [memory.seen for memory in memories if memory.seen is not None]
    assert len(seen) == len(memories)
    before = Features(
        torch.cat([each.geometry for each in seen]),
        torch.cat([each.velocity for each in seen]),
        torch.cat([each.pattern for each in seen]),
    )
    pairs = list(zip(memories, windows, strict=True))
    frame_ns = module.config.period_s * NS_PER_S
    elapsed = np.array(
        [(window.stamp_ns - memory.stamp_ns) / frame_ns for memory, window in pairs]
    )
    deviation = np.stack(
        [
            window.positions[-1] - memory.predicted(frames)
            for (memory, window), frames in zip(pairs, elapsed, strict=True)
        ]
    )
    news = Novelty(before, now, _like(deviation, state), _like(elapsed, state))
    return module.correction(state, news)


def _like(array: Float64[np.ndarray, '...'], state: State) -> Tensor:
    return torch.from_numpy(array).to(state.geometry)
