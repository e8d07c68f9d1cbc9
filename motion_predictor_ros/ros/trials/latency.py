# SPDX-License-Identifier: Apache-2.0
"""How long a live node takes, from the stamp of an observation until what it says is published.

A real node in a process of its own, over DDS, that tells volumes; a recorded person walks in front
of it, forth and back. Times are counted on the system's clock, which both processes share: from
the stamp, taken just before the observation is published, until DDS is handed the answer.

Where a core is idle in between, waking it counts too, which takes long in a virtual machine.
"""

import os
import re
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray

from motion_predictor_ros.bench.crowd import Crowd
from motion_predictor_ros.config import PipelineConfig
from motion_predictor_ros.errors import MotionPredictorError
from motion_predictor_ros.msg import ProbabilityVolume, ProbabilityVolumeArray, Skeleton
from motion_predictor_ros.ros.trials.children import child, local_environment, write_parameters
from motion_predictor_ros.ros.trials.feeder import RATE_HZ, Feeder, stamp_ns

_WARM_S = 5.0
_LAST_S = 1.0
_TOPIC = 'probability_volumes'
_STAGE = re.compile(r'stage\.(\w+)_ms_(p50|p99)')


@dataclass(frozen=True)
class LatencyReport:
    """What the trial showed, after the first seconds.

    Attributes:
        observations: How many were published.
        answered_share: Of the observations.
        motion_ms: Median and 99th percentile until the predicted motion was published.
        volume_ms: The same until the volumes were, where they were due; NaN if they never were.
        volumes: How often they were.
        reachable_share: Of them, in which somebody got the reachable set instead.
        cores: Processor time of the whole node per second [s/s].
        stages_ms: Median and 99th percentile of each stage when it was due, as the node's
            diagnostics tell of its last 500 answers [ms].
    """

    observations: int
    answered_share: float
    motion_ms: tuple[float, float]
    volume_ms: tuple[float, float]
    volumes: int
    reachable_share: float
    cores: float
    stages_ms: dict[str, dict[str, float]]


def run_latency(
    bag: Path,
    people: int,
    seconds: float,
    volume_hz: float,
    config: PipelineConfig,
) -> LatencyReport:
    """Walk the bag's person, or several of them, past a live node for some seconds.

    Args:
        volume_hz: How often futures are drawn and volumes told.

    Raises:
        BagError: The bag cannot be read, or shows nobody for long enough.
        MotionPredictorError: The node did not start, answered nothing, or did not end well.
    """
    crowd, environment = Crowd(bag, RATE_HZ), local_environment()
    density = replace(config.density, enabled='always', rate_hz=volume_hz)
    config = replace(config, density=density, volume=replace(config.volume, enabled=True))
    with tempfile.TemporaryDirectory() as folder:
        parameters = write_parameters(config, Path(folder))
        words = ['predictor_node', '--ros-args', '--params-file', str(parameters)]
        in_full = [f'outputs.{_TOPIC}.rate_hz:=100.0', 'degradation.enabled:=false']
        words += [word for each in in_full for word in ('-p', each)]
        with child(words, environment) as process:
            feeder = Feeder(int(environment['ROS_DOMAIN_ID']))
            try:
                feeder.wait_for(process)
                return _Trial(feeder, process.pid).run(crowd, people, seconds)
            finally:
                feeder.close()


class _Trial:
    """One node, and what it says of volumes."""

    def __init__(self, feeder: Feeder, pid: int) -> None:
        self._feeder, self._pid = feeder, pid
        self._volumes: dict[int, tuple[float, bool]] = {}
        self._facts: dict[str, str] = {}
        feeder.node.create_subscription(ProbabilityVolumeArray, _TOPIC, self._take, 50)
        feeder.node.create_subscription(DiagnosticArray, '/diagnostics', self._note, 50)

    def run(self, crowd: Crowd, people: int, seconds: float) -> LatencyReport:
        """Feed the node, and work the report out of what counts."""
        warm, count = round(_WARM_S * RATE_HZ), round(seconds * RATE_HZ)
        stamps = []
        begin_s = time.monotonic()
        for number, message in enumerate(crowd.messages(people, warm + count)):
            self._feeder.listen(begin_s + number / RATE_HZ - time.monotonic())
            if number == warm:
                from_s, from_cpu_s = time.monotonic(), _processor_s(self._pid)
            stamps.append(self._feeder.say(_persons(message), message.joint_names))
        spent_s, cpu_s = time.monotonic() - from_s, _processor_s(self._pid) - from_cpu_s
        self._feeder.listen(_LAST_S)
        return self._report(set(stamps[warm:]), cpu_s / spent_s)

    def _take(self, message: Any, info: Any) -> None:
        made_ns = stamp_ns(message)
        if any(each.validity == ProbabilityVolume.STALE for each in message.persons):
            return  # once the trial is over, the last observation is told again
        waited_ms = (info['source_timestamp'] - made_ns) / 1e6
        self._volumes[made_ns] = waited_ms, any(each.level == 0.0 for each in message.persons)

    def _note(self, message: DiagnosticArray) -> None:
        self._facts |= {each.key: each.value for part in message.status for each in part.values}

    def _stages_ms(self) -> dict[str, dict[str, float]]:
        told = {key: _STAGE.fullmatch(key) for key in self._facts}
        found: dict[str, dict[str, float]] = {}
        for key, match in told.items():
            if match:
                stage, kind = match.groups()
                found.setdefault(stage, {})[kind] = float(self._facts[key])
        return found

    def _report(self, sent: set[int], cores: float) -> LatencyReport:
        heard = [each for each in self._feeder.heard if not each.stale and each.stamp_ns in sent]
        if not heard:
            raise MotionPredictorError('the node answered nothing; see its output above')
        volumes = [each for made_ns, each in self._volumes.items() if made_ns in sent]
        return LatencyReport(
            observations=len(sent),
            answered_share=len(heard) / len(sent),
            motion_ms=_spread([(each.said_ns - each.stamp_ns) / 1e6 for each in heard]),
            volume_ms=_spread([waited_ms for waited_ms, _ in volumes]),
            volumes=len(volumes),
            reachable_share=sum(reached for _, reached in volumes) / max(len(volumes), 1),
            cores=cores,
            stages_ms=self._stages_ms(),
        )


def _spread(waited_ms: list[float]) -> tuple[float, float]:
    median, slow = np.percentile(waited_ms or [np.nan], (50, 99))
    return float(median), float(slow)


def _persons(message: SimpleNamespace) -> list[Skeleton]:
    return [
        Skeleton(
            person_id=each.person_id,
            tracking_state=each.tracking_state,
            positions=each.positions.tolist(),
            confidences=np.asarray(each.confidences).tolist(),
        )
        for each in message.persons
    ]


def _processor_s(pid: int) -> float:
    """Read the processor time that a process took so far, with all its threads [s]."""
    try:
        fields = Path(f'/proc/{pid}/stat').read_text(encoding='utf-8').rpartition(')')[2].split()
    except OSError as error:
        raise MotionPredictorError('the node ended; see its output above') from error
    return sum(map(int, fields[11:13])) / os.sysconf('SC_CLK_TCK')
