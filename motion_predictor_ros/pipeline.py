# SPDX-License-Identifier: Apache-2.0
"""The line: a skeleton message goes in, a scene comes out.

    message -> Intake -> PersonBuffer -> MotionPredictor -> CacheFlowPredictor
               skeleton/  skeleton/      prediction/           density/
            -> VolumePredictor -> Scene
               volume/

Futures are drawn while the prediction is solved. The live node and the bag replay call this same
`Pipeline.step`, and nothing here reads a clock but the stamps of the messages: what is measured
offline is what runs on the robot.
"""

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from motion_predictor_ros.config import PipelineConfig
from motion_predictor_ros.conventions import NS_PER_S
from motion_predictor_ros.density.predictor import CacheFlowPredictor, Sample, check_same_windows
from motion_predictor_ros.density.types import Futures
from motion_predictor_ros.errors import ConfigError, SkeletonFormatError
from motion_predictor_ros.prediction.predictor import MotionPredictor, check_joints, load_predictor
from motion_predictor_ros.prediction.types import Prediction, ScenePrediction
from motion_predictor_ros.runtime.load_shedding import FULL
from motion_predictor_ros.runtime.process_memory import disable_malloc_trim
from motion_predictor_ros.runtime.rate_limit import RateLimiter
from motion_predictor_ros.runtime.stage_times import StageTimes
from motion_predictor_ros.runtime.threads import WorkerPool, init_worker_thread
from motion_predictor_ros.skeleton.buffer import PersonBuffer
from motion_predictor_ros.skeleton.frame import (
    NotReady,
    Observation,
    Rejection,
    Validity,
    Window,
)
from motion_predictor_ros.skeleton.intake import Intake
from motion_predictor_ros.skeleton.layout import SkeletonLayout
from motion_predictor_ros.skeleton.people import Presence
from motion_predictor_ros.skeleton.plausibility import Plausibility
from motion_predictor_ros.skeleton.tracking import Restart
from motion_predictor_ros.skeleton.transforms import Lookup, TransformQuery
from motion_predictor_ros.volume.calibration import ModelDigests, has_calibration
from motion_predictor_ros.volume.predictor import VolumePredictor
from motion_predictor_ros.volume.types import SafetyVolume


@dataclass(frozen=True)
class Scene:
    """The results of all stages for one observation.

    Attributes:
        prediction: The most likely future of each person.
        futures: Weighted alternatives; None while not due, without a person of whom enough was
            seen, and without a density model.
        volumes: The keep-out volume of each person, as often as there are futures; None while not
            due, and if it is not enabled.
        withheld: Why planners must get silence instead: somebody is there, and it is not known
            where. Empty if they may get the scene.
    """

    prediction: ScenePrediction
    futures: Futures | None = None
    volumes: tuple[SafetyVolume, ...] | None = None
    withheld: str = ''


