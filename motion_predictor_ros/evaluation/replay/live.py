# SPDX-License-Identifier: Apache-2.0
"""Compare the outputs of a live node with a replay of the same bag."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from motion_predictor_ros.data.bags import read_messages
from motion_predictor_ros.density.wire import decode_futures
from motion_predictor_ros.evaluation.replay.replay import Replay
from motion_predictor_ros.evaluation.tables import spread
from motion_predictor_ros.prediction.types import ScenePrediction
from motion_predictor_ros.prediction.wire import decode_prediction
from motion_predictor_ros.skeleton.frame import Validity

FUTURES_TYPE = 'motion_predictor_ros/msg/WeightedFuturesArray'
VOLUMES_TYPE = 'motion_predictor_ros/msg/ProbabilityVolumeArray'
PREDICTED_TYPE = 'motion_predictor_ros/msg/PredictedMotionArray'


@dataclass(frozen=True)
class LiveComparison:
    """Difference between a live run and the replay.

    Attributes:
        frames: Observations that the live node answered.
        processed_share: Their share of the observations that the replay answered.
        max_abs_difference_m: Largest difference of a coordinate over all common predictions; NaN
            without any.
        futures: Stamps at which both drew futures.
        futures_max_abs_difference_m: As above, over all futures at those stamps; None without any.
        volumes: Messages with keep-out volumes that the live node published.
        age_ms: Median and 99th percentile age of the observation when its answer was published.
    """

    frames: int
    processed_share: float
    max_abs_difference_m: float
    futures: int
    futures_max_abs_difference_m: float | None
    volumes: int
    age_ms: dict[str, float]


def compare_live(recorded: Path, run: Replay) -> LiveComparison:
    """Compare a recording of `predicted_motion` and `weighted_futures` with the replay.

    Raises:
        BagError: The recording cannot be read.
        DataError: A recorded message is malformed.
    """
    messages = [record.message for record in read_messages(recorded, msgtype=PREDICTED_TYPE)]
    scenes = filter(_is_answer, map(decode_prediction, messages))
    live = {scene.stamp_ns: scene for scene in scenes}
    offline = {scene.stamp_ns: scene for _, scene in run.scenes}
    common = sorted(live.keys() & offline.keys())
    gaps = [gap for stamp in common for gap in _differences(live[stamp], offline[stamp])]
    future_gaps = list(_futures_differences(recorded, run))
    volumes = read_messages(recorded, msgtype=VOLUMES_TYPE)
    ages_ms = 1000.0 * np.array([message.age_s for message in messages] or [np.nan])
    return LiveComparison(
        frames=len(live),
        processed_share=len(common) / max(len(offline), 1),
        max_abs_difference_m=max(gaps, default=float('nan')),
        futures=len(future_gaps),
        futures_max_abs_difference_m=max(future_gaps, default=None),
        volumes=sum(bool(record.message.persons) for record in volumes),
        age_ms=spread(ages_ms),
    )


def _is_answer(scene: ScenePrediction) -> bool:
    """Return whether a scene answers an observation, and is not STALE under an old stamp."""
    return not scene.people or any(person.validity != Validity.STALE for person in scene.people)


def _difference_m(live: np.ndarray, offline: np.ndarray) -> float:
    """Return the largest difference; messages hold float32, whose rounding is none."""
    return float(np.abs(live - offline.astype(np.float32).astype(np.float64)).max())


def _differences(live: ScenePrediction, offline: ScenePrediction) -> Iterable[float]:
    theirs = {person.person_id: person.positions for person in offline.people}
    for person in live.people:
        other = theirs.get(person.person_id)
        if other is not None and person.positions is not None:
            yield _difference_m(person.positions, other)


def _futures_differences(recorded: Path, run: Replay) -> Iterable[float]:
    theirs = {stamp: futures.positions for (_, stamp), futures in run.futures.items()}
    for record in read_messages(recorded, msgtype=FUTURES_TYPE):
        live = decode_futures(record.message)
        offline = theirs.get(int(live.stamp_ns[0])) if len(live.stamp_ns) else None
        if offline is not None and offline.shape == live.positions.shape:
            yield _difference_m(live.positions, offline)
