# SPDX-License-Identifier: Apache-2.0
"""Voxel probability: how likely a body part is in a voxel at any time of a window.

Stage: volume. P(v) = sum over futures of W 1[v touched by any capsule of the future]: each future
counts once, however long it stays. Conservative: radii are padded by half a voxel's diagonal, so
that a voxel that a capsule touches anywhere is never missed. A capsule marks an interval of each
column along z: in a compiled loop on the CPU, in torch on a GPU.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64, UInt64
from torch import Tensor

from motion_predictor_ros.runtime.jit import compiled, inlined
from motion_predictor_ros.volume.capsules import Bodies
from motion_predictor_ros.volume.grid import VoxelGrid

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
    ax, ay, az = (part[..., None, None] for part in starts.flatten(1, 2).unbind(2))
    bx, by, bz = (part[..., None, None] for part in ends.flatten(1, 2).unbind(2))
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


LANES = 8
"""Columns at a time; masks have so many more along y than the grid."""

SLACK = np.float32(0.01)
"""Added to radii, in voxels: far above float32's rounding, far below what matters."""

LEVEL = np.float32(1e-3)
"""Segments steeper than this, in voxels across, count as this much across."""

_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)


@compiled
def add_futures(
    starts: Float32[np.ndarray, 'future pose capsule 3'],
    ends: Float32[np.ndarray, 'future pose capsule 3'],
    radii: Float32[np.ndarray, 'future pose capsule'],
    weights: Float32[np.ndarray, ' future'],
    masks: UInt64[np.ndarray, 'word x y'],
    probability: Float32[np.ndarray, 'x y z'],
) -> None:
    """Add each future's weight once wherever any of its capsules is.

    Args:
        starts, ends, radii: In voxels from the first one's centre, radii padded.
        masks: Workspace, zero, along y `LANES` longer than the grid; a bit is a voxel.
        probability: Added to.
    """
    for future in range(len(weights)):
        low_x, high_x = masks.shape[1], -1
        low_y, high_y = masks.shape[2], -1
        for pose in range(starts.shape[1]):
            for capsule in range(starts.shape[2]):
                x0, x1, y0, y1 = _mark(
                    starts[future, pose, capsule],
                    ends[future, pose, capsule],
                    radii[future, pose, capsule],
                    masks,
                )
                low_x, high_x = min(low_x, x0), max(high_x, x1)
                low_y, high_y = min(low_y, y0), max(high_y, y1)
        _add(weights[future], masks, probability, low_x, high_x + 1, low_y, high_y + 1)


@inlined
def _mark(
    start: Float32[np.ndarray, 'xyz=3'],
    end: Float32[np.ndarray, 'xyz=3'],
    radius: float,
    masks: UInt64[np.ndarray, 'word x y'],
) -> tuple[int, int, int, int]:
    """Set the bits of one capsule; return the first and last columns touched, along x and y."""
    reach = radius + SLACK
    x0 = max(int(np.ceil(min(start[0], end[0]) - reach)), 0)
    x1 = min(int(np.floor(max(start[0], end[0]) + reach)), masks.shape[1] - 1)
    y0 = max(int(np.ceil(min(start[1], end[1]) - reach)), 0)
    y1 = min(int(np.floor(max(start[1], end[1]) + reach)), masks.shape[2] - LANES - 1)
    first = max(int(np.floor((min(start[2], end[2]) - reach) / 64)), 0)
    last = min(int(np.floor((max(start[2], end[2]) + reach) / 64)), masks.shape[0] - 1)
    if x1 < x0 or y1 < y0 or last < first:
        return masks.shape[1], -1, masks.shape[2], -1
    line = _line(start, end, reach)
    width = (y1 - y0 + LANES) // LANES * LANES
    for word in range(first, last + 1):
        for x in range(x0, x1 + 1):
            _mark_row(line, x, y0, np.float32(64 * word), masks[word, x, y0 : y0 + width])
    return x0, x1, y0, y1


