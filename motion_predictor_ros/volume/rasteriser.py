# SPDX-License-Identifier: Apache-2.0
"""The rasteriser in torch, for GPUs: what `columns.py` does, operation by operation.

Stage: volume. Nothing is contracted or reordered, so that both set the same bits. Futures are
taken a few at a time, so that memory stays bounded.
"""

import torch
from jaxtyping import Bool, Float, Float32
from torch import Tensor

from motion_predictor_ros.volume.columns import LEVEL, SLACK

_AT_ONCE = 2**27
"""Most intervals in memory at once."""


def rasterise(
    starts: Float32[Tensor, 'future pose capsule xyz=3'],
    ends: Float32[Tensor, 'future pose capsule xyz=3'],
    radii: Float32[Tensor, 'future pose capsule'],
    weights: Float32[Tensor, ' future'],
    shape: tuple[int, int, int],
    at_once: int = _AT_ONCE,
) -> Float32[Tensor, 'x y z']:
    """Add each future's weight once wherever any of its capsules is.

    Args:
        starts, ends, radii: In voxels from the first one's centre, radii padded.
        at_once: Intervals of columns in memory at once.
    """
    nx, ny, nz = shape
    x, y = torch.arange(nx).to(starts), torch.arange(ny).to(starts)
    probability = starts.new_zeros(shape)
    per_future = max(radii[0].numel(), 1) * nx * ny
    for part in torch.arange(len(weights)).split(max(1, at_once // per_future)):
        index = part.to(starts.device)
        low, high = _intervals(starts[index], ends[index], radii[index], x, y, nz)
        inside = _union(low, high, nz)
        probability += (weights[index, None, None, None] * inside).sum(0)
    return probability


def _intervals(
    starts: Float[Tensor, 'future pose capsule xyz=3'],
    ends: Float[Tensor, 'future pose capsule xyz=3'],
    radii: Float[Tensor, 'future pose capsule'],
    x: Float[Tensor, ' x'],
    y: Float[Tensor, ' y'],
    height: int,
) -> tuple[Tensor, Tensor]:
    """Return the lowest and highest voxel of each column in each capsule; high < low: none."""
    ax, ay, az = (each[..., None, None] for each in starts.flatten(1, 2).unbind(2))
    bx, by, bz = (each[..., None, None] for each in ends.flatten(1, 2).unbind(2))
    reach = radii.flatten(1)[..., None, None] + float(SLACK)
    dx, dy, dz = bx - ax, by - ay, bz - az
    flat = (dx * dx + dy * dy).sqrt()
    level = flat.clamp_min(float(LEVEL))
    length = (level * level + dz * dz).sqrt()
    upright = flat == 0.0
    ex = torch.where(upright, torch.ones_like(flat), dx / flat)
    ey = torch.where(upright, torch.zeros_like(flat), dy / flat)
    steep, inverse = dz / length, 1.0 / level
    px, py = x[:, None] - ax, y - ay
    along, across = px * ex + py * ey, py * ex - px * ey
    rest = reach * reach - across * across
    root = rest.clamp_min(0.0).sqrt() * steep
    up = ((along + root) * inverse).clamp(0.0, 1.0)
    down = ((along - root) * inverse).clamp(0.0, 1.0)
    off_up, off_down = along - up * level, along - down * level
    left_up, left_down = rest - off_up * off_up, rest - off_down * off_down
    top = az + up * dz + left_up.clamp_min(0.0).sqrt()
    bottom = az + down * dz - left_down.clamp_min(0.0).sqrt()
    high = top.clamp(-1.0, float(height)).floor().int()
    low = bottom.clamp(-1.0, float(height)).ceil().int()
    missed = torch.minimum(left_up, left_down) < 0.0
    return low, torch.where(missed, -2, high)


def _union(low: Tensor, high: Tensor, height: int) -> Bool[Tensor, 'future x y z']:
    """Return which voxels lie in any of the intervals, one level at a time."""
    levels = [((low <= z) & (high >= z)).any(dim=1) for z in range(height)]
    return torch.stack(levels, dim=-1)
