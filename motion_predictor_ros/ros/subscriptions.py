# SPDX-License-Identifier: Apache-2.0
"""Subscribe to any source; message packages are imported only when they are asked for."""

import importlib
import os
from collections.abc import Callable
from typing import Any

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions

from motion_predictor_ros.config import SOURCES
from motion_predictor_ros.errors import ConfigError
from motion_predictor_ros.ros.qos import QosWatch


def message_class(msgtype: str, wanted_by: str) -> Any:
    """Return the class of a message type such as `zed_msgs/msg/ObjectsStamped`.

    Raises:
        ConfigError: Its package is not installed; says how to install it.
    """
    package, _, name = msgtype.partition('/msg/')
    try:
        return getattr(importlib.import_module(f'{package}.msg'), name)
    except (ImportError, AttributeError) as error:
        apt = f'ros-{os.environ.get("ROS_DISTRO", "jazzy")}-{package.replace("_", "-")}'
        raise ConfigError(
            f'{wanted_by} needs messages of {package}, which are not installed ({error}); '
            f'`sudo apt install {apt}`, or build {package} in your workspace, and source it'
        ) from error


class SourceSubscription:
    """Subscribes to a source: its observations, and its static transforms."""

    def __init__(
        self,
        node: Node,
        source: str,
        topic: str,
        observe: Callable[[Any], None],
        update_static_transforms: Callable[[Any], None],
        watch: QosWatch,
    ) -> None:
        """Subscribe.

        Args:
            topic: Ignored for a source with a topic of its own, such as /tf.
            watch: Told of publishers who cannot be heard.

        Raises:
            ConfigError: The messages of the source are not installed.
        """
        source_class = SOURCES[source]
        kind = message_class(source_class.msgtype, f'source {source!r}')
        self._node = node
        overrides = QoSOverridingOptions.with_default_policies()
        depth = 300  # after ten seconds at 30 Hz even DDS loses messages without notice
        if source_class.topic:
            topic, depth = source_class.topic, 1000
        qos = QoSProfile(depth=depth, reliability=ReliabilityPolicy.BEST_EFFORT)
        events = watch.of_subscription(topic)
        subscribe = node.create_subscription
        self._subscriptions = [
            subscribe(
                kind,
                topic,
                observe,
                qos,
                qos_overriding_options=overrides,
                event_callbacks=events,
            )
        ]
        if source_class.static_topic:
            static_topic = source_class.static_topic
            self._subscriptions.append(
                subscribe(kind, static_topic, update_static_transforms, static_qos())
            )
        self.topic_name: str = self._subscriptions[0].topic_name

    def close(self) -> None:
        """Hear nothing any more."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)


def static_qos() -> QoSProfile:
    """Return the profile of /tf_static: late comers get everything."""
    return QoSProfile(
        depth=100,
        reliability=ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.TRANSIENT_LOCAL,
    )
