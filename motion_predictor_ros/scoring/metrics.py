# SPDX-License-Identifier: Apache-2.0
"""Figures of merit, in the units and under the names that reports use."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy.special import logsumexp

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


def squared_mahalanobis(
    off: Float[np.ndarray, '*batch xyz=3'], covariance: Float[np.ndarray, '*batch xyz=3 xyz=3']
) -> Float[np.ndarray, '*batch']:
    """Return d^2 = e' C^-1 e [-], which is chi-squared with 3 degrees of freedom if C is right."""
    scaled = np.linalg.solve(covariance, off[..., None])[..., 0]
    return np.asarray((off * scaled).sum(axis=-1))


def kernel_log_density(
    samples: Float[np.ndarray, 'future *batch xyz=3'],
    weights: Float[np.ndarray, ' future'],
    points: Float[np.ndarray, '*batch xyz=3'],
    error_m: float = 0.01,
) -> Float[np.ndarray, '*batch']:
    """Evaluate a Gaussian kernel density over weighed places [nat of m^-3].

    The kernel is the samples' covariance, scaled by Scott's rule for 1 / sum w^2 samples, as in
    scipy.stats.gaussian_kde.

    Args:
        weights: They sum to one.
        error_m: How far off observed points are; samples that agree would have no density else.
    """
    square = float((weights**2).sum())
    off = samples - np.einsum('f,f...->...', weights, samples)
    spread = np.einsum('f,f...x,f...y->...xy', weights, off, off) / max(1.0 - square, 1e-12)
    kernel = spread * square ** (2.0 / 7.0) + error_m**2 * np.eye(3)
    root = np.linalg.cholesky(kernel)
    scaled = np.linalg.solve(root, (points - samples)[..., None])[..., 0]
    volume = np.log(np.diagonal(root, axis1=-2, axis2=-1)).sum(axis=-1) + 1.5 * np.log(2 * np.pi)
    shares = weights.reshape(-1, *[1] * (samples.ndim - 2))
    exponents = -0.5 * (scaled**2).sum(axis=-1)
    return np.asarray(logsumexp(exponents, axis=0, b=shares) - volume)
