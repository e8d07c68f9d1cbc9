# SPDX-License-Identifier: Apache-2.0
"""For how many people this machine keeps a rate of motion and of keep-out volumes.

Observations of a crowd come by the clock, as a camera sends them, to the same `Pipeline` that the
node runs. As in the node, motion of newer observations is predicted between people's volumes. A
number of people is kept if, after the windows have filled,

    p99(observation to motion) < period of motion, p99(observation to volumes) < period of volumes,
    no observation is superseded, and nothing is given up

by the decisions of the node (`runtime/load_shedding.py`), with 15 % of the time left for what
the node does besides (receive, publish, draw markers) and for people who come and go. Superseded:
the next observation came before the one before it was taken up.

The processor time of one person is measured apart, on one thread, because a stage's processor
time is its own only where no other stage runs beside it.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from motion_predictor_ros.bench.crowd import Crowd
from motion_predictor_ros.bench.timing import machine
from motion_predictor_ros.config import DegradationConfig, PipelineConfig
from motion_predictor_ros.errors import ConfigError
from motion_predictor_ros.evaluation.tables import print_table, spread
from motion_predictor_ros.pipeline import Pipeline
from motion_predictor_ros.runtime.load_shedding import FULL, Degradation, degradation_levels
from motion_predictor_ros.runtime.process_memory import freeze_gc
from motion_predictor_ros.runtime.stage_times import STAGES


class Rates(NamedTuple):
    """Answers a second [Hz]."""

    motion_hz: float
    volumes_hz: float


RATES = {'25hz': Rates(25.0, 5.0), '15hz': Rates(15.0, 5.0), '10hz': Rates(10.0, 2.0)}

_COST = '15hz'
"""The rates at which processor time is counted."""

_RESERVE = 0.2
"""Load kept below the one that sheds: a node with many people publishes for 4 % (its log)."""

_FILLING_S = 2.0
"""Time until windows are full and caches are warm; it does not count [s]."""

Step = Callable[[Any, Callable[[], None], Callable[[], None]], Mapping[str, float]]
"""Answers a message; returns what each stage took [ms].

Calls the second argument when motion is known, and the third between people's volumes.
"""


class Clock:
    """The machine's clock; a test may bring another."""

    def now_s(self) -> float:
        """Return the time [s]."""
        return time.perf_counter()

    def wait_until(self, time_s: float) -> None:
        """Wait until then [s]."""
        time.sleep(max(time_s - self.now_s(), 0.0))


@dataclass(frozen=True)
class Trial:
    """One number of people at one pair of rates.

    Attributes:
        motion_ms_p99: 99th percentile of the time from an observation to its motion [ms], as far
            as the trial went.
        volumes_ms_p99: The same to its volumes [ms]; 0: there were none.
        failure: Why the rates were not kept; empty if they were.
    """

    motion_ms_p99: float
    volumes_ms_p99: float
    failure: str


class PacedTrial:
    """Answers messages by the clock until all are answered, or one comes to harm."""

    def __init__(
        self, step: Step, messages: Iterable[Any], rates: Rates, clock: Clock | None = None
    ) -> None:
        """Set up.

        Args:
            messages: In the order of their stamps, `1 / rates.motion_hz` apart.
        """
        self._step, self._rates, self._clock = step, rates, clock or Clock()
        self._waiting = deque(enumerate(messages))
        self._filling = math.ceil(_FILLING_S * rates.motion_hz)
        config = DegradationConfig()
        config = replace(config, busy=config.busy - _RESERVE)
        self._decision = Degradation(degradation_levels(True, True, math.inf), config)
        self._motion_ms, self._volumes_ms = list[float](), list[float]()
        self._begin_s, self._failure = self._clock.now_s(), ''

    def run(self) -> Trial:
        """Answer all messages."""
        while self._waiting and not self._failure:
            self._clock.wait_until(self._due_s())
            self._answer()
        times_ms = self._motion_ms, self._volumes_ms
        motion_ms, volumes_ms = (spread(spent_ms or [0.0])['p99'] for spent_ms in times_ms)
        failure = self._failure
        if not failure and motion_ms >= 1e3 / self._rates.motion_hz:
            failure = f'p99 of motion {motion_ms:.1f} ms'
        if not failure and volumes_ms >= 1e3 / self._rates.volumes_hz:
            failure = f'p99 of volumes {volumes_ms:.1f} ms'
        return Trial(motion_ms, volumes_ms, failure)

    def _due_s(self) -> float:
        """Return when the next message comes."""
        return self._begin_s + self._waiting[0][0] / self._rates.motion_hz

    def _answer(self) -> None:
        due_s, (number, message) = self._due_s(), self._waiting.popleft()
        if number < self._filling:
            self._step(message, lambda: None, lambda: None)
            self._begin_s = self._clock.now_s() - number / self._rates.motion_hz
            return
        if self._clock.now_s() - due_s > 1.0 / self._rates.motion_hz:
            self._failure = 'superseded observations'
            return

        def keep_time() -> None:
            self._motion_ms.append(1e3 * (self._clock.now_s() - due_s))

        stages_ms = self._step(message, keep_time, self._answer_newer)
        done_s = self._clock.now_s()
        if 'volume' in stages_ms:
            self._volumes_ms.append(1e3 * (done_s - due_s))
        stages_s = {name: spent / 1e3 for name, spent in stages_ms.items()}
        change = self._decision.answered(done_s, stages_s)
        if change is not None and not self._failure:
            self._failure = f'{change.level.name}: {change.reason}'

    def _answer_newer(self) -> None:
        """Answer the next message if it has come, between two people's volumes."""
        if self._waiting and not self._failure and self._clock.now_s() >= self._due_s():
            self._answer()


