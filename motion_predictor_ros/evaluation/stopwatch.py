# SPDX-License-Identifier: Apache-2.0
"""How long calls take, by name, and what machine took that long."""

import platform
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, ParamSpec, TypeVar

import numpy as np
import torch

P = ParamSpec('P')
R = TypeVar('R')


class Spent(NamedTuple):
    """What one call took [ms].

    Attributes:
        passed: What a robot waits for.
        own: The processor's time for this thread, whatever else the machine does.
    """

    passed: float
    own: float


class Stopwatch:
    """Collects what calls took.

    Attributes:
        spent: Of every call, by name.
    """

    def __init__(self, device: torch.device) -> None:
        self.spent: dict[str, list[Spent]] = defaultdict(list)
        self._on_gpu = device.type == 'cuda'

    def timed(self, name: str, function: Callable[P, R]) -> Callable[P, R]:
        """Return a function that does the same and is counted; a GPU's work is waited for."""

        def counted(*args: P.args, **kwargs: P.kwargs) -> R:
            begin, own = time.perf_counter(), time.thread_time()
            result = function(*args, **kwargs)
            if self._on_gpu:
                torch.cuda.synchronize()
            own, passed = time.thread_time() - own, time.perf_counter() - begin
            self.spent[name].append(Spent(1e3 * passed, 1e3 * own))
            return result

        return counted


def spread(spent: Sequence[Spent]) -> dict[str, float]:
    """Return median and 99th percentile of the time that passed, and the thread's median [ms]."""
    passed, own = np.array(spent).T
    p50, p99 = np.percentile(passed, (50, 99))
    return {'p50': float(p50), 'p99': float(p99), 'processor': float(np.median(own))}


def rounds(answer: Callable[[], object], count: int, device: torch.device) -> list[Spent]:
    """Return what each of many calls took, after a few that do not count."""
    watch = Stopwatch(device)
    counted = watch.timed('', answer)
    for _ in range(count + 3):
        counted()
    return watch.spent[''][3:]


def machine(device: torch.device) -> str:
    """Name the GPU, or the CPU and how many of its cores are there."""
    if device.type == 'cuda':
        return torch.cuda.get_device_name(device)
    cores = torch.get_num_threads() if not Path('/proc/cpuinfo').exists() else None
    lines = [] if cores else Path('/proc/cpuinfo').read_text(encoding='utf-8').splitlines()
    models = [line.split(':', 1)[1].strip() for line in lines if line.startswith('model name')]
    name = models[0] if models else platform.processor() or platform.machine()
    return f'{name}, {len(models) or cores} cores'
