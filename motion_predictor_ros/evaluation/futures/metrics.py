# SPDX-License-Identifier: Apache-2.0
"""How good many samples of one future are, as the literature on many futures counts.

Poses are flat vectors of all coordinates of all joints [m], as in DLow (ECCV 2020) and after: the
distance of two poses is the norm of the whole vector, not a mean over joints.
    APD    mean distance of two samples, over all frames as one vector: how diverse they are
    ADE    minimum over samples of the mean over frames of the distance from the truth
    FDE    minimum over samples of the distance at the last frame
    MMADE, MMFDE   the same for every future of a similar start, mean over those futures
    CMD    how far the motion per frame is from that of the data, counted from every frame on
           (BeLFusion, ICCV 2023); here over one class, all windows
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def pairwise_diversity(
    samples: Float[Tensor, 'batch future horizon size'],
) -> Float[Tensor, ' batch']:
    """Return APD [m]."""
    flat = samples.flatten(2)
    count = flat.shape[1]
    distances = torch.cdist(flat, flat, compute_mode='donot_use_mm_for_euclid_dist')
    return distances.sum((1, 2)) / max(1, count * (count - 1))


def displacement_errors(
    samples: Float[Tensor, 'future horizon size'], truths: Float[Tensor, 'truth horizon size']
) -> tuple[Float[Tensor, ' truth'], Float[Tensor, ' truth']]:
    """Return ADE and FDE of one person's samples against each of several truths [m]."""
    average = [(samples - truth).norm(dim=2).mean(1).min() for truth in truths]
    final = torch.cdist(truths[:, -1], samples[:, -1]).min(dim=1).values
    return torch.stack(average), final


def similar_starts(
    last: Float[Tensor, 'batch size'], threshold_m: float
) -> Bool[Tensor, 'batch batch']:
    """Return which pairs of people have similar last observed poses, themselves included."""
    near = torch.cdist(last, last) < threshold_m
    return near | torch.eye(len(last), dtype=torch.bool, device=last.device)


def motion_per_frame(
    samples: Float[Tensor, '*batch horizon size'],
) -> Float[Tensor, '*batch step']:
    """Return the mean over joints of how far they move from frame to frame [m]."""
    steps = samples.diff(dim=-2).unflatten(-1, (-1, 3))
    return steps.norm(dim=-1).mean(-1)


def cumulative_motion_distance(
    sampled: Float[Tensor, ' step'], mean_true: Float[Tensor, '']
) -> Float[Tensor, '']:
    """Return CMD [m]: |M_t - M| summed over t up to every frame.

    Args:
        sampled: Mean motion of all samples at each frame [m].
        mean_true: Mean motion of the data over all frames [m].
    """
    return (sampled - mean_true).abs().cumsum(0).sum()


def kernel_log_density(
    samples: Float[Tensor, 'future dim'], points: Float[Tensor, 'point dim']
) -> Float[Tensor, ' point']:
    """Evaluate a Gaussian kernel density over samples [nat].

    Every dimension is scaled by its standard deviation; Scott's rule h = n^(-1 / (d + 4)).
    """
    count, dim = samples.shape
    width = samples.std(dim=0).clamp_min(1e-6) * count ** (-1.0 / (dim + 4))
    middle = samples.mean(dim=0)
    distances = torch.cdist((points - middle) / width, (samples - middle) / width)
    constant = width.log().sum() + 0.5 * dim * math.log(2 * math.pi) + math.log(count)
    return torch.logsumexp(-0.5 * distances.square(), dim=1) - constant
