# SPDX-License-Identifier: Apache-2.0
"""What the node publishes of a scene, from configure to cleanup."""

from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from visualization_msgs.msg import MarkerArray

from motion_predictor_ros.msg import PredictedMotionArray, WeightedFuturesArray
from motion_predictor_ros.pipeline import Pipeline, Scene
from motion_predictor_ros.prediction.prediction import ScenePrediction
from motion_predictor_ros.ros.encode import encode_futures, encode_prediction
from motion_predictor_ros.ros.futures_markers import FuturesMarkers
from motion_predictor_ros.ros.markers import SceneMarkers
from motion_predictor_ros.ros.parameters import NodeConfig
from motion_predictor_ros.skeleton.layout import SkeletonLayout


class Outputs:
    """Lifecycle publishers of predictions, futures and markers; silent while inactive."""

    def __init__(self, node: LifecycleNode, pipeline: Pipeline, settings: NodeConfig) -> None:
        overrides = QoSOverridingOptions.with_default_policies()
        self._node, self._settings = node, settings
        layout = SkeletonLayout.load(pipeline.config.skeleton.layout)
        lifetime_s = settings.marker_lifetime_s
        self._drawing = SceneMarkers(
            layout, pipeline.predictor.horizons_s, settings.marker_ghosts, lifetime_s
        )
        self._futures_drawing = FuturesMarkers(layout, settings.marker_futures, lifetime_s)
        self._futures = node.create_lifecycle_publisher(
            WeightedFuturesArray, 'weighted_futures', _qos(), qos_overriding_options=overrides
        )
        self._motion = node.create_lifecycle_publisher(
            PredictedMotionArray, 'predicted_motion', _qos(), qos_overriding_options=overrides
        )
        self._markers = node.create_lifecycle_publisher(
            MarkerArray, 'markers', _qos(), qos_overriding_options=overrides
        )

    def publish(self, scene: Scene, age_s: float) -> None:
        """Publish the predictions, and the futures if there are new ones."""
        self._motion.publish(encode_prediction(scene.prediction, age_s))
        if scene.futures is not None:
            settings = self._settings
            sent = scene.futures.thinned(settings.published_futures, settings.futures_stride)
            self._futures.publish(encode_futures(sent, scene.prediction, age_s))

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
        gone = self._drawing.clear(scene)
        gone.markers += self._futures_drawing.clear(scene)
        if gone.markers:
            self._markers.publish(gone)

    def close(self) -> None:
        """Take the publishers out of the graph."""
        self._node.destroy_lifecycle_publisher(self._motion)
        self._node.destroy_lifecycle_publisher(self._futures)
        self._node.destroy_lifecycle_publisher(self._markers)


def _qos() -> QoSProfile:
    """Make a new profile: rclpy writes each topic's overrides into the one it is given."""
    return QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
