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
            there. A new object for each answer, so that it may be kept.
    """

    def __init__(self) -> None:
        self.last_ms: dict[str, float] = {}
        self._running_ms: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count what the body of the `with` takes towards the answer in hand."""
        assert name in STAGES, name
        begin_s = time.perf_counter()
        try:
            yield
        finally:
            spent_ms = 1000.0 * (time.perf_counter() - begin_s)
            self._running_ms[name] = self._running_ms.get(name, 0.0) + spent_ms

    def answered(self) -> None:
        """The answer in hand is complete; what comes now counts towards the next one."""
        self.last_ms, self._running_ms = self._running_ms, {}
