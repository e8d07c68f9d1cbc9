# SPDX-License-Identifier: Apache-2.0
"""Clips count by the number of independent windows that theirs are worth."""

from collections import Counter

import numpy as np
import pytest

from motion_predictor_ros.training.volume_calibration import CLIP_CORRELATION, window_weights

WINDOWS = Counter(a=1, b=1, c=2, d=5, e=14)
KEYS = list(WINDOWS.elements())


def variance(weight_of_clip: np.ndarray) -> float:
    """Variance of a weighted mean over windows of variance 1 that correlate within clips."""
    windows = np.array(list(WINDOWS.values()))
    of_means = CLIP_CORRELATION + (1.0 - CLIP_CORRELATION) / windows
    return float(weight_of_clip**2 @ of_means / weight_of_clip.sum() ** 2)


def ours() -> np.ndarray:
    weights = window_weights(KEYS)
    return np.array(
        [sum(w for w, k in zip(weights, KEYS, strict=True) if k == c) for c in WINDOWS]
    )


def test_weights_sum_to_the_number_of_clips() -> None:
    assert window_weights(KEYS).sum() == pytest.approx(len(WINDOWS))
    assert window_weights(['a', 'b', 'c']).tolist() == [1.0, 1.0, 1.0]


def test_no_other_weights_of_clips_have_less_variance() -> None:
    best = variance(ours())
    assert variance(np.ones(len(WINDOWS))) > 1.02 * best
    assert variance(np.array(list(WINDOWS.values()), float)) > 1.05 * best
    random = np.random.default_rng(0)
    for _ in range(200):
        assert variance(ours() * np.exp(0.1 * random.normal(size=len(WINDOWS)))) > best
