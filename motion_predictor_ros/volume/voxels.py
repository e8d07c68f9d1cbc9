# SPDX-License-Identifier: Apache-2.0
"""Voxel probability: how likely a body part is in a voxel at any time of a window.

Stage: volume. P(v) = sum over futures of W 1[v touched by any capsule of the future]: each future
counts once, however long it stays. Conservative: radii are padded by half a voxel's diagonal, so
that a voxel that a capsule touches anywhere is never missed. The CPU has a compiled rasteriser
(`columns.py`); where the device is a GPU, the same arithmetic runs in torch (`rasteriser.py`).
"""

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, Int64, UInt64
from torch import Tensor

from motion_predictor_ros.runtime.jit import compiled
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


LANES = 8
"""Columns at a time; masks have so many more along y than the grid, less one is not enough."""

SLACK = np.float32(0.01)
"""Added to radii, in voxels: far above float32's rounding, far below what matters."""

LEVEL = np.float32(1e-3)
"""Segments steeper than this, in voxels across, count as this much across."""

MOST, NOWHERE = np.float32(1e6), np.int32(-2000000)
"""Voxels along z beyond which none is looked for."""

NARROW = 24
"""Capsules that stand over fewer columns than this along y are done in their whole box."""

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
        masks: Room to work in, zero, along y `LANES` longer than the grid.
        probability: Added to.
    """
    lows, highs = np.empty(masks.shape[2], np.int32), np.empty(masks.shape[2], np.int32)
    for future in range(len(weights)):
        low_x, high_x = masks.shape[1], -1
        low_y, high_y = masks.shape[2], -1
        for pose in range(starts.shape[1]):
            for capsule in range(starts.shape[2]):
                box = _mark(
                    starts[future, pose, capsule],
                    ends[future, pose, capsule],
                    radii[future, pose, capsule],
                    masks,
                    lows,
                    highs,
                )
                low_x, high_x = min(low_x, box[0]), max(high_x, box[1])
                low_y, high_y = min(low_y, box[2]), max(high_y, box[3])
        _add(weights[future], masks, probability, low_x, high_x + 1, low_y, high_y + 1)
        masks[:, low_x : high_x + 1, low_y : high_y + 1 + LANES] = 0


@compiled
def cover(
    starts: Float32[np.ndarray, 'capsule 3'],
    ends: Float32[np.ndarray, 'capsule 3'],
    radii: Float32[np.ndarray, ' capsule'],
    masks: UInt64[np.ndarray, 'word x y'],
    inside: Bool[np.ndarray, 'x y z'],
) -> None:
    """Set every voxel that any of the capsules touches; arguments as in `add_futures`."""
    lows, highs = np.empty(masks.shape[2], np.int32), np.empty(masks.shape[2], np.int32)
    for capsule in range(len(radii)):
        _mark(starts[capsule], ends[capsule], radii[capsule], masks, lows, highs)
    for x in range(inside.shape[0]):
        for y in range(inside.shape[1]):
            for word in range(masks.shape[0]):
                bits = masks[word, x, y]
                if bits != 0:
                    base = 64 * word
                    for z in range(min(64, inside.shape[2] - base)):
                        inside[x, y, base + z] = (bits >> np.uint64(z)) & np.uint64(1) != 0


@compiled
def _mark(start, end, radius, masks, lows, highs):  # type: ignore[no-untyped-def]
    """Set the bits of one capsule; return the first and last columns touched."""
    reach = radius + SLACK
    x0 = max(int(np.ceil(min(start[0], end[0]) - reach)), 0)
    x1 = min(int(np.floor(max(start[0], end[0]) + reach)), masks.shape[1] - 1)
    y0 = max(int(np.ceil(min(start[1], end[1]) - reach)), 0)
    y1 = min(int(np.floor(max(start[1], end[1]) + reach)), masks.shape[2] - LANES)
    first = max(int(np.floor((min(start[2], end[2]) - reach) / 64)), 0)
    last = min(int(np.floor((max(start[2], end[2]) + reach) / 64)), masks.shape[0] - 1)
    if x1 < x0 or y1 < y0 or last < first:
        return masks.shape[1], -1, masks.shape[2], -1
    line = _line(start, end, reach)
    left, right, narrow = y0, y1, y1 - y0 < NARROW
    for x in range(x0, x1 + 1):
        if not narrow:
            left, right = _across(start, end, reach, x, y0, y1)
        if right < left:
            continue
        width = (right - left + LANES) // LANES * LANES
        lanes, px = slice(left, left + width), np.float32(x) - line[0]
        if first == last:
            _one_word(line, px, left, masks[first, x, lanes], np.int32(64 * first))
        else:
            _many_words(line, px, left, lows[:width], highs[:width])
            for word in range(first, last + 1):
                _set(masks[word, x, lanes], lows, highs, np.int32(64 * word))
    return x0, x1, y0, y1


@compiled
def _line(start, end, reach):  # type: ignore[no-untyped-def]
    """Return what all columns ask of a capsule."""
    ax, ay, az = start[0], start[1], start[2]
    dx, dy, dz = end[0] - ax, end[1] - ay, end[2] - az
    flat = np.sqrt(dx * dx + dy * dy)
    level = max(flat, LEVEL)
    length = np.sqrt(level * level + dz * dz)
    if flat > np.float32(0.0):
        ex, ey = dx / flat, dy / flat
    else:
        ex, ey = np.float32(1.0), np.float32(0.0)
    return ax, ay, az, ex, ey, dz, level, np.float32(1.0) / level, dz / length, reach * reach


@compiled
def _across(start, end, reach, x, y0, y1):  # type: ignore[no-untyped-def]
    """Return the first and last y, from y0 to y1, at which the capsule stands over x."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    level = max(abs(dx), LEVEL)
    along = (np.float32(x) - start[0]) * (np.float32(1.0) if dx >= 0 else np.float32(-1.0))
    root = reach * dy / np.sqrt(level * level + dy * dy)
    far = min(max((along + root) / level, np.float32(0.0)), np.float32(1.0))
    near = min(max((along - root) / level, np.float32(0.0)), np.float32(1.0))
    off_far, off_near = along - far * level, along - near * level
    rise = np.sqrt(max(reach * reach - off_far * off_far, np.float32(0.0)))
    fall = np.sqrt(max(reach * reach - off_near * off_near, np.float32(0.0)))
    lowest, highest = start[1] + near * dy - fall, start[1] + far * dy + rise
    return max(int(np.ceil(lowest - SLACK)), y0), min(int(np.floor(highest + SLACK)), y1)