@inlined
def _line(
    start: Float32[np.ndarray, 'xyz=3'], end: Float32[np.ndarray, 'xyz=3'], reach: float
) -> tuple[Any, ...]:
    """Return what all columns need of a capsule."""
    dx, dy, dz = end[0] - start[0], end[1] - start[1], end[2] - start[2]
    flat = np.sqrt(dx * dx + dy * dy)
    level = max(flat, LEVEL)
    length = np.sqrt(level * level + dz * dz)
    ex, ey = np.float32(1.0), np.float32(0.0)
    if flat > np.float32(0.0):
        ex, ey = dx / flat, dy / flat
    inverse = np.float32(1.0) / level
    return start[0], start[1], start[2], ex, ey, dz, level, inverse, dz / length, reach * reach


@inlined
def _mark_row(
    line: tuple[Any, ...], x: int, y0: int, lowest: float, row: UInt64[np.ndarray, ' y']
) -> None:
    """Set the bits of columns side by side, from voxel `lowest` to the 63rd above it.

    In the vertical plane of a column, at `along` the segment's projection and `across` it, the
    column enters and leaves a capsule of radius r over the points u of the segment:

        u = clip((along -+ sqrt(r^2 - across^2) sin(slope)) / level, 0, 1)
        z = az + u dz -+ sqrt(r^2 - across^2 - (along - u level)^2)
    """
    ax, ay, az, ex, ey, dz, level, inverse, slope, square = line
    one, zero = np.float32(1.0), np.float32(0.0)
    px = np.float32(x) - ax
    for lane in range(len(row)):
        py = np.float32(np.int32(y0 + lane)) - ay
        along, across = px * ex + py * ey, py * ex - px * ey
        rest = square - across * across
        root = np.sqrt(max(rest, zero)) * slope
        up = min(max((along + root) * inverse, zero), one)
        down = min(max((along - root) * inverse, zero), one)
        off_up, off_down = along - up * level, along - down * level
        left_up, left_down = rest - off_up * off_up, rest - off_down * off_down
        top = az + up * dz + np.sqrt(max(left_up, zero)) - lowest
        bottom = az + down * dz - np.sqrt(max(left_down, zero)) - lowest
        high = np.int32(np.floor(min(max(top, np.float32(-1.0)), np.float32(63.0))))
        low = np.int32(np.ceil(min(max(bottom, zero), np.float32(64.0))))
        bits = _ALL >> np.uint64(np.int32(63) - high & 63) & _ALL << np.uint64(low & 63)
        hit = (min(left_up, left_down) >= zero) & (high >= low)
        row[lane] |= bits if hit else np.uint64(0)


@inlined
def _add(
    weight: float,
    masks: UInt64[np.ndarray, 'word x y'],
    probability: Float32[np.ndarray, 'x y z'],
    x0: int,
    x1: int,
    y0: int,
    y1: int,
) -> None:
    """Add the weight where bits are set, and clear them."""
    height = probability.shape[2]
    for x in range(x0, x1):
        for y in range(y0, min(y1 + LANES, masks.shape[2])):
            for word in range(masks.shape[0]):
                bits = masks[word, x, y]
                if bits != 0:
                    masks[word, x, y] = np.uint64(0)
                    base = 64 * word
                    for z in range(min(64, height - base) if y < probability.shape[1] else 0):
                        bit = (bits >> np.uint64(z)) & np.uint64(1)
                        probability[x, y, base + z] += weight * np.float32(bit)


def cull_enclosed_capsules(
    starts: Float[np.ndarray, 'capsule xyz=3'],
    ends: Float[np.ndarray, 'capsule xyz=3'],
    radii: Float[np.ndarray, ' capsule'],
    margin: float,
) -> Int64[np.ndarray, ' outer']:
    """Return the capsules that lie in none of the others, thickest first.

    A capsule lies in a thicker one if both its ends are no farther from the other's segment than
    the radii differ.

    Args:
        margin: Those that come closer to the surface than this stay, in the unit of the places.
    """
    order = np.argsort(-radii, kind='stable')
    starts, ends, radii = starts[order], ends[order], radii[order]
    along = ends - starts
    length2 = np.maximum((along * along).sum(axis=1), 1e-12)
    slack = radii - radii[:, None] - margin  # of the inner capsule in the outer one
    enclosed = (slack >= 0.0) & np.tri(len(radii), k=-1, dtype=np.bool_)
    for points in (starts, ends):
        away = points[:, None] - starts
        part = np.clip((away * along).sum(axis=2) / length2, 0.0, 1.0)
        away -= part[..., None] * along
        enclosed &= (away * away).sum(axis=2) <= slack * slack
    return order[~enclosed.any(axis=1)]


