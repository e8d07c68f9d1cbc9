# SPDX-License-Identifier: Apache-2.0
"""How frames stand to each other, from /tf: through tf2_ros, or by ourselves where it is missing.

A transform is often published just after the observation it belongs to, so a lookup waits a
moment; not again, though, while lookups fail, or every observation would be late.
"""

import importlib
import threading
import time
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.time import Time

from motion_predictor_ros.config import SOURCES
from motion_predictor_ros.errors import SkeletonFormatError
from motion_predictor_ros.ros.subscriptions import message_class, static_qos
from motion_predictor_ros.skeleton.transforms import Rigid, TransformTree

_WAIT_S = 0.1
_POLL_S = 0.005


class OwnTransforms:
    """Hears /tf and /tf_static without tf2_ros; needs tf2_msgs alone."""

    def __init__(self, node: Node) -> None:
        """Subscribe.

        Raises:
            ConfigError: tf2_msgs is not installed either.
        """
        kind = message_class(SOURCES['tf'].msgtype, 'parameter "fixed_frame" without "extrinsic"')
        self._node, self._tree, self._lock = node, TransformTree(), threading.Lock()
        self._all = [
            node.create_subscription(kind, '/tf', self._on_moving, QoSProfile(depth=100)),
            node.create_subscription(kind, '/tf_static', self._on_static, static_qos()),
        ]

    def get(self, target: str, source: str, stamp_ns: int) -> Rigid:
        """Look up; raises `SkeletonFormatError` as `TransformTree.lookup` does."""
        with self._lock:
            return self._tree.lookup(target, source, stamp_ns)

    def close(self) -> None:
        """Hear nothing any more."""
        for each in self._all:
            self._node.destroy_subscription(each)

    def _on_moving(self, message: Any) -> None:
        with self._lock:
            self._tree.add(message)
            self._tree.forget_gone()

    def _on_static(self, message: Any) -> None:
        with self._lock:
            self._tree.add(message, static=True)


class Tf2Transforms:
    """Asks tf2_ros."""

    def __init__(self, node: Node, tf2_ros: Any) -> None:
        self._buffer = tf2_ros.Buffer()
        self._listener = tf2_ros.TransformListener(self._buffer, node, spin_thread=False)
        self._fault = tf2_ros.TransformException

    def get(self, target: str, source: str, stamp_ns: int) -> Rigid:
        """Look up; raises `SkeletonFormatError` (`no_transform`)."""
        try:
            found = self._buffer.lookup_transform(target, source, Time(nanoseconds=stamp_ns))
        except self._fault as error:
            raise SkeletonFormatError('no_transform', str(error)) from error
        shift, turn = found.transform.translation, found.transform.rotation
        return Rigid.from_quaternion((shift.x, shift.y, shift.z), (turn.x, turn.y, turn.z, turn.w))

    def close(self) -> None:
        """Hear nothing any more."""
        self._listener.unregister()


class LiveTransforms:
    """Looks transforms up from the worker's thread, while the executor takes them in."""

    def __init__(self, node: Node) -> None:
        """Listen.

        Raises:
            ConfigError: Neither tf2_ros nor tf2_msgs is installed.
        """
        self._known: OwnTransforms | Tf2Transforms
        try:
            self._known = Tf2Transforms(node, importlib.import_module('tf2_ros'))
        except ImportError:
            self._known = OwnTransforms(node)
        self._wait_s = _WAIT_S

    def lookup(self, target: str, source: str, stamp_ns: int) -> Rigid:
        """Return what turns coordinates in `source` into those in `target`, at that time.

        Raises:
            SkeletonFormatError: `no_transform`; the frames are not connected, or not at that time.
        """
        end_s = time.monotonic() + self._wait_s
        while True:
            try:
                found = self._known.get(target, source, stamp_ns)
            except SkeletonFormatError:
                if time.monotonic() >= end_s:
                    self._wait_s = 0.0
                    raise
                time.sleep(_POLL_S)
            else:
                self._wait_s = _WAIT_S
                return found

    def close(self) -> None:
        """Hear nothing any more."""
        self._known.close()
