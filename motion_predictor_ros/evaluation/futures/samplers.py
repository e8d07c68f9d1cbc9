# SPDX-License-Identifier: Apache-2.0
"""All models that draw futures of a person, behind one interface.

A sampler maps observations to samples in the same frame; those that have a density return it as
a mixture, over the base samples z or directly over the latents x. `load_samplers` loads those
that `evaluate stochastic` compares; a model without weights is left out.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from motion_predictor_ros.config import DensityConfig
from motion_predictor_ros.data.recordings import Recordings
from motion_predictor_ros.density.body_frame import BodyFrame, leave
from motion_predictor_ros.density.cache_flow.checkpoint import TrainedCacheFlow
from motion_predictor_ros.density.cache_flow.mixture import Mixture, ObservationMixture
from motion_predictor_ros.density.predictor import CacheFlowPredictor
from motion_predictor_ros.errors import CheckpointError
from motion_predictor_ros.evaluation.motion.mocap import predict_windows
from motion_predictor_ros.prediction.motion_deq.checkpoint import TrainedMotionDEQ
from motion_predictor_ros.resources import share_file
from motion_predictor_ros.scoring.metrics import Windows, constant_velocity
from motion_predictor_ros.training.baselines.futures import (
    ConditionalVAE,
    load_conditional_vae,
    load_latent_mixture,
)
from motion_predictor_ros.training.windows import every_window

_EVERY_S = 0.4
_COMPONENTS = 64
"""Principal components of a residual that are drawn; the rest is drawn as independent noise."""


@dataclass(frozen=True)
class SampledFutures:
    """Futures of a batch of people.

    Attributes:
        positions: [m], in the frame of the observation.
        density: Over z if `of_base`, else over x; None where only samples are known.
        latents: x of the samples, where the sampler has them.
        effective: Effective sample size over the cache.
        recentred: Whether they are to be moved towards MotionDEQ's prediction.
    """

    positions: Float64[np.ndarray, 'batch future horizon joint xyz=3']
    density: Mixture | None = None
    of_base: bool = False
    latents: Float[Tensor, 'batch future latent'] | None = None
    effective: Float[Tensor, ' batch'] | None = None
    recentred: bool = True


FutureSampler = Callable[[Windows], SampledFutures]
"""Draws many futures of each observed person."""


def cache_flow_sampler(predictor: CacheFlowPredictor) -> FutureSampler:
    """Draw from CacheFlow, with its cache or without, by the predictor's configuration."""

    def draw(observed: Windows) -> SampledFutures:
        positions, draws, effective = predictor.draw(observed)
        _, q = predictor.observe(_near(observed, predictor.trained.frame.root)[0])
        return SampledFutures(positions, q, True, draws.x, effective)

    return draw


def latent_mixture_sampler(
    base: CacheFlowPredictor, mixture: ObservationMixture, count: int, seed: int
) -> FutureSampler:
    """Draw from a mixture over x, decoded by CacheFlow's decoder."""
    generator = torch.Generator(base.cache.z.device).manual_seed(seed)
    frame, module = base.trained.frame, base.trained.module

    @torch.inference_mode()
    def draw(observed: Windows) -> SampledFutures:
        near, origin = _near(observed, frame.root)
        past, _ = base.observe(near)
        q = mixture(module.features(past))
        x = q.sample(count, generator)
        repeated = past.repeat_interleave(count, dim=0)
        poses = module.decode(x.flatten(0, 1), repeated).unflatten(0, x.shape[:2])
        return SampledFutures(_leave(frame, poses, near) + origin[:, None], q, False, x)

    return draw


def conditional_vae_sampler(
    model: ConditionalVAE, frame: BodyFrame, count: int, seed: int
) -> FutureSampler:
    """Draw from a conditional VAE."""
    generator = torch.Generator().manual_seed(seed)

    @torch.inference_mode()
    def draw(observed: Windows) -> SampledFutures:
        near, origin = _near(observed, frame.root)
        positions = torch.from_numpy(near).to(next(model.parameters()))
        past = frame.enter(positions, frame.place(positions[:, -1]))
        poses = model.sample(past, count, generator)
        return SampledFutures(_leave(frame, poses, near) + origin[:, None])

    return draw


PointPredictor = Callable[[Windows, int], Float64[np.ndarray, 'batch horizon joint xyz=3']]
"""Maps an observation and a number of frames to one future [m]."""


def gaussian_residual_sampler(
    predict: PointPredictor, frame: BodyFrame, held_out: Windows, past: int, count: int, seed: int
) -> FutureSampler:
    """Draw one prediction plus residuals as on held-out people, in the body frame.

    Args:
        held_out: Windows [m] for the distribution of residuals, `past` frames of each observed.
    """
    future, random = held_out.shape[1] - past, np.random.default_rng(seed)

    def axes(observed: Windows) -> Float64[np.ndarray, 'batch xyz=3 xyz=3']:
        return frame.place(torch.from_numpy(observed[:, -1])).rotation.double().numpy()

    known = held_out[:, :past]
    residual = (held_out[:, past:] - predict(known, future)) @ axes(known)[:, None]
    flat = residual.reshape(len(residual), -1)
    mean = flat.mean(0)
    _, spread, directions = np.linalg.svd(flat - mean, full_matrices=False)
    kept = min(_COMPONENTS, len(spread))
    scaled = (spread[:kept, None] / np.sqrt(len(flat))) * directions[:kept]
    rest = np.sqrt(((flat - mean).var(0) - np.square(scaled).sum(0)).clip(min=0.0))

    def draw(observed: Windows) -> SampledFutures:
        shape = (len(observed), count)
        noise = random.normal(size=(*shape, len(scaled))) @ scaled
        noise += rest * random.normal(size=(*shape, len(rest)))
        drawn = (mean + noise).reshape(*shape, future, observed.shape[2], 3)
        turned = drawn @ axes(observed)[:, None, None].swapaxes(-1, -2)
        return SampledFutures(predict(observed, future)[:, None] + turned, recentred=False)

    return draw


