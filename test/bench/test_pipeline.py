# SPDX-License-Identifier: Apache-2.0
"""Benches answer with the keys they promise; a crowd walks as one person was recorded."""

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from models import write_weights

from motion_predictor_ros.bench import density as bench_density
from motion_predictor_ros.bench import motion_deq as bench_motion_deq
from motion_predictor_ros.bench import pipeline as bench_pipeline
from motion_predictor_ros.bench import timing as yardstick
from motion_predictor_ros.bench.crowd import Crowd
from motion_predictor_ros.cli.main import main
from motion_predictor_ros.config import DensityConfig, PipelineConfig
from motion_predictor_ros.data.bags import BagWriter
from motion_predictor_ros.errors import BagError
from motion_predictor_ros.resources import share_file

DEMO = share_file('demo', 'demo.mcap')


@pytest.fixture(autouse=True)
def float32_as_deployed(float64_by_default: None) -> None:
    torch.set_default_dtype(torch.float32)


def of_prediction_alone(config: PipelineConfig) -> PipelineConfig:
    return replace(config, density=DensityConfig(enabled='never'))


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Arguments of a bench of a small model without futures, and without a second process."""
    monkeypatch.setattr(bench_pipeline, 'in_full', of_prediction_alone)
    monkeypatch.setattr(bench_pipeline, 'start_up_s', lambda config: 1.5)
    monkeypatch.setattr(bench_pipeline, '_COLD', 2)
    monkeypatch.setattr(yardstick, '_ROUNDS', 2)
    weights = write_weights(tmp_path / 'small.safetensors')
    return ['--weights', str(weights), '--device', 'cpu', '--frames', '3', '--json']


def test_the_whole_line_is_timed_by_stage_and_threads(
    small: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    one = ['--threads', '1']  # two would wait for each other on a busy machine
    assert main(['bench', 'pipeline', *small, *one]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report['startup_s'] == 1.5 and set(report['by_threads']) == {'1'}
    assert report['by_threads']['1']['step_ms'] == report['step_ms'] and report['threads'] == 1
    assert set(report['step_ms']) == {'p50', 'p99'}
    assert set(report['stages_ms']) == {'skeleton', 'prediction', 'density', 'volume'}
    assert set(report['stages_processor_ms']) == set(report['stages_ms'])
    assert report['voxels'] == {'p50': 0.0, 'p99': 0.0}  # no volumes were asked for
    assert report['step_ms']['p50'] >= report['stages_ms']['prediction']['p50'] > 0.0
    for key in ('motion_deq_warm_ms', 'motion_deq_cold_ms', 'eqmotion_style_forward_ms'):
        assert report[key] > 0.0
    assert report['solver_steps']['cold'] > 0 and 'cores' in report['device']
    assert main(['bench', 'pipeline', *small[:-1], *one]) == 0
    assert 'whole step' in capsys.readouterr().out
    with pytest.raises(SystemExit, match='2'):
        main(['bench', 'pipeline', *small, '--frames', '0'])
    assert main(['bench', 'pipeline', *small, '--cuda-graph']) == 2  # on a CPU
    assert 'needs a GPU' in capsys.readouterr().err


def test_people_are_timed_by_their_number(
    small: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(['bench', 'persons', *small, '--people', '1', '3']) == 0
    report = json.loads(capsys.readouterr().out)
    assert set(report['step_ms']) == {'1', '3'} and report['ratio']['1'] == 1.0
    assert report['ratio']['3'] == pytest.approx(report['step_ms']['3'] / report['step_ms']['1'])
    assert main(['bench', 'persons', *small, '--people', '17']) == 2
    assert 'max_people' in capsys.readouterr().err


def test_motion_deq_is_timed_alone_by_people_and_iterations(
    small: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench_motion_deq, '_ROUNDS', 2)
    assert main(['bench', 'motion-deq', *small, '--people', '1', '2']) == 0
    report = json.loads(capsys.readouterr().out)
    assert set(report['by_people']) == {'1', '2'} and report['threads'] == 1
    for found in report['by_people'].values():
        assert set(found['by_iterations_ms']) == {'1', '2', '4', '8'}
        spreads = [found['warm_ms'], found['cold_ms'], found['eqmotion_style_forward_ms']]
        for each in [*spreads, *found['by_iterations_ms'].values()]:
            assert each['p99'] >= each['p50'] > 0.0
        assert 0 < found['steps']['warm'] < found['steps']['cold']
    assert main(['bench', 'motion-deq', *small[:-1], '--people', '1']) == 0
    assert 'four EqMotion layers' in capsys.readouterr().out
    assert main(['bench', 'motion-deq', *small, '--people', '17']) == 2
    assert 'max_people' in capsys.readouterr().err


def test_caches_are_timed_by_their_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench_density, '_CACHE_ROUNDS', 2)
    recipe = tmp_path / 'tiny.yaml'
    recipe.write_text(
        'model: {past: 5, future: 6, hidden: 8, behaviour: 8, latent: 4, width: 8}\n'
    )
    options = ['--recipe', str(recipe), '--sizes', '60', '200', '--device', 'cpu']
    assert main(['bench', 'cache', *options, '--json']) == 0
    report = json.loads(capsys.readouterr().out)
    assert set(report['by_cached_futures']) == {'60', '200'} and report['drawn_from'] == 200
    assert all(each['p50'] > 0.0 for each in report['by_cached_futures']['60'].values())
    assert main(['bench', 'cache', *options]) == 0
    assert 'one observation on' in capsys.readouterr().out


def test_the_benched_line_answers_every_message_in_full() -> None:
    config = bench_pipeline.in_full(PipelineConfig(threads=3))
    assert config.volume.enabled == 'always' and config.density.rate_hz == 100.0
    assert config.threads == 3


def test_a_crowd_walks_as_one_person_did_and_never_jumps() -> None:
    messages = list(Crowd(DEMO, 25.0).messages(3, 900))  # beyond the end of the recording
    stamps = [each.header.stamp.sec * 10**9 + each.header.stamp.nanosec for each in messages]
    assert set(np.diff(stamps)) == {40_000_000}
    places = np.array([[who.positions for who in each.persons] for each in messages])
    assert [who.person_id for who in messages[0].persons] == ['person_0', 'person_1', 'person_2']
    steps = np.linalg.norm(np.diff(places.reshape(900, 3, -1, 3), axis=0), axis=-1)
    assert 0.0 < steps.max() < 0.5
    apart = places[0, 1] - places[0, 0]
    assert apart.reshape(-1, 3)[0, 1] == pytest.approx(2.0, abs=0.5)
    jumps = [abs(a - b).max() for a, b in itertools.pairwise(places[::400])]
    assert max(jumps) > 0.1  # control: people do move


def test_a_bag_without_people_is_rejected(tmp_path: Path) -> None:
    with BagWriter(tmp_path / 'none.mcap'):
        pass
    with pytest.raises(BagError):
        Crowd(tmp_path / 'none.mcap')
