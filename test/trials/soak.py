# SPDX-License-Identifier: Apache-2.0
"""People coming one after another, and going, in front of a live node, for any duration.

A real node in a process of its own, over DDS. Every ten seconds a row is added to a CSV: the
node's memory, its latency, and how many observations were answered or counted as dropped.
"""

import csv
import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from trials.feeder import Feeder

from motion_predictor_ros.config import PipelineConfig
from motion_predictor_ros.data.synthetic import Walker
from motion_predictor_ros.errors import MotionPredictorError
from motion_predictor_ros.ros.tools.demo import child, local_environment, write_parameters
from motion_predictor_ros.runtime.process_memory import resident_mb

_ROW_S = 10.0
_MIN_ROW_S = 1.0
_CHANGE_S = 3.0
"""Mean time between arrivals or departures [s]."""

_WARM_UP = 0.2
"""Share of the time, at most two minutes, that memory and latency exclude."""


@dataclass(frozen=True)
class Row:
    """One period of the trial; latencies are from publishing to reception of the answer."""

    seconds: float
    people: int
    rss_mb: float
    sent: int
    answered: int
    dropped: int
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True)
class SoakReport:
    """Result of the trial.

    Attributes:
        rss_slope_mb_per_10min: Slope of the node's resident memory after warm-up.
        p99_ms_first: Median of the rows' 99th percentiles in the first quarter after warm-up.
        p99_ms_last: The same in the last quarter.
        lost: Observations that were neither answered nor counted as dropped.
        shed: Changes of the level of load shedding.
    """

    minutes: float
    rss_slope_mb_per_10min: float
    p99_ms_first: float
    p99_ms_last: float
    lost: int
    sent: int
    superseded: int
    shed: int


@dataclass
class Drops:
    """The node's drop counters by reason, and its changes of level, from its diagnostics."""

    counts: dict[str, int] = field(default_factory=dict)
    shed: int = 0

    def listen(self, feeder: Feeder) -> None:
        """Count what the node says from now on."""
        feeder.node.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, 10)

    def _on_diagnostics(self, message: Any) -> None:
        for status in message.status:
            values = {pair.key: pair.value for pair in status.values}
            self.shed = int(values.get('degradation_changes', self.shed))
            self.counts |= {
                key.removeprefix('drops.'): int(value)
                for key, value in values.items()
                if key.startswith('drops.')
            }

    @property
    def total(self) -> int:
        return sum(self.counts.values())


@dataclass(frozen=True)
class Traffic:
    """What is in front of the node.

    Attributes:
        people: At most so many at a time.
        rate_hz: Observations a second.
    """

    people: int
    rate_hz: float


def run_soak(
    minutes: float, traffic: Traffic, out: Path, seed: int, config: PipelineConfig
) -> SoakReport:
    """Feed a live node for `minutes` and write a CSV.

    Raises:
        MotionPredictorError: The node did not start, ended, or did not end cleanly.
    """
    environment = local_environment()
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        parameters = write_parameters(config, Path(folder))
        node = ['predictor_node', '--ros-args', '--params-file', str(parameters)]
        with child(node, environment) as process:
            feeder = Feeder(int(environment['ROS_DOMAIN_ID']))
            try:
                feeder.wait_for(process)
                soak = _Soak(feeder, process.pid, traffic, seed)
                rows = soak.run(60 * minutes, out)
                return judge(minutes, rows, soak.lost(), soak.drops)
            finally:
                feeder.close()


class _Soak:
    """People in front of one node, and its counts."""

    def __init__(self, feeder: Feeder, pid: int, traffic: Traffic, seed: int) -> None:
        self._feeder, self._pid, self._traffic = feeder, pid, traffic
        self.drops = Drops()
        self.drops.listen(feeder)
        self._random = random.Random(seed)
        self._people: dict[str, Walker] = {}
        self._number = self._sent = self._sent_before = self._answered = 0
        self._add_person()

    def run(self, seconds: float, out: Path) -> list[Row]:
        """Feed the node, and write a row to the CSV per period."""
        rows: list[Row] = []
        begin_s = time.monotonic()
        with out.open('w', newline='', encoding='utf-8') as file:
            table = csv.writer(file)
            table.writerow(Row.__annotations__)
            while (left_s := begin_s + seconds - time.monotonic()) > _MIN_ROW_S:
                self._feed(min(_ROW_S, left_s))
                rows.append(self._row(time.monotonic() - begin_s))
                table.writerow(f'{value:.6g}' for value in vars(rows[-1]).values())
                file.flush()
        return rows

    def lost(self) -> int:
        """Return the number of observations that were neither answered nor counted."""
        self._feeder.spin(2.5)  # for the last answers, and diagnostics that count the last drops
        self._row(0.0)
        return self._sent - self._answered - self.drops.total

    def _feed(self, seconds: float) -> None:
        end_s = time.monotonic() + seconds
        while (left_s := end_s - time.monotonic()) > 1 / self._traffic.rate_hz:
            until_s = min(left_s, self._random.expovariate(1 / _CHANGE_S))
            self._sent += len(self._feeder.feed(self._people, until_s, self._traffic.rate_hz))
            self._feeder.spin(1 / self._traffic.rate_hz)  # the next observation is a period away
            if self._random.random() < len(self._people) / self._traffic.people - 0.5:
                del self._people[self._random.choice(list(self._people))]
            elif len(self._people) < self._traffic.people:
                self._add_person()

    def _add_person(self) -> None:
        self._number += 1
        self._people[f'p{self._number}'] = Walker(self._number)

    def _row(self, seconds: float) -> Row:
        """Summarise the answers since the last row; later ones count in the next."""
        feeder = self._feeder
        answers = {a.stamp_ns: a.at_s for a in feeder.answers if not a.stale}
        feeder.answers.clear()
        sent_s = feeder.sent_s
        waits_ms = [1e3 * (at - sent_s.pop(stamp)) for stamp, at in answers.items()]
        sent, self._sent_before = self._sent - self._sent_before, self._sent
        self._answered += len(waits_ms)
        waits = np.array(waits_ms or [np.nan])
        return Row(
            seconds=seconds,
            people=len(self._people),
            rss_mb=_rss_mb(self._pid),
            sent=sent,
            answered=len(waits_ms),
            dropped=self.drops.total,
            p50_ms=float(np.percentile(waits, 50)),
            p99_ms=float(np.percentile(waits, 99)),
        )


def _rss_mb(pid: int) -> float:
    resident = resident_mb(pid)
    if resident is None:
        raise MotionPredictorError('the node ended; see its output above')
    return resident


def judge(minutes: float, rows: Sequence[Row], lost: int, drops: Drops) -> SoakReport:
    """Compute the report from the rows."""
    begin_s = min(120.0, _WARM_UP * rows[-1].seconds)
    warm = [row for row in rows if row.seconds > begin_s]
    times_s = np.array([row.seconds for row in warm])
    slope = np.polyfit(times_s, [row.rss_mb for row in warm], 1)[0] if len(warm) > 1 else np.nan
    quarter = max(len(warm) // 4, 1)
    return SoakReport(
        minutes=minutes,
        rss_slope_mb_per_10min=float(600 * slope),
        p99_ms_first=float(np.nanmedian([row.p99_ms for row in warm[:quarter]])),
        p99_ms_last=float(np.nanmedian([row.p99_ms for row in warm[-quarter:]])),
        lost=lost,
        sent=sum(row.sent for row in rows),
        superseded=drops.counts.get('superseded', 0),
        shed=drops.shed,
    )
