# SPDX-License-Identifier: Apache-2.0
"""One pool of threads, which all stages share.

A free thread takes the next piece of what was begun last: the newest observation goes first. On a
busy machine a thread may not run for long, so the caller never waits for a piece that has not
started: it does it itself. Linux may start a woken thread on the core of its waker although
another is idle, so threads are kept off that core.
"""

import ctypes
import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from itertools import takewhile
from typing import Any

import torch
from threadpoolctl import ThreadpoolController

_POLL_S = 0.0005
_log = logging.getLogger(__name__)


def init_worker_thread() -> None:
    """Apply torch's number of threads in the calling thread.

    In a new thread OpenMP and MKL use a thread per core until torch's number is read: small
    products become slower, and round differently.
    """
    torch.get_num_threads()


def limit_blas() -> None:
    """Let numpy's and scipy's matrix products use one thread each, in the whole process.

    People and stages are what threads share here; products are too small to be shared. Kernels
    take scipy's BLAS, which a distribution may have built with the slow reference one.
    """
    libraries = ThreadpoolController().select(user_api='blas')
    libraries.limit(limits=1)
    if not libraries.info():
        _log.warning('no OpenBLAS, MKL or BLIS: products are slow; apt install libopenblas0')


_core = getattr(ctypes.CDLL(None), 'sched_getcpu', lambda: -1)


def _usable_cores() -> set[int]:
    """Return the cores that this process may use; none on systems without affinity."""
    return os.sched_getaffinity(0) if hasattr(os, 'sched_setaffinity') else set()


class _Batch:
    """Pieces of work that several threads take from."""

    def __init__(self, pieces: Sequence[Callable[[], Any]]) -> None:
        self.waiting = deque(enumerate(pieces))
        self.results: list[Any] = [None] * len(pieces)
        self._unfinished, self._finished = len(pieces), threading.Condition()
        self.error: BaseException | None = None

    def work(self) -> bool:
        """Do one waiting piece; return whether there was any."""
        try:
            index, piece = self.waiting.popleft()
        except IndexError:
            return False
        try:
            self.results[index] = piece()
        except BaseException as error:
            self.error = error
        with self._finished:
            self._unfinished -= 1
            self._finished.notify_all()
        return True

    def is_done(self, timeout_s: float) -> bool:
        """Wait for pieces that other threads have begun; return whether all are done."""
        with self._finished:
            return self._finished.wait_for(lambda: not self._unfinished, timeout_s)


class WorkerPool:
    """The caller's thread and some more, for as long as the pool is open.

    Args:
        threads: The caller's included.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._native_ids: list[int] = []
        self._cores, self._caller = _usable_cores(), -1
        self._batches: list[_Batch] = []
        self._pool = ThreadPoolExecutor(max(threads - 1, 1), 'worker', self._enlist)

    def close(self) -> None:
        """End the threads, once they have finished their work."""
        self._pool.shutdown()

    def _enlist(self) -> None:
        init_worker_thread()
        self._native_ids.append(threading.get_native_id())
        self._caller = -1

    def _make_way(self) -> None:
        """Keep the threads off the core that the caller runs on now, if there are others."""
        core = _core()
        if core != self._caller and len(self._cores) > 1:
            self._caller = core
            try:
                for thread in self._native_ids:
                    os.sched_setaffinity(thread, self._cores - {core})
            except OSError:  # not allowed here
                self._cores = set()

    def run(
        self, pieces: Sequence[Callable[[], Any]], between: Callable[[], None] = lambda: None
    ) -> list[Any]:
        """Return what each piece of work returns, in order; the longest should come first.

        A piece may itself run pieces here.

        Args:
            between: Called between the pieces that the caller does; other threads work on.

        Raises:
            Exception: Whatever a piece raises.
        """
        batch = _Batch(pieces)
        if threading.get_native_id() not in self._native_ids:
            self._make_way()
        self._batches.append(batch)
        try:
            for _ in range(min(self.threads, len(pieces)) - 1):
                self._pool.submit(self._work)
            while batch.work():
                if batch.waiting:
                    between()
        finally:
            while batch.work() or not batch.is_done(_POLL_S):
                self._help(batch)
            self._batches.remove(batch)
        if batch.error is not None:
            raise batch.error
        return batch.results

    def _work(self) -> None:
        """Do pieces until none waits, those of the newest batch first."""
        while any(batch.work() for batch in self._batches[::-1]):
            pass

    def _help(self, awaited: _Batch | None) -> bool:
        """Do a piece of a batch begun after the awaited one; return whether any waited."""
        newer = takewhile(lambda batch: batch is not awaited, self._batches[::-1])
        return any(batch.work() for batch in newer)

    @contextmanager
    def submit(self, piece: Callable[[], Any]) -> Iterator[Callable[[], Any]]:
        """Begin a piece in another thread; yield what returns its result.

        Asking for the result does the piece, where no thread has begun it, or waits for it.
        """
        self._make_way()
        awaited = self._batches[-1] if self._batches else None
        other = self._pool.submit(piece) if self.threads > 1 else None

        def result() -> Any:
            if other is None or other.cancel():
                return piece()
            while not other.done():
                if not self._help(awaited):
                    wait([other], _POLL_S)
            return other.result()

        try:
            yield result
        finally:
            if other is not None and not other.cancel():
                wait([other])