@compiled
def _one_word(line, px, y0, row, base):  # type: ignore[no-untyped-def]
    """Set the bits of columns side by side that lie within one word."""
    lowest, last, end = np.float32(base), np.float32(63.0), np.float32(64.0)
    for lane in range(len(row)):
        bottom, top, left = _ends(line, px, np.float32(np.int32(y0 + lane)))
        high = np.int32(np.floor(min(max(top - lowest, np.float32(-1.0)), last)))
        low = np.int32(np.ceil(min(max(bottom - lowest, np.float32(0.0)), end)))
        hit, bits = (left >= np.float32(0.0)) & (high >= low), _bits(low, high)
        row[lane] |= bits if hit else np.uint64(0)


@compiled
def _many_words(line, px, y0, lows, highs):  # type: ignore[no-untyped-def]
    """Find the lowest and highest voxel of columns side by side; high < low: none."""
    for lane in range(len(lows)):
        bottom, top, left = _ends(line, px, np.float32(np.int32(y0 + lane)))
        lows[lane] = np.int32(np.ceil(min(max(bottom, -MOST), MOST)))
        highs[lane] = np.int32(np.floor(min(max(top, -MOST), MOST))) if left >= 0 else NOWHERE


@compiled
def _set(row, lows, highs, base):  # type: ignore[no-untyped-def]
    """Set the bits of one word of columns that go through several."""
    for lane in range(len(row)):
        low, high = max(lows[lane] - base, np.int32(0)), min(highs[lane] - base, np.int32(63))
        row[lane] |= _bits(low, high) if high >= low else np.uint64(0)


@compiled
def _ends(line, px, y):  # type: ignore[no-untyped-def]
    """Return where a column enters and leaves the capsule, and below zero if it does not."""
    _, ay, az, ex, ey, dz, level, inverse, steep, square = line
    one, zero = np.float32(1.0), np.float32(0.0)
    py = y - ay
    along, across = px * ex + py * ey, py * ex - px * ey
    rest = square - across * across
    root = np.sqrt(max(rest, zero)) * steep
    up = min(max((along + root) * inverse, zero), one)
    down = min(max((along - root) * inverse, zero), one)
    off_up, off_down = along - up * level, along - down * level
    left_up, left_down = rest - off_up * off_up, rest - off_down * off_down
    top = az + up * dz + np.sqrt(max(left_up, zero))
    bottom = az + down * dz - np.sqrt(max(left_down, zero))
    return bottom, top, min(left_up, left_down)


@compiled
def _bits(low, high):  # type: ignore[no-untyped-def]
    """Return a word with the bits from low to high set."""
    return _ALL >> np.uint64(np.int32(63) - high & 63) & _ALL << np.uint64(low & 63)


