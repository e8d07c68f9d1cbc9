# SPDX-License-Identifier: Apache-2.0
"""Tell planners which space to keep free, from configure to cleanup.

The node calls `publish` with everybody's volumes; each output has its own rate, counted in stamps;
where the same observation is told again because nothing newer came, in its age.
Only the speed limit has a clock of its own: it must fall when nothing is said any more, while all
other readers notice silence by themselves (docs/planners.md says how).
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from nav_msgs.msg import OccupancyGrid
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import PointCloud2
from visualization_msgs.msg import MarkerArray

from motion_predictor_ros.conventions import NS_PER_S
from motion_predictor_ros.errors import SkeletonFormatError
from motion_predictor_ros.msg import ProbabilityVolumeArray
from motion_predictor_ros.ros.outputs.clouds import (
    is_stale,
    obstacle_cloud_to_ros,
    probability_cloud_to_ros,
)
from motion_predictor_ros.ros.outputs.collision_objects import CollisionObjects
from motion_predictor_ros.ros.outputs.collision_service import CollisionService, Latest
from motion_predictor_ros.ros.outputs.config import PlannerConfig
from motion_predictor_ros.ros.outputs.occupancy_grid import occupancy_to_ros
from motion_predictor_ros.ros.outputs.probability_volumes import volumes_to_ros
from motion_predictor_ros.ros.outputs.speed_limit import (
    distance_m,
    speed_limit_to_ros,
    speed_percent,
)
from motion_predictor_ros.ros.outputs.volume_markers import VolumeMarkers
from motion_predictor_ros.ros.qos import QosWatch
from motion_predictor_ros.ros.subscriptions import message_class
from motion_predictor_ros.ros.throttled_log import ThrottledLog
from motion_predictor_ros.ros.transforms import LiveTransforms
from motion_predictor_ros.skeleton.transforms import Lookup
from motion_predictor_ros.volume.footprint import Band, footprint
from motion_predictor_ros.volume.types import SafetyVolume

_WATCH_S = 0.1
_PERIODS = 3.0
"""Markers live so many periods of their rate."""

Output = Callable[[Latest, float], None]


class PlannerOutputs:
    """Publishers and the service of every output that is enabled."""

    def __init__(
        self,
        node: Node,
        config: PlannerConfig,
        stale_after_s: float,
        lookup: Lookup | None,
        watch: QosWatch,
    ) -> None:
        """Set up what is enabled.

        Args:
            stale_after_s: Older observations are not passed on as if they were seen now.
            lookup: Knows how frames stand to each other; None: /tf, where it is needed.
            watch: Told of subscribers who cannot hear.

        Raises:
            ConfigError: An output needs messages that are not installed; says which package.
        """
        self._node, self._config, self._stale_after_s = node, config, stale_after_s
        self._qos_watch = watch
        self._warnings = ThrottledLog(node.get_logger())
        self._latest: Latest | None = None
        self._heard_s = -np.inf
        self._outputs: list[tuple[_Rate, Output]] = []
        self._closers: list[Callable[[], Any]] = []
        self._withdraw: list[Callable[[], Any]] = []
        try:
            self._set_up(lookup)
        except Exception:
            self.close()
            raise

    def publish(
        self, volumes: Sequence[SafetyVolume], stamp_ns: int, frame_id: str, age_s: float
    ) -> None:
        """Tell everybody who is due.

        Args:
            volumes: Everybody's; nobody is worth saying too.
            stamp_ns: Of the observation.
            frame_id: Of the observation; nothing is said in an unknown frame.
            age_s: How old the observation is now [s].
        """
        if not frame_id:
            return
        latest = Latest(tuple(volumes), stamp_ns, frame_id)
        self._latest = latest
        fresh = age_s <= self._stale_after_s and not is_stale(latest.volumes)
        if fresh:
            self._heard_s = time.monotonic()
        moment_ns = stamp_ns if fresh else stamp_ns + round(age_s * NS_PER_S)
        for rate, output in self._outputs:
            if rate.due(moment_ns):
                output(latest, age_s)

    def withdraw(self) -> None:
        """Take back what readers would keep for ever: objects in MoveIt's scene."""
        for each in self._withdraw:
            each()

    def close(self) -> None:
        """Take everything out of the graph, and objects out of MoveIt's scene."""
        self.withdraw()
        for closer in reversed(self._closers):
            closer()
        self._closers, self._withdraw, self._outputs, self._latest = [], [], [], None

    def _set_up(self, lookup: Lookup | None) -> None:
        config = self._config
        if config.probability_volumes.enabled:
            self._add_volumes()
        if config.probability_cloud.enabled:
            self._add_cloud()
        if config.occupancy_grid.enabled:
            self._add_occupancy()
        if config.obstacle_cloud.enabled:
            self._add_obstacles()
        if config.volume_markers.enabled:
            self._add_markers()
        if config.collision_objects.enabled:
            self._add_objects()
        if config.speed_limit.enabled:
            self._add_speed_limit(lookup)
        if config.collision_service.enabled:
            service = CollisionService(self._node, lambda: self._latest, self._stale_after_s)
            self._closers.append(service.close)

    def _add_volumes(self) -> None:
        config = self._config.probability_volumes
        publisher = self._publisher(ProbabilityVolumeArray, 'probability_volumes')

        def publish(latest: Latest, age_s: float) -> None:
            told = latest.volumes, latest.stamp_ns, latest.frame_id
            most, least = config.most_voxels, config.least_probability
            publisher.publish(volumes_to_ros(*told, age_s, most, least))

        self._outputs.append((_Rate(config.rate_hz), publish))

    def _add_cloud(self) -> None:
        config = self._config.probability_cloud
        publisher = self._publisher(PointCloud2, 'probability_cloud')

        def publish(latest: Latest, age_s: float) -> None:
            told = latest.volumes, latest.stamp_ns, latest.frame_id
            most, least = config.most_points, config.least_probability
            publisher.publish(probability_cloud_to_ros(*told, most, least))

        self._outputs.append((_Rate(config.rate_hz), publish))

    def _add_occupancy(self) -> None:
        config = self._config.occupancy_grid
        band = Band(config.until_s, config.low_m, config.high_m)
        publisher = self._publisher(OccupancyGrid, 'occupancy_grid', latched=True)

        def publish(latest: Latest, age_s: float) -> None:
            seen = footprint(latest.volumes, band, config.cell_m)
            publisher.publish(occupancy_to_ros(seen, latest.stamp_ns, latest.frame_id))

        self._outputs.append((_Rate(config.rate_hz), publish))

    def _add_obstacles(self) -> None:
        config = self._config.obstacle_cloud
        band = Band(config.until_s, config.low_m, config.high_m)
        publisher = self._publisher(PointCloud2, 'obstacle_cloud')

        def publish(latest: Latest, age_s: float) -> None:
            if age_s > self._stale_after_s or is_stale(latest.volumes):
                return  # so that the reader's source_timeout trips
            seen = footprint(latest.volumes, band, config.cell_m)
            told = latest.stamp_ns, latest.frame_id
            publisher.publish(obstacle_cloud_to_ros(seen, config.height_m, *told))

        self._outputs.append((_Rate(config.rate_hz), publish))

    def _add_markers(self) -> None:
        config = self._config.volume_markers
        publisher = self._publisher(MarkerArray, 'volume_markers')
        drawing = VolumeMarkers(config.most_voxels, _PERIODS / config.rate_hz)

        def publish(latest: Latest, age_s: float) -> None:
            if publisher.get_subscription_count():
                told = latest.volumes, latest.stamp_ns, latest.frame_id
                publisher.publish(drawing.update(*told))

        self._outputs.append((_Rate(config.rate_hz), publish))

    def _add_objects(self) -> None:
        config = self._config.collision_objects
        kind = message_class('moveit_msgs/msg/CollisionObject', _wanted('collision_objects'))
        publisher = self._publisher(kind, 'collision_object', depth=100)
        objects = CollisionObjects(kind, config.until_s)

        def publish(latest: Latest, age_s: float) -> None:
            told = latest.volumes, latest.stamp_ns, latest.frame_id
            for each in objects.update(*told):
                publisher.publish(each)

        def clear() -> None:
            stamp_ns = self._latest.stamp_ns if self._latest is not None else 0
            for each in objects.clear(stamp_ns):
                publisher.publish(each)

        self._withdraw.append(clear)
        self._outputs.append((_Rate(config.rate_hz), publish))

    def _add_speed_limit(self, lookup: Lookup | None) -> None:
        config = self._config.speed_limit
        kind = message_class('nav2_msgs/msg/SpeedLimit', _wanted('speed_limit'))
        if lookup is None:
            transforms = LiveTransforms(self._node)
            self._closers.append(transforms.close)
            lookup = transforms.lookup
        band = Band(config.until_s, config.low_m, config.high_m)
        publisher = self._publisher(kind, 'speed_limit')

        def publish(latest: Latest, age_s: float) -> None:
            percent = config.slow_percent
            try:
                robot = lookup(latest.frame_id, config.robot_frame, latest.stamp_ns).shift[:2]
            except SkeletonFormatError as error:
                self._warnings.warn('no_transform', f'speed_limit stays slow: {error}')
            else:
                if age_s <= self._stale_after_s:
                    away = distance_m(footprint(latest.volumes, band, 0.05), robot)
                    percent = speed_percent(away, config.near_m, config.far_m, config.slow_percent)
            told = latest.stamp_ns, latest.frame_id
            publisher.publish(speed_limit_to_ros(kind, percent, *told))

        def watch() -> None:
            now_ns = self._node.get_clock().now().nanoseconds  # 0: simulated time has not begun
            if now_ns and time.monotonic() - self._heard_s > self._stale_after_s:
                latest = self._latest
                frame_id = config.robot_frame if latest is None else latest.frame_id
                publisher.publish(speed_limit_to_ros(kind, config.slow_percent, now_ns, frame_id))

        timer = self._node.create_timer(
            _WATCH_S, watch, clock=Clock(clock_type=ClockType.STEADY_TIME)
        )
        self._closers.append(lambda: self._node.destroy_timer(timer))
        self._outputs.append((_Rate(config.rate_hz), publish))

    def _publisher(self, kind: Any, topic: str, depth: int = 10, latched: bool = False) -> Any:
        qos = QoSProfile(depth=1 if latched else depth, reliability=ReliabilityPolicy.RELIABLE)
        if latched:
            qos.durability = DurabilityPolicy.TRANSIENT_LOCAL
        overrides = QoSOverridingOptions.with_default_policies()
        publisher = self._node.create_publisher(
            kind,
            topic,
            qos,
            qos_overriding_options=overrides,
            event_callbacks=self._qos_watch.of_publisher(topic),
        )
        self._closers.append(lambda: self._node.destroy_publisher(publisher))
        return publisher


class _Rate:
    """Lets through at most so many stamps a second, evenly."""

    def __init__(self, rate_hz: float) -> None:
        self._period_ns = round(NS_PER_S / rate_hz)
        self._slot: int | None = None

    def due(self, moment_ns: int) -> bool:
        """Whether this is in another period than the last one that was let through."""
        slot = moment_ns // self._period_ns
        if slot == self._slot:
            return False
        self._slot = slot
        return True


def _wanted(name: str) -> str:
    return f'parameter "outputs.{name}.enabled"'
