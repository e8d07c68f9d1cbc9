# SPDX-License-Identifier: Apache-2.0
"""How kernels are compiled: once, kept on disk, without the interpreter's lock.

Any stage may use it. Compilation is waited for once (`startup_s` of `bench pipeline --json` after
an installation). A plain loop is soon compiled; what numba brings with it is not, above all
assigning an array to a part of another (it can say what shapes did not fit) and sorting.
"""

import inspect
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from numba import njit
from numba.core import event


def compiled(function: Callable[..., Any], *, rounding: Iterable[str] = ()) -> Any:
    """Compile a function of arrays; divisions by zero give infinities, as in numpy.

    Tests check shapes by wrapping every function, which a compiler cannot read: it is given what
    was written. Where nothing can be kept on disk (a read-only file system), every process
    compiles anew.

    Args:
        rounding: What the compiler may do that changes rounding: 'contract' a product and a sum
            into one operation, 'reassoc'iate sums, so that they become vectors.
    """
    written = inspect.unwrap(function)
    options: dict[str, Any] = {'nogil': True, 'error_model': 'numpy', 'fastmath': set(rounding)}
    try:
        return njit(cache=True, **options)(written)
    except RuntimeError:  # numba: no place for its cache
        return njit(**options)(written)


@contextmanager
def log_compilation(say: Callable[[str], None]) -> Iterator[None]:
    """Say when the body of the `with` has to wait for a compiler, and for how long it did."""
    listener = _Compilations(say)
    with event.install_listener('numba:compile', listener):
        yield
    if listener.count:
        say(f'compiled {listener.count} loops in {listener.spent_s:.0f} s')


class _Compilations(event.Listener):
    """Counts what is compiled; what is found on disk is not."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.count, self.spent_s = 0, 0.0
        self._say, self._depth, self._begin_s = say, 0, 0.0

    def on_start(self, event: Any) -> None:
        """Compilation begins, perhaps of what another one needs."""
        if not self.count and not self._depth:
            self._say('compiling for this processor, once per installation: up to a minute')
        if not self._depth:
            self._begin_s = time.monotonic()
        self._depth += 1

    def on_end(self, event: Any) -> None:
        """Compilation ends."""
        self._depth -= 1
        if not self._depth:
            self.count += 1
            self.spent_s += time.monotonic() - self._begin_s
