# SPDX-License-Identifier: Apache-2.0
"""From poses to sampled futures and their densities.

Stage: density. Functions of tensors alone: on a GPU nothing in them makes the CPU wait, and no
shape depends on a number in a tensor, so that they can be captured as CUDA graphs.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from motion_predictor_ros.density.body_frame import Placement
from motion_predictor_ros.density.cache_flow.cache import FutureCache
from motion_predictor_ros.density.cache_flow.checkpoint import TrainedCacheFlow
from motion_predictor_ros.density.cache_flow.inference import FusedCacheFlow
from motion_predictor_ros.density.cache_flow.mixture import Mixture, Noise
from motion_predictor_ros.density.sampling import Draws, cache_weights, cached_log_density, draw
from motion_predictor_ros.runtime.cuda_graph import Answer

Run = Callable[..., Answer]


@dataclass(frozen=True)
class SamplingOptions:
    """How futures are sampled.

    Attributes:
        rule: 'nearest', 'weighted' or 'flow', see `sampling`.
        importance_samples: How many cached futures get importance weights.
    """

    rule: str
    importance_samples: int


class Drawing:
    """A model and its cache as functions of tensors, with people along the first axis."""

    def __init__(
        self,
        trained: TrainedCacheFlow,
        cache: FutureCache,
        fused: FusedCacheFlow,
        replayed: Callable[[Run], Run] = lambda function: function,
    ) -> None:
        """Wrap the functions.

        Args:
            replayed: Makes CUDA graphs of a function, such as `Graphs`.
        """
        self._cache, self._fused, self._flow = cache, fused, trained.module.flow
        self._frame = trained.frame
        self._observe: Run = replayed(self._observe_tensors)
        self._draw: Run = replayed(self._draw_tensors)
        self._log_density: Run = replayed(self._log_density_tensors)
        self._cached_log_density: Run = replayed(self._cached_log_density_tensors)

    def observe(self, past: Float[Tensor, 'batch time posed xyz=3']) -> Mixture:
        """Return q(z | c) of observed poses [m]."""
        return Mixture(*self._observe(None, past))

    def draw(
        self,
        options: SamplingOptions,
        past: Float[Tensor, 'batch time posed xyz=3'],
        placement: Placement[np.ndarray],
        q: Mixture,
        noise: Noise,
        phase: Float[Tensor, ' batch'],
    ) -> tuple[Float64[np.ndarray, 'batch future horizon value'], Draws, Float[Tensor, ' batch']]:
        """Sample futures.

        Args:
            phase: One number in [0, 1) per person, for rule 'weighted'.

        Returns:
            Flat joint positions in the room [m], their latents and densities, and the effective
            sample size of the importance weights.
        """
        rotation = torch.from_numpy(placement.rotation).to(past)
        mixture = q.log_weights, q.means, q.log_sigmas
        answer = self._draw(options, past, rotation, *mixture, noise.uniform, noise.normal, phase)
        return _translated(answer[0], placement.origin), Draws(*answer[1:5]), answer[5]

    def latent(
        self,
        past: Float[Tensor, 'batch time posed xyz=3'],
        poses: Float[Tensor, 'batch horizon posed xyz=3'],
    ) -> Float[Tensor, 'batch latent']:
        """Return x of futures."""
        return self._fused.latent(past, poses)

    def log_density(
        self,
        past: Float[Tensor, 'batch time posed xyz=3'],
        poses: Float[Tensor, 'batch horizon posed xyz=3'],
        q: Mixture,
    ) -> Float[Tensor, ' batch']:
        """Return log p(x | c) of arbitrary futures [nat]."""
        (density,) = self._log_density(None, past, poses, q.log_weights, q.means, q.log_sigmas)
        return density

    def cached_log_density(self, q: Mixture, count: int) -> Float[Tensor, 'batch cached']:
        """Return log p(x | c) of the first `count` cached futures (eq. 12) [nat]."""
        (density,) = self._cached_log_density(count, q.log_weights, q.means, q.log_sigmas)
        return density

    def _observe_tensors(self, key: None, past: Tensor) -> Answer:
        q = self._fused.observe(past)
        return q.log_weights, q.means, q.log_sigmas

    def _draw_tensors(
        self,
        options: SamplingOptions,
        past: Tensor,
        rotation: Tensor,
        log_weights: Tensor,
        means: Tensor,
        log_sigmas: Tensor,
        uniform: Tensor,
        normal: Tensor,
        phase: Tensor,
    ) -> Answer:
        q, noise = Mixture(log_weights, means, log_sigmas), Noise(uniform, normal)
        weights, sample_size = cache_weights(q, self._cache, options.importance_samples)
        draws = draw(options.rule, q, self._cache, self._flow, weights, noise, phase)
        positions = self._fused.decode_local(draws.x, past, self._frame.leaving(rotation))
        latents = draws.x, draws.log_density, draws.cached, draws.distance
        return positions, *latents, sample_size

    def _log_density_tensors(
        self,
        key: None,
        past: Tensor,
        poses: Tensor,
        log_weights: Tensor,
        means: Tensor,
        log_sigmas: Tensor,
    ) -> Answer:
        z, log_det = self._fused.pull(self._fused.latent(past, poses))
        q = Mixture(log_weights, means, log_sigmas)
        return (q.log_prob(z[:, None])[:, 0] + log_det,)

    def _cached_log_density_tensors(
        self, count: int, log_weights: Tensor, means: Tensor, log_sigmas: Tensor
    ) -> Answer:
        return (cached_log_density(Mixture(log_weights, means, log_sigmas), self._cache, count),)


def _translated(
    local: Float[Tensor, 'batch future horizon value'], origin: Float64[np.ndarray, 'batch xyz=3']
) -> Float64[np.ndarray, 'batch future horizon value']:
    """Add people's origins [m] to flat joint positions.

    In float64: in float32, positions 100 km from the room's origin have steps of 8 mm.
    """
    positions: Float64[np.ndarray, 'batch future horizon value'] = local.double().cpu().numpy()
    return positions + np.tile(origin, positions.shape[3] // 3)[:, None, None]