def motion_deq_prediction(trained: TrainedMotionDEQ) -> PointPredictor:
    """Return MotionDEQ, applied recursively where its horizon is too short."""
    past = trained.module.config.past

    def predict(
        observed: Windows, future: int
    ) -> Float64[np.ndarray, 'batch horizon joint xyz=3']:
        series = observed
        while series.shape[1] < observed.shape[1] + future:
            ahead, _ = predict_windows(trained, series[:, -past:])
            series = np.concatenate([series, ahead], axis=1)
        return series[:, observed.shape[1] : observed.shape[1] + future]

    return predict


def _near(observed: Windows, root: int) -> tuple[Windows, Float64[np.ndarray, 'batch 1 1 xyz=3']]:
    """Return people moved to the origin, and from where; height is kept."""
    origin = observed[:, -1:, root : root + 1] * np.array([1.0, 1.0, 0.0])
    return observed - origin, origin


def _leave(
    frame: BodyFrame, poses: Float[Tensor, 'batch future horizon posed xyz=3'], near: Windows
) -> Float64[np.ndarray, 'batch future horizon joint xyz=3']:
    """Map poses back to the frame of the observation."""
    placement = frame.place(torch.from_numpy(near[:, -1]).to(poses))
    flat = leave(frame, poses.flatten(1, 2), placement)
    return flat.unflatten(1, poses.shape[1:3]).double().cpu().numpy()


@dataclass(frozen=True)
class ComparedModels:
    """Weights of the models that CacheFlow is compared with.

    Attributes:
        motion_deq: Futures are moved towards its prediction.
    """

    latent_mixture: Path | None = None
    conditional_vae: Path | None = None
    motion_deq: TrainedMotionDEQ | None = None


def weights_of(given: str | None, name: str, shipped: bool) -> Path | None:
    """Return the weights of a compared model: those given, or the shipped ones; '' leaves it out.

    Args:
        shipped: Whether CacheFlow is the shipped one, beside which the shipped others were
            trained; for another one they have to be given.

    Raises:
        ConfigError: The shipped weights are missing.
    """
    if given is None:
        return share_file('weights', 'rivals', f'{name}.safetensors') if shipped else None
    return Path(given) if given else None


def load_samplers(
    config: DensityConfig, compared: ComparedModels, recordings: Recordings
) -> tuple[TrainedCacheFlow, dict[str, FutureSampler]]:
    """Return the CacheFlow under test and all samplers by name.

    Residuals of the Gaussian ones are those on split 'val'; without such clips they are left out.

    Raises:
        CheckpointError: Weights cannot be used, or have another skeleton.
    """
    cached = CacheFlowPredictor.load(config)
    uncached = CacheFlowPredictor.load(dataclasses.replace(config, rule='flow'))
    trained, count, seed = cached.trained, config.futures, config.seed
    model = trained.module.config
    samplers = {
        'cache_flow': cache_flow_sampler(cached),
        'cache_flow_without_precompute': cache_flow_sampler(uncached),
    }
    if compared.latent_mixture is not None:
        mixture = load_latent_mixture(compared.latent_mixture, trained)
        samplers['latent_gmm'] = latent_mixture_sampler(cached, mixture, count, seed)
    if compared.conditional_vae is not None:
        vae = load_conditional_vae(compared.conditional_vae, cached.cache.z.device)
        fields = ('joints', 'past', 'future', 'period_s')
        same = all(getattr(vae.config, name) == getattr(model, name) for name in fields)
        _check_shape(compared.conditional_vae, same)
        samplers['cvae'] = conditional_vae_sampler(vae, trained.frame, count, seed)
    points: dict[str, PointPredictor] = {'constant_velocity_gaussian': constant_velocity}
    if (motion_deq := compared.motion_deq) is not None:
        theirs = motion_deq.module.config
        same = motion_deq.joint_names == trained.joint_names and theirs.past <= model.past
        _check_shape(motion_deq.name, same and theirs.period_s == model.period_s)
        drawn = samplers['cache_flow']
        samplers['cache_flow_as_drawn'] = lambda observed: dataclasses.replace(
            drawn(observed), recentred=False
        )
        points['motion_deq_gaussian'] = motion_deq_prediction(motion_deq)
    held_out = recordings.select(lambda clip: clip.split == 'val')
    if held_out.clips:
        windows = every_window(held_out, model.past + model.future, model.period_s, _EVERY_S)
        for name, predict in points.items():
            samplers[name] = gaussian_residual_sampler(
                predict, trained.frame, windows.double().numpy(), model.past, count, seed
            )
    return trained, samplers


def _check_shape(source: Path | str, fits: bool) -> None:
    if not fits:
        raise CheckpointError(f'{source} has other joints, frames or horizons than CacheFlow')
