# SPDX-License-Identifier: Apache-2.0
"""Kernels run whether or not what was compiled can be kept."""

from typing import Any

import pytest
from numba import njit

from motion_predictor_ros.runtime.jit import compiled, log_compilation


def of_no_file() -> Any:
    """Return a function that stands in no file, so that numba has no place for it."""
    names: dict[str, Any] = {}
    exec('def half(x):\n    return 1.0 / x', names)
    return names['half']


def test_what_cannot_be_kept_is_compiled_all_the_same() -> None:
    assert compiled(of_no_file())(0.0) == float('inf')


def test_numba_refuses_to_keep_it() -> None:
    with pytest.raises(RuntimeError, match='cannot cache'):
        njit(cache=True)(of_no_file())


def test_compilation_is_logged_once_and_each_kernel_reported() -> None:
    half, logged, kernels = compiled(of_no_file()), list[str](), list[int]()
    with log_compilation(logged.append, lambda: kernels.append(len(logged))):
        half(3.0)
        compiled(of_no_file())(3)
    assert len(logged) == 2 and kernels == [1] * 4  # before and after each
    assert logged[0].startswith('compiling') and logged[1].startswith('compiled 2 kernels')
    with log_compilation(logged.append, lambda: kernels.append(0)):
        half(4.0)
    assert len(logged) == 2 and len(kernels) == 4  # control: it was compiled already
