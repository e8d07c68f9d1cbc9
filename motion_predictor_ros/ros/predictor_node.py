# SPDX-License-Identifier: Apache-2.0
"""The live node: skeletons in, predicted motion, markers and diagnostics out.

A lifecycle node: configure loads and warms up the model, activate subscribes. The executor only
queues messages; one worker thread takes them all in and answers the newest, so that a slow moment
costs predictions (counted as `superseded`) and never observations.
"""

import gc
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter

from motion_predictor_ros.config import SOURCES, PipelineConfig
from motion_predictor_ros.conventions import NS_PER_S
from motion_predictor_ros.errors import ConfigError, MotionPredictorError
from motion_predictor_ros.pipeline import Pipeline, Scene
from motion_predictor_ros.prediction.types import ScenePrediction
from motion_predictor_ros.ros.diagnostics import (
    DiagnosticsPublisher,
    Statistics,
    diagnose,
    pipeline_facts,
)
from motion_predictor_ros.ros.outputs.scene import ScenePublisher
from motion_predictor_ros.ros.parameters import (
    NodeConfig,
    check_changes,
    declare,
    read,
    refuse_changes,
    warn_of_unknown,
)
from motion_predictor_ros.ros.process import run_node, steady_timer
from motion_predictor_ros.ros.source_input import Decoded, SourceInput, internal_error
from motion_predictor_ros.ros.throttled_log import ThrottledLog
from motion_predictor_ros.ros.topics import QosWatch, message_class
from motion_predictor_ros.ros.transforms import LiveTransforms
from motion_predictor_ros.ros.watchdog import CHECK_S, Watchdog
from motion_predictor_ros.ros.worker import Worker
from motion_predictor_ros.runtime.jit import log_compilation
from motion_predictor_ros.runtime.load_shedding import FULL, Degradation, degradation_levels
from motion_predictor_ros.runtime.process_memory import freeze_gc
from motion_predictor_ros.skeleton.frame import Rejection
from motion_predictor_ros.skeleton.tracking import Restart

NAME = 'motion_predictor'
NOT_CERTIFIED = (
    'Nothing here is certified, and no prediction is a promise: use it behind a certified '
    'speed-and-separation function, never instead of one.'
)

_LOGGED_ONCE = ('other_class', 'class_filtered', 'robot_frame')

Arrival = tuple[Decoded, float]
"""A decoded message, and when it arrived on the monotonic clock [s]."""


