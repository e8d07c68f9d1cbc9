# SPDX-License-Identifier: Apache-2.0
"""Covariance of predictions: the variance of held-out residuals, by joint speed.

Stage: prediction. Fast joints are predicted worse than joints at rest: the variance of each joint
and horizon is stored for a few speeds of that joint and interpolated between them. Isotropic, so
that it rotates with the frame.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

SPEED_OVER_S = 0.2
"""Joint speeds are means over this time, to average noise [s]."""


@dataclass(frozen=True)
class Residuals:
    """Errors of a model's predictions on held-out subjects.

    Attributes:
        speeds: [m/s] of each joint, increasing.
        variance: [m^2] of one coordinate.
    """

    speeds: Float64[np.ndarray, 'speed joint']
    variance: Float64[np.ndarray, 'speed horizon joint']

    def covariances(
        self, past: Float64[np.ndarray, 'time joint xyz=3'], period_s: float
    ) -> Float64[np.ndarray, 'horizon joint xyz=3 xyz=3']:
        """Return the error's covariance [m^2] at the present speeds, constant beyond the ends.

        Args:
            past: [m] observed, newest last.
        """
        speed = joint_speeds(past, period_s)
        after = np.clip((self.speeds < speed).sum(axis=0), 1, max(len(self.speeds) - 1, 1))
        last = np.minimum(after, len(self.speeds) - 1)
        joints = np.arange(self.speeds.shape[1])
        low, high = self.speeds[after - 1, joints], self.speeds[last, joints]
        part = np.clip((speed - low) / np.maximum(high - low, 1e-9), 0.0, 1.0)[:, None]
        variance = (1.0 - part) * self.variance[after - 1, :, joints]
        variance = variance + part * self.variance[last, :, joints]
        spread: Float64[np.ndarray, 'horizon joint xyz=3 xyz=3']
        spread = variance.T[..., None, None] * np.eye(3)
        return spread


def joint_speeds(
    past: Float64[np.ndarray, '*batch time joint xyz=3'], period_s: float
) -> Float64[np.ndarray, '*batch joint']:
    """Return the speed of each joint at the end of the observation [m/s]."""
    frames = min(max(1, round(SPEED_OVER_S / period_s)), past.shape[-3] - 1)
    moved = past[..., -1, :, :] - past[..., -1 - frames, :, :]
    speed: Float64[np.ndarray, '*batch joint'] = np.linalg.norm(moved, axis=-1)
    return speed / (frames * period_s)
