# SPDX-License-Identifier: Apache-2.0
"""Scores of live predictions over the last seconds, and a test whether coverage is too low.

Overlapping or adjacent windows of one person are correlated. The share is taken over all windows;
but only one per `independent_s` and person counts as a trial of the binomial distribution.
"""

import math
from collections import Counter, deque
from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from scipy.stats import binom

from motion_predictor_ros.scoring.metrics import Horizons


@dataclass(frozen=True)
class Coverage:
    """Coverage of volumes or covariances.

    Attributes:
        level: Nominal coverage.
        share: Observed coverage.
        windows: Number of windows it is counted over.
        independent: How many of them count as independent.
        alarm_at: Largest share that chance does not explain; below 0: too few windows.
    """

    level: float
    share: float
    windows: int
    independent: int
    alarm_at: float

    @property
    def is_low(self) -> bool:
        """Whether the share is lower than chance explains."""
        return self.share <= self.alarm_at + 1e-12


def alarm_at(level: float, independent: int, significance: float) -> float:
    """Return the largest share k / n with P(at most k of n inside) < `significance`.

    Negative if there is none: then n trials are too few.
    """
    return float(binom.ppf(significance, independent, level) - 1) / independent


class CoverageCounter:
    """Counts coverage over the last seconds."""

    def __init__(self, level: float, memory_s: float, independent_s: float) -> None:
        """Start without windows.

        Args:
            memory_s: How long a window counts [s].
            independent_s: Distance at which windows of a person are independent [s].
        """
        self._level, self._memory_s, self._independent_s = level, memory_s, independent_s
        self._trials: deque[tuple[float, Hashable, float]] = deque()

    def add(self, now_s: float, person: Hashable, inside: float) -> None:
        """Add a window.

        Args:
            now_s: Time on a monotonic clock [s].
            person: Identity of the person.
            inside: 1 if covered, 0 if not; or the share of its parts that are.
        """
        stretch = math.floor(now_s / self._independent_s)
        self._trials.append((now_s, (person, stretch), inside))

    def coverage(self, now_s: float, significance: float) -> Coverage | None:
        """Return the coverage; None without windows.

        Args:
            significance: Probability of a false alarm, at each test.
        """
        while self._trials and self._trials[0][0] < now_s - self._memory_s:
            self._trials.popleft()
        if not self._trials:
            return None
        count = len(self._trials)
        independent = len({key for _, key, _ in self._trials})
        share = sum(inside for _, _, inside in self._trials) / count
        limit = alarm_at(self._level, independent, significance)
        return Coverage(self._level, share, count, independent, limit)


@dataclass(frozen=True)
class LiveScore:
    """Scores of the predictions of the last `score.memory_s` seconds.

    Attributes:
        stamp_ns: Stamp of the newest observation.
        volumes: Horizon [s] and coverage of volumes; one entry for each level and horizon.
        covariances: Share of joints and horizons within the ellipsoids; None without any.
        horizons_s, mpjpe_m: Mean joint error by horizon.
        future_horizons_s, log_density: Mean log density of an observed joint among the published
            futures, by horizon [nat of m^-3].
        predictions, futures: Numbers of scored predictions.
        fallbacks: Share of volumes that were a reachable set, for which no coverage is claimed.
        unscored: Predictions that could not be scored, by reason.
    """

    stamp_ns: int
    frame_id: str
    volumes: tuple[tuple[float, Coverage], ...]
    covariances: Coverage | None
    horizons_s: Horizons
    mpjpe_m: Horizons
    future_horizons_s: Float64[np.ndarray, ' later']
    log_density: Float64[np.ndarray, ' later']
    predictions: int
    futures: int
    fallbacks: float
    unscored: Counter[str]

    @property
    def warning_text(self) -> str:
        """Name each coverage that is lower than chance explains; empty if none."""
        coverages = [(f'volumes until {end:g} s', volume) for end, volume in self.volumes]
        if not coverages and self.covariances is not None:
            coverages = [('covariances', self.covariances)]
        return '; '.join(
            f'{name} covered {100 * coverage.share:.1f} %, expected {100 * coverage.level:g} %: '
            f'with {coverage.independent} independent windows chance explains only shares above '
            f'{100 * coverage.alarm_at:.1f} %'
            for name, coverage in coverages
            if coverage.is_low
        )


class Rows:
    """Moving mean of values by horizon, over the last seconds."""

    def __init__(self, memory_s: float) -> None:
        """Start without rows."""
        self._memory_s = memory_s
        self._rows: deque[tuple[float, Horizons]] = deque()
        self._horizons_s: Horizons = np.zeros(0)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._rows)

    def add(self, now_s: float, horizons_s: Horizons, row: Horizons) -> None:
        """Add a row; new horizons discard the old rows."""
        if not np.array_equal(horizons_s, self._horizons_s):
            self._rows.clear()
            self._horizons_s = horizons_s
        self._rows.append((now_s, row))

    def mean(self, now_s: float) -> tuple[Horizons, Horizons]:
        """Return the horizons and the mean at each; both empty without rows."""
        while self._rows and self._rows[0][0] < now_s - self._memory_s:
            self._rows.popleft()
        if not self._rows:
            return np.zeros(0), np.zeros(0)
        return self._horizons_s, np.mean([row for _, row in self._rows], axis=0)
