# SPDX-License-Identifier: Apache-2.0
"""How our executables begin and end: clear errors, no traceback, exit code 0 on a signal."""

import argparse
import gc
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

import rclpy
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.logging import get_logger
from rclpy.node import Node
from rclpy.timer import Timer
from rclpy.utilities import remove_ros_args

from motion_predictor_ros.errors import ConfigError

_MIN_SPIN_PERIOD_S = 0.1
_AGAIN_S = 0.02
_MAX_WAIT_S = 0.5  # a signal between two waits of the executor wakes neither


@contextmanager
def ros(args: Sequence[str] | None) -> Iterator[None]:
    """Start ROS, and end it on the way out; a signal ends it too: `rclpy.ok()` is then False.

    Exits with code 2 if ROS refuses its arguments.
    """
    # rclpy's handler ends the context and then calls this one; Python's own would raise
    # KeyboardInterrupt wherever it strikes, half-way through the cleanup too.
    _Signals.starting = True
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _Signals.strike)
    try:
        rclpy.init(args=None if args is None else [sys.argv[0], *args])
        _Signals.starting = False
    except Exception as error:
        print(f'error: {error}', file=sys.stderr)  # noqa: T201
        sys.exit(2)
    try:
        yield
    finally:
        rclpy.try_shutdown()
        gc.freeze()  # the process ends: what is left need not be taken apart


class _Signals:
    """What a signal does besides ending ROS: nothing, unless something is to be broken off.

    Attributes:
        starting: ROS does not handle signals yet, and nothing has begun that has to be closed.
    """

    starting = breaking = False

    @classmethod
    def strike(cls, number: int, frame: FrameType | None) -> None:
        """Be called by Python once rclpy, if it has started, has ended the context."""
        if cls.starting:
            os._exit(0)
        if cls.breaking and _is_in_finaliser(frame):  # Python prints its exceptions and goes on
            threading.Timer(_AGAIN_S, os.kill, (os.getpid(), number)).start()
        elif cls.breaking:
            cls.breaking = False
            raise KeyboardInterrupt


def _is_in_finaliser(frame: FrameType | None) -> bool:
    while frame is not None and frame.f_code.co_name != '__del__':
        frame = frame.f_back
    return frame is not None


def parse(parser: argparse.ArgumentParser, args: Sequence[str] | None) -> argparse.Namespace:
    """Parse the arguments of a program, without those of ROS; default: of the process."""
    words = sys.argv[1:] if args is None else list(args)
    return parser.parse_args(remove_ros_args(args=[sys.argv[0], *words])[1:])


def steady_timer(node: Node, period_s: float, callback: Callable[[], None]) -> Timer:
    """Create a timer of wall time, whatever `use_sim_time` says."""
    return node.create_timer(period_s, callback, clock=Clock(clock_type=ClockType.STEADY_TIME))


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


class Spinner:
    """Runs a node's callbacks while its program waits; one that raises is logged."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._executor: SingleThreadedExecutor | None = None
        self._last_s = -math.inf

    def until(self, end_s: float) -> None:
        """Run callbacks until the monotonic clock shows `end_s` [s] or ROS ends.

        Costs nothing where that time has passed, except once in 0.1 s: callbacks run even then.
        """
        while rclpy.ok():
            now_s = time.monotonic()
            if now_s >= end_s and now_s - self._last_s < _MIN_SPIN_PERIOD_S:
                return
            try:
                self._spin_once(min(max(end_s - now_s, 0.0), _MAX_WAIT_S))
            except ExternalShutdownException:
                return
            except Exception as error:
                if rclpy.ok():
                    self._node.get_logger().error(
                        f'a callback failed: {type(error).__name__}: {error}'
                    )
            self._last_s = time.monotonic()

    def _spin_once(self, timeout_s: float) -> None:
        if self._executor is None:
            self._executor = SingleThreadedExecutor()
            self._executor.add_node(self._node)
        self._executor.spin_once(timeout_s)


def spin(node: Node, seconds: float = math.inf) -> None:
    """Run callbacks until ROS or the time ends; one that raises is logged."""
    Spinner(node).until(time.monotonic() + seconds)


def run_node(make: Callable[[], Any], name: str, args: Sequence[str] | None) -> int:
    """Make a node, start it, and run it until a signal; return 2 if a parameter cannot be used."""
    with ros(args):
        try:
            node = make()
        except ConfigError as error:
            get_logger(name).fatal(str(error))
            return 2
        try:
            with broken_off_by_signals():
                node.start()
            spin(node)
        finally:
            node.close()
    return 0