class PredictorNode(LifecycleNode):  # type: ignore[misc]
    """Answers skeletons of any source with PredictedMotionArray and WeightedFuturesArray."""

    def __init__(self, **options: Any) -> None:
        """Declare parameters and begin to publish diagnostics.

        Args:
            options: Of rclpy's nodes, such as `namespace` and `parameter_overrides`, for several
                in one process.

        Raises:
            ConfigError: A parameter given at start cannot be used.
        """
        super().__init__(NAME, **options)
        declare(self, PipelineConfig())
        declare(self, NodeConfig())
        warn_of_unknown(self)
        read(self, PipelineConfig)
        self.settings = read(self, NodeConfig)
        refuse_changes(self, self._check_parameters)
        self.add_post_set_parameters_callback(self._apply_parameters)
        self._pipeline: Pipeline | None = None
        self._worker: Worker[Arrival] | None = None
        self._input: SourceInput | None = None
        self._transforms: LiveTransforms | None = None
        self._outputs: ScenePublisher | None = None
        self._watchdog: Watchdog | None = None
        self._load_shedder: Degradation | None = None
        self._failure = ''
        self._statistics = Statistics()
        self._compiling_reported_s = 0.0
        self._warnings = ThrottledLog(self.get_logger())
        self._qos = QosWatch(self)
        self._diagnostics = DiagnosticsPublisher(self)
        steady_timer(self, 1.0, self._diagnose)
        self._change_state = self._service_change_state.callback
        self._service_change_state.callback = self._on_change_state

    def start(self) -> None:
        """Configure and activate, unless a lifecycle manager is to do it."""
        if not self.settings.auto_activate:
            self.get_logger().info('auto_activate is false: waiting to be configured')
        elif self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()

    def close(self) -> None:
        """Stop working, whatever the state; nothing is published any more."""
        self._stop()
        self.destroy_node()

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model and warm it up, so that the first person does not wait."""
        started_s = time.monotonic()
        try:
            with log_compilation(self.get_logger().info, self._report_compiling):
                self._load()
        except Exception as error:
            return self._fail('configure', error)
        assert self._pipeline is not None
        freeze_gc()
        facts, layout = pipeline_facts(self._pipeline), self._pipeline.config.skeleton.layout
        self._failure = ''
        for stage in ('prediction', 'density'):
            if facts[f'{stage}.device_auto']:
                self.get_logger().info(f'{stage}.device auto: {facts[f"{stage}.device_auto"]}')
        self.get_logger().info(
            f'model {facts["model"]} on {facts["device"]}, {facts["density"]}, '
            f'layout {layout!r}, ready after {time.monotonic() - started_s:.2f} s'
        )
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe and begin to work."""
        assert self._pipeline is not None
        pipeline, settings = self._pipeline, self.settings
        self._watchdog = self._make_watchdog(pipeline)
        has_models = pipeline.density is not None, pipeline.volume is not None
        levels = degradation_levels(*has_models, settings.stale_after_s)
        self._load_shedder, pipeline.level = Degradation(levels, settings.degradation), FULL
        self._worker = Worker(
            settings.queue, self._work, pipeline.warm_up, self._check_input, CHECK_S
        )
        try:
            self._worker.start()
            self._input = SourceInput(
                self,
                settings.input_topic,
                pipeline.skeleton,
                self._transforms,
                self._put,
                settings.queue,
                self._qos,
                self._statistics.received,
            )
        except Exception as error:
            return self._fail('activate', error)
        self.get_logger().info(f'predicting from {self._input.topic_name}')
        self.get_logger().warning(NOT_CERTIFIED)
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe and forget all people."""
        self._stop()
        if self._outputs is not None:
            self._outputs.withdraw()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Give the model back."""
        self._release()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Undo everything, from any state."""
        self._release()
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Undo everything; the node can be configured anew."""
        self._release()
        return super().on_error(state)

    def _load(self) -> None:
        config, self.settings = read(self, PipelineConfig), read(self, NodeConfig)
        self.get_logger().info(f'loading {config.prediction.weights}')
        self._check_rate(config.max_rate_hz)
        message_class(SOURCES[config.source].msgtype, f'source {config.source!r}')
        lookup, lookup_newest = None, None
        self._transforms = LiveTransforms.of_input(self, config)
        if self._transforms is not None:
            lookup, lookup_newest = self._transforms.lookup, self._transforms.lookup_newest
        self._pipeline = Pipeline.load(config, self._on_rejection, lookup, self._on_restart)
        self._outputs = ScenePublisher(
            self, self._pipeline, self.settings, lookup_newest, self._qos
        )

    def _fail(self, doing: str, error: Exception) -> TransitionCallbackReturn:
        kind = '' if isinstance(error, MotionPredictorError) else f'{type(error).__name__}: '
        self._failure = f'cannot {doing}: {kind}{error}'
        if self.context.ok():  # else it is a signal that broke it off
            self.get_logger().error(self._failure)
        if doing == 'configure':
            self._release()
        else:
            self._stop()
        return TransitionCallbackReturn.FAILURE

    def _stop(self) -> None:
        if self._input is not None:
            self._input.close()
        if self._worker is not None:
            self._worker.stop()
        if self._pipeline is not None:
            self._pipeline.reset()
        self._input, self._worker = None, None
        self._watchdog, self._load_shedder = None, None

    def _release(self) -> None:
        self._stop()
        if self._outputs is not None:
            self._outputs.close()
        if self._transforms is not None:
            self._transforms.close()
        if self._pipeline is not None:
            self._pipeline.close()
        self._pipeline, self._outputs, self._transforms = None, None, None
        gc.unfreeze()
        gc.collect()  # what one configuration leaves must not add up

    def _put(self, decoded: Decoded, arrival_s: float) -> None:
        assert self._worker is not None
        if not self._worker.put((decoded, arrival_s)):
            self._drop('queue_overflow', f'more than {self.settings.queue} observations waited')

    def _work(self, waiting: list[Arrival]) -> Scene | None:
        """Run in the worker's thread: nothing may escape."""
        try:
            return self._answer(waiting)
        except Exception as error:
            if self._pipeline is not None and self.context.ok():
                self._pipeline.reset()
                self._pipeline.accept(internal_error(error))
            return None

    def _check_input(self) -> None:
        """Run in the worker's thread after each work, and periodically without any."""
        try:
            if self._watchdog is not None:
                self._watchdog.check()
        except Exception as error:
            if self.context.ok():
                self._drop('internal_error', f'{type(error).__name__}: {error}')

    def _watch_s(self) -> float:
        """Return the time on which the input ages: simulated time may pass slowly, or stop."""
        if self.get_parameter('use_sim_time').value:
            return self.get_clock().now().nanoseconds / NS_PER_S
        return time.monotonic()

    def _make_watchdog(self, pipeline: Pipeline) -> Watchdog:
        stale_after_s = self.settings.stale_after_s
        period_s = 1.0 / pipeline.config.density.rate_hz
        until_s = stale_after_s + self.settings.stale_volumes_s
        callbacks = self._on_stale, self._grow
        return Watchdog(self._watch_s, stale_after_s, *callbacks, period_s, until_s)

    def _grow(self, scene: ScenePrediction, silent_s: float) -> None:
        assert self._outputs is not None
        self._outputs.publish_growing(scene, max(self._age_s(scene), silent_s))

    def _on_stale(self, scene: ScenePrediction, silent_s: float) -> None:
        assert self._outputs is not None
        self._outputs.publish_stale(scene, max(self._age_s(scene), silent_s))
        self._warnings.warn('stale', f'nothing new for {silent_s:.2f} s; silent until there is')

    def _age_s(self, scene: ScenePrediction) -> float:
        return (self.get_clock().now().nanoseconds - scene.stamp_ns) / NS_PER_S

    def _answer(self, waiting: list[Arrival]) -> Scene | None:
        """Accept all that waited, then predict once, for the newest; return the scene.

        What comes meanwhile is predicted between people's volumes, so that motion never waits for
        the volumes of all.
        """
        started_s = time.monotonic()
        assert self._pipeline is not None and self._outputs is not None
        assert self._watchdog is not None
        accepted = self._accept(waiting)
        first: list[tuple[float, float]] = []
        newer: list[Scene] = []
        resets = self._pipeline.skeleton.resets
        scene = (
            self._pipeline.predict(
                lambda prediction: first.append(self._publish_motion(prediction)),
                lambda: newer.extend(self._answer_newer()),
            )
            if accepted
            else None
        )
        if scene is None:
            return None
        ((age_s, publish_s),) = first
        if self._pipeline.skeleton.resets > resets or any(later.withheld for later in newer):
            scene = replace(scene, volumes=None)  # planners are to hear nothing now
        stages_ms, begin_s = dict(self._pipeline.times.last_ms), time.monotonic()
        self._outputs.publish(scene, self._age_s(scene.prediction))
        done_s = time.monotonic()
        stages_ms['publish'] = 1e3 * (publish_s + done_s - begin_s)
        if not newer:
            self._watchdog.feed(scene.prediction, done_s - waiting[-1][1])
        whole_ms = {'step': 1e3 * (done_s - started_s), 'latency': 1e3 * (done_s - waiting[-1][1])}
        if self.settings.markers:
            self._outputs.draw(scene, motion=not newer)
            stages_ms['markers'] = 1e3 * (time.monotonic() - done_s)
        named_ms = {f'stage.{name}': spent_ms for name, spent_ms in stages_ms.items()}
        self._statistics.answered(scene, age_s, whole_ms | named_ms)
        stages_s = {name: spent_ms / 1e3 for name, spent_ms in stages_ms.items()}
        self._shed_load(time.monotonic(), stages_s, scene.prediction.stamp_ns)
        return scene

    def _shed_load(self, done_s: float, stages_s: dict[str, float], stamp_ns: int) -> None:
        """Set what the next scenes leave out, from what this one took [s]."""
        assert self._pipeline is not None and self._load_shedder is not None
        change = self._load_shedder.answered(done_s, stages_s, stamp_ns)
        if change is None:
            return
        self._pipeline.level = change.level
        if change.worse:  # rclpy wants one severity a line
            self.get_logger().warning(change.message)
        else:
            self.get_logger().info(change.message)

    def _accept(self, waiting: list[Arrival]) -> bool:
        """Append observations to the histories; return whether any was accepted."""
        assert self._pipeline is not None
        resets = self._pipeline.skeleton.resets
        accepted = sum(self._pipeline.accept(decoded) for decoded, _ in waiting)
        if self._pipeline.skeleton.resets > resets:
            self._warnings.warn('time_jump', 'time went back: all people are forgotten')
        if accepted > 1:
            self._drop(
                'superseded', 'newer observations waited: too slow for them all', accepted - 1
            )
        return accepted > 0

    def _answer_newer(self) -> list[Scene]:
        """Answer what waits now, if anything does."""
        assert self._worker is not None
        waiting = self._worker.take_waiting()
        scene = self._work(waiting) if waiting else None
        return [scene] if scene is not None else []

    def _publish_motion(self, prediction: ScenePrediction) -> tuple[float, float]:
        """Publish predictions; return how old the observation was, and what it took [s]."""
        assert self._outputs is not None
        age_s, begin_s = self._age_s(prediction), time.monotonic()
        self._outputs.publish_prediction(prediction, age_s)
        return age_s, time.monotonic() - begin_s

    def _on_rejection(self, rejection: Rejection) -> None:
        if rejection.reason == 'rate_limited':  # as configured
            self._statistics.dropped(rejection.reason)
        elif rejection.reason in _LOGGED_ONCE:
            self._statistics.dropped(rejection.reason)
            self._warnings.warn_once(rejection.reason, rejection.message)
        else:
            self._drop(rejection.reason, rejection.message)

    def _on_restart(self, restart: Restart) -> None:
        self._warnings.warn(restart.reason, restart.message)

    def _drop(self, reason: str, message: str, count: int = 1) -> None:
        self._statistics.dropped(reason, count)
        self._warnings.warn(reason, message)

    def _check_parameters(self, changes: list[Parameter]) -> None:
        check_changes(changes, self._pipeline is not None, PipelineConfig(), NodeConfig())
        for change in changes:
            if self._pipeline is not None and change.name == 'max_rate_hz':
                self._check_rate(change.value)

    def _check_rate(self, rate_hz: float) -> None:
        """Refuse a rate at which people would be STALE between two answers."""
        if rate_hz * self.settings.stale_after_s <= 1.0:
            raise ConfigError(
                f'with max_rate_hz {rate_hz:g} people would be STALE between two answers: '
                f'it must be more than 1 / stale_after_s ({self.settings.stale_after_s:g} s)'
            )

    def _apply_parameters(self, changes: list[Parameter]) -> None:
        self.settings = read(self, NodeConfig)
        if self._outputs is not None:
            self._outputs.settings = self.settings
        if self._pipeline is not None:
            config = read(self, PipelineConfig)
            self._pipeline.predictor.config = config.prediction
            self._pipeline.max_rate_hz = config.max_rate_hz
            if self._pipeline.density is not None:
                self._pipeline.density.config = config.density

    def _on_change_state(self, request: Any, response: Any) -> Any:
        """Refuse a transition that the present state does not have; rclpy raises."""
        try:
            return self._change_state(request, response)
        except Exception as error:
            self.get_logger().error(f'refused transition {request.transition.id}: {error}')
            response.success = False
            return response

    def _report_compiling(self) -> None:
        """Publish diagnostics while configure compiles: the timer waits until it has returned."""
        if time.monotonic() - self._compiling_reported_s >= 0.2:
            self._compiling_reported_s = time.monotonic()
            self._diagnose('compiling')

    def _diagnose(self, state: str = '') -> None:
        state = state or self._state_machine.current_state[1]
        name = f'{self.get_fully_qualified_name()}: prediction'
        facts = {} if self._pipeline is None else pipeline_facts(self._pipeline)
        if self._watchdog is not None:
            facts |= {'stale': str(self._watchdog.stale), 'stale_times': str(self._watchdog.times)}
        facts |= self._load_shedder.facts() if self._load_shedder is not None else {}
        facts |= {f'incompatible_qos.{what}': str(n) for what, n in self._qos.counts.items()}
        facts |= self._input.facts() if self._input is not None else {}
        faults = (
            facts.get('withheld', ''),
            self._qos.warning_text,
            self._load_shedder.warning_text if self._load_shedder is not None else '',
        )
        status = diagnose(name, state, self._failure, facts, self._statistics, faults)
        self._diagnostics.publish(status)


def main(args: Sequence[str] | None = None) -> int:
    """Run the node until a signal; return 2 if a parameter given at start cannot be used."""
    return run_node(PredictorNode, NAME, args)


if __name__ == '__main__':
    sys.exit(main())
