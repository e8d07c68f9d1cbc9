# SPDX-License-Identifier: Apache-2.0
"""From futures to the space to keep free, person by person; and back to what is merely reachable.

Stage: volume. The coverage volume is only as good as what it rests on, so where input is stale,
incomplete or like nothing recorded, the reachable set is given instead, and why.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from threading import Lock
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64

from motion_predictor_ros.config import VolumeConfig
from motion_predictor_ros.density.types import Futures
from motion_predictor_ros.prediction.types import Prediction
from motion_predictor_ros.runtime.threads import WorkerPool
from motion_predictor_ros.skeleton.frame import Validity
from motion_predictor_ros.volume.body import BodyShape
from motion_predictor_ros.volume.calibration import Calibration, ModelDigests, load_calibration
from motion_predictor_ros.volume.capsules import Bodies, bodies
from motion_predictor_ros.volume.collision import RobotMotion, collision_probability
from motion_predictor_ros.volume.coverage import (
    BodyForecast,
    body_forecast,
    kept_futures,
    region,
    window_frames,
)
from motion_predictor_ros.volume.grid import Patch, VoxelGrid
from motion_predictor_ros.volume.reachable import point_speeds, reachable_bodies
from motion_predictor_ros.volume.sparse import downsampled
from motion_predictor_ros.volume.types import SafetyVolume, WindowVolume
from motion_predictor_ros.volume.voxels import covered, voxel_probability

WINDOWS_S = ((0.0, 0.25), (0.25, 0.5), (0.5, 1.0), (1.0, 2.0))
"""Windows that are published [s]; those beyond the calibrated horizon are left out."""

_MOST_VOXELS = 2_000_000
"""Of one person's grid; where there would be more, voxels are larger: nobody takes much longer."""
_MOST_STALE_VOXELS = 400_000
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
        device: torch.device | None = None,
        pool: WorkerPool | None = None,
    ) -> None:
        """Check that the level can be certified.

        Args:
            period_s: Of observed windows [s].
            pool: People are shared out to its threads; default: only the caller's.

        Raises:
            ConfigError: Level or horizon were not calibrated, or cannot be certified.
        """
        self.config, self.calibration = config, calibration
        self.fallbacks: Counter[str] = Counter()
        self._shape, self._period_s, self._device = shape, period_s, device
        self._pool, self._counting = pool or WorkerPool(1), Lock()
        self._until = calibration.until(config.horizon_s)
        self._radius = self._until.radius(config.level)
        self._factor = self._until.factor(config.level)
        end = config.horizon_s + 1e-9
        self._windows = tuple(each for each in WINDOWS_S if each[1] <= end)

    @classmethod
    def load(
        cls,
        config: VolumeConfig,
        bound: ModelDigests,
        layout: str,
        period_s: float,
        pool: WorkerPool | None = None,
    ) -> 'VolumePredictor':
        """Load the body and the calibration, and compile what is compiled.

        Args:
            bound: The weight files in use.

        Raises:
            CheckpointError: The calibration cannot be used, or not with these files.
            ConfigError: The layout has no body, or the level cannot be certified.
        """
        shape = BodyShape.load(layout)
        calibration = load_calibration(config.calibration, bound)
        predictor = cls(shape, calibration, config, period_s, pool=pool)
        predictor.warm_up()
        return predictor

    def warm_up(self) -> None:
        """Compile, so that the first person does not have to wait."""
        still = np.zeros((1, 1, 1, 3))
        points = np.zeros((1, 2, len(self._shape.point_names), 3))
        one = bodies(self._shape, points, np.ones(1), np.zeros(2))
        grid = _grid([one], 1.0)
        downsampled([Patch((0, 0, 0), self._covered(one, grid)), self._likely(one, grid)], grid)
        collision_probability(one, RobotMotion(still, still, np.ones((1, 1, 1))))

    def assess_all(
        self,
        people: Sequence[tuple[Prediction, Float64[np.ndarray, 'joint xyz=3'], float]],
        futures: Futures | None,
        **how: Any,
    ) -> tuple[SafetyVolume, ...]:
        """Return the keep-out volume of each person, shared out to threads.

        Args:
            people: With the pose they were last observed in [m], and how long ago [s].
            how: See `assess`.
        """
        pieces = [
            partial(self.assess, person, futures, pose, age_s=age_s, **how)
            for person, pose, age_s in people
        ]
        return tuple(self._pool.run(pieces))

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
        """Return the space to keep free around one person.

        Args:
            futures: In which the person is a row; None if nobody could be predicted.
            pose: [m] last seen, NaN where a joint was not: what can be reached is reached from it.
            age_s: How old the observation is now [s].
            coarseness: Factor on the edges of voxels; what is covered only grows with it.
        """
        size_m = coarseness * self.config.voxel_m
        row = _row(prediction, futures)
        fallback = self._fallback(prediction, futures, row, age_s)
        if fallback is None and futures is not None:
            found = self._coverage(prediction, futures, row, frame_id, size_m)
            if found is not None:
                return found
            fallback = Fallback(
                Validity.OUT_OF_DISTRIBUTION,
                'larger_than_reachable',
                'the coverage volume is larger than what can be reached at the same level',
            )
        assert fallback is not None
        with self._counting:
            self.fallbacks[fallback.cause] += 1
        return self._reachable(prediction, fallback, pose, frame_id, age_s, size_m)

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
            return Fallback(Validity.INCOMPLETE, 'incomplete', f'not seen: {", ".join(lost)}')
        if futures is None or row < 0 or window is None:
            return Fallback(
                Validity.WARMING_UP, 'no_futures', 'no futures were drawn of this person'
            )
        novelty = float(futures.novelty[row])
        if not novelty <= 1.0:
            reason = f'{novelty:.2f} times as far from what was recorded as 99 of 100 people stay'
            return Fallback(Validity.OUT_OF_DISTRIBUTION, 'out_of_distribution', reason)
        return None

    def _coverage(
        self, prediction: Prediction, futures: Futures, row: int, frame_id: str, size_m: float
    ) -> SafetyVolume | None:
        """Return the calibrated volume; None if it is larger than what can be reached."""
        assert prediction.window is not None
        look = body_forecast(
            self._shape,
            prediction.window.positions,
            self._period_s,
            futures.positions[row],
            futures.weights[row],
            futures.log_density[row],
            futures.horizons_s,
            prediction.positions,
        )
        regions, drawn, all_drawn = self._bodies(look)
        grid = _grid([*regions, *drawn], size_m)
        windows = self._window_volumes(regions, drawn, grid)
        if self._is_too_large(look, windows[-1], grid):
            return None
        return SafetyVolume(
            prediction.person_id,
            prediction.stamp_ns,
            frame_id,
            Validity.OK,
            '',
            '',
            self.config.level,
            self.config.horizon_s,
            self.calibration.approximate,
            self.calibration.name,
            grid,
            windows,
            all_drawn,
            float(futures.effective_sample_size[row]),
        )

    def _bodies(self, look: BodyForecast) -> tuple[list[Bodies], list[Bodies], Bodies]:
        """Return the coverage volume and all futures in each window, and these until the end."""
        points, times_s = look.ways, np.concatenate([[0.0], look.times_s])
        shape, weights, scale, every = self._shape, look.weights, look.scale, self.config.every

        def drawn(window: tuple[float, float]) -> list[Bodies]:
            a, b = window_frames(times_s, window)
            return [bodies(shape, points[:, a:b], weights, times_s[a:b], scale, every=every)]

        windows = ((0.0, self.config.horizon_s), *self._windows)
        drawings = [partial(drawn, each) for each in windows]
        regions, (all_drawn,), *others = self._pool.run([partial(self._regions, look), *drawings])
        return regions, [each for (each,) in others], all_drawn

    def _regions(self, look: BodyForecast) -> list[Bodies]:
        """Return the coverage volume within each window."""
        until, config = self._until, self.config
        times = window_frames(look.times_s, (0.0, until.horizon_s))[1]
        kept = kept_futures(look, config.level, until.choice, times)
        spread = until.spread.of(look)[:times]
        return [
            region(self._shape, look, kept, spread, self._radius, window, config.every)
            for window in self._windows
        ]

    def _window_volumes(
        self, regions: list[Bodies], drawn: list[Bodies], grid: VoxelGrid
    ) -> tuple[WindowVolume, ...]:
        """Mark the voxels of every window, several at a time: kernels hold no lock."""
        inside: list[Any] = [partial(self._covered, each, grid) for each in reversed(regions)]
        likely: list[Any] = [partial(self._likely, each, grid) for each in reversed(drawn)]
        # The last window takes longest, so it comes first.
        done = self._pool.run([*inside, *likely])[::-1]
        count = len(self._windows)
        parts = zip(self._windows, done[count:], regions, done[:count], strict=True)
        return tuple(
            WindowVolume(*window, covered, kept, patch) for window, covered, kept, patch in parts
        )

    def _is_too_large(self, look: BodyForecast, window: WindowVolume, grid: VoxelGrid) -> bool:
        """Compare with what can be reached until the end of the last window, at this level."""
        config, own = self.config, np.count_nonzero(window.covered) * grid.size_m**3
        speed = self._factor * point_speeds(self._shape, config).max()
        ball_m = config.measurement_error_m + speed * window.end_s
        if own <= 4.0 / 3.0 * np.pi * ball_m**3:  # around the fastest point alone
            return False
        joints = len(self._shape.layout.joint_names)
        reach = reachable_bodies(
            self._shape, look.now[:joints], np.array([window.end_s]), config, factor=self._factor
        )
        coarse = _grid([reach], 4.0 * grid.size_m)
        return bool(own > covered(reach, coarse, padding_m=0.0).sum() * coarse.size_m**3)

    def _reachable(
        self,
        prediction: Prediction,
        fallback: Fallback,
        pose: Float64[np.ndarray, 'joint xyz=3'],
        frame_id: str,
        age_s: float,
        size_m: float,
    ) -> SafetyVolume:
        ends = np.array([window[1] for window in self._windows])
        reach = reachable_bodies(
            self._shape, pose, ends, self.config, factor=self.config.reach_factor, age_s=age_s
        )
        is_stale = fallback.validity == Validity.STALE
        most = _MOST_STALE_VOXELS if is_stale else _MOST_VOXELS
        grid = _grid([reach], size_m, most)
        windows = []
        for index, window in enumerate(self._windows):
            own = reach.at(index)
            inside = self._covered(own, grid)
            windows.append(WindowVolume(*window, inside, own))
        return SafetyVolume(
            prediction.person_id,
            prediction.stamp_ns,
            frame_id,
            fallback.validity,
            fallback.reason,
            fallback.cause,
            0.0,
            self.config.horizon_s,
            False,
            '',
            grid,
            tuple(windows),
            reach,
            0.0,
        )

    def _covered(self, kept: Bodies, grid: VoxelGrid) -> np.ndarray:
        return covered(kept, grid, device=self._device)

    def _likely(self, drawn: Bodies, grid: VoxelGrid) -> Patch:
        """Return the voxels that any of the futures touches, and how likely."""
        low, high = drawn.bounds
        part, first = grid.part(low - grid.padding_m, high + grid.padding_m)
        return Patch(first, voxel_probability(drawn, part, device=self._device))


def _row(prediction: Prediction, futures: Futures | None) -> int:
    """Return where a person stands among the futures; -1 if nowhere."""
    if futures is None or prediction.person_id not in futures.person_ids:
        return -1
    return futures.person_ids.index(prediction.person_id)


def _grid(parts: list[Bodies], size_m: float, most: int = _MOST_VOXELS) -> VoxelGrid:
    """Return a grid around all parts; of coarser voxels where there would be too many."""
    corners = [part.bounds for part in parts]
    low = np.min([corner[0] for corner in corners], axis=0)
    high = np.max([corner[1] for corner in corners], axis=0)
    while np.prod((high - low) / size_m + 3) > most:
        size_m *= 2.0
    padding = 0.5 * np.sqrt(3.0) * size_m
    return VoxelGrid.around(low - padding, high + padding, size_m)
