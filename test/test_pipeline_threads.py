# SPDX-License-Identifier: Apache-2.0
"""What the line does at once: futures are drawn while the prediction is solved."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cache_flow_models import write_density
from models import write_weights
from scenes import stream
from test_pipeline import load

from motion_predictor_ros.pipeline import Pipeline

MESSAGES = stream(0.0, 1.2, 'ann', 'bob')
ALONE = stream(0.0, 1.2, 'ann')


@pytest.fixture(scope='module')
def lines(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp('models')
    (folder / 'density').mkdir()
    return write_weights(folder / 'tiny.safetensors'), folder


def line(lines: tuple[Path, Path], *, threads: int) -> Pipeline:
    density = write_density(lines[1] / 'density', enabled='always', rate_hz=30.0)
    return load(lines[0], density, threads=threads)


def meeting(ask: Callable[..., Any], met: threading.Barrier) -> Callable[..., Any]:
    """Let what is asked wait for the other one that is asked at the same time."""

    def asked(windows: Any, *rest: Any) -> Any:
        if windows:
            met.wait()
        return ask(windows, *rest)

    return asked


def test_a_thread_without_a_person_to_predict_draws_futures_meanwhile(
    lines: tuple[Path, Path],
) -> None:
    def run(messages: list[Any], *, threads: int, timeout_s: float) -> None:
        pipeline = line(lines, threads=threads)
        met = threading.Barrier(2, timeout=timeout_s)
        pipeline.predictor.predict = meeting(pipeline.predictor.predict, met)  # type: ignore
        pipeline.density.sample = meeting(pipeline.density.sample, met)  # type: ignore
        scenes = [pipeline.step(message) for message in messages]
        assert scenes[-1] is not None and scenes[-1].futures is not None

    run(ALONE, threads=2, timeout_s=20.0)
    run(MESSAGES, threads=3, timeout_s=20.0)
    for messages, threads in ((ALONE, 1), (MESSAGES, 2)):  # control
        with pytest.raises(threading.BrokenBarrierError):
            run(messages, threads=threads, timeout_s=0.2)


def test_drawn_at_once_or_one_after_the_other_futures_are_the_same(
    lines: tuple[Path, Path],
) -> None:
    at_once, in_turn = line(lines, threads=2), line(lines, threads=1)
    for each in MESSAGES:
        here, there = at_once.step(each), in_turn.step(each)
    assert here is not None and there is not None
    one, other = here.futures, there.futures
    assert one is not None and other is not None
    np.testing.assert_array_equal(one.positions, other.positions)
    np.testing.assert_array_equal(one.predicted_log_density, other.predicted_log_density)
    assert np.abs(one.positions[0] - one.positions[1]).max() > 0.0  # control: people differ


def test_motion_is_told_before_the_futures_are_waited_for(lines: tuple[Path, Path]) -> None:
    pipeline, told = line(lines, threads=2), threading.Event()
    sample = pipeline.density.sample  # type: ignore[union-attr]

    def late(*asked: Any) -> Any:
        found = sample(*asked)
        assert told.wait(20.0)
        return found

    pipeline.density.sample = late  # type: ignore
    for each in ALONE:
        told.clear()
        assert pipeline.observe(each)
        scene = pipeline.predict(lambda prediction: told.set())
    assert scene is not None and scene.futures is not None
