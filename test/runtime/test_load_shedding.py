# SPDX-License-Identifier: Apache-2.0
"""What is given up follows from what answers took and when; all times are made up."""

import itertools

import pytest

from motion_predictor_ros.config import DegradationConfig
from motion_predictor_ros.runtime.load_shedding import (
    FULL,
    Change,
    Degradation,
    Level,
    degradation_levels,
)

HOLD_S = 3.0
LEVELS = degradation_levels(density=True, volume=True, stale_after_s=0.3)


class Machine:
    """Answers 30 observations a second as far as it can, newest wins."""

    def __init__(self, enabled: bool = True, **config: float) -> None:
        self.decision = Degradation(LEVELS, DegradationConfig(enabled=enabled, **config))
        self.now_s, self.answers = 0.0, 0

    def run(self, seconds: float, prediction_s: float, density_s: float = 0.0) -> list[Change]:
        changes, end_s, slot = [], self.now_s + seconds, -1
        while self.now_s < end_s:
            due = int(5.0 * self.now_s) != slot
            slot = int(5.0 * self.now_s)
            level = self.decision.level
            took = {'prediction': prediction_s}
            if due and level.futures:
                took['density'] = density_s * level.futures
            arrived_s = self.now_s
            self.now_s += sum(took.values())
            change = self.decision.answered(self.now_s, took)
            changes += [change] if change else []
            period_s = 1 / min(30.0, level.rate_hz or 30.0)
            self.now_s = max(self.now_s, arrived_s + period_s)
            self.answers += 1
        return changes


def names(changes: list[Change]) -> list[str]:
    return [change.level.name for change in changes]


def test_futures_go_first_then_volumes_then_rate() -> None:
    assert [level.name for level in LEVELS] == [
        'nothing', 'fewer futures', 'no futures', 'coarser volumes', 'no volumes',
        'at most 15 answers a second', 'at most 8 answers a second',
    ]  # fmt: skip
    assert LEVELS[0] == FULL == Level('nothing')
    for milder, harsher in itertools.pairwise(LEVELS):
        assert harsher.futures <= milder.futures and harsher.coarseness >= milder.coarseness
        assert harsher.volumes <= milder.volumes
        assert (harsher.rate_hz or 99.0) <= (milder.rate_hz or 99.0)
        assert harsher != milder


def test_there_is_nothing_to_give_up_of_what_is_not_there() -> None:
    bare = degradation_levels(density=False, volume=False, stale_after_s=0.3)
    assert [level.name for level in bare[1:]] == [
        'at most 15 answers a second', 'at most 8 answers a second',
    ]  # fmt: skip
    assert degradation_levels(density=False, volume=False, stale_after_s=0.05) == (FULL,)


def test_a_fast_machine_gives_nothing_up() -> None:
    machine = Machine()
    assert machine.run(60.0, 0.01, 0.05) == []
    assert machine.answers > 1500 and machine.decision.load == pytest.approx(0.55, abs=0.1)


def test_one_slow_moment_is_no_reason() -> None:
    machine = Machine()
    machine.run(10.0, 0.01)
    assert machine.run(0.7, 0.8) == []
    assert machine.run(10.0, 0.01) == []
    assert machine.run(1.0, 0.05) == []  # as another process takes the cores for a second
    assert machine.run(10.0, 0.01) == []
    assert names(machine.run(5.0, 0.05)) == ['fewer futures']


def test_a_slow_machine_gives_up_no_more_than_it_must() -> None:
    machine = Machine(busy=0.9, calm=0.5)
    changes = machine.run(30.0, 0.012, 0.17)  # 0.36 of each second, and up to 0.85 for futures
    assert names(changes) == ['fewer futures']
    assert changes[0].worse and 'busy' in changes[0].reason and 'density' in changes[0].reason
    assert machine.decision.number == 1 and machine.decision.reason == changes[0].reason


def test_a_machine_that_is_far_too_slow_gives_up_everything_in_order_and_stays_there() -> None:
    machine = Machine()
    changes = machine.run(60.0, 0.15)
    assert names(changes) == [level.name for level in LEVELS[1:]]
    assert machine.run(60.0, 0.15) == []


def test_what_was_given_up_is_taken_back_step_by_step_after_a_while() -> None:
    machine = Machine(hold_s=HOLD_S)
    assert names(machine.run(17.0, 0.05)) == [level.name for level in LEVELS[1:6]]
    begin_s = machine.now_s
    changes = machine.run(40.0, 0.004)
    assert names(changes) == [level.name for level in LEVELS[4::-1]]
    assert not any(change.worse for change in changes) and machine.decision.reason == ''
    assert machine.now_s - begin_s >= 5 * HOLD_S  # each step had to be calm for so long


def test_in_between_nothing_changes_either_way() -> None:
    machine = Machine(busy=0.9, hold_s=HOLD_S)
    machine.run(5.0, 0.012, 0.17)
    before = machine.decision.number
    assert before == 1
    assert machine.run(60.0, 0.029) == []  # busy seven eighths of the time
    assert machine.decision.number == before


def test_what_a_burst_took_comes_back_on_a_machine_that_is_busy_but_fast_enough() -> None:
    machine = Machine()
    assert names(machine.run(4.0, 0.04)) == ['fewer futures']  # as when ten people come at once
    changes = machine.run(300.0, 0.018, 0.06)  # busy 0.60 of the time with few, 0.75 with all
    assert names(changes) == ['nothing']
    stricter = Machine(calm=0.5)
    stricter.run(4.0, 0.04)
    assert stricter.run(300.0, 0.018, 0.06) == []


def test_hasty_recoveries_become_rare() -> None:
    machine = Machine(busy=0.9, hold_s=HOLD_S)
    changes = machine.run(150.0, 0.005, 0.18)  # too slow with all futures, idle with few
    worse = [change for change in changes if change.worse]
    assert 3 <= len(worse) <= 7  # one in four seconds would be 37
    later = [change for change in machine.run(1500.0, 0.005, 0.18) if change.worse]
    assert 3 <= len(later) <= 6  # at most every five minutes


def test_late_answers_count_though_they_are_rare() -> None:
    machine = Machine()
    changes = []
    for second in range(4):
        changes.append(machine.decision.answered(second + 0.25, {'prediction': 0.25}))
        for tick in range(1, 20):
            now_s = second + 0.25 + tick * 0.0375
            machine.decision.answered(now_s, {'prediction': 0.01})
    assert [change is not None for change in changes] == [False, True, False, True]
    assert 'took more than 0.2 s' in changes[1].reason  # type: ignore[union-attr]


def test_a_pause_is_neither_busy_nor_calm() -> None:
    machine = Machine(hold_s=HOLD_S)
    machine.run(5.0, 0.06)
    before = machine.decision.number
    for _ in range(10):
        machine.now_s += 60.0
        assert machine.run(0.3, 0.004) == []
    assert machine.decision.number == before > 0


def test_it_can_be_turned_off() -> None:
    machine = Machine(enabled=False)
    assert machine.run(30.0, 0.15) == [] and machine.decision.level == FULL
