# SPDX-License-Identifier: Apache-2.0
"""Compilation of numba kernels: once per installation, cached on disk, without the GIL.

Any stage may use it. `motion-predictor warm-up` compiles all kernels; else the first start does.
Plain loops over elements compile fastest. Assigning a whole array to a part of another one brings
numba's shape errors with it, and sorting its generic code: both take longer than the loop.
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

    The shape checks that tests wrap around functions are removed first: numba cannot read them.
    Where nothing can be cached on disk (a read-only file system), every process compiles anew.

    Args:
        rounding: LLVM's fast-math flags that may change rounding: 'contract' fuses a product and
            a sum, 'reassoc' reorders sums so that they become vector instructions.
    """
    written = inspect.unwrap(function)
    options: dict[str, Any] = {'nogil': True, 'error_model': 'numpy', 'fastmath': set(rounding)}
    try:
        return njit(cache=True, **options)(written)
    except RuntimeError:  # numba: no place for its cache
        return njit(**options)(written)


def inlined(
    function: Callable[..., Any], *, rounding: Iterable[str] = (), early: bool = False
) -> Any:
    """Compile a function that only kernels call, within each of them: Python cannot call it.

    Args:
        rounding: As `compiled`.
        early: Never compile it by itself: half the time for a long function with one caller,
            whose `rounding` it takes.
    """
    options: dict[str, Any] = {'no_cpython_wrapper': True, 'no_cfunc_wrapper': True}
    options |= {'nogil': True, 'error_model': 'numpy', 'fastmath': set(rounding)}
    return njit(**options, inline='always' if early else 'never')(inspect.unwrap(function))


@contextmanager
def log_compilation(
    log: Callable[[str], None], on_kernel: Callable[[], None] = lambda: None
) -> Iterator[None]:
    """Log the beginning of compilation in the body of the `with`, and how long it took.

    Args:
        on_kernel: Called before and after each kernel is compiled, not for cached ones.
    """
    listener = _Compilations(log, on_kernel)
    with event.install_listener('numba:compile', listener):
        yield
    if listener.count:
        log(f'compiled {listener.count} kernels in {listener.spent_s:.0f} s')


class _Compilations(event.Listener):
    """Counts compiled kernels; cached ones raise no event."""

    def __init__(self, log: Callable[[str], None], on_kernel: Callable[[], None]) -> None:
        self.count, self.spent_s = 0, 0.0
        self._log, self._on_kernel = log, on_kernel
        self._depth, self._begin_s = 0, 0.0

    def on_start(self, event: Any) -> None:
        """Compilation starts, perhaps of a function that another kernel calls."""
        if not self._depth:
            if not self.count:
                self._log(
                    'compiling for this processor, once per installation (at install time: '
                    'motion-predictor warm-up)'
                )
            self._on_kernel()
            self._begin_s = time.monotonic()
        self._depth += 1

    def on_end(self, event: Any) -> None:
        """Compilation ends."""
        self._depth -= 1
        if not self._depth:
            self.count += 1
            self.spent_s += time.monotonic() - self._begin_s
            self._on_kernel()
