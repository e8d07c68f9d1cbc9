# SPDX-License-Identifier: Apache-2.0
"""Entry points of the executables.

Importing rclpy and torch takes seconds. A signal within them ends the process with code 0 and
without a traceback: nothing has begun that would have to be closed. Each program installs its own
signal handlers afterwards (`ros/process.py`).
"""

import importlib
import os
import signal
from collections.abc import Callable


def _program(module: str) -> Callable[[], int]:
    def run() -> int:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: os._exit(0))
        code: int = importlib.import_module(f'motion_predictor_ros.ros.{module}').main()
        return code

    return run


predictor_node = _program('predictor_node')
monitor_node = _program('monitor_node')
play_bag = _program('tools.play_bag')
record_bag = _program('tools.record_bag')