def largest_crowd(trial: Callable[[int], Trial], most: int) -> tuple[int, Trial]:
    """Return the largest number of people that is kept, by bisection, and its trial.

    Returns:
        0 and the trial of one person, where not even one is kept.
    """
    kept, lost, of_kept = 0, most + 1, Trial(math.nan, math.nan, 'not tried')
    while lost - kept > 1:
        people = (kept + lost) // 2
        result = trial(people)
        if not result.failure:
            kept, of_kept = people, result
        else:
            lost, of_kept = people, of_kept if kept else result
    return kept, of_kept


def bench_capacity(bag: Path, config: PipelineConfig, seconds: float) -> dict[str, Any]:
    """Return the largest number of people at each of `RATES`, and what one of them costs.

    Args:
        config: With volumes, see `pipeline.in_full`.
        seconds: Length of each trial, after the windows have filled [s].

    Raises:
        BagError: The bag cannot be read, or no person is in it for long enough.
        ConfigError: There is nothing to time.
        MotionPredictorError: The models cannot be used, or not together.
    """
    if not seconds > 0.0:
        raise ConfigError(f'a trial takes time, got {seconds} s')
    pipeline = Pipeline.load(config)
    freeze_gc()  # as the node does
    people, kept = {}, {}
    for name, rates in RATES.items():
        trial = _trials(pipeline, Crowd(bag, rates.motion_hz), rates, seconds)
        people[name], kept[name] = largest_crowd(trial, config.skeleton.max_people)
    device = machine(pipeline.predictor.device)
    pipeline.close()
    crowd = max(people[_COST], 1)
    by_stage = processor_ms_per_person_second(bag, config, crowd, seconds)
    return {
        **{f'people_{name}': count for name, count in people.items()},
        'step_ms_p99': {name: trial.motion_ms_p99 for name, trial in kept.items()},
        'volumes_ms_p99': {name: trial.volumes_ms_p99 for name, trial in kept.items()},
        'processor_ms_per_person_second': sum(by_stage.values()),
        'by_stage': by_stage,
        'device': f'{device}, {config.threads} threads',
    }


def _set_volumes_hz(pipeline: Pipeline, rate_hz: float) -> None:
    if pipeline.density is not None:
        pipeline.density.config = replace(pipeline.density.config, rate_hz=rate_hz)


def _trials(
    pipeline: Pipeline, crowd: Crowd, rates: Rates, seconds: float
) -> Callable[[int], Trial]:
    def step(
        message: Any, on_motion: Callable[[], None], between: Callable[[], None]
    ) -> Mapping[str, float]:
        accepted = pipeline.observe(message)
        assert accepted, pipeline.skeleton.drops
        pipeline.predict(lambda prediction: on_motion(), between)
        return pipeline.times.last_ms

    def trial(people: int) -> Trial:
        pipeline.reset()
        pipeline.level = FULL
        _set_volumes_hz(pipeline, rates.volumes_hz)
        count = math.ceil((_FILLING_S + seconds) * rates.motion_hz)
        return PacedTrial(step, list(crowd.messages(people, count)), rates).run()

    return trial


def processor_ms_per_person_second(
    bag: Path, config: PipelineConfig, people: int, seconds: float
) -> dict[str, float]:
    """Return the processor time by stage, of one of `people` in a second of `RATES['15hz']` [ms].

    One thread answers them one after the other, without waiting.
    """
    rates = RATES[_COST]
    pipeline = Pipeline.load(replace(config, threads=1))
    _set_volumes_hz(pipeline, rates.volumes_hz)
    filling, count = (math.ceil(part * rates.motion_hz) for part in (_FILLING_S, seconds))
    spent_ms = dict.fromkeys(STAGES, 0.0)
    for number, message in enumerate(
        Crowd(bag, rates.motion_hz).messages(people, filling + count)
    ):
        pipeline.step(message)
        if number >= filling:
            for name, stage_ms in pipeline.times.last_processor_ms.items():
                spent_ms[name] += stage_ms
    pipeline.close()
    return {name: spent * rates.motion_hz / (count * people) for name, spent in spent_ms.items()}


def print_capacity(report: dict[str, Any], console: Console) -> None:
    """Print one row per rate, and the cost of a person."""
    title = f'{report["device"]}: people for whom a rate is kept, nothing given up'
    rows = {
        f'{rates.motion_hz:g}': {
            'volumes [Hz]': f'{rates.volumes_hz:g}',
            'people': report[f'people_{name}'],
            'motion p99 [ms]': report['step_ms_p99'][name],
            'volumes p99 [ms]': report['volumes_ms_p99'][name],
        }
        for name, rates in RATES.items()
    }
    print_table(rows, title, 'motion [Hz]', console)
    parts = ', '.join(f'{name} {spent:.0f}' for name, spent in report['by_stage'].items())
    console.print(
        f'one person, {RATES[_COST][0]:g} Hz motion and {RATES[_COST][1]:g} Hz volumes: '
        f'{report["processor_ms_per_person_second"]:.0f} processor ms a second ({parts})'
    )
