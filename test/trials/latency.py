# SPDX-License-Identifier: Apache-2.0
"""Latency of a live node, from the stamp of an observation until its answer is published.

A real node that computes volumes, in a process of its own, over DDS; its input is a recorded
person, played forwards and backwards. Times are on the system's clock, which both processes
share: from the stamp, taken just before the observation is published, until the answer is passed
    to DDS.

Where a core sleeps in between, its wake-up counts too, which takes long in a virtual machine.
"""

import os
import re
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from motion_predictor_ros.msg import ProbabilityVolume, ProbabilityVolumeArray
from trials.feeder import RATE_HZ, Feeder, encode_persons, stamp_ns

from motion_predictor_ros.bench.crowd import Crowd
from motion_predictor_ros.config import PipelineConfig
from motion_predictor_ros.errors import MotionPredictorError
from motion_predictor_ros.ros.tools.demo import child, local_environment, write_parameters

_WARM_S = 5.0
_LAST_S = 1.0
_TOPIC = 'probability_volumes'
_STAGE = re.compile(r'stage\.(\w+)_ms_(p50|p99)')


@dataclass(frozen=True)
class LatencyReport:
    """Result of the trial, without the first seconds.

    Attributes:
        observations: Number of published observations.
        answered_share: Share of them that was answered.
        motion_ms: Median and 99th percentile until the predicted motion was published.
        volume_ms: The same until volumes were published, where they were due; NaN without any.
        volumes: Number of messages with volumes.
        reachable_share: Share of them with a reachable set for some person.
        cores: CPU time of the whole node per second [s/s].
        stages_ms: Median and 99th percentile of each stage when it ran, from the node's
            diagnostics over its last 500 answers [ms].
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
    """Play the bag's person, or copies of it, into a live node.

    Args:
        volume_hz: Rate of futures and volumes.

    Raises:
        BagError: The bag cannot be read, or no person is in it for long enough.
        MotionPredictorError: The node did not start, answered nothing, or did not end cleanly.
    """
    crowd, environment = Crowd(bag, RATE_HZ), local_environment()
    density = replace(config.density, enabled='always', rate_hz=volume_hz)
    config = replace(config, density=density, volume=replace(config.volume, enabled='always'))
    with tempfile.TemporaryDirectory() as folder:
        parameters = write_parameters(config, Path(folder))
        words = ['predictor_node', '--ros-args', '--params-file', str(parameters)]
        in_full = [f'outputs.{_TOPIC}.rate_hz:=100.0', 'degradation.enabled:=false']
        words += [word for parameter in in_full for word in ('-p', parameter)]
        with child(words, environment) as process:
            feeder = Feeder(int(environment['ROS_DOMAIN_ID']))
            try:
                feeder.wait_for(process)
                return _Trial(feeder, process.pid).run(crowd, people, seconds)
            finally:
                feeder.close()


class _Trial:
    """One node, and its latencies."""

    def __init__(self, feeder: Feeder, pid: int) -> None:
        self._feeder, self._pid = feeder, pid
        self._volumes: dict[int, tuple[float, bool]] = {}
        self._diagnostics: dict[str, str] = {}
        feeder.node.create_subscription(ProbabilityVolumeArray, _TOPIC, self._on_volumes, 50)
        feeder.node.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, 50)

    def run(self, crowd: Crowd, people: int, seconds: float) -> LatencyReport:
        """Feed the node, and compute the report."""
        warm, count = round(_WARM_S * RATE_HZ), round(seconds * RATE_HZ)
        stamps = []
        begin_s = time.monotonic()
        for number, message in enumerate(crowd.messages(people, warm + count)):
            self._feeder.spin(begin_s + number / RATE_HZ - time.monotonic())
            if number == warm:
                from_s, from_cpu_s = time.monotonic(), _processor_s(self._pid)
            stamps.append(self._feeder.publish(encode_persons(message), message.joint_names))
        spent_s, cpu_s = time.monotonic() - from_s, _processor_s(self._pid) - from_cpu_s
        self._feeder.spin(_LAST_S)
        return self._report(set(stamps[warm:]), cpu_s / spent_s)

    def _on_volumes(self, message: Any, info: Any) -> None:
        made_ns = stamp_ns(message)
        if {person.validity for person in message.persons} == {ProbabilityVolume.STALE}:
            return  # after the trial, the last observation is published again
        waited_ms = (info['source_timestamp'] - made_ns) / 1e6
        has_reachable = any(person.level == 0.0 for person in message.persons)
        self._volumes[made_ns] = waited_ms, has_reachable

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        self._diagnostics |= {
            pair.key: pair.value for status in message.status for pair in status.values
        }

    def _stages_ms(self) -> dict[str, dict[str, float]]:
        stages: dict[str, dict[str, float]] = {}
        for key, value in self._diagnostics.items():
            if match := _STAGE.fullmatch(key):
                stage, kind = match.groups()
                stages.setdefault(stage, {})[kind] = float(value)
        return stages

    def _report(self, sent: set[int], cores: float) -> LatencyReport:
        answers = [a for a in self._feeder.answers if not a.stale and a.stamp_ns in sent]
        if not answers:
            raise MotionPredictorError('the node answered nothing; see its output above')
        volumes = [volume for made_ns, volume in self._volumes.items() if made_ns in sent]
        return LatencyReport(
            observations=len(sent),
            answered_share=len(answers) / len(sent),
            motion_ms=_spread([(a.published_ns - a.stamp_ns) / 1e6 for a in answers]),
            volume_ms=_spread([waited_ms for waited_ms, _ in volumes]),
            volumes=len(volumes),
            reachable_share=sum(reached for _, reached in volumes) / max(len(volumes), 1),
            cores=cores,
            stages_ms=self._stages_ms(),
        )


def _spread(waited_ms: list[float]) -> tuple[float, float]:
    median, slow = np.percentile(waited_ms or [np.nan], (50, 99))
    return float(median), float(slow)


def _processor_s(pid: int) -> float:
    """Return the CPU time of a process so far, over all its threads [s]."""
    try:
        fields = Path(f'/proc/{pid}/stat').read_text(encoding='utf-8').rpartition(')')[2].split()
    except OSError as error:
        raise MotionPredictorError('the node ended; see its output above') from error
    return sum(map(int, fields[11:13])) / os.sysconf('SC_CLK_TCK')
