# SPDX-License-Identifier: Apache-2.0
"""Cut the input of a live node repeatedly: measure the time to STALE, and to recovery.

A real node in a process of its own, over DDS. The time to STALE counts from the last observation
before the cut until its reception, whichever observation the node answered last: an overloaded
    node
does not answer all. Recovery counts from the first observation after the cut until the first
answer to it, or to a later one, is received.
"""

import random
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from motion_predictor_ros.msg import PredictedMotion
from trials.feeder import Answer, Feeder

from motion_predictor_ros.config import PipelineConfig
from motion_predictor_ros.data.synthetic import Walker
from motion_predictor_ros.errors import MotionPredictorError
from motion_predictor_ros.ros.tools.demo import child, local_environment, write_parameters

LIMIT_S = 0.6
_INPUT_S = (1.2, 2.2)
_CUT_S = (0.8, 1.6)
_WARM_S = 3.0


@dataclass(frozen=True)
class CutsReport:
    """Result of the trial.

    Attributes:
        cuts: Number of cuts.
        stale_s_max: Longest time until STALE was received; infinite if it never was.
        recovery_s_max: Longest time until an answer to new input was received.
        fresh_stamps_on_stale: Messages with a stamp of no observation, and predictions or markers
            after STALE with a stamp from before the cut.
        ok_s: Longest time until a person was predicted again, which needs a second of history.
    """

    cuts: int
    stale_s_max: float
    recovery_s_max: float
    fresh_stamps_on_stale: int
    ok_s: float


@dataclass(frozen=True)
class Cut:
    """One cut: the stamps since the last cut, and those after it up to the next [ns]."""

    before: tuple[int, ...]
    after: tuple[int, ...]


def run_cuts(count: int, seed: int, config: PipelineConfig) -> CutsReport:
    """Cut the input `count` times, at random times and for random durations.

    Raises:
        MotionPredictorError: The node did not start, or did not end cleanly.
    """
    environment = local_environment()
    with tempfile.TemporaryDirectory() as folder:
        parameters = write_parameters(config, Path(folder))
        node = ['predictor_node', '--ros-args', '--params-file', str(parameters)]
        with child(node, environment) as process:
            feeder = Feeder(int(environment['ROS_DOMAIN_ID']), markers=True)
            try:
                feeder.wait_for(process)
                cuts = _cut(feeder, count, random.Random(seed))
            finally:
                feeder.close()
    return judge(cuts, feeder.sent_s, feeder.answers)


def _cut(feeder: Feeder, count: int, chance: random.Random) -> list[Cut]:
    people = {'anna': Walker(1)}
    before = feeder.feed(people, _WARM_S)
    cuts = []
    for _ in range(count):
        feeder.spin(chance.uniform(*_CUT_S))
        after = feeder.feed(people, chance.uniform(*_INPUT_S))
        cuts.append(Cut(tuple(before), tuple(after)))
        before = after
    feeder.spin(LIMIT_S)
    return cuts


def judge(cuts: list[Cut], sent_s: dict[int, float], answers: list[Answer]) -> CutsReport:
    """Compute the report from the sent observations and the received answers.

    Raises:
        MotionPredictorError: No answer was received.
    """
    if not answers:
        raise MotionPredictorError('the node answered nothing; see its output above')
    stale = [_stale_s(answers, set(cut.before)) - sent_s[cut.before[-1]] for cut in cuts]
    begin = [(sent_s[cut.after[0]], set(cut.after)) for cut in cuts]
    back = [_first_s(answers, after) - begin_s for begin_s, after in begin]
    predicted = [answer for answer in answers if PredictedMotion.OK in answer.validities]
    ok = [_first_s(predicted, after) - begin_s for begin_s, after in begin]
    return CutsReport(
        cuts=len(cuts),
        stale_s_max=max(stale, default=np.nan),
        recovery_s_max=max(back, default=np.nan),
        fresh_stamps_on_stale=_fresh(sent_s, answers),
        ok_s=max(ok, default=np.nan),
    )


def _first_s(answers: list[Answer], stamps: set[int]) -> float:
    """Return when a prediction with one of these stamps was first received; inf if never."""
    return min((a.at_s for a in _with_stamps(answers, stamps) if not a.stale), default=np.inf)


def _stale_s(answers: list[Answer], stamps: set[int]) -> float:
    """Return when STALE with such a stamp was received after the last prediction; inf if never."""
    answers = _with_stamps(answers, stamps)
    last_s = max((a.at_s for a in answers if not a.stale), default=-np.inf)
    return min((a.at_s for a in answers if a.stale and a.at_s > last_s), default=np.inf)


def _with_stamps(answers: list[Answer], stamps: set[int]) -> list[Answer]:
    return [a for a in answers if a.stamp_ns in stamps and not a.markers]


def _fresh(sent_s: dict[int, float], answers: list[Answer]) -> int:
    """Count messages with a stamp of no observation, and predictions or markers after STALE.

    The order is that of publishing: markers may arrive later than the STALE that followed them.
    """
    stale_ns, count = 0, 0
    for answer in sorted(answers, key=lambda answer: answer.published_ns):
        if answer.stale:
            stale_ns = max(stale_ns, answer.stamp_ns)
        is_old = answer.stamp_ns <= stale_ns and not answer.stale
        count += answer.stamp_ns not in sent_s or is_old
    return count
