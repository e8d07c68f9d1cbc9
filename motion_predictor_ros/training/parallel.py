# SPDX-License-Identifier: Apache-2.0
"""Data-parallel training under torchrun; without it, one process that does everything.

Every process draws the whole seeded batch and trains on every world-th window of it. What is
drawn or counted per batch is agreed on, gradients are averaged once per step, and the first
process alone validates and writes. So N processes give the result of one, to rounding.
"""

import atexit
import os
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch import distributed as dist

from motion_predictor_ros.checkpoint import choose_device
from motion_predictor_ros.errors import ConfigError


def init_process_group(name: str) -> torch.device:
    """Initialise the process group if torchrun started this process; return its device.

    Args:
        name: 'auto', 'cpu' or 'cuda:N'. Under torchrun the GPU's number is that of the process.

    Raises:
        ConfigError: There is no such device.
    """
    if not dist.is_torchelastic_launched():
        return choose_device(name)
    device = choose_device(name)
    if device.type == 'cuda':
        device = choose_device(f'cuda:{os.environ["LOCAL_RANK"]}')
        torch.cuda.set_device(device)
    dist.init_process_group('cpu:gloo,cuda:nccl' if device.type == 'cuda' else 'gloo')
    atexit.register(dist.destroy_process_group)
    return device


def world() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Return this process's number, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def is_first() -> bool:
    """Check whether this process validates and writes."""
    return rank() == 0


def shard(batch: int) -> slice:
    """Return the windows of a whole batch that this process trains on.

    Raises:
        ConfigError: The processes would get unequal shares.
    """
    if batch % world():
        raise ConfigError(
            f'a batch of {batch} windows does not divide by {world()} processes: change '
            'schedule.batch of the recipe, or --nproc-per-node of torchrun'
        )
    return slice(rank(), None, world())


def shard_size(count: int) -> int:
    """Return how many of the first `count` windows of the whole batch this process has."""
    return len(range(rank(), count, world()))


def average_gradients(module: nn.Module) -> None:
    """Replace each gradient by its mean over the processes."""
    if world() == 1:
        return
    gradients = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    parts = (flat / world()).split([item.numel() for item in gradients])
    for part, mean in zip(gradients, parts, strict=True):
        part.copy_(mean.view_as(part))


def average(losses: Mapping[str, float]) -> dict[str, float]:
    """Return the mean of each loss over the processes."""
    if world() == 1:
        return dict(losses)
    total = torch.tensor(list(losses.values()), dtype=torch.float64)
    dist.all_reduce(total)
    return dict(zip(losses, (total / world()).tolist(), strict=True))


def all_gather(values: Float[Tensor, ' batch']) -> Float[Tensor, ' whole']:
    """Return the values of the whole batch, process by process."""
    if world() == 1:
        return values
    parts = [torch.empty_like(values) for _ in range(world())]
    dist.all_gather(parts, values.contiguous())
    return torch.cat(parts)


def largest(number: int) -> int:
    """Return the largest number that any process names."""
    if world() == 1:
        return number
    largest_number = torch.tensor(number)
    dist.all_reduce(largest_number, dist.ReduceOp.MAX)
    return int(largest_number)


def broadcast_from_rank0(decision: bool) -> bool:
    """Return the first process's decision."""
    if world() == 1:
        return decision
    flag = torch.tensor(decision)
    dist.broadcast(flag, 0)
    return bool(flag)
