# SPDX-License-Identifier: Apache-2.0
"""What a GPU answers is what the CPU answers, with graphs and without.

Each test runs on a pretended GPU, which finds what would crash or wait, and on a real one where
there is one (`make cuda`). Nothing here needs ROS.
"""

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from cache_flow_models import TINY, write_density
from models import write_weights
from pretend_gpu import pretended_gpu
from scenes import message, pose, stream
from volume_scenes import SHAPE

from motion_predictor_ros.bench.crowd import Crowd
from motion_predictor_ros.bench.volume import walkers as crowd
from motion_predictor_ros.config import DensityConfig, PipelineConfig, PredictionConfig
from motion_predictor_ros.density.predictor import CacheFlowPredictor
from motion_predictor_ros.density.types import Futures
from motion_predictor_ros.pipeline import Pipeline, Scene
from motion_predictor_ros.resources import share_file
from motion_predictor_ros.volume.grid import VoxelGrid
from motion_predictor_ros.volume.voxels import covered, voxel_probability

CLOSE = 1e-4
"""Metres or nats between a GPU and the CPU."""

SHORT = dataclasses.replace(TINY, steps=2)

_REAL = pytest.param(
    'real',
    marks=[
        pytest.mark.cuda,
        pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU'),
    ],
)


@pytest.fixture(autouse=True)
def float32_as_deployed(float64_by_default: None) -> None:
    torch.set_default_dtype(torch.float32)


@pytest.fixture(params=['pretended', _REAL])
def gpu(request: pytest.FixtureRequest) -> Iterator[None]:
    with pretended_gpu() if request.param == 'pretended' else contextlib.nullcontext():
        yield


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp('models')


@pytest.fixture(scope='module')
def files(folder: Path) -> PipelineConfig:
    weights = write_weights(folder / 'motion.safetensors', masked=True)
    return PipelineConfig(
        prediction=PredictionConfig(weights=str(weights), tolerance=2e-5, max_steps=16),
        density=write_density(folder, SHORT, enabled='always', rate_hz=100.0),
    )


@pytest.fixture(scope='module')
def corrected(files: PipelineConfig, folder: Path) -> PipelineConfig:
    """Return the same with a model that has a correction adapter."""
    weights = write_weights(folder / 'corrected.safetensors', masked=True, correction=True)
    prediction = dataclasses.replace(files.prediction, weights=str(weights))
    return dataclasses.replace(files, prediction=prediction)


def on(config: PipelineConfig, device: str, *, graph: bool = False, **density: object) -> Pipeline:
    prediction = dataclasses.replace(config.prediction, device=device, cuda_graph=graph)
    changes = {'device': device, 'cuda_graph': graph, **density}
    asked = dataclasses.replace(config.density, **changes)  # type: ignore[arg-type]
    return Pipeline.load(dataclasses.replace(config, prediction=prediction, density=asked))


def last_scenes(pipeline: Pipeline) -> list[Scene]:
    """Return answers about three people, one of them with a hidden joint, and about two."""
    for each in stream(0.0, 1.1, 'ann', 'bob', 'cleo'):
        assert pipeline.observe(each)
    hidden = np.ones(18, np.float32)
    hidden[7] = 0.0
    ends = [
        message(1.1, 'ann', 'bob', 'cleo'),
        message(1.13, 'ann', 'bob', 'cleo', confidences=hidden),
        message(1.16, 'bob', 'cleo'),
    ]
    scenes = [pipeline.step(each) for each in ends]
    return [scene for scene in scenes if scene is not None]


def gaps(found: list[Scene], wanted: list[Scene]) -> dict[str, float]:
    """Return how far answers are apart at most."""
    kept: dict[str, float] = {}

    def hold(name: str, a: np.ndarray, b: np.ndarray) -> None:
        apart = np.abs(np.asarray(a, float) - np.asarray(b, float))
        kept[name] = max(kept.get(name, 0.0), float(apart.max()))

    for one, other in zip(found, wanted, strict=True):
        for a, b in zip(one.prediction.people, other.prediction.people, strict=True):
            assert (a.person_id, a.validity) == (b.person_id, b.validity)
            if a.positions is not None:
                hold('positions', a.positions, b.positions)
                for name in ('steps', 'warm', 'converged'):
                    hold('solver', getattr(a.solver, name), getattr(b.solver, name))
        assert isinstance(one.futures, Futures) and isinstance(other.futures, Futures)
        for name in ('positions', 'log_density', 'cached', 'novelty', 'predicted_log_density'):
            hold(f'futures.{name}', getattr(one.futures, name), getattr(other.futures, name))
        relative = one.futures.effective_sample_size / other.futures.effective_sample_size
        hold('futures.size', relative, np.ones(1))
    return kept


