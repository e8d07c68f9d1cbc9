# SPDX-License-Identifier: Apache-2.0
"""Errors by joint, and the coverage of the covariances."""

import numpy as np
from jaxtyping import Float64
from scipy.stats import chi2

from motion_predictor_ros.evaluation.replay.replay import Case, predictions_by_method
from motion_predictor_ros.scoring.metrics import report_frames, squared_mahalanobis

LEVELS = (*(round(0.05 * step, 2) for step in range(1, 20)), 0.99)
"""Nominal shares of the coverage curve."""


def joint_errors_mm(
    cases: list[Case],
    horizons_s: Float64[np.ndarray, ' horizon'],
    joint_names: tuple[str, ...],
) -> dict[str, dict[str, dict[str, float]]]:
    """Return the mean error [mm] by joint, method and reported horizon ('80', '160', ...)."""
    frames = report_frames(horizons_s)
    frame_indices = list(frames.values())
    totals: dict[str, Float64[np.ndarray, 'horizon joint']] = {}
    for case in cases:
        for name, positions in predictions_by_method(case.prediction, len(case.truth)).items():
            offsets = positions[frame_indices] - case.truth[frame_indices]
            errors_mm = 1000.0 * np.linalg.norm(offsets, axis=-1) / len(cases)
            totals[name] = totals[name] + errors_mm if name in totals else errors_mm
    return {
        joint: {
            name: {str(ms): float(total[row, index]) for row, ms in enumerate(frames)}
            for name, total in totals.items()
        }
        for index, joint in enumerate(joint_names)
    }


def coverage(
    cases: list[Case], horizons_s: Float64[np.ndarray, ' horizon']
) -> dict[str, dict[str, float]]:
    """Return the share of joints within the ellipsoids of the published covariances.

    By reported horizon [ms] and nominal share: for Gaussian errors of the published covariance,
    0.9 of the joints lie within the ellipsoid of 0.9. Empty if no covariances were published.
    """
    with_covariances = [case for case in cases if case.prediction.covariances is not None]
    shares: dict[str, dict[str, float]] = {}
    for ms, frame in report_frames(horizons_s).items() if with_covariances else ():
        distances = np.concatenate([_squared_distances(case, frame) for case in with_covariances])
        shares[str(ms)] = {
            f'{level:g}': float(np.mean(distances <= chi2.ppf(level, 3))) for level in LEVELS
        }
    return shares


def _squared_distances(case: Case, frame: int) -> Float64[np.ndarray, ' joint']:
    """Return the squared Mahalanobis distance of each joint from the truth [-]."""
    prediction = case.prediction
    assert prediction.positions is not None and prediction.covariances is not None
    error = case.truth[frame] - prediction.positions[frame]
    return squared_mahalanobis(error, prediction.covariances[frame])
