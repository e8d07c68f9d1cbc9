# SPDX-License-Identifier: Apache-2.0
"""Work that is shared between the caller and a few threads.

Any stage may use it. Whoever is free takes the next piece. Where other work keeps the cores busy
a thread may not run for a long while: the caller never waits for one that has not begun.
"""

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any


class Crew:
    """The caller's thread and some more."""

    def __init__(self, threads: int) -> None:
        """Keep threads in readiness.

        Args:
            threads: The caller's included.
        """
        self._helpers = threads - 1
        self._pool = ThreadPoolExecutor(max(self._helpers, 1), 'crew')

    def run(self, pieces: Sequence[Callable[[], Any]]) -> list[Any]:
        """Return what each piece of work returns, in order; the longest should come first.

        Raises:
            Exception: Whatever a piece raises.
        """
        waiting = deque(enumerate(pieces))
        done: dict[int, Any] = {}

        def work() -> None:
            while waiting:
                try:
                    index, piece = waiting.popleft()
                except IndexError:  # another one was faster
                    return
                done[index] = piece()

        others = [self._pool.submit(work) for _ in range(min(self._helpers, len(pieces) - 1))]
        work()
        for each in others:
            if not each.cancel():
                each.result()
        return [done[index] for index in range(len(pieces))]
