# SPDX-License-Identifier: Apache-2.0
"""Weights for expectations over cached futures, and how many of them really count.

Stage: density. Cached futures are draws already: their z are distributed as rho. What makes them
draws from q( . | c) is W ~ q(z | c) / rho(z). Normalising p(x | c) over the cache instead would
count the recorded frequency of a future twice, and give wrong probabilities.
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor


def importance_weights(
    log_q: Float[Tensor, 'batch cached'], log_rho: Float[Tensor, ' cached']
) -> Float[Tensor, 'batch cached']:
    """Return W, which sums to one over the cache.

    Args:
        log_q: Of each person at each cached z [nat].
        log_rho: Density of the cached z themselves [nat].
    """
    return (log_q - log_rho).softmax(dim=1)


def effective_sample_size(
    weights: Float[Tensor, 'batch cached'],
) -> Float[Tensor, ' batch']:
    """Return 1 / sum(W^2): from one (a single future decides) to the number cached."""
    return 1.0 / weights.square().sum(dim=1)


def resample(
    weights: Float[Tensor, 'batch cached'], uniform: Float[Tensor, ' batch'], count: int
) -> Int64[Tensor, 'batch future']:
    """Return cached indices whose frequencies are the weights, to within one (systematic).

    Args:
        uniform: One number in [0, 1) for each person.
    """
    steps = torch.arange(count, device=weights.device, dtype=torch.float64)
    marks = (steps + uniform[:, None].double()) / count
    index = torch.searchsorted(weights.double().cumsum(dim=1), marks)
    return index.clamp_max(weights.shape[1] - 1)
