# SPDX-License-Identifier: Apache-2.0
"""Warnings throttled by what they are about.

rclpy throttles by source line, which would let the flood of one fault hide the first of another.
"""

import time
from typing import Any

PERIOD_S = 5.0
MAX_MESSAGES = 100


class ThrottledLog:
    """Warns of the first of each reason at once, then at most every `PERIOD_S` per reason."""

    def __init__(self, logger: Any) -> None:
        self._logger = logger
        self._said_s: dict[str, float] = {}
        self._unsaid: dict[str, int] = {}
        self._said: set[tuple[str, str]] = set()

    def warn_once(self, reason: str, message: str) -> None:
        """Log a message that was not logged before; at most `MAX_MESSAGES` of them."""
        if (reason, message) not in self._said and len(self._said) < MAX_MESSAGES:
            self._said.add((reason, message))
            self._logger.warning(f'{reason}: {message}')

    def warn(self, reason: str, message: str) -> None:
        """Log the message, or count it towards the next one with this reason."""
        now_s = time.monotonic()
        if now_s - self._said_s.get(reason, -PERIOD_S) < PERIOD_S:
            self._unsaid[reason] = self._unsaid.get(reason, 0) + 1
            return
        more = self._unsaid.pop(reason, 0)
        self._said_s[reason] = now_s
        self._logger.warning(
            f'{reason}: {message}' + (f' ({more} more since last said)' if more else '')
        )
