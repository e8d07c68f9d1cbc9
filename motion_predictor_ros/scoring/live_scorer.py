# SPDX-License-Identifier: Apache-2.0
"""Score live predictions once their time has been observed.

The truth is the same source's later observation, decoded as the predictor decodes it and
interpolated as in a replay. A prediction is scored if its person was observed throughout, else
counted as unscored.

Coverage of volumes is the share of volumes whose keep-out voxels contained the whole body in all
windows, compared with their level. Coverage of covariances is the share of joints and horizons
within the ellipsoids of `score.covariance_level`; it raises the alarm only where no volumes are
scored.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from scipy.stats import chi2

from motion_predictor_ros.config import ScoreConfig
from motion_predictor_ros.conventions import NS_PER_S
from motion_predictor_ros.density.types import Futures
from motion_predictor_ros.errors import DataError
from motion_predictor_ros.prediction.types import Prediction, ScenePrediction
from motion_predictor_ros.runtime.rate_limit import RateLimiter
from motion_predictor_ros.scoring.body_inside import body_inside
from motion_predictor_ros.scoring.live_score import CoverageCounter, LiveScore, Rows
from motion_predictor_ros.scoring.metrics import (
    Horizons,
    Poses,
    kernel_log_density,
    mean_joint_error,
    squared_mahalanobis,
)
from motion_predictor_ros.scoring.track import MAX_GAP_S, Track
from motion_predictor_ros.skeleton.frame import Validity
from motion_predictor_ros.skeleton.stage import IntakeResult
from motion_predictor_ros.volume.body import BodyShape
from motion_predictor_ros.volume.wire import PublishedVolume

_STEP_S = 0.04
"""Interval at which a body is tested against a volume [s]."""

_LATE_NS = 2 * NS_PER_S
"""Largest delay between an observation and its prediction [ns]."""

_AHEAD_NS = NS_PER_S
_MAX_PENDING = 20_000


@dataclass(frozen=True)
class _Pending:
    """A prediction of one person whose time has not been observed yet.

    Attributes:
        times_s: Times of the truth it needs, after the stamp [s].
        evaluate: Scores it, given the truth [m] at those times.
    """

    person_id: str
    stamp_ns: int
    times_s: Float64[np.ndarray, ' time']
    evaluate: Callable[[Poses], None]

    @property
    def due_ns(self) -> int:
        """When all observations for the interpolation have arrived."""
        return self.stamp_ns + round((float(self.times_s[-1]) + MAX_GAP_S) * NS_PER_S)


class LiveScorer:
    """Compares published predictions with later observations.

    Attributes:
        unscored: Predictions that could not be scored, by reason.
    """

    def __init__(self, shape: BodyShape, config: ScoreConfig) -> None:
        """Start without observations.

        Args:
            shape: Body shape of the model's layout.
        """
        self.unscored: Counter[str] = Counter()
        self._shape, self._config = shape, config
        self._tracks: dict[str, Track] = {}
        self._pending: list[_Pending] = []
        kinds = 'prediction', 'futures', 'volumes'
        self._rates = {kind: RateLimiter(config.rate_hz) for kind in kinds}
        self._now_s, self._stamp_ns, self._frame_id = 0.0, 0, ''
        self._limit = float(chi2.ppf(config.covariance_level, 3))
        self._volumes: dict[tuple[float, float], CoverageCounter] = {}
        self._covariances: CoverageCounter | None = None
        self._errors, self._log_densities = Rows(config.memory_s), Rows(config.memory_s)
        self._fallbacks: deque[tuple[float, bool]] = deque()

    def observe(self, result: IntakeResult) -> None:
        """Add the truth, and score all predictions that are due."""
        observation = result.observation
        if result.anew:
            self._discard('time_jump')
            self._tracks.clear()
            for rate in self._rates.values():
                rate.reset()
        elif self._stamp_ns:
            self._now_s += (observation.stamp_ns - self._stamp_ns) / NS_PER_S
        self._stamp_ns, self._frame_id = observation.stamp_ns, observation.frame_id
        for restart in result.restarts:
            self._discard(restart.reason, restart.person_id)
            self._tracks.pop(restart.person_id, None)
        for person in observation.people:
            self._tracks.setdefault(person.person_id, Track()).frames.append(person)
        self._score_due()
        self._prune()

    def predict(self, scene: ScenePrediction) -> None:
        """Add predicted motions.

        Raises:
            DataError: Their joints or frame differ from the observations'.
        """
        if not self._is_expected(scene.stamp_ns, scene.frame_id, scene.joint_names):
            return
        for person in scene.people:
            if person.validity == Validity.WARMING_UP:  # its history was reset by a jump or a gap
                self._discard('restart', person.person_id)
        if self._rates['prediction'].is_due(scene.stamp_ns):
            for person in scene.people:
                if person.validity == Validity.OK and person.positions is not None:
                    evaluate = self._motion_evaluation(person, scene.horizons_s)
                    self._expect(person.person_id, scene.stamp_ns, scene.horizons_s, evaluate)

    def add_futures(
        self, futures: Futures, stamp_ns: int, frame_id: str, joint_names: tuple[str, ...]
    ) -> None:
        """Add futures; raises as `predict` does."""
        if not self._is_expected(stamp_ns, frame_id, joint_names):
            return
        if self._rates['futures'].is_due(stamp_ns):
            for row, person_id in enumerate(futures.person_ids):
                if futures.judge(row)[0] == Validity.OK:
                    evaluate = self._futures_evaluation(futures, row)
                    self._expect(person_id, stamp_ns, futures.horizons_s, evaluate)

    def add_volumes(
        self, volumes: Iterable[PublishedVolume], stamp_ns: int, frame_id: str
    ) -> None:
        """Add volumes; raises as `predict` does."""
        if not self._is_expected(stamp_ns, frame_id, self._shape.layout.joint_names):
            return
        if self._rates['volumes'].is_due(stamp_ns):
            for published in volumes:
                self._fallbacks.append((self._now_s, published.validity != Validity.OK))
                if published.validity == Validity.OK and published.windows:
                    times_s = _times_s(published)
                    evaluate = self._volume_evaluation(published, times_s)
                    self._expect(published.person_id, stamp_ns, times_s, evaluate)

    def score(self) -> LiveScore:
        """Return the scores of the last seconds."""
        now_s, significance = self._now_s, self._config.significance
        while self._fallbacks and self._fallbacks[0][0] < now_s - self._config.memory_s:
            self._fallbacks.popleft()
        volumes = {
            key: counter.coverage(now_s, significance) for key, counter in self._volumes.items()
        }
        covariances = self._covariances
        errors, densities = self._errors.mean(now_s), self._log_densities.mean(now_s)
        return LiveScore(
            self._stamp_ns,
            self._frame_id,
            tuple(
                (end, cover) for (_, end), cover in sorted(volumes.items()) if cover is not None
            ),
            None if covariances is None else covariances.coverage(now_s, significance),
            *errors,
            *densities,
            len(self._errors),
            len(self._log_densities),
            sum(fallback for _, fallback in self._fallbacks) / max(len(self._fallbacks), 1),
            self.unscored.copy(),
        )

    def _is_expected(self, stamp_ns: int, frame_id: str, joint_names: tuple[str, ...]) -> bool:
        """Check that a prediction answers an observation; one too far ahead is of another time."""
        if stamp_ns > self._stamp_ns + _AHEAD_NS:
            self.unscored['not_observed'] += 1
            return False
        if frame_id != self._frame_id:
            raise DataError(
                f'predictions are in frame {frame_id!r}, observations in {self._frame_id!r}; set '
                'the same "fixed_frame" for both nodes'
            )
        expected = self._shape.layout.joint_names
        if joint_names != expected:
            raise DataError(
                f'predictions have joints {joint_names}, expected {expected}; set the same '
                '"skeleton.layout" for both nodes'
            )
        return True

    def _expect(
        self,
        person_id: str,
        stamp_ns: int,
        times_s: Float64[np.ndarray, ' time'],
        evaluate: Callable[[Poses], None],
    ) -> None:
        if len(self._pending) >= _MAX_PENDING:
            self.unscored['too_many'] += 1
        else:
            self._pending.append(_Pending(person_id, stamp_ns, times_s, evaluate))

    def _score_due(self) -> None:
        due = [item for item in self._pending if item.due_ns <= self._stamp_ns]
        self._pending = [item for item in self._pending if item.due_ns > self._stamp_ns]
        for item in due:
            track = self._tracks.get(item.person_id)
            truth = None if track is None else track.at(item.stamp_ns, item.times_s)
            if truth is None:
                self.unscored['not_seen'] += 1
            else:
                item.evaluate(truth)

    def _motion_evaluation(
        self, prediction: Prediction, horizons_s: Horizons
    ) -> Callable[[Poses], None]:
        positions, covariances = prediction.positions, prediction.covariances
        assert positions is not None

        def evaluate(truth: Poses) -> None:
            self._errors.add(self._now_s, horizons_s, mean_joint_error(positions, truth))
            if covariances is not None:
                within = squared_mahalanobis(truth - positions, covariances) <= self._limit
                if self._covariances is None:
                    level, end_s = self._config.covariance_level, float(horizons_s[-1])
                    self._covariances = self._counter(level, end_s)
                self._covariances.add(self._now_s, prediction.person_id, float(within.mean()))

        return evaluate

    def _futures_evaluation(self, futures: Futures, row: int) -> Callable[[Poses], None]:
        positions, weights = futures.positions[row], futures.weights[row]

        def evaluate(truth: Poses) -> None:
            density = kernel_log_density(positions, weights, truth).mean(axis=-1)
            self._log_densities.add(self._now_s, futures.horizons_s, density)

        return evaluate

    def _volume_evaluation(
        self, published: PublishedVolume, times_s: Float64[np.ndarray, ' time']
    ) -> Callable[[Poses], None]:
        key = published.level, published.horizon_s

        def evaluate(truth: Poses) -> None:
            if key not in self._volumes:
                self._volumes[key] = self._counter(*key)
            inside = body_inside(self._shape, published.windows, truth, times_s)
            self._volumes[key].add(self._now_s, published.person_id, float(inside))

        return evaluate

    def _counter(self, level: float, end_s: float) -> CoverageCounter:
        config = self._config
        return CoverageCounter(level, config.memory_s, max(config.independent_s, end_s))

    def _discard(self, reason: str, person_id: str | None = None) -> None:
        """Count the pending predictions of a person, or of all people, as unscored."""
        kept = [item for item in self._pending if person_id not in (None, item.person_id)]
        if len(kept) < len(self._pending):
            self.unscored[reason] += len(self._pending) - len(kept)
        self._pending = kept

    def _prune(self) -> None:
        """Drop observations that no prediction needs any more."""
        oldest_ns = min([item.stamp_ns for item in self._pending] + [self._stamp_ns - _LATE_NS])
        needed_ns = oldest_ns - round(MAX_GAP_S * NS_PER_S)
        for track in self._tracks.values():
            while track.frames and track.frames[0].stamp_ns < needed_ns:
                track.frames.pop(0)
        self._tracks = {key: track for key, track in self._tracks.items() if track.frames}


def _times_s(published: PublishedVolume) -> Float64[np.ndarray, ' time']:
    """Return the times to test [s]: evenly spaced, and the limits of all windows."""
    edges = [t for window in published.windows for t in (window.start_s, window.end_s)]
    evenly = np.arange(0.0, max(edges), _STEP_S)
    return np.unique(np.concatenate([evenly, edges]))
