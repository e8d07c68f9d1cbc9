# SPDX-License-Identifier: Apache-2.0
"""From futures to keep-out volumes, person by person; with the reachable set as fall-back.

Stage: volume. A level set is only as good as the prediction it rests on: where input is stale,
incomplete or unlike anything recorded, the reachable set is published instead, with the reason.
"""

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from threading import Lock
from typing import Any

import numpy as np
from jaxtyping import Float64

from motion_predictor_ros.config import PipelineConfig, VolumeConfig
from motion_predictor_ros.conventions import NS_PER_S
from motion_predictor_ros.density.types import Futures
from motion_predictor_ros.errors import ConfigError
from motion_predictor_ros.prediction.predictor import MotionPredictor
from motion_predictor_ros.prediction.types import Prediction, ScenePrediction
from motion_predictor_ros.runtime.load_shedding import FULL, Level
from motion_predictor_ros.runtime.threads import WorkerPool
from motion_predictor_ros.skeleton.frame import Validity
from motion_predictor_ros.skeleton.people import Presence
from motion_predictor_ros.volume.body import BodyShape
from motion_predictor_ros.volume.calibration import (
    Calibration,
    ModelDigests,
    Promise,
    has_calibration,
    load_calibration,
)
from motion_predictor_ros.volume.capsules import Bodies
from motion_predictor_ros.volume.collision import RobotMotion, collision_probability
from motion_predictor_ros.volume.forecast import BodyForecast, body_forecast, window_frames
from motion_predictor_ros.volume.grid import VoxelGrid
from motion_predictor_ros.volume.level_sets import rank_around
from motion_predictor_ros.volume.reachable import point_speeds, reachable_bodies
from motion_predictor_ros.volume.sparse import downsampled
from motion_predictor_ros.volume.types import SafetyVolume, WindowVolume
from motion_predictor_ros.volume.voxels import covered, voxel_probability

BELOW_FLOOR_M = 0.25
"""How far a volume may go below the floor [m]: capsules of feet reach 0.09 m below their joints,
observed feet sink in by some centimetres, and voxels are as large as 0.1 m."""

_MAX_VOXELS = 1_000_000
"""Of one window; where there would be more, voxels are larger."""
_MAX_STALE_VOXELS = 400_000
"""What can be reached after a while is large and coarse; new input must not wait for it."""


@dataclass(frozen=True)
class Fallback:
    """Why futures are not used."""

    validity: Validity
    cause: str
    reason: str


