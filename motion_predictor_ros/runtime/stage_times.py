# SPDX-License-Identifier: Apache-2.0
"""Time of each stage of the pipeline, for diagnostics and reports."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

STAGES = ('skeleton', 'prediction', 'density', 'volume')
"""In the order of the pipeline."""


class StageTimes:
    """Times of one scene after the other.

    Attributes:
        last_ms: Time of each stage that was due, for the last scene [ms]; a new dict per scene.
            Futures are drawn while the prediction is solved: only the rest counts as density.
        last_processor_ms: The same in processor time of all threads [ms].
    """

    def __init__(self) -> None:
        self.last_ms: dict[str, float] = {}
        self.last_processor_ms: dict[str, float] = {}
        self._running_ms: dict[str, float] = {}
        self._running_processor_ms: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str, *, counts: bool = True) -> Iterator[None]:
        """Add the time of the body of the `with` to the current scene.

        Args:
            counts: False where the stage was not due: nothing is added.
        """
        assert name in STAGES, name
        if not counts:
            yield
            return
        begin_s, begin_processor_s = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            _add(self._running_ms, name, time.perf_counter() - begin_s)
            _add(self._running_processor_ms, name, time.process_time() - begin_processor_s)

    @contextmanager
    def suspended(self, name: str) -> Iterator[None]:
        """Count the body of the `with` towards other scenes, not towards the stage around it."""
        kept_ms, kept_processor_ms = self._running_ms, self._running_processor_ms
        self._running_ms, self._running_processor_ms = {}, {}
        begin_s, begin_processor_s = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            _add(kept_ms, name, begin_s - time.perf_counter())
            _add(kept_processor_ms, name, begin_processor_s - time.process_time())
            self._running_ms, self._running_processor_ms = kept_ms, kept_processor_ms

    def complete(self) -> None:
        """Complete the current scene; later times count towards the next one."""
        self.last_ms, self._running_ms = self._running_ms, {}
        self.last_processor_ms, self._running_processor_ms = self._running_processor_ms, {}


def _add(spent_ms: dict[str, float], name: str, more_s: float) -> None:
    spent_ms[name] = spent_ms.get(name, 0.0) + 1000.0 * more_s
