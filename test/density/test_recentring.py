# SPDX-License-Identifier: Apache-2.0
"""Futures are moved onto a prediction as their formulas say, and keep their spread."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.spatial.transform import Rotation

from motion_predictor_ros.density.recentring import LIMBS_DECAY_S, ROOT_SHARE, recentre

ROOT, KNOWN, TIMES_S = 1, 4, 0.25 * np.arange(1, 9)
RANDOM = np.random.default_rng(0)
FUTURES = RANDOM.normal(size=(6, 8, 3, 3))
PREDICTED = RANDOM.normal(size=(KNOWN, 3, 3))


def mean(futures: np.ndarray) -> np.ndarray:
    return np.asarray(futures.mean(axis=0))


def moved(predicted: np.ndarray = PREDICTED, futures: np.ndarray = FUTURES) -> np.ndarray:
    return recentre(futures, TIMES_S, predicted, ROOT)


def test_the_spread_of_futures_stays() -> None:
    assert_allclose(moved() - mean(moved()), FUTURES - mean(FUTURES), atol=1e-12)
    assert np.abs(mean(moved()) - mean(FUTURES)).max() > 0.1


def test_the_root_goes_to_the_prediction_and_on_at_the_same_velocity() -> None:
    shift = (mean(moved()) - mean(FUTURES))[:, ROOT]
    gap = (PREDICTED - mean(FUTURES)[:KNOWN])[:, ROOT]
    assert_allclose(shift[:KNOWN], ROOT_SHARE * gap)
    assert_allclose(shift[2 * KNOWN - 1], 2.0 * shift[KNOWN - 1])  # at twice the time


@pytest.mark.parametrize('joint', [0, 2])
def test_limbs_go_to_the_prediction_less_and_less(joint: int) -> None:
    def limb(positions: np.ndarray) -> np.ndarray:
        return np.asarray(positions[:, joint] - positions[:, ROOT])

    shift = limb(mean(moved())) - limb(mean(FUTURES))
    gap = limb(PREDICTED) - limb(mean(FUTURES)[:KNOWN])
    gap = np.concatenate([gap, np.repeat(gap[-1:], len(TIMES_S) - KNOWN, axis=0)])
    assert_allclose(shift, np.exp(-TIMES_S / LIMBS_DECAY_S)[:, None] * gap, atol=1e-12)


def test_futures_that_agree_with_the_prediction_stay() -> None:
    assert_allclose(moved(mean(FUTURES)[:KNOWN]), FUTURES, atol=1e-12)


def test_it_does_not_depend_on_the_frame() -> None:
    turn, way = Rotation.from_rotvec([0.3, -0.7, 0.2]).as_matrix(), np.array([5.0, -3.0, 1.0])
    elsewhere = moved(PREDICTED @ turn.T + way, FUTURES @ turn.T + way)
    assert_allclose(elsewhere, moved() @ turn.T + way, atol=1e-12)
