# SPDX-License-Identifier: Apache-2.0
"""From poses to drawn futures and their densities.

Stage: density. On a GPU as functions of tensors alone: nothing in them makes the CPU wait for it,
and no shape depends on a number, so that CUDA graphs can be captured. On a CPU in float32 compiled
loops play what was drawn.
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
from motion_predictor_ros.density.cache_flow.cpu.model import FusedCacheFlow, placed
from motion_predictor_ros.density.cache_flow.mixture import Mixture, Noise
from motion_predictor_ros.density.sampling import Draws, cache_weights, cached_log_density, draw
from motion_predictor_ros.runtime.cuda_graph import Answer

Run = Callable[..., Answer]


@dataclass(frozen=True)
class SamplingOptions:
    """How futures are asked for.

    Attributes:
        rule: By which they are drawn.
        carried: Whether roots go as recorded, not as decoded.
        importance_samples: How many cached futures are.
    """

    rule: str
    carried: bool
    importance_samples: int


class Drawing:
    """A model and its cache, asked with tensors of people."""

    def __init__(
        self,
        trained: TrainedCacheFlow,
        cache: FutureCache,
        fused: FusedCacheFlow,
        replayed: Callable[[Run], Run] = lambda function: function,
    ) -> None:
        """Take over what is folded.

        Args:
            replayed: What makes graphs of a function, such as `Graphs`.
        """
        self._cache, self._fused, self._flow = cache, fused, trained.module.flow
        self._frame, self._period_s = trained.frame, trained.module.config.period_s
        self._observe: Run = replayed(self._observed)
        self._draw: Run = replayed(self._drawn)
        self._weigh: Run = replayed(self._weighed)
        self._weigh_cached: Run = replayed(self._weighed_cached)

    def observe(self, past: Float[Tensor, 'batch time posed xyz=3']) -> Mixture:
        """Return q(z | c) of observed poses [m]."""
        return Mixture(*self._observe(None, past))

    def draw(
        self,
        wish: SamplingOptions,
        past: Float[Tensor, 'batch time posed xyz=3'],
        placement: Placement[np.ndarray],
        q: Mixture,
        noise: Noise,
        phase: Float[Tensor, ' batch'],
    ) -> tuple[Float64[np.ndarray, 'batch future horizon value'], Draws, Float[Tensor, ' batch']]:
        """Return futures as flat joint positions [m], where they come from, and how many count.

        Args:
            phase: One number in [0, 1) for each person, for rule 'weighted'.
        """
        rotation = torch.from_numpy(placement.rotation).to(past)
        if self._fused.is_compiled:
            drawn, size, ways = self._sampled(wish, past, q, noise, phase)
            leaving = self._frame.leaving(rotation)
            return self._fused.decode(drawn.x, past, leaving, placement.origin, ways), drawn, size
        given = past, rotation, q.log_weights, q.means, q.log_sigmas
        found = self._draw(wish, *given, noise.uniform, noise.normal, phase)
        return placed(found[0], placement.origin), Draws(*found[1:5]), found[5]

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
        (found,) = self._weigh(None, past, poses, q.log_weights, q.means, q.log_sigmas)
        return found

    def cached_log_density(self, q: Mixture, count: int) -> Float[Tensor, 'batch cached']:
        """Return log p(x | c) of the first `count` cached futures (eq. 12) [nat]."""
        (found,) = self._weigh_cached(count, q.log_weights, q.means, q.log_sigmas)
        return found

    def _observed(self, way: None, past: Tensor) -> Answer:
        q = self._fused.observe(past)
        return q.log_weights, q.means, q.log_sigmas

    def _drawn(
        self,
        wish: SamplingOptions,
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
        drawn, size, ways = self._sampled(wish, past, q, noise, phase)
        about = self._fused.decode_local(drawn.x, past, self._frame.leaving(rotation), ways)
        return about, drawn.x, drawn.log_density, drawn.cached, drawn.distance, size

    def _sampled(
        self,
        wish: SamplingOptions,
        past: Float[Tensor, 'batch time posed xyz=3'],
        q: Mixture,
        noise: Noise,
        phase: Float[Tensor, ' batch'],
    ) -> tuple[Draws, Float[Tensor, ' batch'], Float[Tensor, 'batch future horizon xyz=3'] | None]:
        """Return draws, how many of the weighed count, and ways of the root; None: as decoded."""
        cache = self._cache
        weights, size = cache_weights(q, cache, wish.importance_samples)
        drawn = draw(wish.rule, q, cache, self._flow, weights, noise, phase)
        if cache.roots is None or not wish.carried:
            return drawn, size, None
        root = past[:, :, self._frame.root]
        velocity = (root[:, -1] - root[:, -2]) / self._period_s
        return drawn, size, cache.roots.displacement(drawn.cached, velocity, self._period_s)

    def _weighed(
        self,
        way: None,
        past: Tensor,
        poses: Tensor,
        log_weights: Tensor,
        means: Tensor,
        log_sigmas: Tensor,
    ) -> Answer:
        z, log_det = self._fused.pull(self._fused.latent(past, poses))
        q = Mixture(log_weights, means, log_sigmas)
        return (q.log_prob(z[:, None])[:, 0] + log_det,)

    def _weighed_cached(
        self, count: int, log_weights: Tensor, means: Tensor, log_sigmas: Tensor
    ) -> Answer:
        return (cached_log_density(Mixture(log_weights, means, log_sigmas), self._cache, count),)
