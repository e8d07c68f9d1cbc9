# SPDX-License-Identifier: Apache-2.0
"""What the node publishes of a scene, from configure to cleanup."""

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
from motion_predictor_ros.ros.outputs.markers import FuturesMarkers, SceneMarkers
from motion_predictor_ros.ros.outputs.planners import PlannerOutputs
from motion_predictor_ros.ros.parameters import NodeConfig
from motion_predictor_ros.ros.qos import QosWatch
from motion_predictor_ros.skeleton.layout import SkeletonLayout
from motion_predictor_ros.skeleton.transforms import Lookup
from motion_predictor_ros.volume.types import SafetyVolume


class Outputs:
    """What is published of predictions, futures, volumes and markers; silent while inactive.

    Attributes:
        settings: How much of futures is published; whoever follows parameters sets it.
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
            lookup: Knows how frames stand to each other; None: /tf, where an output needs it.
            watch: Told of subscribers who cannot hear.

        Raises:
            ConfigError: An output needs messages that are not installed; says which package.
        """
        self._node, self.settings, self._pipeline = node, settings, pipeline
        self._planners: PlannerOutputs | None = None
        if pipeline.volume is not None:
            stale_after_s = pipeline.config.volume.stale_after_s
            self._planners = PlannerOutputs(node, settings.outputs, stale_after_s, lookup, watch)
        layout = SkeletonLayout.load(pipeline.config.skeleton.layout)
        lifetime_s = settings.marker_lifetime_s
        self._drawing = SceneMarkers(
            layout, pipeline.predictor.horizons_s, settings.marker_ghosts, lifetime_s
        )
        self._futures_drawing = FuturesMarkers(layout, settings.marker_futures, lifetime_s)
        self._futures = _publisher(node, WeightedFuturesArray, 'weighted_futures', watch)
        self._motion = _publisher(node, PredictedMotionArray, 'predicted_motion', watch)
        self._markers = _publisher(node, MarkerArray, 'markers', watch)

    def publish_motion(self, prediction: ScenePrediction, age_s: float) -> None:
        """Publish the predictions."""
        self._motion.publish(encode_prediction(prediction, age_s))

    def publish(self, scene: Scene, age_s: float) -> None:
        """Publish what came after the predictions: futures and volumes, if there are new ones."""
        if scene.futures is not None:
            settings = self.settings
            sent = scene.futures.thinned(settings.published_futures, settings.futures_stride)
            self._futures.publish(encode_futures(sent, scene.prediction, age_s))
        if scene.volumes is not None:
            self._tell_planners(scene.volumes, scene.prediction, age_s)

    def draw(self, scene: Scene) -> None:
        """Publish the markers, if anybody looks at them."""
        if self._markers.get_subscription_count():
            drawn = self._drawing.update(scene.prediction)
            drawn.markers += self._futures_drawing.update(scene)
            self._markers.publish(drawn)

    def publish_stale(self, scene: ScenePrediction, age_s: float) -> None:
        """Publish that everybody is STALE, and take what is drawn of them away."""
        if scene.people:
            self._motion.publish(encode_prediction(scene, age_s))
        self._tell_planners(self._pipeline.stale_volumes(scene, age_s), scene, age_s)
        gone = self._drawing.clear(scene)
        gone.markers += self._futures_drawing.clear(scene)
        if gone.markers:
            self._markers.publish(gone)

    def publish_growing(self, scene: ScenePrediction, age_s: float) -> None:
        """Tell planners what people, all STALE, may have reached by now; nothing else."""
        if scene.people:
            self._tell_planners(self._pipeline.stale_volumes(scene, age_s), scene, age_s)

    def _tell_planners(
        self, volumes: Sequence[SafetyVolume], scene: ScenePrediction, age_s: float
    ) -> None:
        if self._planners is not None:
            self._planners.publish(volumes, scene.stamp_ns, scene.frame_id, age_s)

    def withdraw(self) -> None:
        """Take back what planners would keep though nothing is said any more."""
        if self._planners is not None:
            self._planners.withdraw()

    def close(self) -> None:
        """Take the publishers out of the graph."""
        if self._planners is not None:
            self._planners.close()
        self._node.destroy_lifecycle_publisher(self._motion)
        self._node.destroy_lifecycle_publisher(self._futures)
        self._node.destroy_lifecycle_publisher(self._markers)


def _publisher(node: LifecycleNode, kind: Any, topic: str, watch: QosWatch) -> Any:
    """Offer a topic; its profile is its own, for rclpy writes the overrides into it."""
    return node.create_lifecycle_publisher(
        kind,
        topic,
        QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE),
        qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        event_callbacks=watch.of_publisher(topic),
    )
