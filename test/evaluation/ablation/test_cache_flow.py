# SPDX-License-Identifier: Apache-2.0
"""Variants of CacheFlow are trained once, differ, and are judged with their own caches."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from cache_flow_models import RECIPE, TINY, write_cache_flow
from walkers import walkers

from motion_predictor_ros.cli.main import main
from motion_predictor_ros.density.cache_flow.checkpoint import load_cache_flow
from motion_predictor_ros.evaluation.ablation import cache_flow as ablation_cache_flow
from motion_predictor_ros.evaluation.ablation.cache_flow import (
    VARIANTS,
    beginning,
    random_cache,
)
from motion_predictor_ros.training.cache_build import build_cache

ASKED = {'rule_weighted', 'rule_flow', 'random_cache', 'cache_5'}


@pytest.fixture(autouse=True)
def float32_as_deployed(float64_by_default: None) -> None:
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope='module')
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Options that name data and recipe."""
    folder = tmp_path_factory.mktemp('data')
    recordings = walkers()
    clips = {clip.key: {'subject': clip.subject, 'split': clip.split} for clip in recordings.clips}
    meta = {'joint_names': recordings.joint_names, 'fps': recordings.fps, 'clips': clips}
    arrays = dict(zip(clips, recordings.positions.reshape(2, 200, 18, 3), strict=True))
    np.savez(folder / 'clips.npz', __meta__=np.array(json.dumps(meta)), **arrays)
    model = dataclasses.replace(TINY, steps=2, mode='joint-stopgrad')
    recipe = dataclasses.asdict(dataclasses.replace(RECIPE, model=model))
    (folder / 'tiny.yaml').write_text(json.dumps(recipe))
    options = ['--data', str(folder / 'clips.npz'), '--recipe', str(folder / 'tiny.yaml')]
    return [*options, '--device', 'cpu', '--size', '40', '--smaller', '5', '--steps', '2']


def ablate(*options: str) -> int:
    return main(['ablate', 'cache-flow', *options])


@pytest.fixture(scope='module')
def whole(files: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_default_dtype(torch.float32)
    out = tmp_path_factory.mktemp('ablation')
    assert ablate(*files, '--out', str(out)) == 0
    return out


def test_every_variant_has_figures_and_none_is_like_another(whole: Path) -> None:
    report = json.loads((whole / 'report.json').read_text())
    rows = report['variants']
    assert rows.keys() == {*VARIANTS, *ASKED} and report['mode'] == 'joint-stopgrad'
    assert all(math.isfinite(value) for own in rows.values() for value in own.values())
    trained = [rows[name]['log_prob_per_dim'] for name in VARIANTS]
    assert len(set(trained)) == len(VARIANTS)
    # Asked in another way, a model has the same density and other samples.
    for name in ASKED:
        assert rows[name]['log_prob_per_dim'] == pytest.approx(trained[1])
        assert rows[name]['ade_m'] != rows['joint-stopgrad']['ade_m']
    assert rows['cache_5']['effective_sample_size'] <= 5.0
    assert 'effective_sample_size' not in rows['without_flow']


def test_behaviours_are_shared_but_for_those_without_factorisation(whole: Path) -> None:
    decoders = {path.parent.parent.name for path in whole.glob('**/decoder/best.safetensors')}
    assert decoders == {whole.name, 'without_factorisation'}
    assert len(list(whole.glob('**/behaviour/best.safetensors'))) == 1
    own = load_cache_flow(str(whole / 'without_factorisation/flow/best.safetensors'), CPU)
    assert own.module.config.latent == TINY.behaviour > TINY.latent


CPU = torch.device('cpu')


def test_finished_runs_are_not_repeated_and_another_budget_is_rejected(
    whole: Path,
    files: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = json.loads((whole / 'report.json').read_text())
    monkeypatch.setattr(ablation_cache_flow, 'train', None)
    assert ablate(*files, '--out', str(whole), '--json') == 0
    assert json.loads(capsys.readouterr().out) == before
    assert ablate(*files[:-1], '3', '--out', str(whole)) == 2
    assert 'choose another --out' in capsys.readouterr().err
    # What was judged and is lost is judged again; nothing is trained for it.
    (whole / 'two-stage/run.json').unlink()
    monkeypatch.setattr(ablation_cache_flow, 'evaluate_stochastic', fake_report)
    assert ablate(*files, '--out', str(whole), '--json') == 0
    assert json.loads(capsys.readouterr().out)['variants']['two-stage'] == {'ade_m': 7.0}


def fake_report(case: object, trained: object, samplers: dict[str, object]) -> dict[str, object]:
    return {name: {'ade_m': 7.0} for name in samplers}


def test_a_random_cache_has_the_density_of_where_it_was_drawn(tmp_path: Path) -> None:
    trained = load_cache_flow(str(write_cache_flow(tmp_path / 'tiny.safetensors')), CPU)
    cache = build_cache(trained, walkers(), 200)
    other = random_cache(trained, cache)
    with torch.inference_mode():
        z, log_det = trained.module.flow.pull(other.x)
    torch.testing.assert_close(z, other.z, atol=2e-3, rtol=0)
    torch.testing.assert_close(log_det, other.log_det, atol=2e-2, rtol=0)
    mean, std = cache.z.mean(0), cache.z.std(0)
    expected = torch.distributions.Normal(mean, std).log_prob(other.z).sum(1)
    torch.testing.assert_close(other.log_rho, expected, atol=1e-3, rtol=1e-3)
    assert float((other.z - cache.z).abs().mean()) > 0.1 * float(std.mean())


def test_a_smaller_cache_is_the_beginning_of_a_larger_one(tmp_path: Path) -> None:
    trained = load_cache_flow(str(write_cache_flow(tmp_path / 'tiny.safetensors')), CPU)
    cache = build_cache(trained, walkers(), 30)
    small = beginning(cache, 7)
    assert len(small) == 7 and torch.equal(small.z, cache.z[:7])
    distance, _ = small.neighbours.nearest(cache.z)
    assert float(distance[:7].max()) < 1e-6 < float(distance[7:].max())


@pytest.mark.parametrize('wrong', [['--steps', '0'], ['--size', '3', '--smaller', '4']])
def test_a_user_error_is_one_line(
    wrong: list[str], files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ablate(*files[:-2], *wrong, '--out', str(tmp_path / 'out')) == 2
    assert capsys.readouterr().err.count('\n') == 1
    assert not (tmp_path / 'out').exists()
