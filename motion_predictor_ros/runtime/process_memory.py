# SPDX-License-Identifier: Apache-2.0
"""Memory of this process: measured, kept from the kernel, and exempt from garbage collection."""

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

_KB_PER_MB = 1024.0


def resident_mb(pid: int | str = 'self') -> float | None:
    """Read a process's resident memory [MiB]; None if it ended, or without /proc."""
    try:
        lines = Path(f'/proc/{pid}/status').read_text(encoding='utf-8').splitlines()
        return (
            int(next(line.split()[1] for line in lines if line.startswith('VmRSS:'))) / _KB_PER_MB
        )
    except (OSError, StopIteration):
        return None


def memory_facts(device: torch.device) -> dict[str, str]:
    """Report this process's memory, and on a GPU what its tensors and torch's cache take there."""
    resident = resident_mb()
    facts = {} if resident is None else {'memory_mb': f'{resident:.0f}'}
    if device.type == 'cuda':
        held = torch.cuda.memory_allocated(device), torch.cuda.memory_reserved(device)
        names = 'device_memory_mb', 'device_memory_reserved_mb'
        facts |= {name: f'{size / 2**20:.0f}' for name, size in zip(names, held, strict=True)}
    return facts


_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_TOP_PAD_BYTES = 256 * 2**20
_NEVER = 2**31 - 1


def disable_malloc_trim() -> bool:
    """Let glibc keep freed memory for the next step; return whether it could.

    Each step frees megabytes (in training, hundreds) and allocates them again. Returned to the
    kernel, every page costs a page fault.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    settings = {_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: _NEVER, _M_TOP_PAD: _TOP_PAD_BYTES}
    return all(mallopt(key, value) == 1 for key, value in settings.items())


@contextmanager
def without_gc() -> Iterator[None]:
    """Collect no garbage in the body: a sixth of the time in which kernels are compiled."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def freeze_gc() -> None:
    """Exempt all present objects from garbage collection, once everything is loaded.

    A full collection visits every object of torch and numba: a pause in which a live node falls
    behind. `gc.unfreeze` undoes it.
    """
    gc.collect()
    gc.freeze()
