# SPDX-License-Identifier: Apache-2.0
"""The monitor node: scores live predictions by later observations.

One worker thread handles all messages in the order of their arrival, so that the executor stays
free for transforms. Once a second the score is published on `live_score` and /diagnostics.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.logging import get_logger
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions

from motion_predictor_ros.config import InputConfig, ScoreConfig, param
from motion_predictor_ros.density.wire import decode_futures
from motion_predictor_ros.errors import ConfigError, MotionPredictorError, SkeletonFormatError
from motion_predictor_ros.msg import (
    LiveScore,
    PredictedMotionArray,
    ProbabilityVolumeArray,
    WeightedFuturesArray,
)
from motion_predictor_ros.prediction.wire import decode_prediction
from motion_predictor_ros.ros.encode_score import score_to_ros, score_to_status
from motion_predictor_ros.ros.parameters import check_changes, declare, read, warn_of_unknown
from motion_predictor_ros.ros.process import ros, spin
from motion_predictor_ros.ros.qos import QosWatch
from motion_predictor_ros.ros.subscriptions import SourceSubscription
from motion_predictor_ros.ros.throttled_log import ThrottledLog
from motion_predictor_ros.ros.transforms import CHECK_S, LiveTransforms, TransformQueue
from motion_predictor_ros.ros.worker import Worker
from motion_predictor_ros.scoring.live_scorer import LiveScorer
from motion_predictor_ros.skeleton.frame import Observation, Rejection
from motion_predictor_ros.skeleton.intake import Intake
from motion_predictor_ros.skeleton.layout import SkeletonLayout
from motion_predictor_ros.skeleton.sources.base import stamp_of
from motion_predictor_ros.volume.body import BodyShape
from motion_predictor_ros.volume.wire import decode_volumes

NAME = 'motion_monitor'
_QUEUE = 500
_PERIOD_S = 1.0


@dataclass(frozen=True)
class MonitorConfig(InputConfig):
    """Parameters of the monitor: input and scoring."""

    input_topic: str = param('skeletons', "topic of observations; source 'tf' reads /tf [-]")
    score: ScoreConfig = field(default_factory=ScoreConfig)


class MonitorNode(Node):  # type: ignore[misc]
    """Scores PredictedMotionArray, WeightedFuturesArray and ProbabilityVolumeArray."""

    def __init__(self) -> None:
        """Declare parameters and subscribe.

        Raises:
            ConfigError: An initial parameter is invalid.
        """
        super().__init__(NAME)
        declare(self, MonitorConfig())
        warn_of_unknown(self)
        self._config = read(self, MonitorConfig)
        self.add_on_set_parameters_callback(self._check_parameters)
        layout = SkeletonLayout.load(self._config.skeleton.layout)
        self._scorer = LiveScorer(BodyShape.load(self._config.skeleton.layout), self._config.score)
        self._transforms = None
        self._transform_queue: TransformQueue[Observation | Rejection] | None = None
        if self._config.fixed_frame and not self._config.extrinsic:
            self._transforms = LiveTransforms.listen(self)
            self._transform_queue = TransformQueue(
                self._transforms, self._put_observation, self._config.transform_wait_s, _QUEUE
            )
            steady = Clock(clock_type=ClockType.STEADY_TIME)
            self.create_timer(CHECK_S, self._transform_queue.flush, clock=steady)
        lookup = self._transforms.lookup if self._transforms is not None else None
        self._warnings, self._qos = ThrottledLog(self.get_logger()), QosWatch(self)
        self._intake = Intake(self._config, layout, lookup, self._on_rejection)
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 10)
        self._scores = self.create_publisher(LiveScore, 'live_score', 10)
        self._worker: Worker[Callable[[], None]] = Worker(_QUEUE, self._work, lambda: None)
        self._worker.start()
        self._subscribe()
        self.create_timer(_PERIOD_S, self._on_timer, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def close(self) -> None:
        """Stop the worker and release the node."""
        self._source.close()
        self._worker.stop()
        if self._transforms is not None:
            self._transforms.close()
        self.destroy_node()

    def _subscribe(self) -> None:
        """Subscribe to the source and, in the node's namespace, to the predictions."""
        source, topic = self._config.source, self._config.input_topic
        observe, update_static_transforms = self._on_observation, self._on_static
        self._source = SourceSubscription(
            self, source, topic, observe, update_static_transforms, self._qos
        )
        for kind, topic, handle in (
            (PredictedMotionArray, 'predicted_motion', self._take_motion),
            (WeightedFuturesArray, 'weighted_futures', self._take_futures),
            (ProbabilityVolumeArray, 'probability_volumes', self._take_volumes),
        ):
            self._subscribe_to(kind, topic, handle)
        self.get_logger().info(f'scoring predictions of {self._source.topic_name}')

    def _subscribe_to(self, kind: Any, topic: str, handle: Callable[[Any], None]) -> None:
        self.create_subscription(
            kind,
            topic,
            lambda message: self._put(lambda: handle(message)),
            QoSProfile(depth=50, reliability=ReliabilityPolicy.BEST_EFFORT),
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
            event_callbacks=self._qos.of_subscription(topic),
        )

    def _on_observation(self, message: Any) -> None:
        observation = self._intake.decode(message, self.get_clock().now().nanoseconds)
        if observation is None:
            return
        if self._transform_queue is None:
            self._put_observation(observation)
        else:
            query = self._intake.transform_query(observation)
            self._transform_queue.put(observation, query)

    def _on_static(self, message: Any) -> None:
        self._intake.update_static_transforms(message)

    def _put_observation(self, observation: Observation | Rejection) -> None:
        self._put(lambda: self._observe(observation))

    def _observe(self, observation: Observation | Rejection) -> None:
        result = self._intake.accept(observation)
        if result is not None:
            self._scorer.observe(result)

    def _put(self, work: Callable[[], None]) -> None:
        if not self._worker.put(work):
            self._drop('queue_overflow', f'more than {_QUEUE} messages are waiting')

    def _work(self, waiting: list[Callable[[], None]]) -> None:
        """Handle messages in the worker's thread; no exception escapes."""
        for handle in waiting:
            try:
                handle()
            except SkeletonFormatError as error:
                self._drop(error.reason, str(error))
            except MotionPredictorError as error:
                self._drop('malformed', str(error))
            except Exception as error:
                if self.context.ok():
                    self._drop('internal_error', f'{type(error).__name__}: {error}')

    def _take_motion(self, message: Any) -> None:
        self._scorer.predict(decode_prediction(message))

    def _take_futures(self, message: Any) -> None:
        header, names = message.header, tuple(message.joint_names)
        stamp_ns = stamp_of(header.stamp)
        self._scorer.add_futures(decode_futures(message), stamp_ns, header.frame_id, names)

    def _take_volumes(self, message: Any) -> None:
        header = message.header
        self._scorer.add_volumes(decode_volumes(message), stamp_of(header.stamp), header.frame_id)

    def _on_timer(self) -> None:
        self._put(self._publish)

    def _publish(self) -> None:
        score = self._scorer.score()
        if score.stamp_ns:
            self._scores.publish(score_to_ros(score, self._config.score.memory_s))
        if score.warning_text:
            self._warnings.warn('low_coverage', score.warning_text)
        name = f'{self.get_fully_qualified_name()}: predictions against observations'
        status = score_to_status(score, name, self._intake.drops)
        message = DiagnosticArray(status=[status])
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)

    def _drop(self, reason: str, message: str) -> None:
        self._intake.drop(Rejection('', reason, message))

    def _on_rejection(self, rejection: Rejection) -> None:
        self._warnings.warn(rejection.reason, rejection.message)

    def _check_parameters(self, changes: list[Parameter]) -> SetParametersResult:
        try:
            check_changes(changes, True, MonitorConfig())
        except ConfigError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)


def main(args: Sequence[str] | None = None) -> int:
    """Run the node until a signal; return 2 if an initial parameter is invalid."""
    with ros(args):
        try:
            node = MonitorNode()
        except ConfigError as error:
            get_logger(NAME).fatal(str(error))
            return 2
        try:
            spin(node)
        finally:
            node.close()
    return 0


if __name__ == '__main__':
    sys.exit(main())
