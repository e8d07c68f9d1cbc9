# SPDX-License-Identifier: Apache-2.0
"""Hold what a live node published against a replay of the same bag."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from motion_predictor_ros.data.bags import read_messages
from motion_predictor_ros.density.wire import decode_futures
from motion_predictor_ros.evaluation.replay.replay import Replay
from motion_predictor_ros.prediction.types import Prediction, ScenePrediction
from motion_predictor_ros.prediction.wire import decode_prediction
from motion_predictor_ros.skeleton.frame import Validity

FUTURES_TYPE = 'motion_predictor_ros/msg/WeightedFuturesArray'
PREDICTED_TYPE = 'motion_predictor_ros/msg/PredictedMotionArray'


@dataclass(frozen=True)
class LiveComparison:
    """How the live run differs from the replay.

    Attributes:
        frames: Observations that the live node answered.
        processed_share: Of the observations that the replay answered.
        max_abs_difference_m: Largest difference of a coordinate over all predictions both made;
            NaN if there is none.
        futures: Times at which both weighed futures.
        futures_max_abs_difference_m: As above, over all futures at those times; None if there are
            none.
        age_ms: Median and 99th percentile age of the observation when its answer was published.
    """

    frames: int
    processed_share: float
    max_abs_difference_m: float
    futures: int
    futures_max_abs_difference_m: float | None
    age_ms: dict[str, float]


def compare_live(recorded: Path, played: Replay) -> LiveComparison:
    """Compare a recording of `predicted_motion` and `weighted_futures` with the replay.

    Raises:
        BagError: The recording cannot be read.
        DataError: A recorded message is malformed.
    """
    messages = [each.message for each in read_messages(recorded, msgtype=PREDICTED_TYPE)]
    scenes = filter(_answers, map(decode_prediction, messages))
    live = {scene.stamp_ns: scene for scene in scenes}
    offline = {scene.stamp_ns: scene for _, scene in played.scenes}
    common = sorted(live.keys() & offline.keys())
    gaps = [gap for stamp in common for gap in _differences(live[stamp], offline[stamp])]
    weighed = list(_futures_differences(recorded, played))
    ages_ms = 1000.0 * np.array([message.age_s for message in messages] or [np.nan])
    return LiveComparison(
        frames=len(live),
        processed_share=len(common) / max(len(offline), 1),
        max_abs_difference_m=max(gaps, default=float('nan')),
        futures=len(weighed),
        futures_max_abs_difference_m=max(weighed, default=None),
        age_ms={
            'p50': float(np.percentile(ages_ms, 50)),
            'p99': float(np.percentile(ages_ms, 99)),
        },
    )


def _answers(scene: ScenePrediction) -> bool:
    """Tell an answer from what is said, under the same stamp, when nothing new comes."""
    return not scene.people or any(each.validity != Validity.STALE for each in scene.people)


def _differences(live: ScenePrediction, offline: ScenePrediction) -> Iterable[float]:
    theirs: dict[str, Prediction] = {each.person_id: each for each in offline.people}
    for mine in live.people:
        other = theirs.get(mine.person_id)
        if other is None or mine.positions is None or other.positions is None:
            continue
        # The message holds float32: that rounding is not a difference.
        sent = other.positions.astype(np.float32).astype(np.float64)
        yield float(np.abs(mine.positions - sent).max())


def _futures_differences(recorded: Path, played: Replay) -> Iterable[float]:
    theirs = {stamp: futures for (_, stamp), futures in played.futures.items()}
    for each in read_messages(recorded, msgtype=FUTURES_TYPE):
        live = decode_futures(each.message)
        offline = theirs.get(int(live.stamp_ns[0])) if len(live.stamp_ns) else None
        if offline is None or offline.positions.shape != live.positions.shape:
            continue
        sent = offline.positions.astype(np.float32).astype(np.float64)
        yield float(np.abs(live.positions - sent).max())