@pytest.mark.parametrize(
    ('graph', 'rule'), [(False, 'nearest'), (True, 'nearest'), (True, 'flow')]
)
def test_a_gpu_answers_what_the_cpu_does(
    gpu: None,
    files: PipelineConfig,
    corrected: PipelineConfig,
    graph: bool,
    rule: str,
) -> None:
    config = corrected if graph and rule == 'nearest' else files
    asked = {'rule': rule}
    wanted = last_scenes(on(config, 'cpu', **asked))
    found = last_scenes(on(config, 'cuda:0', graph=graph, **asked))
    assert len(wanted[0].prediction.people) == 3 and wanted[0].futures is not None
    apart = gaps(found, wanted)
    assert apart.pop('solver') <= 1.0  # a step more or less, where a residual is at the limit
    assert max(apart.values()) < CLOSE, apart
    assert apart['futures.cached'] == 0.0
    moved = gaps(wanted[:1], wanted[1:2])  # control: a message later all is different
    assert min(moved['positions'], moved['futures.positions']) > CLOSE


@pytest.mark.parametrize('graph', [False, True])
def test_cached_futures_are_as_dense_on_a_gpu(
    gpu: None, files: PipelineConfig, graph: bool
) -> None:
    observed = np.stack([[pose(since + 0.04 * k) for k in range(5)] for since in (0.0, 0.5)])
    found = []
    for device, replay in (('cpu', False), ('cuda:0', graph)):
        config = dataclasses.replace(files.density, device=device, cuda_graph=replay)
        predictor = CacheFlowPredictor.load(config)
        found.append(predictor.cached_log_density(observed, 200).cpu())
    torch.testing.assert_close(*found, atol=CLOSE, rtol=0)
    assert float((found[0][0] - found[0][1]).abs().max()) > 0.1  # control: people differ


def test_recurrent_layers_keep_float32_on_a_gpu(gpu: None, files: PipelineConfig) -> None:
    torch.backends.cudnn.allow_tf32 = True  # as torch begins
    for device, allowed in (('cpu', True), ('cuda:0', False)):
        CacheFlowPredictor.load(dataclasses.replace(files.density, device=device))
        assert torch.backends.cudnn.allow_tf32 is allowed


def test_a_gpu_marks_the_same_voxels(gpu: None) -> None:
    grid = VoxelGrid((-1.0, -1.0, -1.0), 0.1, (20, 20, 20))
    people, device = crowd(SHAPE, 4, 2), torch.device('cuda:0')
    ours = voxel_probability(people, grid)
    theirs = voxel_probability(people, grid, device=device)
    np.testing.assert_array_equal(ours > 0, theirs > 0)
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
    inside = covered(people, grid, device=device)
    np.testing.assert_array_equal(inside, covered(people, grid))
    assert 0.01 < inside.mean() < 0.99  # control


def test_another_seed_is_seen(files: PipelineConfig) -> None:
    apart = gaps(*(last_scenes(on(files, 'cpu', seed=seed)) for seed in (1, 2)))
    assert apart['futures.positions'] > CLOSE and apart['positions'] == 0.0


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
@pytest.mark.parametrize('graph', [False, True])
def test_a_gpu_answers_what_the_cpu_does_with_the_shipped_models(graph: bool) -> None:
    config = PipelineConfig(density=DensityConfig(enabled='always', rate_hz=100.0))
    messages = Crowd(share_file('demo', 'demo.mcap'), 30.0).messages(2, 45)
    pipelines = on(config, 'cpu'), on(config, 'cuda:0', graph=graph)
    wanted, found = zip(*([each.step(one) for each in pipelines] for one in messages), strict=True)
    apart = gaps([each for each in found if each][-5:], [each for each in wanted if each][-5:])
    assert apart.pop('solver') <= 1.0
    assert max(apart.values()) < CLOSE, apart
