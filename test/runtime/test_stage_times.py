# SPDX-License-Identifier: Apache-2.0
"""Each scene is charged for its own stages, whichever scene comes in between."""

from types import SimpleNamespace

import pytest

from motion_predictor_ros.runtime import stage_times
from motion_predictor_ros.runtime.stage_times import StageTimes


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.mark.parametrize('suspends', [True, False])
def test_a_newer_scene_within_a_stage_counts_towards_itself(
    monkeypatch: pytest.MonkeyPatch, suspends: bool
) -> None:
    clock, times = Clock(), StageTimes()
    monkeypatch.setattr(
        stage_times, 'time', SimpleNamespace(perf_counter=clock, process_time=clock)
    )
    with times.stage('volume'):
        clock.now_s += 0.25
        if suspends:
            with times.suspended('volume'):
                with times.stage('prediction'):
                    clock.now_s += 0.5
                times.complete()
            assert times.last_ms == times.last_processor_ms == {'prediction': 500.0}
        else:
            clock.now_s += 0.5
        clock.now_s += 0.125
    times.complete()
    expected_ms = 375.0 if suspends else 875.0  # control: without it the stage is charged
    assert times.last_ms == times.last_processor_ms == {'volume': expected_ms}
