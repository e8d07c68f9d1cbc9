# SPDX-License-Identifier: Apache-2.0
"""Topics: classes of messages, publishers and subscriptions whose QoS parameters may override.

DDS keeps ends with incompatible QoS apart in silence: here each such end is logged and counted.
"""

import importlib
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy, qos_policy_name_from_kind
from rclpy.qos_overriding_options import QoSOverridingOptions

from motion_predictor_ros.errors import ConfigError
from motion_predictor_ros.ros.throttled_log import ThrottledLog


def message_class(msgtype: str, wanted_by: str) -> Any:
    """Return the class of a message type such as `zed_msgs/msg/ObjectsStamped`.

    Raises:
        ConfigError: Its package is not installed; says how to install it.
    """
    package, _, name = msgtype.partition('/msg/')
    try:
        return getattr(importlib.import_module(f'{package}.msg'), name)
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        apt = f'ros-{os.environ.get("ROS_DISTRO", "jazzy")}-{package.replace("_", "-")}'
        raise ConfigError(
            f'{wanted_by} needs messages of {package}, which are not installed ({error}); '
            f'`sudo apt install {apt}`, or build {package} in your workspace, and source it'
        ) from error


def static_qos() -> QoSProfile:
    """Return the profile of /tf_static: late comers get everything."""
    return QoSProfile(
        depth=100,
        reliability=ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.TRANSIENT_LOCAL,
    )


@contextmanager
def _topic_in_errors(topic: str) -> Iterator[None]:
    """Name the topic in errors of rclpy: a name that is none, or an override of its QoS."""
    try:
        yield
    except Exception as error:
        raise ConfigError(
            f'topic {topic!r}: {error}; see its parameters "qos_overrides.<topic>..."'
        ) from error


class QosWatch:
    """Creates the ends of one node's topics.

    Attributes:
        counts: Number of incompatible ends, by topic and policy.
    """

    def __init__(self, node: Node) -> None:
        self.counts: Counter[str] = Counter()
        self._node, self._log = node, ThrottledLog(node.get_logger())

    def create_publisher(
        self, kind: Any, topic: str, depth: int = 10, latched: bool = False, managed: bool = False
    ) -> Any:
        """Create a reliable publisher.

        Args:
            kind: Class of the messages.
            latched: Keep the last message for late subscribers (transient local).
            managed: Be silent while the lifecycle node is inactive.
        """

        def warn(event: Any) -> None:
            self._warn(event, topic, 'publisher', 'a subscriber asks for')

        qos = QoSProfile(depth=1 if latched else depth, reliability=ReliabilityPolicy.RELIABLE)
        if latched:
            qos.durability = DurabilityPolicy.TRANSIENT_LOCAL
        overriding = QoSOverridingOptions.with_default_policies()
        events = PublisherEventCallbacks(incompatible_qos=warn)
        create = self._node.create_lifecycle_publisher if managed else self._node.create_publisher
        options = {'qos_overriding_options': overriding, 'event_callbacks': events}
        with _topic_in_errors(topic):
            return create(kind, topic, qos, **options)

    def create_subscription(
        self, kind: Any, topic: str, callback: Callable[[Any], None], depth: int
    ) -> Any:
        """Create a best-effort subscription, which any publisher fits."""

        def warn(event: Any) -> None:
            self._warn(event, topic, 'subscription', 'a publisher offers')

        qos = QoSProfile(depth=depth, reliability=ReliabilityPolicy.BEST_EFFORT)
        overriding = QoSOverridingOptions.with_default_policies()
        events = SubscriptionEventCallbacks(incompatible_qos=warn)
        options = {'qos_overriding_options': overriding, 'event_callbacks': events}
        with _topic_in_errors(topic):
            return self._node.create_subscription(kind, topic, callback, qos, **options)

    def _warn(self, event: Any, topic: str, end: str, other: str) -> None:
        policy = str(qos_policy_name_from_kind(event.last_policy_kind))
        name = self._node.resolve_topic_name(topic)
        self.counts[f'{name} {policy}'] += event.total_count_change
        self._log.warn(
            f'incompatible_qos {name}',
            f'{other} another {policy} on {name} than this node: nothing passes between them; '
            f'change it there, or by parameter "qos_overrides.{name}.{end}.{policy.lower()}"',
        )

    @property
    def warning_text(self) -> str:
        """What does not fit; empty if everything does."""
        return f'incompatible QoS: {", ".join(sorted(self.counts))}' if self.counts else ''
