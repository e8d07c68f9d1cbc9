# SPDX-License-Identifier: Apache-2.0
"""Alarms are as rare as the significance while coverage holds, and are raised when it does not."""

import numpy as np
import pytest
from scipy.stats import binom

from motion_predictor_ros.scoring.live_score import CoverageCounter, alarm_at

SIGNIFICANCE = 0.01


@pytest.mark.parametrize('level', [0.5, 0.9, 0.95, 0.99])
@pytest.mark.parametrize('count', [1, 10, 100, 1000])
def test_the_alarm_is_the_largest_share_that_is_too_unlikely(level: float, count: int) -> None:
    k = round(alarm_at(level, count, SIGNIFICANCE) * count)
    assert binom.cdf(k, count, level) < SIGNIFICANCE <= binom.cdf(k + 1, count, level)
    assert k < level * count


def test_a_single_window_can_never_raise_the_alarm() -> None:
    assert alarm_at(0.95, 1, SIGNIFICANCE) < 0.0


def alarms(rate: float, runs: int = 100) -> float:
    """Return how often 60 stretches of five equal windows, covered at `rate`, raise the alarm."""
    random = np.random.default_rng(0)
    alarms_raised = []
    for _ in range(runs):
        counter = CoverageCounter(0.9, memory_s=300.0, independent_s=4.0)
        for stretch, inside in enumerate(random.random(60) < rate):
            for turn in range(5):
                counter.add(4.0 * stretch + 0.8 * turn, 'anna', float(inside))
        coverage = counter.coverage(240.0, SIGNIFICANCE)
        assert coverage is not None and (coverage.windows, coverage.independent) == (300, 60)
        alarms_raised.append(coverage.is_low)
    return float(np.mean(alarms_raised))


def test_chance_raises_the_alarm_no_more_often_than_the_significance() -> None:
    assert alarms(0.9) <= 4 * SIGNIFICANCE  # 1 of 100 expected, at most; 5 has p < 0.004


def test_low_coverage_raises_the_alarm() -> None:
    assert alarms(0.6, runs=20) == 1.0


def test_correlated_windows_counted_as_independent_raise_false_alarms() -> None:
    """The control: the same trials, each taken as independent, alarm far too often."""
    random = np.random.default_rng(0)
    shares = [np.repeat(random.random(60) < 0.9, 5).mean() for _ in range(400)]
    assert np.mean(np.array(shares) <= alarm_at(0.9, 300, SIGNIFICANCE)) > 10 * SIGNIFICANCE


def test_two_people_are_independent_and_old_windows_are_dropped() -> None:
    counter = CoverageCounter(0.9, memory_s=10.0, independent_s=4.0)
    for now_s, inside in ((1.0, 0.0), (2.0, 1.0)):
        for person in ('anna', 'ben'):
            counter.add(now_s, person, inside)
    coverage = counter.coverage(2.0, SIGNIFICANCE)
    assert coverage is not None and (coverage.independent, coverage.share) == (2, 0.5)
    later = counter.coverage(11.5, SIGNIFICANCE)
    assert later is not None and (later.windows, later.share) == (2, 1.0)
    assert counter.coverage(13.0, SIGNIFICANCE) is None
