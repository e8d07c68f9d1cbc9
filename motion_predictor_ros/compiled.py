# SPDX-License-Identifier: Apache-2.0
"""How kernels are compiled: once, kept on disk, without the interpreter's lock.

Any stage may use it.
"""

import inspect
from collections.abc import Callable, Iterable
from typing import Any

from numba import njit


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
