# SPDX-License-Identifier: Apache-2.0
"""How often what was promised came true lately, and whether chance alone explains that.

Windows of one person that overlap, or follow each other closely, succeed and fail together. The
share is taken over all of them, which is no less certain than that over some; but only one in
each stretch of `independent_s` of a person counts as a trial of the binomial law.
"""

import math
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass

from scipy.stats import binom


@dataclass(frozen=True)
class Coverage:
    """How a promise was kept.

    Attributes:
        level: What was promised.
        share: How often it held.
        windows: Over how many windows that was counted.
        independent: How many of them count as independent.
        alarm_at: Shares up to this are lower than chance explains; below 0: too few windows to
            tell.
    """

    level: float
    share: float
    windows: int
    independent: int
    alarm_at: float

    @property
    def is_low(self) -> bool:
        """Whether the promise is kept less often than sampling error explains."""
        return self.share <= self.alarm_at + 1e-12


def alarm_at(level: float, independent: int, significance: float) -> float:
    """Return the largest share k / n with P(at most k of n hold) < `significance`.

    Negative if there is none: then n trials cannot tell.
    """
    return float(binom.ppf(significance, independent, level) - 1) / independent


class Tally:
    """Trials of one promise, the oldest forgotten."""

    def __init__(self, level: float, memory_s: float, independent_s: float) -> None:
        """Begin without any.

        Args:
            memory_s: How long trials count [s].
            independent_s: Windows of a person this far apart are taken as independent [s].
        """
        self._level, self._memory_s, self._independent_s = level, memory_s, independent_s
        self._trials: deque[tuple[float, Hashable, float]] = deque()

    def add(self, now_s: float, who: Hashable, held: float) -> None:
        """Note a trial.

        Args:
            now_s: On a clock that never goes back.
            who: Whose it was.
            held: 1 if the promise held, 0 if not; or for which share of the parts it did.
        """
        stretch = math.floor(now_s / self._independent_s)
        self._trials.append((now_s, (who, stretch), held))

    def coverage(self, now_s: float, significance: float) -> Coverage | None:
        """Return how the promise was kept; None without trials.

        Args:
            significance: Probability that chance alone raises the alarm, at each look.
        """
        self._forget(now_s)
        if not self._trials:
            return None
        count = len(self._trials)
        independent = len({key for _, key, _ in self._trials})
        share = sum(held for _, _, held in self._trials) / count
        limit = alarm_at(self._level, independent, significance)
        return Coverage(self._level, share, count, independent, limit)

    def _forget(self, now_s: float) -> None:
        while self._trials and self._trials[0][0] < now_s - self._memory_s:
            self._trials.popleft()
