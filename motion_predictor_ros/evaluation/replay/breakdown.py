# SPDX-License-Identifier: Apache-2.0
"""Where errors come from: by joint; and whether they are as large as was said: coverage."""

import numpy as np
from jaxtyping import Float64
from scipy.stats import chi2

from motion_predictor_ros.evaluation.replay.replay import Case, guesses
from motion_predictor_ros.scoring.metrics import report_frames, squared_mahalanobis

LEVELS = (*(round(0.05 * step, 2) for step in range(1, 20)), 0.99)
"""Nominal shares at which coverage is measured."""


def joint_errors_mm(
    cases: list[Case],
    horizons_s: Float64[np.ndarray, ' horizon'],
    joint_names: tuple[str, ...],
) -> dict[str, dict[str, dict[str, float]]]:
    """Return the mean error [mm] by joint, method and reported horizon ('80', '160', ...)."""
    frames = report_frames(horizons_s)
    at = list(frames.values())
    totals: dict[str, Float64[np.ndarray, 'horizon joint']] = {}
    for case in cases:
        for name, guess in guesses(case.prediction, len(case.truth)).items():
            off_mm = 1000.0 * np.linalg.norm(guess[at] - case.truth[at], axis=-1) / len(cases)
            totals[name] = totals[name] + off_mm if name in totals else off_mm
    return {
        joint: {
            name: {str(ms): float(total[row, place]) for row, ms in enumerate(frames)}
            for name, total in totals.items()
        }
        for place, joint in enumerate(joint_names)
    }


def coverage(
    cases: list[Case], horizons_s: Float64[np.ndarray, ' horizon']
) -> dict[str, dict[str, float]]:
    """Return how often joints really were within the ellipsoids of the published covariances.

    By reported horizon [ms] and nominal share: of Gaussian errors as large as was said, '0.9' of
    the joints lie within the ellipsoid of 0.9. Empty if no covariances were published.
    """
    told = [case for case in cases if case.prediction.covariances is not None]
    found: dict[str, dict[str, float]] = {}
    for ms, at in report_frames(horizons_s).items() if told else ():
        distances = np.concatenate([_squared_distances(case, at) for case in told])
        found[str(ms)] = {
            f'{level:g}': float(np.mean(distances <= chi2.ppf(level, 3))) for level in LEVELS
        }
    return found


def _squared_distances(case: Case, frame: int) -> Float64[np.ndarray, ' joint']:
    """Return the squared Mahalanobis distance of each joint's truth."""
    prediction = case.prediction
    assert prediction.positions is not None and prediction.covariances is not None
    off = case.truth[frame] - prediction.positions[frame]
    return squared_mahalanobis(off, prediction.covariances[frame])
