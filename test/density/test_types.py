# SPDX-License-Identifier: Apache-2.0
"""What is kept of futures stays a fair sample, and what must not be used says so."""

import numpy as np
import pytest

from motion_predictor_ros.density.types import Futures
from motion_predictor_ros.skeleton.frame import Validity


def futures(count: int = 50, horizon: int = 50) -> Futures:
    rng = np.random.default_rng(0)
    weights = rng.random((2, count))
    return Futures(
        person_ids=('ann', 'bob'),
        stamp_ns=np.array([7, 7]),
        horizons_s=0.04 * np.arange(1, horizon + 1),
        positions=rng.normal(size=(2, count, horizon, 18, 3)),
        weights=weights / weights.sum(axis=1, keepdims=True),
        log_density=rng.normal(size=(2, count)),
        cached=rng.permuted(np.tile(np.arange(1000), (2, 1)), axis=1)[:, :count],
        effective_sample_size=np.array([40.0, 3.0]),
        importance_samples=1000,
        novelty=np.array([0.5, 1.5]),
    )


def test_thinned_futures_are_some_of_them_with_weights_that_sum_to_one() -> None:
    whole = futures()
    thin = whole.thinned(20, 5)
    assert thin.positions.shape == (2, 20, 10, 18, 3)
    np.testing.assert_allclose(thin.horizons_s, 0.2 * np.arange(1, 11))
    np.testing.assert_allclose(thin.weights.sum(1), 1.0)
    for row in range(2):
        kept = [whole.cached[row].tolist().index(each) for each in thin.cached[row]]
        np.testing.assert_array_equal(thin.positions[row], whole.positions[row, kept, 4::5])
        np.testing.assert_array_equal(thin.log_density[row], whole.log_density[row, kept])
        share = thin.weights[row] / whole.weights[row, kept]
        np.testing.assert_allclose(share, share[0])


def test_no_more_is_kept_than_there_is() -> None:
    thin = futures(count=4, horizon=3).thinned(20, 5)
    assert thin.positions.shape == (2, 4, 1, 18, 3)
    assert thin.horizons_s[0] == pytest.approx(0.12)


def test_out_of_distribution_is_a_novelty_above_one() -> None:
    assert futures().judge(0) == (Validity.OK, '')
    validity, reason = futures().judge(1)
    assert validity == Validity.OUT_OF_DISTRIBUTION and '1.5 times' in reason
