# SPDX-License-Identifier: Apache-2.0
"""Coverage over the last seconds, and a binomial test whether it is too low.

Overlapping or adjacent windows of one person are correlated. The share is taken over all windows;
but only one per `independent_s` and person counts as a trial of the binomial distribution.
"""

import math
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass

from scipy.stats import binom


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
        self._prune(now_s)
        if not self._trials:
            return None
        count = len(self._trials)
        independent = len({key for _, key, _ in self._trials})
        share = sum(inside for _, _, inside in self._trials) / count
        limit = alarm_at(self._level, independent, significance)
        return Coverage(self._level, share, count, independent, limit)

    def _prune(self, now_s: float) -> None:
        while self._trials and self._trials[0][0] < now_s - self._memory_s:
            self._trials.popleft()
