# SPDX-License-Identifier: Apache-2.0
"""Notice who asks for, or offers, another QoS than ours: DDS keeps the two apart in silence."""

from collections import Counter
from typing import Any

from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.qos import qos_policy_name_from_kind

from motion_predictor_ros.ros.throttled_log import ThrottledLog


class QosWatch:
    """Warns of each such partner, and counts them.

    Attributes:
        counts: How many there were, by topic and policy.
    """

    def __init__(self, node: Node) -> None:
        """Start without any."""
        self.counts: Counter[str] = Counter()
        self._resolve, self._log = node.resolve_topic_name, ThrottledLog(node.get_logger())

    def of_subscription(self, topic: str) -> SubscriptionEventCallbacks:
        """Return what a subscription of this topic is to be created with."""

        def warn(event: Any) -> None:
            self._tell(event, topic, 'subscription', 'a publisher offers')

        return SubscriptionEventCallbacks(incompatible_qos=warn)

    def of_publisher(self, topic: str) -> PublisherEventCallbacks:
        """Return what a publisher on this topic is to be created with."""

        def warn(event: Any) -> None:
            self._tell(event, topic, 'publisher', 'a subscriber asks for')

        return PublisherEventCallbacks(incompatible_qos=warn)

    def _tell(self, event: Any, topic: str, ours: str, what: str) -> None:
        policy = str(qos_policy_name_from_kind(event.last_policy_kind))
        name = self._resolve(topic)
        self.counts[f'{name} {policy}'] += event.total_count_change
        self._log.warn(
            f'incompatible_qos {name}',
            f'{what} another {policy} on {name} than this node: nothing passes between them; '
            f'change it there, or by parameter "qos_overrides.{name}.{ours}.{policy.lower()}"',
        )

    @property
    def warning_text(self) -> str:
        """What does not fit; empty if everything does."""
        return f'incompatible QoS: {", ".join(sorted(self.counts))}' if self.counts else ''
