# SPDX-License-Identifier: Apache-2.0
"""Publish a scene, from configure to cleanup: predictions, futures, markers, planner outputs."""

from collections.abc import Sequence
from typing import Any

from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from visualization_msgs.msg import MarkerArray

from motion_predictor_ros.msg import PredictedMotionArray, WeightedFuturesArray
from motion_predictor_ros.pipeline import Pipeline, Scene
from motion_predictor_ros.prediction.types import ScenePrediction
from motion_predictor_ros.ros.encode import encode_futures, encode_prediction
from motion_predictor_ros.ros.outputs.base import OutputContext, PlannerOutputs
from motion_predictor_ros.ros.outputs.markers import FuturesMarkers, SceneMarkers
from motion_predictor_ros.ros.parameters import NodeConfig
from motion_predictor_ros.ros.qos import QosWatch
from motion_predictor_ros.skeleton.layout import SkeletonLayout
from motion_predictor_ros.skeleton.transforms import Lookup
from motion_predictor_ros.volume.types import SafetyVolume


class ScenePublisher:
    """Publishes predictions, futures, volumes and markers; silent while the node is inactive.

    Attributes:
        settings: The node's parameters; replaced when they change.
    """

    def __init__(
        self,
        node: LifecycleNode,
        pipeline: Pipeline,
        settings: NodeConfig,
        lookup: Lookup | None,
        watch: QosWatch,
    ) -> None:
        """Create the publishers.

        Args:
            lookup: Looks up transforms; None: an output that needs one listens to /tf.
            watch: Counts subscribers with an incompatible QoS.

        Raises:
            ConfigError: An output needs messages that are not installed; says which package.
        """
        self._node, self.settings, self._pipeline = node, settings, pipeline
        self._planners: PlannerOutputs | None = None
        if pipeline.volume is not None:
            stale_after_s = pipeline.config.volume.stale_after_s
            context = OutputContext(node, stale_after_s, lookup, watch)
            self._planners = PlannerOutputs(settings.outputs, context)
        layout = SkeletonLayout.load(pipeline.config.skeleton.layout)
        lifetime_s = settings.marker_lifetime_s
        self._drawing = SceneMarkers(
            layout, pipeline.predictor.horizons_s, settings.marker_ghosts, lifetime_s
        )
        self._futures_drawing = FuturesMarkers(layout, settings.marker_futures, lifetime_s)
        self._futures = _publisher(node, WeightedFuturesArray, 'weighted_futures', watch)
        self._motion = _publisher(node, PredictedMotionArray, 'predicted_motion', watch)
        self._markers = _publisher(node, MarkerArray, 'markers', watch)

    def publish_prediction(self, prediction: ScenePrediction, age_s: float) -> None:
        """Publish the predictions; no empty array while a person is at an unknown place."""
        if prediction.people or not self._pipeline.skeleton.presence.withheld:
            self._motion.publish(encode_prediction(prediction, age_s))

    def publish(self, scene: Scene, age_s: float) -> None:
        """Publish futures and volumes, if the scene has them and planners may get it."""
        if scene.withheld and self._planners is not None:
            self._planners.withhold(scene.withheld)
        if scene.futures is not None:
            settings = self.settings
            futures = scene.futures.thinned(settings.published_futures, settings.futures_stride)
            self._futures.publish(encode_futures(futures, scene.prediction, age_s))
        if scene.volumes is not None:
            self._publish_volumes(scene.volumes, scene.prediction, age_s)

    def draw(self, scene: Scene, motion: bool = True) -> None:
        """Publish markers if there are subscribers: of motion and of futures."""
        if self._markers.get_subscription_count():
            markers = self._drawing.update(scene.prediction) if motion else MarkerArray()
            markers.markers += self._futures_drawing.update(scene)
            self._markers.publish(markers)

    def publish_stale(self, scene: ScenePrediction, age_s: float) -> None:
        """Publish all people as STALE, and delete their markers."""
        if scene.people:
            self._motion.publish(encode_prediction(scene, age_s))
        self.publish_growing(scene, age_s)
        deletions = self._drawing.clear(scene)
        deletions.markers += self._futures_drawing.clear(scene)
        if deletions.markers:
            self._markers.publish(deletions)

    def publish_growing(self, scene: ScenePrediction, age_s: float) -> None:
        """Publish to planners only the grown reachable sets of people, all of them STALE."""
        volumes = self._pipeline.stale_volumes(scene, age_s)
        if volumes:
            self._publish_volumes(volumes, scene, age_s, blind=True)

    def _publish_volumes(
        self,
        volumes: Sequence[SafetyVolume],
        scene: ScenePrediction,
        age_s: float,
        blind: bool = False,
    ) -> None:
        if self._planners is not None:
            self._planners.publish(volumes, scene.stamp_ns, scene.frame_id, age_s, blind)

    def withdraw(self) -> None:
        """Take back what planners would keep for ever."""
        if self._planners is not None:
            self._planners.withdraw()

    def close(self) -> None:
        """Destroy the publishers."""
        if self._planners is not None:
            self._planners.close()
        self._node.destroy_lifecycle_publisher(self._motion)
        self._node.destroy_lifecycle_publisher(self._futures)
        self._node.destroy_lifecycle_publisher(self._markers)


def _publisher(node: LifecycleNode, message_type: Any, topic: str, watch: QosWatch) -> Any:
    """Create a publisher with a profile of its own: rclpy writes QoS overrides into it."""
    return node.create_lifecycle_publisher(
        message_type,
        topic,
        QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE),
        qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        event_callbacks=watch.of_publisher(topic),
    )
