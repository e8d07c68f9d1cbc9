# SPDX-License-Identifier: Apache-2.0
"""Load the models that `evaluate stochastic` compares; a model without weights is left out."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import torch

from motion_predictor_ros.config import DensityConfig
from motion_predictor_ros.data.recordings import Recordings
from motion_predictor_ros.density.cache_flow.checkpoint import TrainedCacheFlow
from motion_predictor_ros.density.predictor import CacheFlowPredictor
from motion_predictor_ros.errors import CheckpointError
from motion_predictor_ros.evaluation.futures.contenders import (
    CacheFlowContender,
    ConditionalVAEContender,
    Contender,
    GaussianContender,
    Guess,
    LatentMixtureContender,
    SampledContender,
    constant_velocity_guess,
    motion_deq_guess,
)
from motion_predictor_ros.prediction.motion_deq.checkpoint import load_motion_deq
from motion_predictor_ros.resources import share_file
from motion_predictor_ros.training.baselines.conditional_vae import load_conditional_vae
from motion_predictor_ros.training.baselines.latent_mixture import load_latent_mixture
from motion_predictor_ros.training.windows import every_window

_EVERY_S = 0.4


@dataclass(frozen=True)
class Rivals:
    """Weights of the models that CacheFlow is compared with.

    Attributes:
        motion_deq: Shipped name or path; empty leaves it out.
        beside: Weights and cache of another CacheFlow.
    """

    latent_mixture: Path | None = None
    conditional_vae: Path | None = None
    motion_deq: str = ''
    beside: tuple[str, str] | None = None


def rival_file(given: str | None, name: str, shipped: bool) -> Path | None:
    """Return the weights of a rival: those given, or the shipped ones; '' leaves it out.

    Args:
        shipped: Whether the rivals compete with the shipped CacheFlow. They were trained beside
            it; beside another one they have to be given.

    Raises:
        ConfigError: The shipped weights are missing.
    """
    if given is None:
        return share_file('weights', 'rivals', f'{name}.safetensors') if shipped else None
    return Path(given) if given else None


def field_of(
    config: DensityConfig, rivals: Rivals, recordings: Recordings
) -> tuple[TrainedCacheFlow, dict[str, Contender]]:
    """Return the CacheFlow under test and all contenders by name.

    Residuals of the Gaussian ones are those on split 'val'; without such clips they are left out.

    Raises:
        CheckpointError: Weights cannot be used, or have another skeleton.
    """
    cached = CacheFlowPredictor.load(config)
    uncached = CacheFlowPredictor.load(dataclasses.replace(config, rule='flow'))
    trained, count, seed = cached.trained, config.futures, config.seed
    contenders: dict[str, Contender] = {
        'cache_flow': CacheFlowContender(cached),
        'cache_flow_without_precompute': CacheFlowContender(uncached),
    }
    if rivals.beside is not None:
        weights, cache = rivals.beside
        other = CacheFlowPredictor.load(dataclasses.replace(config, weights=weights, cache=cache))
        contenders['beside'] = SampledContender(other)
    if rivals.latent_mixture is not None:
        mixture = load_latent_mixture(rivals.latent_mixture, trained)
        contenders['latent_gmm'] = LatentMixtureContender(cached, mixture, count, seed)
    if rivals.conditional_vae is not None:
        rival = load_conditional_vae(rivals.conditional_vae, cached.cache.z.device)
        shapes = [
            (item.joints, item.past, item.future, item.period_s, item.frame)
            for item in (rival.config, trained.module.config)
        ]
        _check_shape(rivals.conditional_vae, shapes[0] == shapes[1])
        contenders['cvae'] = ConditionalVAEContender(rival, trained.frame, count, seed)
    held_out = recordings.select(lambda clip: clip.split == 'val')
    if held_out.clips:
        for name, guess in _guesses(rivals, trained).items():
            contenders[name] = _gaussian(guess, trained, held_out, count, seed)
    return trained, contenders


def _guesses(rivals: Rivals, trained: TrainedCacheFlow) -> dict[str, Guess]:
    guesses = {'constant_velocity_gaussian': constant_velocity_guess()}
    if rivals.motion_deq:
        device = next(trained.module.parameters()).device
        motion_deq = load_motion_deq(rivals.motion_deq, device)
        same_clock = motion_deq.module.config.period_s == trained.module.config.period_s
        same_joints = motion_deq.joint_names == trained.joint_names
        same_past = motion_deq.module.config.past <= trained.module.config.past
        _check_shape(rivals.motion_deq, same_clock and same_joints and same_past)
        guesses = {'motion_deq_gaussian': motion_deq_guess(motion_deq)} | guesses
    return guesses


def _check_shape(source: Path | str, fits: bool) -> None:
    if not fits:
        raise CheckpointError(f'{source} has other joints, frames or horizons than CacheFlow')


def _gaussian(
    guess: Guess, trained: TrainedCacheFlow, held_out: Recordings, count: int, seed: int
) -> GaussianContender:
    config = trained.module.config
    windows = every_window(held_out, config.past + config.future, config.period_s, _EVERY_S)
    return GaussianContender(
        guess, trained.frame, windows.to(torch.float64).numpy(), config.past, count, seed
    )
