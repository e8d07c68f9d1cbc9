# SPDX-License-Identifier: Apache-2.0
"""The cache says what the model says, and only with the checkpoint it was made with."""

from pathlib import Path

import pytest
import torch
from cache_flow_models import TINY, cache_of, lively_flow, mixture, write_cache_flow
from safetensors.torch import load_file

from motion_predictor_ros.checkpoint import load_checkpoint, save_checkpoint
from motion_predictor_ros.density.cache_flow.cache import FutureCache, load_cache
from motion_predictor_ros.density.cache_flow.checkpoint import TrainedCacheFlow, load_cache_flow
from motion_predictor_ros.density.cache_flow.neighbours import (
    BoxedPoints,
    BruteForce,
    neighbours_among,
)
from motion_predictor_ros.density.sampling import cached_log_density
from motion_predictor_ros.errors import CheckpointError

CPU = torch.device('cpu')


@pytest.fixture
def trained(tmp_path: Path) -> TrainedCacheFlow:
    return load_cache_flow(str(write_cache_flow(tmp_path / 'tiny.safetensors')), CPU)


def cache_for(trained: TrainedCacheFlow, count: int = 40) -> FutureCache:
    x = torch.randn(count, TINY.latent, generator=torch.Generator().manual_seed(0)).to(
        torch.get_default_dtype()
    )
    log_rho = -0.5 * x.square().sum(1)
    return cache_of(trained.module.flow, x, log_rho, trained.digest)


def test_cached_density_equals_the_uncached() -> None:
    flow, q = lively_flow(), mixture()
    x = torch.randn(300, 8)
    cache = cache_of(flow, x, torch.zeros(300))
    cached = cached_log_density(q, cache, 300)
    z, log_det = flow.pull(x)
    for person in range(2):
        uncached = q.log_prob(z.expand(2, -1, -1))[person] + log_det
        torch.testing.assert_close(cached[person], uncached)
    without_volume = q.log_prob_shared(cache.powers)
    assert float((without_volume - cached).abs().mean()) > 0.1


def test_a_file_gives_back_what_went_in(trained: TrainedCacheFlow, tmp_path: Path) -> None:
    cache = cache_for(trained)
    for storage, tolerance in (('float32', 1e-6), ('float16', 3e-3)):
        cache.save(tmp_path / 'cache.safetensors', storage)
        back = load_cache(str(tmp_path / 'cache.safetensors'), trained)
        for name in ('z', 'x', 'log_det', 'log_rho'):
            torch.testing.assert_close(
                getattr(back, name), getattr(cache, name), atol=tolerance, rtol=tolerance
            )
        assert back.figures == cache.figures and len(back) == 40
    assert load_file(tmp_path / 'cache.safetensors')['z'].dtype == torch.float16


def test_half_precision_moves_no_density_that_matters(
    trained: TrainedCacheFlow, tmp_path: Path
) -> None:
    cache, q = cache_for(trained, 500), mixture(latent=TINY.latent)
    cache.save(tmp_path / 'cache.safetensors', 'float16')
    back = load_cache(str(tmp_path / 'cache.safetensors'), trained)
    gap = cached_log_density(q, back, 500) - cached_log_density(q, cache, 500)
    assert 1e-6 < float(gap.abs().mean()) < 5e-3


def test_another_checkpoint_is_refused(trained: TrainedCacheFlow, tmp_path: Path) -> None:
    path = tmp_path / 'cache.safetensors'
    cache_for(trained).save(path)
    load_cache(str(path), trained)
    other = load_cache_flow(str(write_cache_flow(tmp_path / 'other.safetensors', seed=1)), CPU)
    with pytest.raises(CheckpointError, match=r'made with checkpoint .* rebuild it'):
        load_cache(str(path), other)


def test_weights_are_no_cache_and_a_cache_no_weights(
    trained: TrainedCacheFlow, tmp_path: Path
) -> None:
    path = tmp_path / 'cache.safetensors'
    cache_for(trained).save(path)
    with pytest.raises(CheckpointError, match="'cache_flow_cache'"):
        load_cache_flow(str(path), CPU)
    with pytest.raises(CheckpointError, match="'cache_flow'"):
        load_cache(str(tmp_path / 'tiny.safetensors'), trained)
    with pytest.raises(CheckpointError, match='gone'):
        load_cache('gone', trained)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'z': torch.zeros(40, 3)}, 'z is'),
        ({'log_rho': torch.zeros(39)}, 'log_rho'),
        ({'log_det': torch.full((40,), torch.nan)}, 'not finite'),
        ({'x': None}, 'x is None'),
    ],
)
def test_damaged_arrays_are_refused(
    trained: TrainedCacheFlow,
    tmp_path: Path,
    changes: dict[str, torch.Tensor | None],
    message: str,
) -> None:
    path = tmp_path / 'cache.safetensors'
    cache_for(trained).save(path)
    stored = load_checkpoint(path, 'cache_flow_cache')
    changed = {**stored.tensors, **changes}
    kept = {name: value for name, value in changed.items() if value is not None}
    save_checkpoint(path, {**stored.header}, kept)
    with pytest.raises(CheckpointError, match=message):
        load_cache(str(path), trained)


@pytest.mark.parametrize('count', [1, 65, 3000])
def test_boxes_find_what_brute_force_finds(count: int) -> None:
    fixed, points = torch.randn(count, 8).float(), torch.randn(50, 8).float()
    boxes = neighbours_among(fixed)
    assert isinstance(boxes, BoxedPoints)
    exact = BruteForce(fixed).nearest(points)
    for ours, theirs in zip(boxes.nearest(points), exact, strict=True):
        torch.testing.assert_close(ours, theirs)
    assert count == 1 or len(exact[1].unique()) > 10  # control: points have different neighbours


def test_files_that_hold_root_motion_are_still_read(
    trained: TrainedCacheFlow, tmp_path: Path
) -> None:
    path = tmp_path / 'cache.safetensors'
    cache = cache_for(trained)
    cache.save(path)
    stored = load_checkpoint(path, 'cache_flow_cache')
    old = {'root_codes': torch.full((40, 2), torch.nan), 'root_basis': torch.zeros(3, 18)}
    save_checkpoint(path, {**stored.header, 'tau_s': 0.3}, {**stored.tensors, **old})
    torch.testing.assert_close(load_cache(str(path), trained).z, cache.z, atol=3e-3, rtol=0)
