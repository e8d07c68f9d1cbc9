# SPDX-License-Identifier: Apache-2.0
"""The pipeline: a skeleton message goes in, a scene comes out.

    message -> SkeletonStage -> MotionPredictor -> CacheFlowPredictor -> VolumePredictor -> Scene
               skeleton/        prediction/        density/              volume/

    to add or change                     edit
    a camera or a tracker                one class in skeleton/sources/, parameter `source`
    who is there, what is plausible      skeleton/people.py, skeleton/plausibility.py
    a predictor                          one class in prediction/, parameter `predictor`
    how futures are sampled              density/sampling.py, density/recentring.py
    which space is kept free             volume/predictor.py
    what a planner receives              one class in ros/outputs/

The live node and the replay of a bag call this same `Pipeline.step`. It reads the stamps of
messages and no clock, so both compute the same.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from motion_predictor_ros.config import PipelineConfig, validate
from motion_predictor_ros.density.cache_flow import kernels as density_kernels
from motion_predictor_ros.density.predictor import CacheFlowPredictor, Sample, check_same_windows
from motion_predictor_ros.density.types import Futures
from motion_predictor_ros.prediction.predictor import (
    MotionPredictor,
    assemble_scene,
    check_joints,
    load_predictor,
)
from motion_predictor_ros.prediction.types import Prediction, ScenePrediction
from motion_predictor_ros.runtime.jit import compile_ahead
from motion_predictor_ros.runtime.load_shedding import FULL, Level
from motion_predictor_ros.runtime.process_memory import disable_malloc_trim, without_gc
from motion_predictor_ros.runtime.rate_limit import RateLimiter
from motion_predictor_ros.runtime.stage_times import StageTimes
from motion_predictor_ros.runtime.threads import WorkerPool, init_worker_thread
from motion_predictor_ros.skeleton.frame import Observation, Rejection, Validity, Window
from motion_predictor_ros.skeleton.layout import SkeletonLayout
from motion_predictor_ros.skeleton.people import Presence
from motion_predictor_ros.skeleton.stage import SkeletonStage
from motion_predictor_ros.skeleton.tracking import Restart
from motion_predictor_ros.skeleton.transforms import Lookup
from motion_predictor_ros.volume import kernels as volume_kernels
from motion_predictor_ros.volume.predictor import VolumePredictor
from motion_predictor_ros.volume.types import SafetyVolume


@dataclass(frozen=True)
class Scene:
    """The results of all stages for one observation.

    Attributes:
        prediction: The most likely future of each person.
        futures: Weighted alternatives; None when not due, without people to predict, and without
            a density model.
        volumes: The keep-out volume of each person, at the rate of futures; None when not due or
            not enabled.
        withheld: Why nothing may be published to planners: a person is present at an unknown
            place. Empty if the scene may be published.
    """

    prediction: ScenePrediction
    futures: Futures | None = None
    volumes: tuple[SafetyVolume, ...] | None = None
    withheld: str = ''


class Pipeline:
    """The four stages, one after the other.

    Attributes:
        skeleton: Decodes messages; counts what it rejects.
        density: None if not enabled.
        volume: None if not enabled.
        limited: Number of predictions in which a bone was shortened to 1.5 times its length.
        times: Time of each stage for the last scene, with the observations since the one before.
        level: What is left out under load; set by the live node.
        max_rate_hz: Scenes per second of the stamps, at most [Hz].
    """

    def __init__(
        self,
        config: PipelineConfig,
        predictor: MotionPredictor,
        on_drop: Callable[[Rejection], None] = lambda rejection: None,
        lookup: Lookup | None = None,
        on_restart: Callable[[Restart], None] = lambda restart: None,
        density: CacheFlowPredictor | None = None,
        volume: VolumePredictor | None = None,
        pool: WorkerPool | None = None,
    ) -> None:
        """Connect loaded models.

        Args:
            lookup: Looks up transforms; default: there are none.
            pool: Threads that the models share; default: threads of the pipeline's own.

        Raises:
            ConfigError: A value is out of range, or layout, source or frames do not fit.
        """
        config = validate(config)
        self.config, self.predictor = config, predictor
        self.density, self.volume = density, volume
        self.limited, self.times = 0, StageTimes()
        self.level, self.max_rate_hz = FULL, config.max_rate_hz
        layout = SkeletonLayout.load(config.skeleton.layout)
        check_joints(layout, predictor)
        if density is not None:
            check_same_windows(predictor, density)
        window = predictor.past, predictor.period_s, predictor.infers_missing_joints
        self.skeleton = SkeletonStage(config, layout, *window, lookup, on_drop, on_restart)
        self._scene_rate = RateLimiter(config.max_rate_hz)
        self._futures_rate = RateLimiter(config.density.rate_hz)
        self._pool, self._in_between = pool or WorkerPool(config.threads), False
        # On a GPU models run one after the other.
        self._parallel = self._pool if predictor.device.type == 'cpu' else WorkerPool(1)

    @classmethod
    def load(
        cls,
        config: PipelineConfig,
        on_drop: Callable[[Rejection], None] = lambda rejection: None,
        lookup: Lookup | None = None,
        on_restart: Callable[[Restart], None] = lambda restart: None,
    ) -> 'Pipeline':
        """Load and warm up the models that `config` names.

        Raises:
            CheckpointError: The weights or the cache cannot be used.
            ConfigError: A value is out of range, or layout, source, frame or device do not fit.
        """
        config = validate(config)
        disable_malloc_trim()
        torch.set_num_threads(1)  # threads are for people and stages
        pool = WorkerPool(config.threads)
        try:
            with without_gc():
                never = 'never' in (config.density.enabled, config.volume.enabled)
                ahead = () if never else (density_kernels.__name__, volume_kernels.__name__)
                with compile_ahead(*ahead):
                    predictor = load_predictor(config, pool)
                    density = CacheFlowPredictor.load_if_enabled(config.density, pool)
                volume = VolumePredictor.load_if_enabled(
                    config, predictor, density is not None, pool
                )
            return cls(config, predictor, on_drop, lookup, on_restart, density, volume, pool)
        except BaseException:
            pool.close()
            raise

    def close(self) -> None:
        """End the threads; the pipeline must not be used any more."""
        self._pool.close()

    def warm_up(self) -> None:
        """Run every model once in the calling thread, in which torch initialises itself."""
        init_worker_thread()
        for stage in (self.predictor, self.density, self.volume):
            if stage is not None:
                stage.warm_up()

    def reset(self) -> None:
        """Forget all people; counters stay."""
        self.skeleton.reset()
        self._forget_people()

    def step(self, message: Any, received_ns: int = 0) -> Scene | None:
        """Process one message of the source; None if it was rejected, or no scene is due.

        `on_drop` gets the reason of a rejection, and `skeleton.drops` counts it.

        Args:
            message: Of the source, or an `Observation`.
            received_ns: Time of reception, for empty messages without a stamp.

        Raises:
            TypeError: `message` is neither.
        """
        return self.predict() if self.observe(message, received_ns) else None

    def observe(self, message: Any, received_ns: int = 0) -> bool:
        """Decode and accept a message without predicting; return whether it was accepted."""
        with self.times.stage('skeleton'):
            decoded = self.skeleton.decode(message, received_ns)
        return decoded is not None and self.accept(decoded)

    def accept(self, decoded: Observation | Rejection) -> bool:
        """Append a decoded message to the histories; return whether it was accepted."""
        with self.times.stage('skeleton'):
            accepted = self.skeleton.accept(decoded)
            if accepted is not None and accepted.anew:
                self._forget_people()
            self.predictor.forget(accepted.left if accepted else ())
            return accepted is not None

    def predict(
        self,
        on_prediction: Callable[[ScenePrediction], None] = lambda prediction: None,
        between: Callable[[], None] = lambda: None,
    ) -> Scene | None:
        """Compute the scene of the latest observation; None if it is not due.

        Args:
            on_prediction: Called as soon as the prediction is known; futures and volumes follow.
            between: Called between people's futures and volumes. It may accept newer observations
                and call `predict` for them: that returns predictions alone.
        """
        observation, presence = self.skeleton.latest, self.skeleton.presence
        if observation is None or not self._is_due(observation):
            return None
        with self.times.stage('skeleton'):
            windows, not_ready = self.skeleton.windows()
            implausible = Validity.OUT_OF_DISTRIBUTION
            self.predictor.forget(p.person_id for p in not_ready if p.validity == implausible)
        due = self._are_futures_due(windows, presence)
        draws = windows if due and self.level.futures > 0.0 else ()
        # A thread that has no person to predict draws futures meanwhile.
        early = draws if len(draws) < self._parallel.threads else ()
        with self._parallel.submit(partial(self._draw, early, self.level)) as drawn:
            with self.times.stage('prediction'):
                predictions = [self._limit_bones(p) for p in self.predictor.predict(windows)]
            scene = assemble_scene(self.predictor, observation, presence, predictions, not_ready)
            on_prediction(scene)
            with self.times.stage('density', counts=bool(early)):
                sample = drawn()
        futures, volumes = None, None
        if due or not (windows or presence.withheld or self._in_between):
            begun = _Begun(scene, presence, predictions, draws, self.level)
            futures, volumes = self._complete(begun, sample, between)
        self.times.complete()
        return Scene(scene, futures, volumes, presence.withheld)

    def stale_volumes(
        self, scene: ScenePrediction, age_s: float
    ) -> tuple[SafetyVolume, ...] | None:
        """Return what people may have reached `age_s` after the scene [s]; None if withheld."""
        presence = self.skeleton.presence
        if self.volume is None or self.skeleton.latest is None or presence.withheld:
            return None if presence.withheld else ()
        return self.volume.assess_scene(scene, presence, None, self.level, age_s)

    def _are_futures_due(self, windows: Sequence[Window], presence: Presence) -> bool:
        if self.density is None or not windows or presence.withheld or self._in_between:
            return False
        return self._futures_rate.is_due(windows[0].stamp_ns, self.density.config.rate_hz)

    def _draw(
        self, windows: Sequence[Window], level: Level, between: Callable[[], None] = lambda: None
    ) -> Sample | None:
        """Draw futures, the share of them that the level allows; None without windows."""
        return self.density.sample(windows, level.futures, between) if self.density else None

    def _complete(
        self, begun: '_Begun', sample: Sample | None, between: Callable[[], None]
    ) -> tuple[Futures | None, tuple[SafetyVolume, ...] | None]:
        """Draw futures, then compute volumes; the threads share the people.

        Without futures, keep-out volumes are reachable sets.

        Args:
            sample: Futures, if they are drawn already.
        """
        with self.times.stage('density', counts=bool(begun.windows) and sample is None):
            newer = partial(self._take_in_newer, between, 'density')
            sample = sample or self._draw(begun.windows, begun.level, newer)
            futures = sample.recentred(begun.predictions) if sample else None
        volumes = None
        # The density of predictions is evaluated while volumes are computed.
        weigh = partial(sample.weighted, begun.predictions, futures) if sample else lambda: None
        with self._parallel.submit(weigh) as weighted:
            if self.volume is not None and begun.level.volumes:
                newer = partial(self._take_in_newer, between, 'volume')
                with self.times.stage('volume'):
                    volumes = self.volume.assess_scene(
                        begun.scene, begun.presence, futures, begun.level, between=newer
                    )
            with self.times.stage('density', counts=sample is not None):
                return weighted(), volumes

    def _take_in_newer(self, between: Callable[[], None], stage: str) -> None:
        self._in_between = True
        try:
            with self.times.suspended(stage):
                between()
        finally:
            self._in_between = False

    def _forget_people(self) -> None:
        self.predictor.reset()
        self._scene_rate.reset()
        self._futures_rate.reset()

    def _is_due(self, observation: Observation) -> bool:
        """Check the rate of scenes, by stamps alone: a replay predicts what the live node did."""
        rate_hz = min(self.max_rate_hz, self.level.rate_hz or self.max_rate_hz)
        due = self._scene_rate.is_due(observation.stamp_ns, rate_hz)
        if not due:
            message = f'observed, but the rate is limited to {rate_hz:g} Hz (max_rate_hz)'
            self.skeleton.drop(Rejection('', 'rate_limited', message))
        return due

    def _limit_bones(self, prediction: Prediction) -> Prediction:
        """Shorten predicted bones that are longer than a body's."""
        window, positions = prediction.window, prediction.positions
        if window is None or positions is None:
            return prediction
        limited = self.skeleton.plausibility.limit_bones(window, positions)
        self.limited += limited is not None
        return prediction if limited is None else replace(prediction, positions=limited)


@dataclass(frozen=True)
class _Begun:
    """A scene whose futures and volumes follow.

    Attributes:
        windows: Of the people to draw futures for.
        level: What is left out under load, for all people of the scene alike.
    """

    scene: ScenePrediction
    presence: Presence
    predictions: Sequence[Prediction]
    windows: Sequence[Window]
    level: Level