_MAX_CULLED = 256
"""Among more capsules, comparing all pairs costs more than it saves."""

_MARGIN = 1e-2
"""In voxels; above float32's rounding, so that leaving capsules out changes no voxel."""


def voxel_probability(
    bodies: Bodies,
    grid: VoxelGrid,
    *,
    padding_m: float | None = None,
    device: torch.device | None = None,
) -> Float32[np.ndarray, 'x y z']:
    """Return P of every voxel of the grid.

    Args:
        padding_m: Added to radii; None: half a voxel's diagonal. Zero marks the voxels whose
            centre is inside, which measures volumes without bias and misses touched voxels.
        device: Where to compute; None: the CPU.
    """
    starts, ends, radii = in_voxels(bodies, grid, padding_m)
    weights = bodies.weights.astype(np.float32)
    if device is not None and device.type != 'cpu':
        a, b, r, w = (torch.from_numpy(part).to(device) for part in (starts, ends, radii, weights))
        return rasterise(a, b, r, w, grid.shape).cpu().numpy()
    probability = np.zeros(grid.shape, dtype=np.float32)
    add_futures(starts, ends, radii, weights, _masks(grid), probability)
    return probability


def covered(
    bodies: Bodies,
    grid: VoxelGrid,
    *,
    padding_m: float | None = None,
    device: torch.device | None = None,
) -> Bool[np.ndarray, 'x y z']:
    """Return which voxels any of the capsules touches, whatever the futures weigh."""
    starts, ends, radii = bodies.starts.reshape(-1, 3), bodies.ends.reshape(-1, 3), bodies.radii
    radii = radii.ravel()
    if len(radii) <= _MAX_CULLED:
        outer = cull_enclosed_capsules(starts, ends, radii, _MARGIN * grid.size_m)
        starts, ends, radii = starts[outer], ends[outer], radii[outer]
    single = Bodies(
        starts[None, None], ends[None, None], radii[None, None], np.ones(1), bodies.times_s[:1]
    )
    return voxel_probability(single, grid, padding_m=padding_m, device=device) > 0.0


def touched(body: Bodies, grid: VoxelGrid) -> Bool[np.ndarray, 'x y z']:
    """Return the voxels that a body touches; tested on voxels of half the size, never too few."""
    nx, ny, nz = grid.shape
    half = VoxelGrid(grid.origin, 0.5 * grid.size_m, (2 * nx, 2 * ny, 2 * nz))
    inside = covered(body, half).reshape(nx, 2, ny, 2, nz, 2)
    return np.asarray(inside.any(axis=(1, 3, 5)))


def _masks(grid: VoxelGrid) -> UInt64[np.ndarray, 'word x y']:
    nx, ny, nz = grid.shape
    return np.zeros((-(-nz // 64), nx, ny + LANES), dtype=np.uint64)


def in_voxels(
    bodies: Bodies, grid: VoxelGrid, padding_m: float | None
) -> tuple[
    Float32[np.ndarray, 'future pose capsule xyz=3'],
    Float32[np.ndarray, 'future pose capsule xyz=3'],
    Float32[np.ndarray, 'future pose capsule'],
]:
    """Return starts, ends and padded radii in voxels, from the centre of the first one."""
    padding = grid.padding_m if padding_m is None else padding_m
    first = np.array(grid.origin) + 0.5 * grid.size_m
    starts, ends = (
        ((places - first) / grid.size_m).astype(np.float32)
        for places in (bodies.starts, bodies.ends)
    )
    return starts, ends, ((bodies.radii + padding) / grid.size_m).astype(np.float32)
