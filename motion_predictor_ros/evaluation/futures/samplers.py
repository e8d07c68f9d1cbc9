# SPDX-License-Identifier: Apache-2.0
"""A common interface of all models that draw futures of a person.

A sampler gets an observation, and returns samples in the same frame; those that have a density
return it as a mixture, over the base samples z or directly over the latents x. `load_samplers`
loads those that `evaluate stochastic` compares; a model without weights is left out.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

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
from motion_predictor_ros.prediction.motion_deq.checkpoint import TrainedMotionDEQ, load_motion_deq
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
    """A sampler's answer for a batch of people.

    Attributes:
        positions: [m], in the frame of the observation.
        density: Over z if `of_base`, else over x; None where only samples are known.
        latents: x of the samples, where the sampler has them.
        effective: Effective sample size over the cache.
    """

    positions: Float64[np.ndarray, 'batch future horizon joint xyz=3']
    density: Mixture | None = None
    of_base: bool = False
    latents: Float[Tensor, 'batch future latent'] | None = None
    effective: Float[Tensor, ' batch'] | None = None


@runtime_checkable
class FutureSampler(Protocol):
    """Draws many futures."""

    def draw(self, observed: Windows) -> SampledFutures:
        """Draw futures of all people."""


class CacheFlowSampler:
    """CacheFlow, with its cache or without, by the predictor's configuration."""

    def __init__(self, predictor: CacheFlowPredictor) -> None:
        self.predictor = predictor

    def draw(self, observed: Windows) -> SampledFutures:
        """Draw futures of all people."""
        positions, draws, effective = self.predictor.draw(observed)
        _, q = self.predictor.observe(_near(observed, self.predictor.trained.frame.root)[0])
        return SampledFutures(positions, q, True, draws.x, effective)


class OtherCacheFlowSampler:
    """Another CacheFlow, scored by its samples: its latents are not those under test."""

    def __init__(self, predictor: CacheFlowPredictor) -> None:
        self._predictor = predictor

    def draw(self, observed: Windows) -> SampledFutures:
        """Draw futures of all people."""
        return SampledFutures(self._predictor.draw(observed)[0])


class LatentMixtureSampler:
    """Draws from a mixture over x, decoded by CacheFlow's decoder."""

    def __init__(
        self, base: CacheFlowPredictor, mixture: ObservationMixture, count: int, seed: int
    ) -> None:
        self._base, self._mixture, self._count = base, mixture, count
        self._generator = torch.Generator(base.cache.z.device).manual_seed(seed)

    @torch.inference_mode()
    def draw(self, observed: Windows) -> SampledFutures:
        """Draw futures of all people."""
        frame, module = self._base.trained.frame, self._base.trained.module
        near, origin = _near(observed, frame.root)
        past, _ = self._base.observe(near)
        q = self._mixture(module.features(past))
        x = q.sample(self._count, self._generator)
        repeated = past.repeat_interleave(self._count, dim=0)
        poses = module.decode(x.flatten(0, 1), repeated).unflatten(0, x.shape[:2])
        return SampledFutures(_leave(frame, poses, near) + origin[:, None], q, False, x)


class ConditionalVAESampler:
    """A conditional VAE."""

    def __init__(self, model: ConditionalVAE, frame: BodyFrame, count: int, seed: int) -> None:
        self._model, self._frame, self._count = model, frame, count
        self._generator = torch.Generator().manual_seed(seed)

    @torch.inference_mode()
    def draw(self, observed: Windows) -> SampledFutures:
        """Draw futures of all people."""
        near, origin = _near(observed, self._frame.root)
        positions = torch.from_numpy(near).to(next(self._model.parameters()))
        past = self._frame.enter(positions, self._frame.place(positions[:, -1]))
        poses = self._model.sample(past, self._count, self._generator)
        return SampledFutures(_leave(self._frame, poses, near) + origin[:, None])


PointPredictor = Callable[[Windows, int], Float64[np.ndarray, 'batch horizon joint xyz=3']]
"""Maps an observation and a number of frames to one future [m]."""


