# SPDX-License-Identifier: Apache-2.0
"""The part of tf2_ros that we use, with its documented signatures, over the real /tf topics.

tf2_ros has no wheel. What this shows is that our calls fit; how tf2 interpolates it cannot show.
"""

from typing import Any

from geometry_msgs.msg import TransformStamped
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.time import Time
from tf2_msgs.msg import TFMessage
from transforms3d import quaternions

from motion_predictor_ros.errors import SkeletonFormatError
from motion_predictor_ros.skeleton.transforms import TransformTree

listeners: list['TransformListener'] = []


class TransformException(Exception):
    pass


class Buffer:
    """Stricter than the real one: what is older than the newest of its frame is ignored."""

    def __init__(self, cache_time: Duration | None = None, node: Node | None = None) -> None:
        self.tree = TransformTree()
        self._newest_ns: dict[str, int] = {}

    def add(self, data: Any) -> None:
        for each in data.transforms:
            stamp_ns = each.header.stamp.sec * 10**9 + each.header.stamp.nanosec
            if stamp_ns > self._newest_ns.get(each.child_frame_id, 0):
                self._newest_ns[each.child_frame_id] = stamp_ns
                self.tree.add(TFMessage(transforms=[each]))

    def clear(self) -> None:
        self.tree.clear()
        self._newest_ns.clear()

    def lookup_transform(
        self, target_frame: str, source_frame: str, time: Time, timeout: Duration | None = None
    ) -> TransformStamped:
        try:
            found = self.tree.lookup(target_frame, source_frame, time.nanoseconds)
        except SkeletonFormatError as error:
            raise TransformException(str(error)) from error
        answer = TransformStamped()
        shift, turn = answer.transform.translation, answer.transform.rotation
        shift.x, shift.y, shift.z = map(float, found.shift)
        turn.w, turn.x, turn.y, turn.z = map(float, quaternions.mat2quat(found.turn))
        return answer


class TransformListener:
    def __init__(self, buffer: Buffer, node: Node, *, spin_thread: bool = False) -> None:
        assert not spin_thread  # the node's executor spins
        self.node, self.buffer = node, buffer
        latched = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.tf_sub = node.create_subscription(TFMessage, '/tf', self.callback, 100)
        self.tf_static_sub = node.create_subscription(
            TFMessage, '/tf_static', self.static_callback, latched
        )
        listeners.append(self)

    def unregister(self) -> None:
        self.node.destroy_subscription(self.tf_sub)
        self.node.destroy_subscription(self.tf_static_sub)

    def callback(self, data: Any) -> None:
        self.buffer.add(data)

    def static_callback(self, data: Any) -> None:
        self.buffer.tree.add(data, static=True)
