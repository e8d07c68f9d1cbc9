# SPDX-License-Identifier: Apache-2.0
"""Choose between CPU and GPU by measurement.

Any stage may use it. For one person a small model is often faster on a CPU: which is faster is
known only on the machine itself.
"""

import statistics
import time
from collections.abc import Callable
from typing import Protocol, TypeVar, runtime_checkable

import torch

_CPU, _GPU = torch.device('cpu'), torch.device('cuda:0')
_ROUNDS = 5


@runtime_checkable
class Timeable(Protocol):
    """A predictor that can answer for a synthetic person."""

    def warm_up(self) -> None:
        """Answer once."""


TimeableT = TypeVar('TimeableT', bound=Timeable)


def load_on_faster(load: Callable[[torch.device], TimeableT]) -> tuple[TimeableT, str]:
    """Load on the CPU and on the first GPU, and warm up; keep the one that answers faster.

    Each answers for a synthetic person once to warm up and then a few times, of which the median
    counts. A GPU that fails is not taken, and without a GPU nothing is measured.

    Returns:
        The predictor, and both times or why the CPU was taken.

    Raises:
        MotionPredictorError: It cannot be loaded on the CPU.
    """
    on_cpu = load(_CPU)
    if not torch.cuda.is_available():
        on_cpu.warm_up()
        return on_cpu, 'cpu: no GPU is visible'
    cpu_ms = _answer_ms(on_cpu, _CPU)
    try:
        on_gpu = load(_GPU)
        gpu_ms = _answer_ms(on_gpu, _GPU)
    except Exception as error:
        return on_cpu, f'cpu: {_GPU} failed: {type(error).__name__}: {error}'
    times = f'{_CPU} {cpu_ms:.2f} ms, {_GPU} {gpu_ms:.2f} ms'
    return (on_gpu, f'{_GPU}: {times}') if gpu_ms < cpu_ms else (on_cpu, f'{_CPU}: {times}')


def _answer_ms(predictor: Timeable, device: torch.device) -> float:
    """Return the median time of an answer [ms]."""
    spent_ms = []
    for _ in range(1 + _ROUNDS):
        begin_s = time.perf_counter()
        predictor.warm_up()
        torch.zeros((), device=device).item()  # waits for the GPU
        spent_ms.append(1e3 * (time.perf_counter() - begin_s))
    return statistics.median(spent_ms[1:])
