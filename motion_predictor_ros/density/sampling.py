# SPDX-License-Identifier: Apache-2.0
"""Draw futures: from the cache by eq. 13, or through the flow without a cache.

Stage: density.
    nearest    the cached z nearest to each draw from q(z | c)                  [CacheFlow] eq. 13
    flow       draws from q pushed through f: the paper's "without precompute"
"""

from dataclasses import dataclass

from jaxtyping import Float, Int64
from torch import Tensor

from motion_predictor_ros.density.cache_flow.cache import FutureCache
from motion_predictor_ros.density.cache_flow.flow import Flow
from motion_predictor_ros.density.cache_flow.mixture import Mixture, Noise
from motion_predictor_ros.runtime.tensors import TensorBatch


def importance_weights(
    log_q: Float[Tensor, 'batch cached'], log_rho: Float[Tensor, ' cached']
) -> Float[Tensor, 'batch cached']:
    """Return W ~ q / rho, which sums to one over the cache.

    Args:
        log_q: log q(z | c) per person and cached z [nat].
        log_rho: Density of the cached z [nat].
    """
    return (log_q - log_rho).softmax(dim=1)


def effective_sample_size(weights: Float[Tensor, 'batch cached']) -> Float[Tensor, ' batch']:
    """Return 1 / sum(W^2), between one and the number of cached futures [-]."""
    return 1.0 / weights.square().sum(dim=1)


@dataclass(frozen=True)
class SamplingOptions:
    """How futures are sampled.

    Attributes:
        rule: 'nearest' or 'flow'.
        importance_samples: Number of cached futures that get importance weights.
    """

    rule: str
    importance_samples: int


@dataclass(frozen=True)
class Draws(TensorBatch):
    """Latents of drawn futures.

    Attributes:
        log_density: log p(x | c) [nat].
        cached: Row in the cache; for draws through the flow, of the nearest cached future.
        distance: From draws of q to the nearest cached z, median over draws.
    """

    x: Float[Tensor, 'batch future latent']
    log_density: Float[Tensor, 'batch future']
    cached: Int64[Tensor, 'batch future']
    distance: Float[Tensor, ' batch']


def draw(rule: str, q: Mixture, cache: FutureCache, flow: Flow, noise: Noise) -> Draws:
    """Draw equally probable futures of each person.

    Args:
        noise: Random numbers; their shape sets the number of futures.
    """
    z = q.draw(noise)
    distance, nearest = cache.neighbours.nearest(z.flatten(0, 1))
    index, distances = nearest.unflatten(0, z.shape[:2]), distance.unflatten(0, z.shape[:2])
    if rule == 'flow':
        x, log_volume = flow.push_with_volume(z.flatten(0, 1))
        log_density = q.log_prob(z) - log_volume.unflatten(0, z.shape[:2])
        x = x.unflatten(0, z.shape[:2])
    else:
        x, log_density = cache.x[index], q.log_prob(cache.z[index]) + cache.log_det[index]
    return Draws(x, log_density, index, distances.median(dim=1).values)


def cache_sample_size(
    q: Mixture, cache: FutureCache, importance_samples: int
) -> Float[Tensor, ' batch']:
    """Return the effective sample size of W over the first `importance_samples` cached futures.

    Cached futures are in random order, so the first ones are a random subset.
    """
    log_q = q.log_prob_shared(cache.powers, importance_samples)
    return effective_sample_size(importance_weights(log_q, cache.log_rho[:importance_samples]))


def cached_log_density(
    q: Mixture, cache: FutureCache, count: int
) -> Float[Tensor, 'batch cached']:
    """Return log p(x | c) of the first `count` cached futures (eq. 12) [nat]."""
    return q.log_prob_shared(cache.powers, count).add_(cache.log_det[:count])
