# SPDX-License-Identifier: Apache-2.0
"""Rates are limited by stamps alone."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from motion_predictor_ros.runtime.rate_limit import RateLimiter

NS_PER_S = 10**9


@given(
    rate_hz=st.floats(0.1, 100.0),
    gaps_ms=st.lists(st.integers(1, 3000), min_size=1, max_size=200),
)
def test_one_stamp_of_each_period_passes_and_it_is_the_first(
    rate_hz: float, gaps_ms: list[int]
) -> None:
    limiter = RateLimiter(rate_hz)
    stamps_ns = np.cumsum(gaps_ms) * 1_000_000
    passed = [int(stamp) for stamp in stamps_ns if limiter.is_due(int(stamp))]
    slots = stamps_ns // round(NS_PER_S / rate_hz)
    assert passed == [int(stamps_ns[slots == slot][0]) for slot in np.unique(slots)]


def test_a_live_node_that_misses_stamps_answers_in_the_same_periods_as_a_replay() -> None:
    whole, live = RateLimiter(5.0), RateLimiter(5.0)
    stamps_ns = range(0, 2 * NS_PER_S, 40_000_000)
    of_all = {stamp // 200_000_000 for stamp in stamps_ns if whole.is_due(stamp)}
    of_most = {stamp // 200_000_000 for stamp in list(stamps_ns)[1::2] if live.is_due(stamp)}
    assert of_all == of_most == set(range(10))


def test_after_a_reset_the_next_stamp_passes() -> None:
    limiter = RateLimiter(1.0)
    assert limiter.is_due(0) and not limiter.is_due(1)
    limiter.reset()
    assert limiter.is_due(2) and not limiter.is_due(3)
