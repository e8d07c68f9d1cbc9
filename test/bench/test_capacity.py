# SPDX-License-Identifier: Apache-2.0
"""Capacity is what a machine of known speed keeps, and no more."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from models import write_weights

from motion_predictor_ros.bench import capacity
from motion_predictor_ros.bench import pipeline as bench_pipeline
from motion_predictor_ros.bench.capacity import Clock, PacedTrial, Rates, Trial, largest_crowd
from motion_predictor_ros.cli.main import main
from motion_predictor_ros.config import DensityConfig, PipelineConfig
from motion_predictor_ros.runtime.stage_times import STAGES


class Machine(Clock):
    """Answers an observation in a known time, on a clock of its own."""

    def __init__(self, step_s: float) -> None:
        self.time_s, self.step_s, self.slow = 0.0, step_s, dict[int, float]()

    def now_s(self) -> float:
        return self.time_s

    def wait_until(self, time_s: float) -> None:
        self.time_s = max(self.time_s, time_s)

    def step(
        self, number: int, on_motion: Callable[[], None], between: Callable[[], None]
    ) -> Mapping[str, float]:
        spent_s = self.slow.get(number, self.step_s)
        self.time_s += spent_s
        on_motion()
        return {'prediction': 1e3 * spent_s}

    def trial(self, rate_hz: float, seconds: float = 10.0) -> Trial:
        numbers = range(math.ceil(seconds * rate_hz))
        return PacedTrial(self.step, numbers, Rates(rate_hz, 5.0), self).run()


class MachineWithVolumes(Machine):
    """Has volumes to compute after every third motion, of one person after the other."""

    def __init__(self, motion_s: float, volume_s: float, people: int, polite: bool) -> None:
        super().__init__(motion_s)
        self.volume_s, self.people, self.polite = volume_s, people, polite

    def step(
        self, number: int, on_motion: Callable[[], None], between: Callable[[], None]
    ) -> Mapping[str, float]:
        stages = dict(super().step(number, on_motion, between))
        if number % 3 == 0:
            for _ in range(self.people):
                self.time_s += self.volume_s
                if self.polite:
                    between()
            stages['volume'] = 1e3 * self.people * self.volume_s
        return stages


def test_a_rate_is_kept_while_motion_comes_within_its_period() -> None:
    kept = Machine(0.073).trial(10.0)
    assert kept.motion_ms_p99 == pytest.approx(73.0) and not kept.failure
    assert 'p99' in replace_slow(Machine(0.01), {30: 0.11, 60: 0.11}).trial(10.0).failure
    assert 'superseded' in replace_slow(Machine(0.01), {30: 0.25}).trial(10.0).failure


def test_motion_between_volumes_keeps_a_rate_that_is_lost_behind_them() -> None:
    def trial(**how: Any) -> Trial:
        return MachineWithVolumes(**how).trial(15.0)

    kept = trial(motion_s=0.005, volume_s=0.0155, people=8, polite=True)
    assert not kept.failure and kept.motion_ms_p99 <= 21.0  # its own 5, one volume of 15.5
    assert 129.0 < kept.volumes_ms_p99 <= 140.0  # all volumes, and the motion in between
    assert (
        'p99 of motion' in trial(motion_s=0.005, volume_s=0.0155, people=8, polite=False).failure
    )
    late = trial(motion_s=0.001, volume_s=0.025, people=8, polite=True)
    assert late.failure  # 200 ms of volumes do not fit into their period


def replace_slow(machine: Machine, slow: dict[int, float]) -> Machine:
    machine.slow = slow
    return machine


def test_a_machine_that_would_shed_load_fails_although_its_steps_are_in_time() -> None:
    result = Machine(0.078).trial(10.0)  # busy 78 % of the time: too little is left
    assert result.motion_ms_p99 < 100.0 and 'busy' in result.failure
    assert not Machine(0.073).trial(10.0).failure


def test_the_time_in_which_windows_fill_does_not_count() -> None:
    first = dict.fromkeys(range(20), 0.5)
    assert not replace_slow(Machine(0.01), first).trial(10.0).failure
    assert replace_slow(Machine(0.01), first | {25: 0.5}).trial(10.0).failure


@pytest.mark.parametrize('most', [0, 1, 2, 7, 16])
def test_bisection_finds_the_largest_crowd(most: int) -> None:
    def trial(people: int) -> Trial:
        return Trial(10.0 * people, 0.0, '' if people <= most else 'too many')

    people, kept = largest_crowd(trial, 16)
    assert people == most and kept.motion_ms_p99 == 10.0 * max(most, 1)


def of_prediction_alone(config: PipelineConfig) -> PipelineConfig:
    return replace(config, density=DensityConfig(enabled='never'))


def test_capacity_is_reported_by_rate_and_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.set_default_dtype(torch.float32)
    monkeypatch.setattr(bench_pipeline, 'in_full', of_prediction_alone)
    monkeypatch.setattr(capacity, '_FILLING_S', 1.2)
    monkeypatch.setattr(capacity, 'RATES', {'15hz': Rates(15.0, 5.0)})
    weights = write_weights(tmp_path / 'small.safetensors')
    options = ['--weights', str(weights), '--device', 'cpu', '--threads', '1', '--seconds', '0.2']
    assert main(['bench', 'capacity', *options, '--json']) == 0
    report = json.loads(capsys.readouterr().out)
    assert 0 <= report['people_15hz'] <= 16 and report['device'].endswith('1 threads')
    assert set(report['by_stage']) == set(STAGES) and report['by_stage']['volume'] == 0.0
    assert report['processor_ms_per_person_second'] == sum(report['by_stage'].values())
    assert report['by_stage']['prediction'] > 0.0 and report['step_ms_p99']['15hz'] > 0.0
    with pytest.raises(SystemExit, match='2'):
        main(['bench', 'capacity', *options[:-1], '0'])