class GaussianResidualSampler:
    """One prediction, plus residuals drawn as on validation people, in the body frame.

    Args:
        held_out: Windows [m] for the distribution of residuals.
    """

    def __init__(
        self,
        predict: PointPredictor,
        frame: BodyFrame,
        held_out: Float64[np.ndarray, 'window time joint xyz=3'],
        past: int,
        count: int,
        seed: int,
    ) -> None:
        self._predict, self._frame, self._count = predict, frame, count
        self._future = held_out.shape[1] - past
        self._random = np.random.default_rng(seed)
        observed = held_out[:, :past]
        axes = self._axes(observed)
        residual = (held_out[:, past:] - predict(observed, self._future)) @ axes[:, None]
        flat = residual.reshape(len(residual), -1)
        self._mean = flat.mean(0)
        _, spread, directions = np.linalg.svd(flat - self._mean, full_matrices=False)
        kept = min(_COMPONENTS, len(spread))
        self._scaled = (spread[:kept, None] / np.sqrt(len(flat))) * directions[:kept]
        rest = (flat - self._mean).var(0) - np.square(self._scaled).sum(0)
        self._rest = np.sqrt(rest.clip(min=0.0))

    def draw(self, observed: Windows) -> SampledFutures:
        """Draw futures of all people."""
        people, joints = len(observed), observed.shape[2]
        shape = (people, self._count)
        noise = self._random.normal(size=(*shape, len(self._scaled))) @ self._scaled
        noise += self._rest * self._random.normal(size=(*shape, len(self._rest)))
        residual = (self._mean + noise).reshape(*shape, self._future, joints, 3)
        turned = residual @ self._axes(observed)[:, None, None].swapaxes(-1, -2)
        return SampledFutures(self._predict(observed, self._future)[:, None] + turned)

    def _axes(self, observed: Windows) -> Float64[np.ndarray, 'batch xyz=3 xyz=3']:
        return self._frame.place(torch.from_numpy(observed[:, -1])).rotation.double().numpy()


def motion_deq_prediction(trained: TrainedMotionDEQ) -> PointPredictor:
    """Return MotionDEQ, applied recursively where its horizon is too short."""
    past = trained.module.config.past

    def predict(
        observed: Windows, future: int
    ) -> Float64[np.ndarray, 'batch horizon joint xyz=3']:
        series = observed
        while series.shape[1] < observed.shape[1] + future:
            series = np.concatenate(
                [series, predict_windows(trained, series[:, -past:])[0]], axis=1
            )
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
        motion_deq: Shipped name or path; empty leaves it out.
        beside: Weights and cache of another CacheFlow.
    """

    latent_mixture: Path | None = None
    conditional_vae: Path | None = None
    motion_deq: str = ''
    beside: tuple[str, str] | None = None


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
    samplers: dict[str, FutureSampler] = {
        'cache_flow': CacheFlowSampler(cached),
        'cache_flow_without_precompute': CacheFlowSampler(uncached),
    }
    if compared.beside is not None:
        weights, cache = compared.beside
        other = CacheFlowPredictor.load(dataclasses.replace(config, weights=weights, cache=cache))
        samplers['beside'] = OtherCacheFlowSampler(other)
    if compared.latent_mixture is not None:
        mixture = load_latent_mixture(compared.latent_mixture, trained)
        samplers['latent_gmm'] = LatentMixtureSampler(cached, mixture, count, seed)
    if compared.conditional_vae is not None:
        vae = load_conditional_vae(compared.conditional_vae, cached.cache.z.device)
        shapes = [
            (item.joints, item.past, item.future, item.period_s, item.frame)
            for item in (vae.config, trained.module.config)
        ]
        _check_shape(compared.conditional_vae, shapes[0] == shapes[1])
        samplers['cvae'] = ConditionalVAESampler(vae, trained.frame, count, seed)
    held_out = recordings.select(lambda clip: clip.split == 'val')
    if held_out.clips:
        for name, predict in _point_predictors(compared, trained).items():
            samplers[name] = _gaussian(predict, trained, held_out, count, seed)
    return trained, samplers


def _point_predictors(
    compared: ComparedModels, trained: TrainedCacheFlow
) -> dict[str, PointPredictor]:
    predictors: dict[str, PointPredictor] = {'constant_velocity_gaussian': constant_velocity}
    if compared.motion_deq:
        device = next(trained.module.parameters()).device
        motion_deq = load_motion_deq(compared.motion_deq, device)
        same_clock = motion_deq.module.config.period_s == trained.module.config.period_s
        same_joints = motion_deq.joint_names == trained.joint_names
        same_past = motion_deq.module.config.past <= trained.module.config.past
        _check_shape(compared.motion_deq, same_clock and same_joints and same_past)
        predictors = {'motion_deq_gaussian': motion_deq_prediction(motion_deq)} | predictors
    return predictors


def _check_shape(source: Path | str, fits: bool) -> None:
    if not fits:
        raise CheckpointError(f'{source} has other joints, frames or horizons than CacheFlow')


def _gaussian(
    predict: PointPredictor, trained: TrainedCacheFlow, held_out: Recordings, count: int, seed: int
) -> GaussianResidualSampler:
    config = trained.module.config
    windows = every_window(held_out, config.past + config.future, config.period_s, _EVERY_S)
    return GaussianResidualSampler(
        predict, trained.frame, windows.to(torch.float64).numpy(), config.past, count, seed
    )
