# SPDX-License-Identifier: Apache-2.0
"""Figures of merit, in the units and under the names that reports use."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from motion_predictor_ros.conventions import REPORT_HORIZONS_MS


def mean_joint_error(
    predicted: Float[np.ndarray, '*batch joint xyz=3'],
    truth: Float[np.ndarray, '*batch joint xyz=3'],
) -> Float[np.ndarray, '*batch']:
    """Return the mean over joints of the distance from the truth [m]."""
    return np.linalg.norm(predicted - truth, axis=-1).mean(axis=-1)


def report_frames(horizons_s: Float[np.ndarray, ' horizon']) -> dict[int, int]:
    """Map each reported horizon [ms] that the model predicts to its frame."""
    frames = {}
    for ms in REPORT_HORIZONS_MS:
        frame = int(np.argmin(np.abs(horizons_s - ms / 1000.0)))
        if abs(horizons_s[frame] - ms / 1000.0) < 1e-6:
            frames[ms] = frame
    return frames


def mpjpe_mm(
    errors: Sequence[Float[np.ndarray, ' horizon']] | Float[np.ndarray, 'case horizon'],
    horizons_s: Float[np.ndarray, ' horizon'],
) -> dict[str, float]:
    """Return the mean per-joint position error [mm] by reported horizon ('80', '160', ...).

    Args:
        errors: Mean joint error of each case and horizon [m].
    """
    mean = np.mean(errors, axis=0)
    return {str(ms): 1000.0 * float(mean[at]) for ms, at in report_frames(horizons_s).items()}
