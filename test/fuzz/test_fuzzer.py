# SPDX-License-Identifier: Apache-2.0
"""The fuzzer finds no violation in the pipeline, and finds every injected fault."""

import dataclasses
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from fuzz.fuzzer import (
    FuzzReport,
    Stream,
    WholePipelines,
    fuzz,
    untrained_pipeline,
)
from fuzz.messages import LAYOUTS, corrupt
from hypothesis import given, settings
from hypothesis import strategies as st

from motion_predictor_ros.pipeline import Pipeline
from motion_predictor_ros.skeleton.frame import Observation
from motion_predictor_ros.volume.predictor import VolumePredictor

MESSAGES = 8 * 90


def found(report: FuzzReport) -> dict[str, bool]:
    kinds = ('crashes', 'uncounted_drops', 'non_finite_outputs', 'unrecovered')
    return {kind: getattr(report, kind) > 0 for kind in kinds}


def test_the_pipeline_violates_no_requirement() -> None:
    report = fuzz(MESSAGES, seed=2)
    assert report.cases == [] and not any(found(report).values())
    assert report.messages == MESSAGES
    assert report.answered > MESSAGES / 3 and report.drops > 50 and report.reasons > 3


@settings(max_examples=5)
@given(seed=st.integers(0, 2**32))
def test_no_seed_finds_a_violation(seed: int) -> None:
    assert fuzz(8 * 30, seed).cases == []


def broken(breaking: Callable[[Pipeline], Any]) -> Callable[..., Pipeline]:
    def load(config: Any, on_drop: Any) -> Pipeline:
        pipeline = untrained_pipeline(config, on_drop)
        breaking(pipeline)
        return pipeline

    return load


def raises(pipeline: Pipeline) -> None:
    pipeline.predictor.predict = lambda windows: 1 / 0 if windows else []  # type: ignore


def forgets_to_count(pipeline: Pipeline) -> None:
    pipeline.skeleton.drop = pipeline.skeleton._on_drop  # type: ignore[method-assign]


def drops_in_silence(pipeline: Pipeline) -> None:
    pipeline.skeleton.drop = lambda rejection: None  # type: ignore[method-assign]


def loses_a_person_in_silence(pipeline: Pipeline) -> None:
    """They are still answered, as held."""
    accept = pipeline.skeleton.accept

    def careless(decoded: Any) -> Any:
        if isinstance(decoded, Observation):
            decoded = dataclasses.replace(decoded, people=decoded.people[1:])
        return accept(decoded)

    pipeline.skeleton.accept = careless  # type: ignore[method-assign]


def predicts_nan(pipeline: Pipeline) -> None:
    predict = pipeline.predictor._prediction

    def careless(window: Any, future: Any, report: Any) -> Any:
        return dataclasses.replace(predict(window, future, report), positions=future * np.nan)

    pipeline.predictor._prediction = careless  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ('breaking', 'kind', 'seed'),
    [
        (raises, 'crashes', 2),
        (forgets_to_count, 'uncounted_drops', 2),
        (loses_a_person_in_silence, 'uncounted_drops', 2),
        (drops_in_silence, 'uncounted_drops', 3),  # with 2 no message is refused as a whole
        (predicts_nan, 'non_finite_outputs', 2),
    ],
)
def test_every_injected_fault_is_found(
    breaking: Callable[[Pipeline], None], kind: str, seed: int
) -> None:
    report = fuzz(MESSAGES, seed, broken(breaking))
    assert found(report)[kind] and any(line.startswith(kind) for line in report.cases)


@pytest.mark.parametrize('source', LAYOUTS)
def test_corruption_changes_a_copy_and_not_the_message(source: str) -> None:
    message = next(each for each, _ in Stream(source, 1).messages(500) if len(str(each)) > 1000)
    before = str(message)
    spoilt = [str(corrupt(message, random.Random(seed))) for seed in range(10)]
    assert str(message) == before
    assert len(set(spoilt) - {before}) > 5


@pytest.fixture(scope='module')
def whole() -> WholePipelines:
    return WholePipelines()


def test_the_whole_pipeline_violates_no_requirement(whole: WholePipelines) -> None:
    report = fuzz(160, 7, whole, sources=('native',))
    assert report.cases == []
    assert report.futures > 3 and report.volumes > 20


def test_futures_that_are_not_finite_are_found(
    whole: WholePipelines, monkeypatch: pytest.MonkeyPatch
) -> None:
    density = whole._models.density
    assert density is not None
    sample = density.sample

    def careless(*args: Any) -> Any:
        drawn = sample(*args)
        if drawn is None:
            return None
        lost = dataclasses.replace(drawn.futures, novelty=drawn.futures.novelty * np.nan)
        return dataclasses.replace(drawn, futures=lost)

    monkeypatch.setattr(density, 'sample', careless)
    report = fuzz(100, 7, whole, sources=('native',))
    assert any('novelty of futures' in line for line in report.cases)


def test_a_person_without_a_volume_is_found(
    whole: WholePipelines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(VolumePredictor, 'assess_scene', lambda *args, **how: ())
    report = fuzz(40, 7, whole, sources=('native',))
    assert any('no volume of' in line for line in report.cases)
