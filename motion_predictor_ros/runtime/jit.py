# SPDX-License-Identifier: Apache-2.0
"""Compilation of numba kernels: once per installation, cached on disk, without the GIL.

Any stage may use it. `motion-predictor warm-up` compiles all kernels; else the first start does.
Plain loops over elements compile fastest. Assigning a whole array to a part of another one brings
numba's shape errors with it, and sorting its generic code: both take longer than the loop.
"""

import gc
import importlib
import inspect
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numba import njit
from numba.core import event

_log = logging.getLogger(__name__)
_COMPILE = 'numba:compile'
_KERNELS: list[Any] = []


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
    options['no_cfunc_wrapper'] = True  # only C code could use it
    try:
        _KERNELS.append(njit(cache=True, **options)(written))
    except RuntimeError:  # numba: no place for its cache
        _KERNELS.append(njit(**options)(written))
    return _KERNELS[-1]


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
    with event.install_listener(_COMPILE, listener):
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
            self.count += (event.data or {}).get('kernels', 1)
            self.spent_s += time.monotonic() - self._begin_s
            self._on_kernel()


@contextmanager
def compile_ahead(*modules: str) -> Iterator[None]:
    """Compile modules in a second process while this one compiles in the body.

    numba compiles one kernel at a time in a process, whatever its threads. The second one starts
    with the first kernel that is not in the cache on disk. The end of the body waits for it, an
    exception ends it. Kernels that it fails to compile are compiled when they are first called.

    Args:
        modules: Names; they should not import torch, which takes as long as many kernels.
    """
    other = _SecondProcess(modules)
    try:
        with event.install_listener(_COMPILE, other):
            yield
        other.wait()
    finally:
        other.end()


class _SecondProcess(event.Listener):
    """Fills the cache on disk; ends with this process."""

    def __init__(self, modules: tuple[str, ...]) -> None:
        call = f'from {__name__} import _compile_all; _compile_all{modules}'
        cached = any(kernel.stats.cache_path for kernel in _KERNELS)
        self._command = [sys.executable, '-c', call] if modules and cached else []
        self._process: subprocess.Popen[str] | None = None

    def on_start(self, event: Any) -> None:
        """Start with the first kernel."""
        if not self._command:
            return
        command, self._command = self._command, []
        path = os.pathsep.join(filter(None, sys.path))
        try:  # in a session of its own: Ctrl-C is for this process
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                env={**os.environ, 'PYTHONPATH': path}, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            _log.warning('cannot compile ahead: %s', error)

    def on_end(self, event: Any) -> None:
        """Ignore the end."""

    def wait(self) -> None:
        """Wait until all is compiled; that counts as compilation."""
        if self._process is not None and self._process.stdout is not None:
            total = {'kernels': 0}
            with event.trigger_event(_COMPILE, data=total):
                total['kernels'] = int(self._process.stdout.read() or 0)
            if code := self._process.wait():
                _log.warning('compiling ahead failed: exit code %s', code)

    def end(self) -> None:
        """End the process, if it has not."""
        if self._process is not None:
            with self._process:
                self._process.kill()


def _compile_all(*modules: str) -> None:
    """Compile the kernels of modules; write to stdout how many were not in the cache.

    Types are those of annotations; arrays are contiguous. Ends where stdin ends.
    """
    threading.Thread(target=lambda: (os.read(0, 1), os._exit(1)), daemon=True).start()
    gc.disable()
    for module in modules:
        importlib.import_module(module)
    kernels = [kernel for kernel in _KERNELS if kernel.py_func.__module__ in modules]
    for kernel in kernels:
        hints = [p.annotation for p in inspect.signature(kernel.py_func).parameters.values()]
        kernel.compile(tuple(kernel.typeof_pyval(_example(hint)) for hint in hints))
    sys.stdout.write(str(sum(len(kernel.stats.cache_misses) for kernel in kernels)))


def _example(hint: Any) -> Any:
    if hint in (int, float):
        return hint()
    return np.empty((0,) * len(hint.dims), hint.dtypes[0])