class Pipeline:
    """Everything that happens between a skeleton message and its scene.

    Attributes:
        density: The density model; None if it is not enabled.
        volume: Computes keep-out volumes; None if it is not enabled.
        drops: How often something was refused, by reason.
        limited: Predictions with a bone that was shortened to 1.5 times its own length.
        resets: How often time jumped back and everything began anew.
        restarts: How often a person's history and warm start were dropped, by reason: `gap`,
            `jump`, `flip`, `swap`.
        times: What each stage took for the last answer, observations since the one before
            included.
        level: How much is done; whoever finds the machine too slow sets it.
        max_rate_hz: At most so many answers a second of the stamps [Hz].
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
        """Begin with nobody.

        Args:
            lookup: Looks up transforms; default: there are none.
            pool: The threads that the models were given; default: threads of its own.

        Raises:
            ConfigError: Layout, source or frames do not fit.
        """
        self.config = config
        self.predictor = predictor
        self.density, self.volume = density, volume
        self.drops: Counter[str] = Counter()
        self.restarts: Counter[str] = Counter()
        self.resets, self.limited = 0, 0
        self.times = StageTimes()
        self.level, self.max_rate_hz = FULL, config.max_rate_hz
        self._on_drop, self._on_restart = on_drop, on_restart
        self._layout = SkeletonLayout.load(config.skeleton.layout)
        check_joints(self._layout, predictor)
        if density is not None:
            check_same_windows(predictor, density)
        self._answer_rate = RateLimiter(config.max_rate_hz)
        self._futures_rate = RateLimiter(config.density.rate_hz)
        self._intake = Intake(config, self._layout, lookup)
        self._plausible = Plausibility(self._layout, config.skeleton.up)
        self._buffers: dict[str, PersonBuffer] = {}
        self._pool = pool or WorkerPool(config.threads)
        # A GPU takes one thing at a time.
        self._beside = self._pool if predictor.device.type == 'cpu' else WorkerPool(1)

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
            ConfigError: The layout, the source, a frame or the device does not fit.
        """
        disable_malloc_trim()
        torch.set_num_threads(1)  # people and stages are shared out instead
        pool = WorkerPool(config.threads)
        try:
            predictor = load_predictor(config, pool)
            density = CacheFlowPredictor.load_if_wanted(config.density, pool)
            volume = _load_volume(config, predictor, density, pool)
            return cls(config, predictor, on_drop, lookup, on_restart, density, volume, pool)
        except BaseException:
            pool.close()
            raise

    def close(self) -> None:
        """End the threads; the pipeline must not be used any more."""
        self._pool.close()

    @property
    def latest(self) -> Observation | None:
        """The last observation that was accepted."""
        return self._intake.latest

    @property
    def presence(self) -> Presence:
        """Who is observed, held or unplaced by the last observation."""
        return self._intake.presence

    def warm_up(self) -> None:
        """Run every model once, in the thread that will run them; torch sets itself up in each."""
        init_worker_thread()
        self.predictor.warm_up()
        if self.density is not None:
            self.density.warm_up()
        if self.volume is not None:
            self.volume.warm_up()

    def step(self, message: Any, received_ns: int = 0) -> Scene | None:
        """Answer one message of the source; None if it was refused (and counted) or not due."""
        return self.predict() if self.observe(message, received_ns) else None

    def observe(self, message: Any, received_ns: int = 0) -> bool:
        """Take a message in without predicting; return whether it was accepted.

        Args:
            received_ns: When it came, for messages that are empty and have no stamp.
        """
        with self.times.stage('skeleton'):
            decoded = self.decode(message, received_ns)
        return decoded is not None and self.accept(decoded)

    def decode(self, message: Any, received_ns: int = 0) -> Observation | Rejection | None:
        """Read a message, without using it yet; None if it says nothing about people yet."""
        try:
            return self._intake.decode(message, received_ns)
        except SkeletonFormatError as error:
            return Rejection('', error.reason, str(error))

    def transform_query(self, decoded: Observation | Rejection) -> TransformQuery | None:
        """Return which transform `accept` will look up; None if it needs none."""
        if isinstance(decoded, Rejection):
            return None
        return self._intake.transform_query(decoded)

    def accept(self, decoded: Observation | Rejection) -> bool:
        """Take what was decoded in; return whether it was accepted."""
        with self.times.stage('skeleton'):
            if isinstance(decoded, Rejection):
                self._drop(decoded)
                return False
            try:
                arrival = self._intake.accept(decoded)
            except SkeletonFormatError as error:
                self._drop(Rejection('', error.reason, str(error)))
                return False
            if arrival.anew:
                self.resets += 1
                self._forget_everybody()
            for rejection in (*arrival.observation.rejected, *arrival.observation.filtered):
                self._drop(rejection)
            self._buffer(arrival.observation, arrival.restarts)
            return True

    def predict(
        self, tell: Callable[[ScenePrediction], None] = lambda prediction: None
    ) -> Scene | None:
        """Predict everybody in the latest observation, in one batch per stage; None if not due.

        Args:
            tell: Told the prediction at once, before futures and volumes, which take longer.
        """
        if self.latest is None or not self._is_due(self.latest.stamp_ns):
            return None
        stamp_ns, withheld = self.latest.stamp_ns, self.presence.withheld
        with self.times.stage('skeleton'):
            views = [self._view(frame.person_id, stamp_ns) for frame in self.presence.observed]
        windows = [view for view in views if not isinstance(view, NotReady)]
        due = not withheld and self._are_futures_due(windows)
        with self._beside.submit(partial(self._sample, windows, due)) as sampled:
            with self.times.stage('prediction'):
                predictions = [self._limited(each) for each in self.predictor.predict(windows)]
            prediction = self._scene_of(predictions, views)
            tell(prediction)
            sample = self._awaited(sampled) if due else None
        futures, volumes = None, None
        if not withheld and (due or not windows):
            futures, volumes = self._explore(prediction, predictions, sample)
        self.times.answered()
        return Scene(prediction, futures, volumes, withheld)

    def _scene_of(
        self, predictions: Sequence[Prediction], views: Sequence[Window | NotReady]
    ) -> ScenePrediction:
        """Return the observed people in their order, then those who are held or unplaced."""
        assert self.latest is not None
        stamp_ns, presence = self.latest.stamp_ns, self.presence
        short = [view for view in views if isinstance(view, NotReady)]
        unpredicted = [
            Prediction(each.person_id, each.stamp_ns, each.validity, each.reason) for each in short
        ]
        answers = {each.person_id: each for each in (*predictions, *unpredicted)}
        people = [answers[frame.person_id] for frame in presence.observed]
        people += [
            Prediction(person.frame.person_id, stamp_ns, Validity.STALE, person.reason)
            for person in presence.held
        ]
        listed = {person.person_id for person in people}
        people += [
            Prediction(person_id, stamp_ns, Validity.STALE, message)
            for person_id, message in {p.person_id: p.message for p in presence.unplaced}.items()
            if person_id and person_id not in listed
        ]
        return ScenePrediction(
            stamp_ns=self.latest.stamp_ns,
            frame_id=self.latest.frame_id,
            model=self.predictor.model,
            joint_names=self.predictor.joint_names,
            horizons_s=self.predictor.horizons_s,
            people=tuple(people),
        )

    def _is_due(self, stamp_ns: int) -> bool:
        """Let through the first observation in each period of the stamps' time, and count others.

        Which they are depends on the stamps alone, so a replay answers those of the live node.
        """
        rate_hz = min(self.max_rate_hz, self.level.rate_hz or self.max_rate_hz)
        self._answer_rate.rate_hz = rate_hz
        due = self._answer_rate.is_due(stamp_ns)
        if not due:
            message = f'heard, but answers are due {rate_hz:g} times a second only (max_rate_hz)'
            self._drop(Rejection('', 'rate_limited', message))
        return due

    def _are_futures_due(self, windows: Sequence[Window]) -> bool:
        """Tell, once in each period of the stamps' time, while there is anybody."""
        if self.density is None or not windows:
            return False
        self._futures_rate.rate_hz = self.density.config.rate_hz
        return self._futures_rate.is_due(windows[0].stamp_ns)

    def _sample(self, windows: Sequence[Window], due: bool) -> Sample | None:
        """Draw everybody's futures, fewer or none of them as the level says."""
        if self.density is None or not due or not self.level.futures:
            return None
        return self.density.sample(windows, self.level.futures)

    def _explore(
        self, scene: ScenePrediction, predictions: Sequence[Prediction], sample: Sample | None
    ) -> tuple[Futures | None, tuple[SafetyVolume, ...] | None]:
        """Weigh the predictions among the futures while volumes are marked."""
        if sample is None:
            return None, self._volumes(scene, None)
        with self._beside.submit(partial(sample.with_densities_of, predictions)) as weighed:
            volumes = self._volumes(scene, sample.futures)
            return self._awaited(weighed), volumes

    def _awaited(self, work: Callable[[], Any]) -> Any:
        """Return what was done beside, once it is; that it is not yet counts as density."""
        if self.density is None or not self.level.futures:
            return None
        with self.times.stage('density'):
            return work()

    def _volumes(
        self, scene: ScenePrediction, futures: Futures | None
    ) -> tuple[SafetyVolume, ...] | None:
        """Return the space to keep free; without futures it is what can be reached."""
        if self.volume is None or not self.level.volumes:
            return None
        with self.times.stage('volume'):
            return self._assess(scene, futures, 0.0)

    def stale_volumes(
        self, scene: ScenePrediction, age_s: float
    ) -> tuple[SafetyVolume, ...] | None:
        """Return what people may have reached since the scene, `age_s` ago; None if withheld."""
        if self.presence.withheld:
            return None
        if self.volume is None or self.latest is None:
            return ()
        return self._assess(scene, None, age_s)

    def _assess(
        self, scene: ScenePrediction, futures: Futures | None, age_s: float
    ) -> tuple[SafetyVolume, ...]:
        assert self.volume is not None and self.latest is not None
        frames = {frame.person_id: frame for frame in self.presence.observed}
        frames |= {person.frame.person_id: person.frame for person in self.presence.held}
        people = []
        for person in scene.people:
            frame = frames.get(person.person_id)
            if frame is not None:
                lag_s = (scene.stamp_ns - frame.stamp_ns) / NS_PER_S
                people.append((person, frame.positions, age_s + lag_s))
        volumes = self.volume.assess_all(
            people,
            futures,
            frame_id=scene.frame_id,
            coarseness=self.level.coarseness,
        )
        if self.level.futures < 1.0:  # it was calibrated with all of them
            return tuple(dataclasses.replace(each, approximate=True) for each in volumes)
        return volumes

    def reset(self) -> None:
        """Forget everybody; counters stay."""
        self._intake.reset()
        self._forget_everybody()

    def update_static_transforms(self, message: Any) -> None:
        """Take in what a source says apart from its observations, such as /tf_static."""
        self._intake.update_static_transforms(message)

    def _forget_everybody(self) -> None:
        self._buffers.clear()
        self.predictor.reset()
        self._answer_rate.reset()
        self._futures_rate.reset()

    def _view(self, person_id: str, stamp_ns: int) -> Window | NotReady:
        """Return a person's window until `stamp_ns`; refuse one that no person fills."""
        view = self._buffers[person_id].window(stamp_ns)
        fault = None if isinstance(view, NotReady) else self._plausible.fault(view)
        if fault is None:
            return view if isinstance(view, NotReady) else self._plausible.limit_filled(view)
        reason, message = fault
        self.predictor.forget([view.person_id])
        self._drop(Rejection(view.person_id, reason, f'person {view.person_id!r}: {message}'))
        said = f'{reason}: {message}'
        return NotReady(view.person_id, view.stamp_ns, Validity.OUT_OF_DISTRIBUTION, said)

    def _limited(self, prediction: Prediction) -> Prediction:
        """Shorten predicted bones that no body has."""
        if prediction.window is None or prediction.positions is None:
            return prediction
        positions = self._plausible.limit_bones(prediction.window, prediction.positions)
        if positions is None:
            return prediction
        self.limited += 1
        return dataclasses.replace(prediction, positions=positions)

    def _buffer(self, observation: Observation, restarts: Sequence[Restart]) -> None:
        """Hand everybody to their buffer, and forget those who left."""
        skeleton = self.config.skeleton
        for person in observation.people:
            if person.person_id not in self._buffers:
                self._buffers[person.person_id] = PersonBuffer(
                    self._layout,
                    self.predictor.past,
                    self.predictor.period_s,
                    skeleton,
                    skeleton.max_missing_joints if self.predictor.infers_missing_joints else 0,
                )
            buffer = self._buffers[person.person_id]
            void = [each for each in restarts if each.person_id == person.person_id]
            if void:
                buffer.begin_anew(void[0].reason)
            buffer.add(person)  # unless a tracker that lags repeats itself
            if void or buffer.restart:
                self._tell(void[0] if void else _restart(person.person_id, buffer.restart))
        self._forget(observation.stamp_ns - round(skeleton.forget_after_s * NS_PER_S))

    def _forget(self, before_ns: int) -> None:
        gone = [
            person_id
            for person_id, buffer in self._buffers.items()
            if (buffer.newest_stamp_ns or 0) < before_ns
        ]
        for person_id in gone:
            del self._buffers[person_id]
        self.predictor.forget(gone)

    def _tell(self, restart: Restart) -> None:
        self.restarts[restart.reason] += 1
        self._on_restart(restart)

    def _drop(self, rejection: Rejection) -> None:
        self.drops[rejection.reason] += 1
        self._on_drop(rejection)


def _restart(person_id: str, reason: str) -> Restart:
    what = {
        'gap': 'was not seen for longer than "skeleton.max_gap_s"',
        'jump': 'moved faster than "skeleton.max_speed_m_s": another person with this id?',
    }
    message = f'person {person_id!r} {what[reason]}; history and warm start dropped'
    return Restart(person_id, reason, message)


def _load_volume(
    config: PipelineConfig,
    predictor: MotionPredictor,
    density: CacheFlowPredictor | None,
    pool: WorkerPool,
) -> VolumePredictor | None:
    volume = config.volume
    if volume.enabled == 'never':
        return None
    if density is None and volume.enabled == 'auto':
        return None
    if density is None:
        raise ConfigError(
            'parameter "volume.enabled" needs a density model, and there is none; see parameters '
            '"density.enabled" and "density.weights"'
        )
    models = config.density.weights, config.density.cache, config.prediction.weights
    digests = dataclasses.replace(ModelDigests.of(*models), prediction=predictor.digest)
    layout = config.skeleton.layout
    if volume.enabled == 'auto' and not has_calibration(volume.calibration, digests):
        return None
    return VolumePredictor.load(volume, digests, layout, predictor.period_s, pool)