@compiled
def _add(weight, masks, probability, x0, x1, y0, y1):  # type: ignore[no-untyped-def]
    """Add the weight where bits are set."""
    height = probability.shape[2]
    y1 = min(y1, probability.shape[1])
    for x in range(x0, x1):
        for y in range(y0, y1):
            for word in range(masks.shape[0]):
                bits = masks[word, x, y]
                if bits != 0:
                    base = 64 * word
                    for z in range(min(64, height - base)):
                        bit = (bits >> np.uint64(z)) & np.uint64(1)
                        probability[x, y, base + z] += weight * np.float32(bit)


def cull_enclosed_capsules(
    starts: Float32[np.ndarray, 'capsule xyz=3'],
    ends: Float32[np.ndarray, 'capsule xyz=3'],
    radii: Float32[np.ndarray, ' capsule'],
    margin: float,
) -> Int64[np.ndarray, ' outer']:
    """Return the capsules that lie in none of those returned before them, thickest first.

    Args:
        margin: Those that come closer to the surface than this stay, in the unit of the places.
    """
    return _cull_enclosed_capsules(starts, ends, radii, np.argsort(-radii, kind='stable'), margin)


@compiled
def _cull_enclosed_capsules(
    starts: Float32[np.ndarray, 'capsule xyz=3'],
    ends: Float32[np.ndarray, 'capsule xyz=3'],
    radii: Float32[np.ndarray, ' capsule'],
    order: Int64[np.ndarray, ' capsule'],
    margin: float,
) -> Int64[np.ndarray, ' outer']:
    kept, count = np.empty(len(radii), np.int64), 0
    for index in order:
        hidden = False
        for place in range(count):
            other = kept[place]
            left = radii[other] - radii[index] - margin
            if (
                left >= 0.0
                and _distance2(starts[index], starts[other], ends[other]) <= left * left
                and _distance2(ends[index], starts[other], ends[other]) <= left * left
            ):
                hidden = True
                break
        if not hidden:
            kept[count] = index
            count += 1
    return kept[:count]


@compiled
def _distance2(point, start, end):  # type: ignore[no-untyped-def]
    """Return the squared distance of a point from a segment."""
    dx, dy, dz = end[0] - start[0], end[1] - start[1], end[2] - start[2]
    px, py, pz = point[0] - start[0], point[1] - start[1], point[2] - start[2]
    length2 = max(dx * dx + dy * dy + dz * dz, np.float32(1e-12))
    u = min(max((px * dx + py * dy + pz * dz) / length2, np.float32(0.0)), np.float32(1.0))
    ex, ey, ez = px - u * dx, py - u * dy, pz - u * dz
    return ex * ex + ey * ey + ez * ez


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
        a, b, r, w = (torch.from_numpy(each).to(device) for each in (starts, ends, radii, weights))
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
    if device is not None and device.type != 'cpu':
        single = Bodies(
            bodies.starts.reshape(1, 1, -1, 3),
            bodies.ends.reshape(1, 1, -1, 3),
            bodies.radii.reshape(1, 1, -1),
            np.ones(1),
            bodies.times_s[:1],
        )
        return voxel_probability(single, grid, padding_m=padding_m, device=device) > 0.0
    starts, ends, radii = in_voxels(bodies, grid, padding_m)
    starts, ends, radii = starts.reshape(-1, 3), ends.reshape(-1, 3), radii.ravel()
    outer = cull_enclosed_capsules(starts, ends, radii, _MARGIN)
    inside = np.zeros(grid.shape, dtype=np.bool_)
    cover(starts[outer], ends[outer], radii[outer], _masks(grid), inside)
    return inside


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
    shape = bodies.radii.shape
    starts, ends = (np.empty((*shape, 3), np.float32) for _ in range(2))
    radii = np.empty(shape, np.float32)
    _scale(
        bodies.starts, bodies.ends, bodies.radii, first, grid.size_m, padding, starts, ends, radii
    )
    return starts, ends, radii


@compiled
def _scale(
    starts: Float64[np.ndarray, 'future pose capsule xyz=3'],
    ends: Float64[np.ndarray, 'future pose capsule xyz=3'],
    radii: Float64[np.ndarray, 'future pose capsule'],
    first: Float64[np.ndarray, 'xyz=3'],
    size_m: float,
    padding_m: float,
    scaled_starts: Float32[np.ndarray, 'future pose capsule xyz=3'],
    scaled_ends: Float32[np.ndarray, 'future pose capsule xyz=3'],
    scaled_radii: Float32[np.ndarray, 'future pose capsule'],
) -> None:
    """Write places and padded radii in voxels."""
    futures, poses, capsules = radii.shape
    for future in range(futures):
        for pose in range(poses):
            for capsule in range(capsules):
                at = future, pose, capsule
                scaled_radii[at] = (radii[at] + padding_m) / size_m
                for axis in range(3):
                    place = future, pose, capsule, axis
                    scaled_starts[place] = (starts[place] - first[axis]) / size_m
                    scaled_ends[place] = (ends[place] - first[axis]) / size_m
