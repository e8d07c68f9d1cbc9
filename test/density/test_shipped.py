# SPDX-License-Identifier: Apache-2.0
"""The shipped density model and its cache fit, and say something of the people of the demo."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from scenes import decode
from torch import Tensor

from motion_predictor_ros.config import DensityConfig, SkeletonConfig
from motion_predictor_ros.conventions import NS_PER_S
from motion_predictor_ros.data.bags import skeleton_messages
from motion_predictor_ros.density.cache_flow.cache import load_cache
from motion_predictor_ros.density.cache_flow.checkpoint import load_cache_flow
from motion_predictor_ros.density.cache_flow.flow import even_times
from motion_predictor_ros.density.predictor import CacheFlowPredictor
from motion_predictor_ros.errors import CheckpointError
from motion_predictor_ros.scoring.metrics import constant_velocity
from motion_predictor_ros.skeleton.frame import SkeletonFrame
from motion_predictor_ros.skeleton.layout import SkeletonLayout
from motion_predictor_ros.skeleton.resample import resample

ROOT = Path(__file__).parents[2]
CONFIG = DensityConfig(device='cpu')
EVERY = 10
"""Frames of the model clock between windows."""


@pytest.fixture(autouse=True)
def float32_as_deployed(float64_by_default: None) -> None:
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope='module')
def shipped() -> CacheFlowPredictor:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    predictor = CacheFlowPredictor.load(CONFIG)
    torch.set_default_dtype(before)
    return predictor


@pytest.fixture(scope='module')
def windows(shipped: CacheFlowPredictor) -> np.ndarray:
    """Cut the people of the demo into windows."""
    layout, tracks = SkeletonLayout.load('body18'), dict[str, list[SkeletonFrame]]()
    for message in skeleton_messages(ROOT / 'demo/demo.mcap'):
        for person in decode(message.message, layout, SkeletonConfig()).people:
            tracks.setdefault(person.person_id, []).append(person)
    shape = shipped.trained.module.config
    length, cut = shape.past + shape.future, []
    for frames in tracks.values():
        stamps_s = np.array([frame.stamp_ns - frames[0].stamp_ns for frame in frames]) / NS_PER_S
        times_s = np.arange(0.0, stamps_s[-1], shape.period_s)
        track, observed, _ = resample(
            stamps_s,
            np.array([frame.positions for frame in frames]),
            np.array([frame.confidences for frame in frames]),
            times_s,
        )
        starts = range(0, len(times_s) - length + 1, EVERY)
        cut += [track[at : at + length] for at in starts if observed[at : at + length].all()]
    return np.stack(cut)


def latents(shipped: CacheFlowPredictor, windows: np.ndarray) -> tuple[Tensor, Tensor]:
    """Return observed poses, and x of what came."""
    frame, past = shipped.trained.frame, shipped.past
    positions = torch.from_numpy(windows).float()
    poses = frame.enter(positions, frame.place(positions[:, past - 1]))
    return poses[:, :past], shipped.trained.module.latent(poses[:, :past], poses[:, past:])


def test_weights_and_cache_are_shipped_small_and_for_the_common_skeleton(
    shipped: CacheFlowPredictor,
) -> None:
    assert len(shipped.cache) == 200_000
    assert shipped.joint_names == SkeletonLayout.load('body18').joint_names
    sizes = [(ROOT / f'weights/{name}.safetensors').stat().st_size for name in vars_of(CONFIG)]
    assert sum(sizes) < 40e6
    assert (ROOT / 'weights/body_2s.md').is_file()


def vars_of(config: DensityConfig) -> tuple[str, str]:
    return config.weights, config.cache


def test_the_shipped_cache_is_refused_with_any_other_model(shipped: CacheFlowPredictor) -> None:
    assert len(load_cache(CONFIG.cache, shipped.trained)) == len(shipped.cache)
    other = dataclasses.replace(shipped.trained, digest='0' * 12)
    with pytest.raises(CheckpointError, match='rebuild it'):
        load_cache(CONFIG.cache, other)
    with pytest.raises(CheckpointError):
        load_cache_flow(CONFIG.cache, torch.device('cpu'))


@torch.inference_mode()
def test_cached_volumes_are_those_of_finer_integration(shipped: CacheFlowPredictor) -> None:
    """A flow that outruns its integrator has densities that mean nothing."""
    flow, x = shipped.trained.module.flow, shipped.cache.x[:500]
    z, log_det = flow.pull(x, times=even_times(8 * flow.steps))
    assert float((log_det - shipped.cache.log_det[:500]).abs().quantile(0.99)) < 0.05
    assert float((z - shipped.cache.z[:500]).norm(dim=1).quantile(0.99)) < 0.02
    _, coarse = flow.pull(x, times=[0.0, 1.0], scheme='midpoint')
    assert float((log_det - coarse).abs().median()) > 0.05


@torch.inference_mode()
def test_true_futures_are_likelier_than_those_of_others(
    shipped: CacheFlowPredictor, windows: np.ndarray
) -> None:
    model = shipped.trained.module
    past, x = latents(shipped, windows)
    q = model.observe(past)
    own = model.log_prob(q, x)
    others = model.log_prob(q, x.roll(len(x) // 2, dims=0))
    # Chance is 0.5, with a standard error of 0.05 for these 108 windows.
    assert float((own > others).float().mean()) > 0.6
    assert float((own - others).mean()) > 3.0  # [nat]


def test_the_best_of_fifty_is_nearer_than_going_on_as_before(
    shipped: CacheFlowPredictor, windows: np.ndarray
) -> None:
    observed, truth = windows[:, : shipped.past], windows[:, shipped.past :]
    shipped.reset()
    guesses = shipped.draw(observed)[0]

    def error(guess: np.ndarray) -> np.ndarray:
        return np.linalg.norm(guess - truth[:, None], axis=4).mean((2, 3)).min(1)

    best = error(guesses).mean()
    assert best < 0.6 * error(constant_velocity(observed, truth.shape[1])[:, None]).mean()
    assert best < 0.7 * error(guesses[:, :1]).mean()  # one guess is not as good as fifty
    assert best < 0.7 * error(np.roll(guesses, len(guesses) // 2, axis=0)).mean()
