# SPDX-License-Identifier: Apache-2.0
"""Entry points of the executables.

Importing rclpy and torch takes seconds. A signal within them ends the process with code 0 and
without a traceback: nothing has begun that would have to be closed. Each program installs its own
signal handlers afterwards (`ros/process.py`).
"""

import os
import signal


def predictor_node() -> int:
    """Run the predictor."""
    _exit_on_signals()
    from motion_predictor_ros.ros.predictor_node import main

    return main()


def monitor_node() -> int:
    """Run the monitor."""
    _exit_on_signals()
    from motion_predictor_ros.ros.monitor_node import main

    return main()


def play_bag() -> int:
    """Run the player."""
    _exit_on_signals()
    from motion_predictor_ros.ros.tools.play_bag import main

    return main()


def record_bag() -> int:
    """Run the recorder."""
    _exit_on_signals()
    from motion_predictor_ros.ros.tools.record_bag import main

    return main()


def _exit_on_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: os._exit(0))
