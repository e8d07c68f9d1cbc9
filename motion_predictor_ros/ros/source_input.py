# SPDX-License-Identifier: Apache-2.0
"""The input of both nodes: a source's messages, decoded and with their transforms known."""

import time
from collections.abc import Callable
from typing import Any

from rclpy.node import Node

from motion_predictor_ros.config import SOURCES
from motion_predictor_ros.ros.process import steady_timer
from motion_predictor_ros.ros.topics import QosWatch, message_class, static_qos
from motion_predictor_ros.ros.transforms import CHECK_S, LiveTransforms, TransformQueue
from motion_predictor_ros.skeleton.frame import Observation, Rejection
from motion_predictor_ros.skeleton.stage import Intake

Decoded = Observation | Rejection


class SourceInput:
    """Subscribes to the source of an intake, and decodes its messages in the executor's thread.

    Args:
        topic: Ignored for a source with a topic of its own, such as /tf.
        transforms: Where observations wait for their transforms; None: they need none.
        release: Gets each decoded message, in order, and when it arrived [s].
        capacity: How many may wait for their transforms; beyond it the oldest is released.
        arrived: Called for each message; returns the time of its arrival [s].

    Raises:
        ConfigError: The messages of the source are not installed.
    """

    def __init__(
        self,
        node: Node,
        topic: str,
        intake: Intake,
        transforms: LiveTransforms | None,
        release: Callable[[Decoded, float], None],
        capacity: int,
        watch: QosWatch,
        arrived: Callable[[], float] = time.monotonic,
    ) -> None:
        config = intake.config
        source = SOURCES[config.source]
        self._node, self._intake, self._release, self._arrived = node, intake, release, arrived
        self._queue: TransformQueue[tuple[Decoded, float]] | None = None
        if transforms is not None:
            self._queue = TransformQueue(
                transforms, lambda item: release(*item), config.transform_wait_s, capacity
            )
            self._timer = steady_timer(node, CHECK_S, self._queue.flush)
        kind = message_class(source.msgtype, f'source {config.source!r}')
        topic = source.topic or topic
        # After ten seconds at 30 Hz even DDS loses messages without notice.
        depth = 1000 if source.topic else 300
        observations = watch.create_subscription(kind, topic, self._on_message, depth)
        self.topic_name: str = observations.topic_name
        self._subscriptions = [observations]
        if source.static_topic:
            static = intake.update_static_transforms
            self._subscriptions.append(
                node.create_subscription(kind, source.static_topic, static, static_qos())
            )

    def close(self) -> None:
        """Unsubscribe, and drop what waits."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        if self._queue is not None:
            self._node.destroy_timer(self._timer)
            self._queue.clear()

    def facts(self) -> dict[str, str]:
        """Report how many observations wait for their transforms, for diagnostics."""
        return {} if self._queue is None else {'waiting_for_transform': str(len(self._queue))}

    def _on_message(self, message: Any) -> None:
        received_ns, arrival_s = self._node.get_clock().now().nanoseconds, self._arrived()
        decoded: Decoded | None
        try:
            decoded = self._intake.decode(message, received_ns)
        except Exception as error:
            decoded = internal_error(error)
        if decoded is None:
            return
        if self._queue is None:
            self._release(decoded, arrival_s)
        else:
            self._queue.put((decoded, arrival_s), self._intake.transform_query(decoded))


def internal_error(error: Exception) -> Rejection:
    """Return the rejection of a message that our own code failed on."""
    return Rejection('', 'internal_error', f'{type(error).__name__}: {error}')
