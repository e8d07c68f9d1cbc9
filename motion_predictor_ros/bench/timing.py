# SPDX-License-Identifier: Apache-2.0
"""Repeated timing of calls, a yardstick, and the name of the machine."""

import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from motion_predictor_ros.prediction.motion_deq.model import MotionDEQConfig
from motion_predictor_ros.skeleton.frame import Window
from motion_predictor_ros.training.baselines.unrolled import EqMotionStyle

_ROUNDS = 50


def eqmotion_style_ms(
    windows: Sequence[Window], shape: MotionDEQConfig, device: torch.device
) -> dict[str, float]:
    """Time one forward pass of the untrained yardstick network for these people [ms]."""
    network = EqMotionStyle(shape).float().to(device).eval().requires_grad_(False)
    positions = np.stack([window.positions for window in windows])
    observed = torch.from_numpy(positions - positions[:, -1:, :1]).float()

    def forward() -> np.ndarray:
        with torch.inference_mode():
            return network(observed.to(device)).cpu().numpy()

    return spread(rounds_ms(forward, _ROUNDS, device))


def spread(spent_ms: Sequence[float]) -> dict[str, float]:
    """Return median and 99th percentile [ms]."""
    p50, p99 = np.percentile(np.asarray(spent_ms), (50, 99))
    return {'p50': float(p50), 'p99': float(p99)}


def rounds_ms(call: Callable[[], object], count: int, device: torch.device) -> list[float]:
    """Time repeated calls [ms], after three that do not count."""
    spent = []
    for _ in range(count + 3):
        begin = time.perf_counter()
        call()
        if device.type == 'cuda':
            torch.cuda.synchronize()
        spent.append(1e3 * (time.perf_counter() - begin))
    return spent[3:]


def machine(device: torch.device) -> str:
    """Return the name of the GPU, or that of the CPU and its number of cores."""
    if device.type == 'cuda':
        return torch.cuda.get_device_name(device)
    cores = torch.get_num_threads() if not Path('/proc/cpuinfo').exists() else None
    lines = [] if cores else Path('/proc/cpuinfo').read_text(encoding='utf-8').splitlines()
    models = [line.split(':', 1)[1].strip() for line in lines if line.startswith('model name')]
    name = models[0] if models else platform.processor() or platform.machine()
    return f'{name}, {len(models) or cores} cores'
