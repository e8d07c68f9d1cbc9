# SPDX-License-Identifier: Apache-2.0
"""The yardstick gives the predictor's answers, so the two times are of the same work."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from cache_flow_models import TINY, write_cache_flow
from walkers import walkers

from motion_predictor_ros.bench import density as bench_density
from motion_predictor_ros.bench.density import PlainTorch, untrained_predictor
from motion_predictor_ros.cli.main import main
from motion_predictor_ros.config import DensityConfig
from motion_predictor_ros.density.cache_flow.checkpoint import load_cache_flow
from motion_predictor_ros.density.predictor import CacheFlowPredictor
from motion_predictor_ros.errors import ConfigError
from motion_predictor_ros.training.cache_build import build_cache

CPU = torch.device('cpu')
CONFIG = DensityConfig(device='cpu', futures=20, rule='nearest', importance_samples=300)
KEYS = {
    *('density_10k_ms', 'samples_50_ms', 'yardstick_density_10k_ms', 'yardstick_samples_50_ms'),
    *('device', 'cached_futures'),
}


@pytest.fixture(autouse=True)
def float32_as_deployed(float64_by_default: None, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_default_dtype(torch.float32)
    monkeypatch.setattr(bench_density, '_ROUNDS', 3)
    monkeypatch.setattr(bench_density, '_SLOW_ROUNDS', 2)


def small() -> CacheFlowPredictor:
    predictor = untrained_predictor(TINY, 'body18', 500, CONFIG, CPU)
    with torch.no_grad():
        predictor.trained.module.vae.offset.weight.mul_(10.0)
    return CacheFlowPredictor(predictor.trained, predictor.cache, CONFIG)


def people(count: int = 2) -> np.ndarray:
    starts = (50, 250)[:count]
    return np.stack([walkers().positions[s : s + TINY.past].astype(np.float64) for s in starts])


def test_plain_torch_gives_the_same_densities() -> None:
    predictor = small()
    fast = predictor.cached_log_density(people(), 400)
    torch.testing.assert_close(PlainTorch(predictor).density(people(), 400), fast)
    other = PlainTorch(predictor).density(people()[::-1].copy(), 400)
    assert float((other - fast).abs().max()) > 1e-2


def test_plain_torch_draws_the_same_futures() -> None:
    predictor = small()
    positions, _, size = predictor.draw(people())
    generator = torch.Generator().manual_seed(CONFIG.seed)
    found, own_size = PlainTorch(predictor).draw(people(), generator)
    np.testing.assert_allclose(found, positions, atol=2e-5)
    torch.testing.assert_close(own_size, size, rtol=1e-3, atol=1e-3)
    others, _ = PlainTorch(predictor).draw(people(), generator)
    assert np.abs(others - positions).max() > 1e-2


def test_an_untrained_model_is_reported_as_untrained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / 'tiny.yaml'
    recipe.write_text(
        'model: {past: 5, future: 6, hidden: 8, behaviour: 8, latent: 4, width: 8}\n'
    )
    options = ['--recipe', str(recipe), '--size', '70', '--device', 'cpu']
    assert main(['bench', 'density', *options, '--json']) == 0
    report = json.loads(capsys.readouterr().out)
    assert report.keys() >= KEYS and report['model'] == 'untrained'
    assert report['cached_futures'] == report['densities'] == 70 and report['samples'] == 50
    assert all(report[key] > 0.0 for key in KEYS if key.endswith('_ms'))
    assert main(['bench', 'density', *options]) == 0
    assert 'synthetic cache' in capsys.readouterr().out


def test_a_trained_model_is_timed_with_its_cache(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights, cache = write_cache_flow(tmp_path / 'tiny.safetensors'), tmp_path / 'c.safetensors'
    build_cache(load_cache_flow(str(weights), CPU), walkers(), 60).save(cache)
    files = ['--checkpoint', str(weights), '--cache', str(cache), '--device', 'cpu']
    assert main(['bench', 'density', *files, '--json']) == 0
    report = json.loads(capsys.readouterr().out)
    assert report['model'].startswith('tiny@') and report['cached_futures'] == 60
    assert main(['bench', 'density', *files[:2]]) == 2
    assert 'go together' in capsys.readouterr().err


def test_configurations_beyond_the_yardstick_are_rejected() -> None:
    predictor = small()
    predictor.config = DensityConfig(rule='flow')
    with pytest.raises(ConfigError, match='yardstick'):
        bench_density.bench_density(predictor)
