# SPDX-License-Identifier: Apache-2.0
"""Publish a scene, from configure to cleanup: predictions, futures, markers, planner outputs."""

from rclpy.lifecycle import LifecycleNode
from visualization_msgs.msg import MarkerArray

from motion_predictor_ros.msg import PredictedMotionArray, WeightedFuturesArray
from motion_predictor_ros.pipeline import Pipeline, Scene
from motion_predictor_ros.prediction.types import ScenePrediction
from motion_predictor_ros.ros.encode import encode_futures, encode_prediction
from motion_predictor_ros.ros.outputs.base import OutputContext, PlannerOutputs
from motion_predictor_ros.ros.outputs.markers import FuturesMarkers, SceneMarkers
from motion_predictor_ros.ros.parameters import NodeConfig
from motion_predictor_ros.ros.topics import QosWatch
from motion_predictor_ros.skeleton.layout import SkeletonLayout
from motion_predictor_ros.skeleton.transforms import Lookup


class ScenePublisher:
    """Publishes predictions, futures, volumes and markers; silent while the node is inactive.

    Args:
        lookup: Looks up transforms; None: an output that needs one listens to /tf.
        watch: Counts subscribers with an incompatible QoS.

    Raises:
        ConfigError: An output needs messages that are not installed; says which package.

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
        self._node, self.settings, self._pipeline = node, settings, pipeline
        context = OutputContext(node, pipeline.config.volume.stale_after_s, lookup, watch)
        has_volumes = pipeline.volume is not None
        self._planners = PlannerOutputs(settings.outputs if has_volumes else None, context)
        layout = SkeletonLayout.load(pipeline.config.skeleton.layout)
        lifetime_s = settings.marker_lifetime_s
        self._drawing = SceneMarkers(
            layout, pipeline.predictor.horizons_s, settings.marker_ghosts, lifetime_s
        )
        self._futures_drawing = FuturesMarkers(layout, settings.marker_futures, lifetime_s)
        self._futures = watch.create_publisher(
            WeightedFuturesArray, 'weighted_futures', managed=True
        )
        self._motion = watch.create_publisher(
            PredictedMotionArray, 'predicted_motion', managed=True
        )
        self._markers = watch.create_publisher(MarkerArray, 'markers', managed=True)

    def publish_prediction(self, prediction: ScenePrediction, age_s: float) -> None:
        """Publish the predictions; no empty array while a person is at an unknown place."""
        if prediction.people or not self._pipeline.skeleton.presence.withheld:
            self._motion.publish(encode_prediction(prediction, age_s))

    def publish(self, scene: Scene, age_s: float) -> None:
        """Publish futures and volumes, if the scene has them and planners may get it."""
        if scene.withheld:
            self._planners.withhold(scene.withheld)
        if scene.futures is not None:
            settings = self.settings
            futures = scene.futures.thinned(settings.published_futures, settings.futures_stride)
            self._futures.publish(encode_futures(futures, scene.prediction, age_s))
        if scene.volumes is not None:
            at = scene.prediction.stamp_ns, scene.prediction.frame_id
            self._planners.publish(scene.volumes, *at, age_s)

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
            self._planners.publish(volumes, scene.stamp_ns, scene.frame_id, age_s, blind=True)

    def withdraw(self) -> None:
        """Take back what planners would keep for ever."""
        self._planners.withdraw()

    def close(self) -> None:
        """Destroy the publishers."""
        self._planners.close()
        self._node.destroy_lifecycle_publisher(self._motion)
        self._node.destroy_lifecycle_publisher(self._futures)
        self._node.destroy_lifecycle_publisher(self._markers)
