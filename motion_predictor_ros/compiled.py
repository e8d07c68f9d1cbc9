# SPDX-License-Identifier: Apache-2.0
"""How kernels are compiled: once, kept on disk, without the interpreter's lock.

Any stage may use it.
"""

import inspect
from collections.abc import Callable
from typing import Any

from numba import njit


def compiled(function: Callable[..., Any]) -> Any:
    """Compile a function of arrays; divisions by zero give infinities, as in numpy.

    Tests check shapes by wrapping every function, which a compiler cannot read: it is given what
    was written. Where nothing can be kept on disk (a read-only file system), every process
    compiles anew.
    """
    written = inspect.unwrap(function)
    try:
        return njit(cache=True, nogil=True, error_model='numpy')(written)
    except RuntimeError:  # numba: no place for its cache
        return njit(nogil=True, error_model='numpy')(written)
