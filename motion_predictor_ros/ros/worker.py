# SPDX-License-Identifier: Apache-2.0
"""A thread that processes queued items, so that the executor never waits for the model."""

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar('T')


class Worker(Generic[T]):
    """Calls `work` with all queued items, oldest first, whenever there are any.

    Neither `work` nor `check` may raise: that would end the thread.

    Args:
        bound: Length of the queue.
        prepare: Runs first, in the worker's thread: torch initialises itself in each thread.
        check: Runs after each `work`, and whenever nothing came for `check_period_s`.
    """

    def __init__(
        self,
        bound: int,
        work: Callable[[list[T]], object],
        prepare: Callable[[], None],
        check: Callable[[], None] = lambda: None,
        check_period_s: float | None = None,
    ) -> None:
        self._waiting: deque[T] = deque(maxlen=bound)
        self._changed = threading.Condition()
        self._stopping = False
        self._work, self._prepare = work, prepare
        self._check, self._check_period_s = check, check_period_s
        self._prepared = threading.Event()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name='predict', daemon=True)

    def start(self) -> None:
        """Start the thread; return when it is prepared, or raise what prevented it."""
        self._thread.start()
        self._prepared.wait()
        if self._failure is not None:
            raise self._failure

    def put(self, item: T) -> bool:
        """Queue an item; return False if the oldest one was dropped for it."""
        with self._changed:
            room = len(self._waiting) < (self._waiting.maxlen or 0)
            self._waiting.append(item)
            self._changed.notify()
        return room

    def take_waiting(self) -> list[T]:
        """Return what is queued now; for `work`, which may look between its parts."""
        with self._changed:
            items = list(self._waiting)
            self._waiting.clear()
        return items

    def stop(self) -> None:
        """Finish the running `work`, drop queued items and end the thread."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        try:
            self._prepare()
        except Exception as error:
            self._failure = error
        self._prepared.set()
        while (items := self._take()) is not None:
            if items:
                self._work(items)
            self._check()

    def _take(self) -> list[T] | None:
        """Wait for items; empty if none came in time, None when stopping."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._stopping, self._check_period_s)
            if self._stopping:
                return None
        return self.take_waiting()
