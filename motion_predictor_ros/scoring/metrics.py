# SPDX-License-Identifier: Apache-2.0
"""Metrics in the units and under the names of the reports, and the baselines to beat [m]."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float64
from scipy.special import logsumexp

from motion_predictor_ros.conventions import REPORT_HORIZONS_MS

Horizons = Float64[np.ndarray, ' horizon']
"""Times after the observation [s], or values at these times."""

Pose = Float64[np.ndarray, 'joint xyz=3']
Poses = Float64[np.ndarray, 'time joint xyz=3']
Motion = Float64[np.ndarray, 'horizon joint xyz=3']
Windows = Float64[np.ndarray, 'batch time joint xyz=3']


def mean_joint_error(
    predicted: Float[np.ndarray, '*batch joint xyz=3'],
    truth: Float[np.ndarray, '*batch joint xyz=3'],
) -> Float[np.ndarray, '*batch']:
    """Return the mean joint error: distance from the truth, averaged over joints [m]."""
    return np.linalg.norm(predicted - truth, axis=-1).mean(axis=-1)


def report_frames(horizons_s: Float[np.ndarray, ' horizon']) -> dict[int, int]:
    """Map each reported horizon [ms] within the model's to its frame."""
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
    return {
        str(ms): 1000.0 * float(mean[frame]) for ms, frame in report_frames(horizons_s).items()
    }


def squared_mahalanobis(
    error: Float[np.ndarray, '*batch xyz=3'], covariance: Float[np.ndarray, '*batch xyz=3 xyz=3']
) -> Float[np.ndarray, '*batch']:
    """Return d^2 = e' C^-1 e [-], chi-squared with 3 degrees of freedom if C is the covariance."""
    scaled = np.linalg.solve(covariance, error[..., None])[..., 0]
    return np.asarray((error * scaled).sum(axis=-1))


def kernel_log_density(
    samples: Float[np.ndarray, 'future *batch xyz=3'],
    weights: Float[np.ndarray, ' future'],
    points: Float[np.ndarray, '*batch xyz=3'],
    error_m: float = 0.01,
) -> Float[np.ndarray, '*batch']:
    """Evaluate a Gaussian kernel density over weighted positions [nat of m^-3].

    The kernel is the samples' covariance, scaled by Scott's rule for 1 / sum w^2 samples, as in
    scipy.stats.gaussian_kde.

    Args:
        weights: Sum to one.
        error_m: Standard deviation of the observation error; bounds the density of samples that
            coincide.
    """
    square = float((weights**2).sum())
    deviation = samples - np.einsum('f,f...->...', weights, samples)
    spread = np.einsum('f,f...x,f...y->...xy', weights, deviation, deviation) / max(
        1.0 - square, 1e-12
    )
    kernel = spread * square ** (2.0 / 7.0) + error_m**2 * np.eye(3)
    root = np.linalg.cholesky(kernel)
    scaled = np.linalg.solve(root, (points - samples)[..., None])[..., 0]
    volume = np.log(np.diagonal(root, axis1=-2, axis2=-1)).sum(axis=-1) + 1.5 * np.log(2 * np.pi)
    weight_column = weights.reshape(-1, *[1] * (samples.ndim - 2))
    exponents = -0.5 * (scaled**2).sum(axis=-1)
    return np.asarray(logsumexp(exponents, axis=0, b=weight_column) - volume)


def repeat_last(
    observed: Float[np.ndarray, '*batch time joint xyz=3'], future: int
) -> Float[np.ndarray, '*batch horizon joint xyz=3']:
    """Predict a standing person: the last pose, repeated."""
    return np.repeat(observed[..., -1:, :, :], future, axis=-3)


def constant_velocity(
    observed: Float[np.ndarray, '*batch time joint xyz=3'], future: int
) -> Float[np.ndarray, '*batch horizon joint xyz=3']:
    """Predict each joint at its velocity between the last two frames of the model clock."""
    last = observed[..., -1:, :, :]
    step = last - observed[..., -2:-1, :, :]
    ahead = np.arange(1, future + 1)[:, None, None]
    return last + ahead * step


BASELINES = {'repeat_last': repeat_last, 'constant_velocity': constant_velocity}
"""By their names in reports."""
