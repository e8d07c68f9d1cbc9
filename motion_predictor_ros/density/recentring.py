# SPDX-License-Identifier: Apache-2.0
"""Futures moved towards the predicted motion, which is a better mean than their own.

Stage: density. Two forecasts of one motion are better combined than alone (Bates and Granger,
1969); moving an ensemble onto a better mean and keeping its spread is recentring. With m the mean
of the futures, p the prediction and h its horizon, the root is moved by

    s_root(t) = a (p - m)(t)                         until h
    s_root(t) = a (p - m)(h) t / h                   after: a wrong velocity stays wrong

and any other joint, relative to the root, by

    s_joint(t) = exp(-t / b) (p - m)(min(t, h))      limbs swing back
"""

import numpy as np
from jaxtyping import Float64

ROOT_SHARE = 0.6
"""a; chosen on split `val`."""

LIMBS_DECAY_S = 1.0
"""b; chosen on split `val`."""


def recentre(
    futures: Float64[np.ndarray, '*batch future horizon joint xyz=3'],
    horizons_s: Float64[np.ndarray, ' horizon'],
    predicted: Float64[np.ndarray, '*batch some joint xyz=3'],
    root: int,
) -> Float64[np.ndarray, '*batch future horizon joint xyz=3']:
    """Return equally probable futures, moved towards a prediction of the first horizons [m]."""
    mean = futures.mean(axis=-4)
    known = min(len(horizons_s), predicted.shape[-3])
    steps = np.arange(len(horizons_s)).clip(max=known - 1)
    gap = (predicted[..., :known, :, :] - mean[..., :known, :, :])[..., steps, :, :]
    of_root, times_s = gap[..., root : root + 1, :], horizons_s[:, None, None]
    shift = ROOT_SHARE * times_s / horizons_s[steps, None, None] * of_root
    shift = shift + np.exp(-times_s / LIMBS_DECAY_S) * (gap - of_root)
    return futures + shift[..., None, :, :, :]
