# SPDX-License-Identifier: Apache-2.0
"""Score predictions while they are made, once what they speak of has been seen.

The truth is what the same source said later, decoded as the predictor decodes it and interpolated
as a replay does. A prediction is scored if its person was seen throughout, else it is counted.

Coverage is that of the published volumes: the whole body through all windows inside the voxels to
keep free, at the level they carry. Beside it stands the share of joints and horizons within the
ellipsoids of the published covariances, at a level chosen here; it raises the alarm only where no
volumes are scored.
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
from motion_predictor_ros.scoring.live_score import LiveScore, Row, Rows
from motion_predictor_ros.scoring.metrics import (
    kernel_log_density,
    mean_joint_error,
    squared_mahalanobis,
)
from motion_predictor_ros.scoring.tally import Tally
from motion_predictor_ros.scoring.track import SEEN_AFTER_S, Track
from motion_predictor_ros.skeleton.frame import Validity
from motion_predictor_ros.skeleton.intake import IntakeResult
from motion_predictor_ros.volume.body import BodyShape
from motion_predictor_ros.volume.wire import PublishedVolume

_STEP_S = 0.04
"""How often a body is looked for inside a volume [s]."""

_LATE_NS = 2 * NS_PER_S
"""How much later than its observation a prediction may come."""

_AHEAD_NS = NS_PER_S
_MOST_PENDING = 20_000

Truth = Float64[np.ndarray, 'time joint xyz=3']


@dataclass(frozen=True)
class _Pending:
    """What was said of one person, until it can be judged.

    Attributes:
        times_s: When the truth is needed, after the stamp.
        judge: Takes the truth [m] at those times.
    """

    person_id: str
    stamp_ns: int
    times_s: Float64[np.ndarray, ' time']
    judge: Callable[[Truth], None]

    @property
    def due_ns(self) -> int:
        """When everything has been seen that interpolation needs."""
        return self.stamp_ns + round((float(self.times_s[-1]) + SEEN_AFTER_S) * NS_PER_S)


class LiveScorer:
    """Holds what was published against what was seen after.

    Attributes:
        unscored: What could not be scored, by reason.
    """

    def __init__(self, shape: BodyShape, config: ScoreConfig) -> None:
        """Begin without anything.

        Args:
            shape: Of the model's layout.
        """
        self.unscored: Counter[str] = Counter()
        self._shape, self._config = shape, config
        self._tracks: dict[str, Track] = {}
        self._pending: list[_Pending] = []
        kinds = 'prediction', 'futures', 'volumes'
        self._rates = {kind: RateLimiter(config.rate_hz) for kind in kinds}
        self._now_s, self._stamp_ns, self._frame_id = 0.0, 0, ''
        self._limit = float(chi2.ppf(config.covariance_level, 3))
        self._volumes: dict[tuple[float, float], Tally] = {}
        self._covariances: Tally | None = None
        self._errors, self._log_densities = Rows(config.memory_s), Rows(config.memory_s)
        self._fallbacks: deque[tuple[float, bool]] = deque()

    def observe(self, arrival: IntakeResult) -> None:
        """Take the truth in, and judge what can be judged now."""
        seen = arrival.observation
        if arrival.anew:
            self._give_up('time_jump')
            self._tracks.clear()
            for rate in self._rates.values():
                rate.reset()
        elif self._stamp_ns:
            self._now_s += (seen.stamp_ns - self._stamp_ns) / NS_PER_S
        self._stamp_ns, self._frame_id = seen.stamp_ns, seen.frame_id
        for restart in arrival.restarts:
            self._give_up(restart.reason, restart.person_id)
            self._tracks.pop(restart.person_id, None)
        for person in seen.people:
            self._tracks.setdefault(person.person_id, Track()).frames.append(person)
        self._judge()
        self._prune()

    def predict(self, scene: ScenePrediction) -> None:
        """Remember predicted motions.

        Raises:
            DataError: They are of other joints, or in another frame.
        """
        if not self._is_expected(scene.stamp_ns, scene.frame_id, scene.joint_names):
            return
        for each in scene.people:
            if each.validity == Validity.WARMING_UP:  # history is void: a jump, or a gap
                self._give_up('restart', each.person_id)
        if self._rates['prediction'].is_due(scene.stamp_ns):
            for each in scene.people:
                if each.validity == Validity.OK and each.positions is not None:
                    judge = self._judge_motion(each, scene.horizons_s)
                    self._expect(each.person_id, scene.stamp_ns, scene.horizons_s, judge)

    def weigh(
        self, futures: Futures, stamp_ns: int, frame_id: str, joint_names: tuple[str, ...]
    ) -> None:
        """Remember futures; raises as `predict` does."""
        if not self._is_expected(stamp_ns, frame_id, joint_names):
            return
        if self._rates['futures'].is_due(stamp_ns):
            for row, person_id in enumerate(futures.person_ids):
                if futures.judge(row)[0] == Validity.OK:
                    judge = self._judge_futures(futures, row)
                    self._expect(person_id, stamp_ns, futures.horizons_s, judge)

    def keep_free(self, volumes: Iterable[PublishedVolume], stamp_ns: int, frame_id: str) -> None:
        """Remember volumes; raises as `predict` does."""
        if not self._is_expected(stamp_ns, frame_id, self._shape.layout.joint_names):
            return
        if self._rates['volumes'].is_due(stamp_ns):
            for each in volumes:
                self._fallbacks.append((self._now_s, each.validity != Validity.OK))
                if each.validity == Validity.OK and each.volume.windows:
                    times_s = _times_s(each)
                    judge = self._judge_volume(each, times_s)
                    self._expect(each.person_id, stamp_ns, times_s, judge)

    def score(self) -> LiveScore:
        """Return how predictions turned out lately."""
        now_s, significance = self._now_s, self._config.significance
        while self._fallbacks and self._fallbacks[0][0] < now_s - self._config.memory_s:
            self._fallbacks.popleft()
        found = {key: each.coverage(now_s, significance) for key, each in self._volumes.items()}
        covariances = self._covariances
        errors, densities = self._errors.mean(now_s), self._log_densities.mean(now_s)
        return LiveScore(
            self._stamp_ns,
            self._frame_id,
            tuple((end, each) for (_, end), each in sorted(found.items()) if each is not None),
            None if covariances is None else covariances.coverage(now_s, significance),
            *errors,
            *densities,
            len(self._errors),
            len(self._log_densities),
            sum(each for _, each in self._fallbacks) / max(len(self._fallbacks), 1),
            self.unscored.copy(),
        )

    def _is_expected(self, stamp_ns: int, frame_id: str, joint_names: tuple[str, ...]) -> bool:
        """Whether this answers what was observed; what is too far ahead is of another time."""
        if stamp_ns > self._stamp_ns + _AHEAD_NS:
            self.unscored['not_observed'] += 1
            return False
        if frame_id != self._frame_id:
            raise DataError(
                f'predictions are in frame {frame_id!r}, observations in {self._frame_id!r}; '
                'give both nodes the same "fixed_frame"'
            )
        expected = self._shape.layout.joint_names
        if joint_names != expected:
            raise DataError(
                f'predictions are of joints {joint_names}, expected {expected}; give both nodes '
                'the same "skeleton.layout"'
            )
        return True

    def _expect(
        self,
        person_id: str,
        stamp_ns: int,
        times_s: Float64[np.ndarray, ' time'],
        judge: Callable[[Truth], None],
    ) -> None:
        if len(self._pending) >= _MOST_PENDING:
            self.unscored['too_many'] += 1
        else:
            self._pending.append(_Pending(person_id, stamp_ns, times_s, judge))

    def _judge(self) -> None:
        due = [each for each in self._pending if each.due_ns <= self._stamp_ns]
        self._pending = [each for each in self._pending if each.due_ns > self._stamp_ns]
        for each in due:
            track = self._tracks.get(each.person_id)
            truth = None if track is None else track.at(each.stamp_ns, each.times_s)
            if truth is None:
                self.unscored['not_seen'] += 1
            else:
                each.judge(truth)

    def _judge_motion(self, said: Prediction, horizons_s: Row) -> Callable[[Truth], None]:
        positions, covariances = said.positions, said.covariances
        assert positions is not None

        def judge(truth: Truth) -> None:
            self._errors.add(self._now_s, horizons_s, mean_joint_error(positions, truth))
            if covariances is not None:
                within = squared_mahalanobis(truth - positions, covariances) <= self._limit
                if self._covariances is None:
                    level, end_s = self._config.covariance_level, float(horizons_s[-1])
                    self._covariances = self._tally(level, end_s)
                self._covariances.add(self._now_s, said.person_id, float(within.mean()))

        return judge

    def _judge_futures(self, futures: Futures, row: int) -> Callable[[Truth], None]:
        places, weights = futures.positions[row], futures.weights[row]

        def judge(truth: Truth) -> None:
            found = kernel_log_density(places, weights, truth).mean(axis=-1)
            self._log_densities.add(self._now_s, futures.horizons_s, found)

        return judge

    def _judge_volume(
        self, said: PublishedVolume, times_s: Float64[np.ndarray, ' time']
    ) -> Callable[[Truth], None]:
        key = said.level, said.horizon_s

        def judge(truth: Truth) -> None:
            if key not in self._volumes:
                self._volumes[key] = self._tally(*key)
            held = body_inside(self._shape, said.volume, truth, times_s)
            self._volumes[key].add(self._now_s, said.person_id, float(held))

        return judge

    def _tally(self, level: float, end_s: float) -> Tally:
        config = self._config
        return Tally(level, config.memory_s, max(config.independent_s, end_s))

    def _give_up(self, reason: str, person_id: str | None = None) -> None:
        """Judge nothing of what was said of a person, or of anybody."""
        kept = [each for each in self._pending if person_id not in (None, each.person_id)]
        if len(kept) < len(self._pending):
            self.unscored[reason] += len(self._pending) - len(kept)
        self._pending = kept

    def _prune(self) -> None:
        """Forget what no prediction can ask for any more."""
        oldest_ns = min([each.stamp_ns for each in self._pending] + [self._stamp_ns - _LATE_NS])
        needed_ns = oldest_ns - round(SEEN_AFTER_S * NS_PER_S)
        for track in self._tracks.values():
            while track.frames and track.frames[0].stamp_ns < needed_ns:
                track.frames.pop(0)
        self._tracks = {who: each for who, each in self._tracks.items() if each.frames}


def _times_s(said: PublishedVolume) -> Float64[np.ndarray, ' time']:
    """Return when a body is looked for: evenly, and where windows begin and end."""
    edges = [edge for each in said.volume.windows for edge in (each.start_s, each.end_s)]
    evenly = np.arange(0.0, max(edges), _STEP_S)
    return np.unique(np.concatenate([evenly, edges]))
