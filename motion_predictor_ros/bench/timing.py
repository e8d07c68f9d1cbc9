# SPDX-License-Identifier: Apache-2.0
"""Repeated timing of calls, a yardstick, and the name of the machine."""

import platform
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float64

from motion_predictor_ros.evaluation.tables import spread
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

    return spread(rounds_ms(forward, _ROUNDS, device)[:, 0])


def rounds_ms(
    call: Callable[[], object], count: int, device: torch.device | None = None
) -> Float64[np.ndarray, 'round kind=2']:
    """Time repeated calls [ms], after three that do not count.

    Returns:
        Wall time, which a robot waits for, and CPU time of this thread, independent of other load.
    """
    spent = []
    for _ in range(count + 3):
        begin = time.perf_counter(), time.thread_time()
        call()
        if device is not None and device.type == 'cuda':
            torch.cuda.synchronize()
        spent.append((time.perf_counter() - begin[0], time.thread_time() - begin[1]))
    return 1e3 * np.array(spent[3:])


def machine(device: torch.device) -> str:
    """Return the name of the GPU, or that of the CPU and its number of cores."""
    if device.type == 'cuda':
        return torch.cuda.get_device_name(device)
    info = Path('/proc/cpuinfo')
    text = info.read_text(encoding='utf-8') if info.exists() else ''
    names = re.findall(r'^model name\s*: (.+)$', text, re.MULTILINE)
    name = names[0] if names else platform.processor() or platform.machine()
    return f'{name}, {len(names) or torch.get_num_threads()} cores'
