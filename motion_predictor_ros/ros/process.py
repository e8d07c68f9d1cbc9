# SPDX-License-Identifier: Apache-2.0
"""How our executables begin and end: clear errors, no traceback, exit code 0 on a signal."""

import gc
import math
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node


@contextmanager
def ros(args: Sequence[str] | None) -> Iterator[None]:
    """Start ROS, and end it on the way out; a signal ends it too, which `rclpy.ok()` tells.

    Exits with code 2 if ROS refuses its arguments.
    """
    # rclpy's handler ends the context and then calls this one; Python's own would raise
    # KeyboardInterrupt wherever it strikes, half-way through the cleanup too.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _Signals.strike)
    try:
        rclpy.init(args=None if args is None else [sys.argv[0], *args])
    except Exception as error:
        print(f'error: {error}', file=sys.stderr)  # noqa: T201
        sys.exit(2)
    try:
        yield
    finally:
        rclpy.try_shutdown()
        gc.freeze()  # the process ends: what is left need not be taken apart


class _Signals:
    """What a signal does besides ending ROS: nothing, unless something is to be broken off."""

    breaking = False

    @classmethod
    def strike(cls, number: int, frame: object) -> None:
        """Be called by Python once rclpy has ended the context."""
        if cls.breaking:
            cls.breaking = False
            raise KeyboardInterrupt


@contextmanager
def broken_off_by_signals() -> Iterator[None]:
    """Have a signal break the body off, wherever it strikes: for work that lasts seconds.

    What follows the body goes on as usual; whatever the body began must be fit to be closed. What
    fails only because ROS has ended, or because a library made another error of it, is no error.
    """
    try:
        try:
            _Signals.breaking = True
            yield
        finally:
            _Signals.breaking = False
    except KeyboardInterrupt:
        return
    except Exception:
        if rclpy.ok():
            raise


def spin(node: Node, seconds: float = math.inf) -> None:
    """Run callbacks until ROS or the time ends; one that raises is logged and forgiven."""
    if not rclpy.ok():
        return
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    end_s = time.monotonic() + seconds
    while rclpy.ok() and (left_s := end_s - time.monotonic()) > 0:
        try:
            executor.spin_once(timeout_sec=None if math.isinf(left_s) else left_s)
        except ExternalShutdownException:
            return
        except Exception as error:
            if rclpy.ok():
                node.get_logger().error(f'a callback failed: {type(error).__name__}: {error}')
