# SPDX-License-Identifier: Apache-2.0
"""Training faster on the same machine: pairs in bfloat16, and memory that is not given back."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from motion_predictor_ros.prediction.layers import PairModule

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_TOP_PAD_BYTES = 256 * 2**20
_NEVER = 2**31 - 1


@contextmanager
def pairs_in(module: nn.Module, dtype: torch.dtype | None) -> Iterator[None]:
    """Compute the pairs of joints in `dtype`; states, nodes and weights stay what they are."""
    parts = [part for part in module.modules() if isinstance(part, PairModule)]
    before = [part.pair_dtype for part in parts]
    for part in parts:
        part.pair_dtype = dtype
    try:
        yield
    finally:
        for part, own in zip(parts, before, strict=True):
            part.pair_dtype = own


def keep_freed_memory() -> bool:
    """Ask glibc to keep freed memory for the next step; return whether it could.

    A step frees and asks again for hundreds of megabytes. Given back to the kernel, each page
    comes again as a page fault and zeroed.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    settings = {_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: _NEVER, _M_TOP_PAD: _TOP_PAD_BYTES}
    return all(mallopt(key, value) == 1 for key, value in settings.items())
