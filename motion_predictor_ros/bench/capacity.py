# SPDX-License-Identifier: Apache-2.0
"""For how many people this machine keeps a rate of motion and of keep-out volumes.

Observations of a crowd come by the clock, as a camera sends them, to the same `Pipeline` that the
node runs. A number of people is kept if, after the windows have filled,

    p99(step) < period,   no observation is superseded,   and nothing is given up

by the decisions of the node (`runtime/load_shedding.py`). Superseded: the next observation came
before the step before it was over, by more than a period. Messages of ROS are not part of a step.

The processor time of one person is measured apart, on one thread, because a stage's processor
time is its own only where no other stage runs beside it.
"""

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from motion_predictor_ros.bench.crowd import Crowd
from motion_predictor_ros.bench.timing import machine, spread
from motion_predictor_ros.config import DegradationConfig, PipelineConfig
from motion_predictor_ros.errors import ConfigError
from motion_predictor_ros.evaluation.tables import print_table
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

_FILLING_S = 2.0
"""Time until windows are full and caches are warm; it does not count [s]."""

Step = Callable[[Any], Mapping[str, float]]
"""Answers a message; returns what each stage took [ms]."""


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
    """One number of people at one rate.

    Attributes:
        step_ms_p99: 99th percentile of a step [ms], as far as the trial went.
        failure: Why the rate was not kept; empty if it was.
    """

    step_ms_p99: float
    failure: str


def paced_trial(
    step: Step, messages: Iterable[Any], rate_hz: float, clock: Clock | None = None
) -> Trial:
    """Answer messages by the clock until all are answered, or one comes to harm.

    Args:
        messages: In the order of their stamps, `1 / rate_hz` apart.
    """
    clock = clock or Clock()
    period_s, filling = 1.0 / rate_hz, math.ceil(_FILLING_S * rate_hz)
    decision = Degradation(degradation_levels(True, True, math.inf), DegradationConfig())
    spent_ms: list[float] = []
    failure, begin_s = '', clock.now_s()
    for number, message in enumerate(messages):
        due_s = begin_s + number * period_s
        clock.wait_until(due_s)
        start_s = clock.now_s()
        if number >= filling and start_s - due_s > period_s:
            failure = 'superseded observations'
            break
        stages_ms = step(message)
        done_s = clock.now_s()
        if number < filling:
            begin_s = done_s - number * period_s
            continue
        spent_ms.append(1e3 * (done_s - start_s))
        stages_s = {name: spent / 1e3 for name, spent in stages_ms.items()}
        change = decision.answered(done_s, stages_s)
        if change is not None:
            failure = f'{change.level.name}: {change.reason}'
            break
    p99_ms = spread(spent_ms or [math.inf])['p99']
    if not failure and p99_ms >= 1e3 * period_s:
        failure = f'p99 {p99_ms:.1f} ms'
    return Trial(p99_ms, failure)


def largest_crowd(trial: Callable[[int], Trial], most: int) -> tuple[int, float]:
    """Return the largest number of people that is kept, by bisection, and the p99 of its step.

    Returns:
        0 and the p99 of one person [ms], where not even one is kept.
    """
    kept, lost, p99_ms = 0, most + 1, math.nan
    while lost - kept > 1:
        people = (kept + lost) // 2
        result = trial(people)
        if not result.failure:
            kept, p99_ms = people, result.step_ms_p99
        else:
            lost = people
            p99_ms = result.step_ms_p99 if not kept else p99_ms
    return kept, p99_ms


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
    people, p99_ms = {}, {}
    for name, rates in RATES.items():
        trial = _trials(pipeline, Crowd(bag, rates.motion_hz), rates, seconds)
        people[name], p99_ms[name] = largest_crowd(trial, config.skeleton.max_people)
    device = machine(pipeline.predictor.device)
    pipeline.close()
    crowd = max(people[_COST], 1)
    by_stage = processor_ms_per_person_second(bag, config, crowd, seconds)
    return {
        **{f'people_{name}': count for name, count in people.items()},
        'step_ms_p99': p99_ms,
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
    def step(message: Any) -> Mapping[str, float]:
        scene = pipeline.step(message)
        assert scene is not None, pipeline.skeleton.drops
        return pipeline.times.last_ms

    def trial(people: int) -> Trial:
        pipeline.reset()
        pipeline.level = FULL
        _set_volumes_hz(pipeline, rates.volumes_hz)
        count = math.ceil((_FILLING_S + seconds) * rates.motion_hz)
        return paced_trial(step, list(crowd.messages(people, count)), rates.motion_hz)

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
            'step p99 [ms]': report['step_ms_p99'][name],
        }
        for name, rates in RATES.items()
    }
    print_table(rows, title, 'motion [Hz]', console)
    parts = ', '.join(f'{name} {spent:.0f}' for name, spent in report['by_stage'].items())
    console.print(
        f'one person, {RATES[_COST][0]:g} Hz motion and {RATES[_COST][1]:g} Hz volumes: '
        f'{report["processor_ms_per_person_second"]:.0f} processor ms a second ({parts})'
    )
