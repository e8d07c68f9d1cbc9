# SPDX-License-Identifier: Apache-2.0
"""How long each stage of the pipeline took, for diagnostics and reports; nothing depends on it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

STAGES = ('skeleton', 'prediction', 'density', 'volume')
"""In the order in which an observation meets them."""


class StageTimes:
    """Counts one answer after the other.

    Attributes:
        last_ms: What each stage took for the last answer [ms]; a stage that was not due is not
            there. Futures are drawn while the prediction is solved: what that takes beyond it
            counts as density. A new object for each answer, so that it may be kept.
        last_processor_ms: The same of all processors, whatever else the machine did [ms].
    """

    def __init__(self) -> None:
        self.last_ms: dict[str, float] = {}
        self.last_processor_ms: dict[str, float] = {}
        self._running_ms: dict[str, float] = {}
        self._running_processor_ms: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str, *, counts: bool = True) -> Iterator[None]:
        """Add the time of the body of the `with` to the current answer.

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

    def answered(self) -> None:
        """The answer in hand is complete; what comes now counts towards the next one."""
        self.last_ms, self._running_ms = self._running_ms, {}
        self.last_processor_ms, self._running_processor_ms = self._running_processor_ms, {}


def _add(spent_ms: dict[str, float], name: str, more_s: float) -> None:
    spent_ms[name] = spent_ms.get(name, 0.0) + 1000.0 * more_s
