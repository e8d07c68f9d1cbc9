# SPDX-License-Identifier: Apache-2.0
"""Transforms from /tf: through tf2_ros, or by our own tree where it is missing.

A transform is often published just after the observation it belongs to. `TransformQueue` lets each
observation wait for its own, up to a time; lookups never wait. The queue belongs to the executor's
thread, so that waiting is no work and the worker is free meanwhile.
"""

import importlib
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.time import Time

from motion_predictor_ros.config import SOURCES, InputConfig
from motion_predictor_ros.conventions import NS_PER_S
from motion_predictor_ros.errors import SkeletonFormatError
from motion_predictor_ros.ros.topics import message_class, static_qos
from motion_predictor_ros.skeleton.transforms import Rigid, TransformQuery, TransformTree

CHECK_S = 0.01
"""How often waiting observations are checked [s]."""

_TIME_JUMP_NS = NS_PER_S

T = TypeVar('T')


class LiveTransforms(ABC):
    """Looks transforms up in any thread, while the executor receives them."""

    @staticmethod
    def listen(node: Node) -> 'LiveTransforms':
        """Listen by tf2_ros, or by our own tree.

        Raises:
            ConfigError: Neither tf2_ros nor tf2_msgs is installed.
        """
        try:
            return Tf2Transforms(node, importlib.import_module('tf2_ros'))
        except ImportError:
            return OwnTransforms(node)

    @staticmethod
    def of_input(node: Node, config: InputConfig) -> 'LiveTransforms | None':
        """Listen if observations need transforms; raises as `listen` does."""
        needed = config.fixed_frame and not config.extrinsic
        return LiveTransforms.listen(node) if needed else None

    @abstractmethod
    def lookup(self, target: str, source: str, stamp_ns: int) -> Rigid:
        """Return the transform from `source` coordinates to `target` coordinates at that time.

        Raises:
            SkeletonFormatError: `no_transform`; the frames are not connected, or not at that time.
        """

    @abstractmethod
    def clear(self) -> None:
        """Forget moving frames: time jumped back."""

    @abstractmethod
    def close(self) -> None:
        """Unsubscribe."""

    def lookup_newest(self, target: str, source: str, stamp_ns: int) -> Rigid:
        """Look up at that time, or the newest transform if it is not known there; raises alike."""
        try:
            return self.lookup(target, source, stamp_ns)
        except SkeletonFormatError:
            return self.lookup(target, source, 0)

    def is_known(self, query: TransformQuery) -> bool:
        """Whether `lookup` finds this transform now."""
        try:
            self.lookup(*query)
        except SkeletonFormatError:
            return False
        return True


class OwnTransforms(LiveTransforms):
    """Listens to /tf and /tf_static without tf2_ros; needs only tf2_msgs."""

    def __init__(self, node: Node) -> None:
        kind = message_class(SOURCES['tf'].msgtype, 'parameter "fixed_frame" without "extrinsic"')
        self._node, self._tree, self._lock = node, TransformTree(), threading.Lock()
        self._subscriptions = [
            node.create_subscription(kind, '/tf', self._on_moving, QoSProfile(depth=100)),
            node.create_subscription(kind, '/tf_static', self._on_static, static_qos()),
        ]

    def lookup(self, target: str, source: str, stamp_ns: int) -> Rigid:
        with self._lock:
            return self._tree.lookup(target, source, stamp_ns)

    def clear(self) -> None:
        with self._lock:
            self._tree.clear()

    def close(self) -> None:
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)

    def _on_moving(self, message: Any) -> None:
        with self._lock:
            self._tree.add(message)
            self._tree.forget_gone()

    def _on_static(self, message: Any) -> None:
        with self._lock:
            self._tree.add(message, static=True)


class Tf2Transforms(LiveTransforms):
    """Looks up in the buffer of tf2_ros."""

    def __init__(self, node: Node, tf2_ros: Any) -> None:
        self._buffer = tf2_ros.Buffer()
        self._listener = tf2_ros.TransformListener(self._buffer, node, spin_thread=False)
        self._fault = tf2_ros.TransformException

    def lookup(self, target: str, source: str, stamp_ns: int) -> Rigid:
        try:
            stamped = self._buffer.lookup_transform(target, source, Time(nanoseconds=stamp_ns))
        except self._fault as error:
            raise SkeletonFormatError('no_transform', str(error)) from error
        shift, turn = stamped.transform.translation, stamped.transform.rotation
        return Rigid.from_quaternion((shift.x, shift.y, shift.z), (turn.x, turn.y, turn.z, turn.w))

    def clear(self) -> None:
        self._buffer.clear()  # tf2 keeps its newest data after a jump back in time

    def close(self) -> None:
        self._listener.unregister()


class TransformQueue(Generic[T]):
    """Observations that wait for their transforms, released in the order in which they came.

    Each waits until its transform is known or its own time is up, whatever happened to others
    before. All calls come from one thread.

    Args:
        release: Gets each item, with its transform known or not.
        capacity: How many may wait; beyond it the oldest is released.
        now_s: The clock on which time is up [s].
    """

    def __init__(
        self,
        transforms: LiveTransforms,
        release: Callable[[T], None],
        wait_s: float,
        capacity: int,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._transforms, self._release = transforms, release
        self._wait_s, self._capacity, self._now_s = wait_s, capacity, now_s
        self._waiting: deque[tuple[T, TransformQuery | None, float]] = deque()
        self._newest_ns = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, item: T, query: TransformQuery | None) -> None:
        """Add an item; it is released at once if nothing waits and its transform is known.

        Args:
            query: The transform; None if it needs none, but has to wait for those before it.
        """
        if query is not None:
            if query[2] < self._newest_ns - _TIME_JUMP_NS:
                self._transforms.clear()
            self._newest_ns = query[2]
        self._waiting.append((item, query, self._now_s() + self._wait_s))
        self.flush()

    def flush(self) -> None:
        """Release what need not wait any longer."""
        while self._waiting and self._is_ready():
            self._release(self._waiting.popleft()[0])

    def clear(self) -> None:
        """Drop all items."""
        self._waiting.clear()

    def _is_ready(self) -> bool:
        _, query, end_s = self._waiting[0]
        overdue = self._now_s() >= end_s or len(self._waiting) > self._capacity
        return query is None or overdue or self._transforms.is_known(query)
