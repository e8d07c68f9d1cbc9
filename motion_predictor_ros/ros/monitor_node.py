# SPDX-License-Identifier: Apache-2.0
"""The monitor node: scores live predictions by later observations.

One worker thread handles all messages in the order of their arrival, so that the executor stays
free for transforms. Once a second the score is published on `live_score` and /diagnostics.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from rclpy.node import Node

from motion_predictor_ros.config import InputConfig, ScoreConfig, param
from motion_predictor_ros.density.wire import decode_futures
from motion_predictor_ros.errors import MotionPredictorError, SkeletonFormatError
from motion_predictor_ros.msg import (
    LiveScore,
    PredictedMotionArray,
    ProbabilityVolumeArray,
    WeightedFuturesArray,
)
from motion_predictor_ros.prediction.wire import decode_prediction
from motion_predictor_ros.ros.diagnostics import DiagnosticsPublisher
from motion_predictor_ros.ros.encode_score import score_to_ros, score_to_status
from motion_predictor_ros.ros.parameters import (
    check_changes,
    declare,
    read,
    refuse_changes,
    warn_of_unknown,
)
from motion_predictor_ros.ros.process import run_node, steady_timer
from motion_predictor_ros.ros.source_input import Decoded, SourceInput
from motion_predictor_ros.ros.throttled_log import ThrottledLog
from motion_predictor_ros.ros.topics import QosWatch
from motion_predictor_ros.ros.transforms import LiveTransforms
from motion_predictor_ros.ros.worker import Worker
from motion_predictor_ros.scoring.live_scorer import LiveScorer
from motion_predictor_ros.skeleton.frame import Rejection
from motion_predictor_ros.skeleton.layout import SkeletonLayout
from motion_predictor_ros.skeleton.sources.base import stamp_of
from motion_predictor_ros.skeleton.stage import Intake
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
        """Declare parameters.

        Raises:
            ConfigError: An initial parameter is invalid.
        """
        super().__init__(NAME)
        declare(self, MonitorConfig())
        warn_of_unknown(self)
        config = self._config = read(self, MonitorConfig)
        refuse_changes(self, lambda changes: check_changes(changes, True, MonitorConfig()))
        self._scorer = LiveScorer(BodyShape.load(config.skeleton.layout), config.score)
        self._transforms = LiveTransforms.of_input(self, config)
        lookup = self._transforms.lookup if self._transforms is not None else None
        self._warnings, self._qos = ThrottledLog(self.get_logger()), QosWatch(self)
        layout = SkeletonLayout.load(config.skeleton.layout)
        self._intake = Intake(config, layout, lookup, self._on_rejection)
        self._diagnostics = DiagnosticsPublisher(self)
        self._scores = self.create_publisher(LiveScore, 'live_score', 10)
        self._worker: Worker[Callable[[], None]] = Worker(_QUEUE, self._work, lambda: None)
        self._source: SourceInput | None = None

    def start(self) -> None:
        """Subscribe to the source and, in the node's namespace, to the predictions."""
        self._worker.start()
        self._source = SourceInput(
            self,
            self._config.input_topic,
            self._intake,
            self._transforms,
            self._on_observation,
            _QUEUE,
            self._qos,
        )
        for kind, topic, handle in (
            (PredictedMotionArray, 'predicted_motion', self._take_motion),
            (WeightedFuturesArray, 'weighted_futures', self._take_futures),
            (ProbabilityVolumeArray, 'probability_volumes', self._take_volumes),
        ):
            put = partial(self._put_message, handle)
            self._qos.create_subscription(kind, topic, put, depth=50)
        steady_timer(self, _PERIOD_S, lambda: self._put(self._publish))
        self.get_logger().info(f'scoring predictions of {self._source.topic_name}')

    def close(self) -> None:
        """Stop the worker and release the node."""
        if self._source is not None:
            self._source.close()
            self._worker.stop()
        if self._transforms is not None:
            self._transforms.close()
        self.destroy_node()

    def _on_observation(self, decoded: Decoded, arrival_s: float) -> None:
        self._put(lambda: self._observe(decoded))

    def _observe(self, decoded: Decoded) -> None:
        result = self._intake.accept(decoded)
        if result is not None:
            self._scorer.observe(result)

    def _put_message(self, handle: Callable[[Any], None], message: Any) -> None:
        self._put(lambda: handle(message))

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

    def _publish(self) -> None:
        score = self._scorer.score()
        if score.stamp_ns:
            self._scores.publish(score_to_ros(score, self._config.score.memory_s))
        if score.warning_text:
            self._warnings.warn('low_coverage', score.warning_text)
        name = f'{self.get_fully_qualified_name()}: predictions against observations'
        self._diagnostics.publish(score_to_status(score, name, self._intake.drops))

    def _drop(self, reason: str, message: str) -> None:
        self._intake.drop(Rejection('', reason, message))

    def _on_rejection(self, rejection: Rejection) -> None:
        self._warnings.warn(rejection.reason, rejection.message)


def main(args: Sequence[str] | None = None) -> int:
    """Run the node until a signal; return 2 if an initial parameter is invalid."""
    return run_node(MonitorNode, NAME, args)


if __name__ == '__main__':
    sys.exit(main())
