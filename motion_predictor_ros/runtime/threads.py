# SPDX-License-Identifier: Apache-2.0
"""Work that is shared between the caller and a few threads.

Any stage may use it. Whoever is free takes the next piece. Where other work keeps the cores busy
a thread may not run for a long while: the caller never waits for one that has not begun.

A thread that is woken may begin on the core of whoever woke it, although another one is idle, and
share it for milliseconds: threads are kept off the caller's core.
"""

import ctypes
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any

import torch


def init_worker_thread() -> None:
    """Let torch's number of threads hold in the thread that calls.

    In a new one OpenMP and MKL take a thread for each core until torch is asked: small products
    become slower, and may round otherwise than where one thread does them.
    """
    torch.get_num_threads()


_core = getattr(ctypes.CDLL(None), 'sched_getcpu', lambda: -1)


def _usable_cores() -> set[int]:
    """Return the cores that this process may use; none where the system cannot tell."""
    return os.sched_getaffinity(0) if hasattr(os, 'sched_setaffinity') else set()


class WorkerPool:
    """The caller's thread and some more."""

    def __init__(self, threads: int) -> None:
        """Keep threads in readiness.

        Args:
            threads: The caller's included.
        """
        self._helpers = threads - 1
        self._threads: list[int] = []
        self._cores, self._caller = _usable_cores(), -1
        self._pool = ThreadPoolExecutor(max(self._helpers, 1), 'worker', self._enlist)

    def _enlist(self) -> None:
        init_worker_thread()
        self._threads.append(threading.get_native_id())
        self._caller = -1

    def _make_way(self) -> None:
        """Keep the threads off the core that the caller runs on now, if there are others."""
        core = _core()
        if core != self._caller and len(self._cores) > 1:
            self._caller = core
            try:
                for thread in self._threads:
                    os.sched_setaffinity(thread, self._cores - {core})
            except OSError:  # it is not allowed here
                self._cores = set()

    def run(self, pieces: Sequence[Callable[[], Any]]) -> list[Any]:
        """Return what each piece of work returns, in order; the longest should come first.

        A piece may itself run pieces here: they are shared if its caller's thread asks.

        Raises:
            Exception: Whatever a piece raises.
        """
        if threading.get_native_id() in self._threads:
            return [piece() for piece in pieces]
        waiting = deque(enumerate(pieces))
        done: dict[int, Any] = {}

        def work() -> None:
            while waiting:
                try:
                    index, piece = waiting.popleft()
                except IndexError:  # another one was faster
                    return
                done[index] = piece()

        self._make_way()
        others = [self._pool.submit(work) for _ in range(min(self._helpers, len(pieces) - 1))]
        work()
        for each in others:
            if not each.cancel():
                each.result()
        return [done[index] for index in range(len(pieces))]

    @contextmanager
    def submit(self, piece: Callable[[], Any]) -> Iterator[Callable[[], Any]]:
        """Begin a piece in another thread; yield what returns its result.

        Whoever asks for the result waits for it, or does the piece where no thread has begun it.
        """
        self._make_way()
        other = self._pool.submit(piece) if self._helpers else None

        def result() -> Any:
            return piece() if other is None or other.cancel() else other.result()

        try:
            yield result
        finally:
            if other is not None and not other.cancel():
                wait([other])