class VolumePredictor:
    """Keeps what does not change from one observation to the next.

    Attributes:
        fallbacks: How often the reachable set was given instead, by cause.
    """

    def __init__(
        self,
        shape: BodyShape,
        calibration: Calibration,
        config: VolumeConfig,
        period_s: float,
        pool: WorkerPool | None = None,
    ) -> None:
        """Check that the level can be certified.

        Args:
            period_s: Of observed windows [s].
            pool: People are shared out to its threads; default: only the caller's.

        Raises:
            ConfigError: The horizon was not calibrated, or the promise cannot be certified.
        """
        self.config, self.calibration = config, calibration
        self.fallbacks: Counter[str] = Counter()
        self._shape, self._period_s = shape, period_s
        self._pool, self._counting = pool or WorkerPool(1), Lock()
        self._until = calibration.until(config.horizon_s)
        both: list[tuple[Promise, float]] = [('coverage', config.level), ('risk', config.risk)]
        if config.promise == 'risk':
            both.reverse()
        (self._promise, self._level), self._other = both
        self._until.group_thresholds(self._promise, self._level)  # refuses what it cannot promise
        self._windows, self._voxels_m = self._until.windows_s, self._until.voxels_m
        costs = [
            (end_s - start_s) / size_m**2
            for (start_s, end_s), size_m in zip(self._windows, self._voxels_m, strict=True)
        ]
        self._longest_first = np.argsort(costs)[::-1].tolist()
        self._factor = float(self._until.factors.max())
        self._slowest_m_s = self._factor * float(point_speeds(shape, config).min())

    @classmethod
    def load(
        cls,
        config: VolumeConfig,
        digests: ModelDigests,
        layout: str,
        period_s: float,
        pool: WorkerPool | None = None,
    ) -> 'VolumePredictor':
        """Load the body and the calibration, and compile what is compiled.

        Args:
            digests: Of the weight files in use.

        Raises:
            CheckpointError: The calibration cannot be used, or not with these files.
            ConfigError: The layout has no body, or the promise cannot be certified.
        """
        shape = BodyShape.load(layout)
        calibration = load_calibration(config.calibration, digests)
        predictor = cls(shape, calibration, config, period_s, pool=pool)
        predictor.warm_up()
        return predictor

    @classmethod
    def load_if_enabled(
        cls,
        config: PipelineConfig,
        predictor: MotionPredictor,
        has_density: bool,
        pool: WorkerPool | None = None,
    ) -> 'VolumePredictor | None':
        """Load if `volume.enabled` is 'always', or 'auto' and models and calibration fit.

        Raises:
            CheckpointError: As `load`.
            ConfigError: As `load`, or 'always' without a density model.
        """
        volume, is_auto = config.volume, config.volume.enabled == 'auto'
        if volume.enabled == 'never' or (is_auto and not has_density):
            return None
        if not has_density:
            raise ConfigError(
                'parameter "volume.enabled" needs a density model, and there is none; see '
                'parameters "density.enabled" and "density.weights"'
            )
        models = config.density.weights, config.density.cache, config.prediction.weights
        digests = dataclasses.replace(ModelDigests.of(*models), prediction=predictor.digest)
        if is_auto and not has_calibration(volume.calibration, digests):
            return None
        return cls.load(volume, digests, config.skeleton.layout, predictor.period_s, pool)

    def warm_up(self) -> None:
        """Compile and find the thresholds, so that the first person does not have to wait."""
        joints = len(self._shape.layout.joint_names)
        still, times_s = np.zeros((2, joints, 3)), np.array([0.04])
        forecast = body_forecast(self._shape, still, 0.04, still[None, 1:], np.ones(1), times_s)
        body = forecast.future_bodies(self._shape, (0.0, 0.04))
        self._thresholds(forecast)
        self._window(forecast, 0, (-10.0, -1.0), 1.0)
        links = np.zeros((1, 1, 1, 3))
        collision_probability(body, RobotMotion(links, links, np.ones((1, 1, 1))))

    def assess_scene(
        self,
        scene: ScenePrediction,
        presence: Presence,
        futures: Futures | None,
        level: Level = FULL,
        age_s: float = 0.0,
        between: Callable[[], None] = lambda: None,
    ) -> tuple[SafetyVolume, ...]:
        """Return the keep-out volumes of everyone whose place is known.

        Args:
            level: What is left out under load.
            age_s: How long ago the scene was observed [s].
            between: Called between people that the caller's thread computes.
        """
        frames = {frame.person_id: frame for frame in presence.observed}
        frames |= {person.frame.person_id: person.frame for person in presence.held}
        people = []
        for person in scene.people:
            frame = frames.get(person.person_id)
            if frame is not None:
                lag_s = (scene.stamp_ns - frame.stamp_ns) / NS_PER_S
                people.append((person, frame.positions, age_s + lag_s))
        volumes = self.assess_all(
            people, futures, between, frame_id=scene.frame_id, coarseness=level.coarseness
        )
        if level.futures < 1.0:  # calibrated with all futures
            return tuple(dataclasses.replace(volume, approximate=True) for volume in volumes)
        return volumes

    def assess_all(
        self,
        people: Sequence[tuple[Prediction, Float64[np.ndarray, 'joint xyz=3'], float]],
        futures: Futures | None,
        between: Callable[[], None] = lambda: None,
        **how: Any,
    ) -> tuple[SafetyVolume, ...]:
        """Return the keep-out volumes of each person, shared out to threads.

        Args:
            people: With the pose they were last observed in [m], and how long ago [s].
            between: As `assess_scene`.
            how: See `assess`.
        """
        pieces = [
            partial(self.assess, person, futures, pose, age_s=age_s, **how)
            for person, pose, age_s in people
        ]
        return tuple(self._pool.run(pieces, between))

    def assess(
        self,
        prediction: Prediction,
        futures: Futures | None,
        pose: Float64[np.ndarray, 'joint xyz=3'],
        *,
        frame_id: str = '',
        age_s: float = 0.0,
        coarseness: float = 1.0,
    ) -> SafetyVolume:
        """Return the keep-out volumes of one person.

        Args:
            futures: In which the person is a row; None if there are none.
            pose: [m] observed last, from which the reachable set is; NaN where a joint was not.
            age_s: How old the observation is now [s].
            coarseness: Factor on the edges of voxels; they are joined, so volumes only grow.
        """
        row = _row(prediction, futures)
        fallback = self._fallback(prediction, futures, row, age_s)
        if fallback is None and futures is not None:
            return self._level_sets(prediction, futures, row, frame_id, coarseness)
        assert fallback is not None
        with self._counting:
            self.fallbacks[fallback.cause] += 1
        return self._reachable(prediction, fallback, pose, frame_id, age_s, coarseness)

    def _fallback(
        self, prediction: Prediction, futures: Futures | None, row: int, age_s: float
    ) -> Fallback | None:
        """Return why futures cannot be used; None if they can."""
        validity, window = prediction.validity, prediction.window
        if validity == Validity.STALE:
            return Fallback(validity, 'stale', prediction.reason or 'the observation is too old')
        if age_s > self.config.stale_after_s:
            reason = f'the observation is {age_s:.2f} s old, at most {self.config.stale_after_s} s'
            return Fallback(Validity.STALE, 'stale', reason)
        if validity != Validity.OK:
            return Fallback(validity, validity.name.lower(), prediction.reason)
        if window is not None and not window.seen.all():
            names = self._shape.layout.joint_names
            lost = [name for name, seen in zip(names, window.seen, strict=True) if not seen]
            return Fallback(Validity.INCOMPLETE, 'incomplete', f'not observed: {", ".join(lost)}')
        if futures is None or row < 0 or window is None:
            return Fallback(
                Validity.WARMING_UP, 'no_futures', 'no futures were drawn of this person'
            )
        novelty = float(futures.novelty[row])
        if not novelty <= 1.0:
            reason = f'{novelty:.2f} times as far from what was recorded as 99 of 100 people stay'
            return Fallback(Validity.OUT_OF_DISTRIBUTION, 'out_of_distribution', reason)
        return None

    def _level_sets(
        self, prediction: Prediction, futures: Futures, row: int, frame_id: str, coarseness: float
    ) -> SafetyVolume:
        """Return calibrated volumes."""
        assert prediction.window is not None
        horizon_s, every = self.config.horizon_s, self.config.every
        forecast = body_forecast(
            self._shape,
            prediction.window.positions,
            self._period_s,
            futures.positions[row],
            futures.weights[row],
            futures.horizons_s,
            prediction.positions,
            horizon_s,
        )
        return SafetyVolume(
            prediction.person_id,
            prediction.stamp_ns,
            frame_id,
            Validity.OK,
            horizon_s,
            self.windows(forecast, coarseness),
            partial(forecast.future_bodies, self._shape, (0.0, horizon_s), every),
            promise=self._promise,
            level=self._level,
            approximate=self.calibration.approximate,
            calibration=self.calibration.name,
            effective_sample_size=float(futures.effective_sample_size[row]),
            collision=self.calibration.collision,
        )

    def windows(self, forecast: BodyForecast, coarseness: float = 1.0) -> tuple[WindowVolume, ...]:
        """Return the volumes of one person: level sets, cut by what can be reached."""
        pieces = [
            partial(self._window, forecast, index, taus, coarseness)
            for index, taus in enumerate(self._thresholds(forecast))
        ]
        windows = self._pool.run([pieces[index] for index in self._longest_first])
        return tuple(sorted(windows, key=lambda window: window.start_s))

    def _thresholds(self, forecast: BodyForecast) -> list[tuple[float, float]]:
        """Return those of each window: of the promise that is made, and of the other one."""
        thresholds = self._until.thresholds(self._promise, self._level, forecast)
        try:
            others = self._until.thresholds(*self._other, forecast)
        except ConfigError:  # too few clips for that one
            others = (np.inf,) * len(thresholds)
        return list(zip(thresholds, others, strict=True))

    def _window(
        self,
        forecast: BodyForecast,
        index: int,
        thresholds: tuple[float, float],
        coarseness: float,
    ) -> WindowVolume:
        """Cut the level sets of one window by what can be reached, and by the floor.

        Args:
            thresholds: Of the promise that is made, and of the other one.
        """
        window_s, every, size_m = self._windows[index], self.config.every, self._voxels_m[index]
        futures = forecast.future_bodies(self._shape, window_s, every)
        core = forecast.likeliest_body(self._shape, window_s, every)
        field = rank_around(core, futures, self._until.ranking, min(thresholds), size_m)
        grid, volumes = field.grid, [field.values >= threshold for threshold in thresholds]
        floor = math.floor((self.config.floor_m - BELOW_FLOOR_M - grid.origin[2]) / size_m + 1e-6)
        limit = self._limit(forecast, index, field.farthest_m)
        possible = None if limit is None else covered(limit, grid)
        for volume in volumes:
            volume[:, :, : max(floor, 0)] = False
            if possible is not None:
                volume &= possible
        occupancy = voxel_probability(futures, grid)
        while grid.size_m < coarseness * self._voxel_m(index) - 1e-6:
            occupancy, _ = downsampled(occupancy, grid)
            joined = [downsampled(volume, grid) for volume in volumes]
            volumes, grid = [volume for volume, _ in joined], joined[0][1]
        other = volumes[1] if math.isfinite(thresholds[1]) else None
        return WindowVolume(*window_s, grid, volumes[0], occupancy, core, thresholds[0], other)

    def _limit(self, forecast: BodyForecast, index: int, farthest_m: float) -> Bodies | None:
        """Return what can be reached until a window's end; None if no volume leaves it.

        Args:
            farthest_m: Bound on distances of volumes from the likeliest body [m].
        """
        first, last = window_frames(forecast.times_s, self._windows[index])
        moved = np.linalg.norm(forecast.likeliest[first:last] - forecast.now, axis=-1).max()
        end_s = self._windows[index][1]
        reachable_m = self.config.measurement_error_m + self._slowest_m_s * end_s
        if moved + farthest_m <= reachable_m:
            return None
        now = forecast.now[: len(self._shape.layout.joint_names)]
        ends_s = np.array([end_s])
        return reachable_bodies(self._shape, now, ends_s, self.config, factor=self._factor)

    def _voxel_m(self, index: int) -> float:
        """Return the edge of a window's voxels at full resolution [m]."""
        return max(self._voxels_m[index], self.config.voxel_m)

    def _reachable(
        self,
        prediction: Prediction,
        fallback: Fallback,
        pose: Float64[np.ndarray, 'joint xyz=3'],
        frame_id: str,
        age_s: float,
        coarseness: float,
    ) -> SafetyVolume:
        ends = np.array([end_s for _, end_s in self._windows])
        reach = reachable_bodies(
            self._shape, pose, ends, self.config, factor=self.config.reach_factor, age_s=age_s
        )
        is_stale = fallback.validity == Validity.STALE
        max_voxels = _MAX_STALE_VOXELS if is_stale else _MAX_VOXELS
        windows = []
        for index, window_s in enumerate(self._windows):
            limit = reach.at(slice(index, index + 1))
            grid = _grid(limit, coarseness * self._voxel_m(index), max_voxels)
            inside = covered(limit, grid)
            windows.append(WindowVolume(*window_s, grid, inside, inside.astype(np.float32), limit))
        return SafetyVolume(
            prediction.person_id,
            prediction.stamp_ns,
            frame_id,
            fallback.validity,
            self.config.horizon_s,
            tuple(windows),
            lambda: reach,
            reason=fallback.reason,
            cause=fallback.cause,
        )


def _row(prediction: Prediction, futures: Futures | None) -> int:
    """Return where a person stands among the futures; -1 if nowhere."""
    if futures is None or prediction.person_id not in futures.person_ids:
        return -1
    return futures.person_ids.index(prediction.person_id)


def _grid(body: Bodies, size_m: float, max_voxels: int) -> VoxelGrid:
    """Return a grid around a body; of larger voxels where there would be too many."""
    low, high = body.bounds
    while np.prod((high - low) / size_m + 3) > max_voxels:
        size_m *= 2.0
    padding = 0.5 * np.sqrt(3.0) * size_m
    return VoxelGrid.around(low - padding, high + padding, size_m)
