# SPDX-License-Identifier: Apache-2.0
"""What MotionDEQ's times are held against: four unshared EqMotion layers of its size."""

from collections.abc import Sequence

import numpy as np
import torch

from motion_predictor_ros.evaluation.stopwatch import rounds_ms, spread
from motion_predictor_ros.evaluation.unrolled import EqMotionStyle
from motion_predictor_ros.prediction.motion_deq import MotionDEQConfig
from motion_predictor_ros.skeleton.frame import Window

_ROUNDS = 50


def eqmotion_style_ms(
    windows: Sequence[Window], shape: MotionDEQConfig, device: torch.device
) -> dict[str, float]:
    """Return the spread of times of one forward pass, untrained, for these people [ms]."""
    network = EqMotionStyle(shape).float().to(device).eval().requires_grad_(False)
    positions = np.stack([each.positions for each in windows])
    observed = torch.from_numpy(positions - positions[:, -1:, :1]).float()

    def answer() -> np.ndarray:
        with torch.inference_mode():
            return network(observed.to(device)).cpu().numpy()

    return spread(rounds_ms(answer, _ROUNDS, device))
