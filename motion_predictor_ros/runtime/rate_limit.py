# SPDX-License-Identifier: Apache-2.0
"""Limit a rate by the stamps of the data, so that a replay selects the same as the live node.

Stamps are divided into periods that begin at multiples of 1 / rate:

    slot(stamp) = floor(stamp / period)

The first stamp of each slot passes. No clock is read.
"""

from motion_predictor_ros.conventions import NS_PER_S


class RateLimiter:
    """Lets the first stamp of each period pass.

    Example:
        >>> limiter = RateLimiter(10.0)
        >>> [limiter.is_due(stamp_ns) for stamp_ns in (0, 50_000_000, 100_000_000)]
        [True, False, True]

    Attributes:
        rate_hz: At most so many stamps a second pass [Hz]; may change at any time.
    """

    def __init__(self, rate_hz: float) -> None:
        self.rate_hz = rate_hz
        self._slot: int | None = None

    def is_due(self, stamp_ns: int, rate_hz: float | None = None) -> bool:
        """Return whether this stamp is in another period than the one that passed before it.

        Args:
            rate_hz: Replaces `rate_hz`.
        """
        self.rate_hz = rate_hz or self.rate_hz
        slot = stamp_ns // round(NS_PER_S / self.rate_hz)
        previous, self._slot = self._slot, slot
        return slot != previous

    def reset(self) -> None:
        """Let the next stamp pass, whatever it is."""
        self._slot = None
