# SPDX-License-Identifier: Apache-2.0
"""The compiled rasteriser: columns of voxels as words of bits.

Stage: volume. A capsule is convex, so of a vertical line it holds one interval, in closed form.
With q the line's horizontal place relative to the segment's start, split along and across the
segment's horizontal direction, and w the place along which the interval's end touches,
    R^2 = r^2 - across^2,  w = -+ R dz / |d|,  u = clip((along - w) / |d_xy|, 0, 1)
    z_end = a_z + u dz +- sqrt(R^2 - (along - u |d_xy|)^2)
All lengths are in voxels, and voxel i has its centre at i. Columns are done eight at a time, which
compilers turn into vector instructions; all is float32, with a little slack on the radius, so that
no rounding ever loses a voxel. `rasteriser.py` does the same in torch, operation by operation.
"""

import numpy as np
from jaxtyping import Bool, Float32, UInt64

from motion_predictor_ros.compiled import compiled

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
