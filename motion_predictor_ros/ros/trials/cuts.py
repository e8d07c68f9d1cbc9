# SPDX-License-Identifier: Apache-2.0
"""Cut the input of a live node again and again: how soon does it say so, how soon is it back?

A real node in a process of its own, over DDS. Times are counted against it: STALE from the last
observation before the cut until it is received, whichever the node answered last: where it is too
slow, it answers some of them only. Recovery counts from the first observation after the cut until
the first answer to it or a later one is received.
"""

import random
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from motion_predictor_ros.config import PipelineConfig
from motion_predictor_ros.data.synthetic import Walker
from motion_predictor_ros.errors import MotionPredictorError
from motion_predictor_ros.msg import PredictedMotion
from motion_predictor_ros.ros.trials.children import child, local_environment, write_parameters
from motion_predictor_ros.ros.trials.feeder import Feeder, Heard

LIMIT_S = 0.6
_LIT_S = (1.2, 2.2)
_CUT_S = (0.8, 1.6)
_WARM_S = 3.0


@dataclass(frozen=True)
class CutsReport:
    """What the cuts showed.

    Attributes:
        cuts: How many there were.
        stale_s_max: Longest until STALE was received; infinite if it never was.
        recovery_s_max: Longest until an answer to new input was received.
        fresh_stamps_on_stale: Messages with a stamp that no observation had, and predictions or
            drawings that came after STALE under a stamp from before the cut.
        ok_s: Longest until somebody was predicted again; a second of history is needed first.
    """

    cuts: int
    stale_s_max: float
    recovery_s_max: float
    fresh_stamps_on_stale: int
    ok_s: float


@dataclass(frozen=True)
class Cut:
    """One cut: the stamps before it, since the last cut, and after it, up to the next [ns]."""

    before: tuple[int, ...]
    after: tuple[int, ...]


def run_cuts(count: int, seed: int, config: PipelineConfig) -> CutsReport:
    """Cut the input `count` times, at random times and for random times.

    Raises:
        MotionPredictorError: The node did not start, or did not end well.
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
    return judge(cuts, feeder.sent_s, feeder.heard)


def _cut(feeder: Feeder, count: int, chance: random.Random) -> list[Cut]:
    people = {'anna': Walker(1)}
    before = feeder.feed(people, _WARM_S)
    cuts = []
    for _ in range(count):
        feeder.listen(chance.uniform(*_CUT_S))
        after = feeder.feed(people, chance.uniform(*_LIT_S))
        cuts.append(Cut(tuple(before), tuple(after)))
        before = after
    feeder.listen(LIMIT_S)
    return cuts


def judge(cuts: list[Cut], sent_s: dict[int, float], heard: list[Heard]) -> CutsReport:
    """Work out the report from what was sent and heard.

    Raises:
        MotionPredictorError: The node said nothing at all.
    """
    if not heard:
        raise MotionPredictorError('the node answered nothing; see its output above')
    stale = [_stale_s(heard, set(cut.before)) - sent_s[cut.before[-1]] for cut in cuts]
    begin = [(sent_s[cut.after[0]], set(cut.after)) for cut in cuts]
    back = [_first_s(heard, after) - begin_s for begin_s, after in begin]
    predicted = [each for each in heard if PredictedMotion.OK in each.validities]
    ok = [_first_s(predicted, after) - begin_s for begin_s, after in begin]
    return CutsReport(
        cuts=len(cuts),
        stale_s_max=max(stale, default=np.nan),
        recovery_s_max=max(back, default=np.nan),
        fresh_stamps_on_stale=_fresh(sent_s, heard),
        ok_s=max(ok, default=np.nan),
    )


def _first_s(heard: list[Heard], stamps: set[int]) -> float:
    """Return when a prediction with one of these stamps first came; inf if never."""
    return min((each.at_s for each in _said(heard, stamps) if not each.stale), default=np.inf)


def _stale_s(heard: list[Heard], stamps: set[int]) -> float:
    """Return when STALE came, with such a stamp, after the last prediction; inf if never."""
    said = _said(heard, stamps)
    last_s = max((each.at_s for each in said if not each.stale), default=-np.inf)
    return min((each.at_s for each in said if each.stale and each.at_s > last_s), default=np.inf)


def _said(heard: list[Heard], stamps: set[int]) -> list[Heard]:
    return [each for each in heard if each.stamp_ns in stamps and not each.markers]


def _fresh(sent_s: dict[int, float], heard: list[Heard]) -> int:
    """Count what bears a stamp of no observation, or still predicts or draws after STALE.

    After is as the node published: a drawing may come later than the STALE that followed it.
    """
    stale_ns, count = 0, 0
    for each in sorted(heard, key=lambda each: each.said_ns):
        if each.stale:
            stale_ns = max(stale_ns, each.stamp_ns)
        count += each.stamp_ns not in sent_s or (each.stamp_ns <= stale_ns and not each.stale)
    return count
