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
    for capsule in range(len(radii)):
        _mark(starts[capsule], ends[capsule], radii[capsule], masks)
    for x in range(inside.shape[0]):
        for y in range(inside.shape[1]):
            for word in range(masks.shape[0]):
                bits = masks[word, x, y]
                if bits != 0:
                    base = 64 * word
                    for z in range(min(64, inside.shape[2] - base)):
                        inside[x, y, base + z] = (bits >> np.uint64(z)) & np.uint64(1) != 0


@compiled
def _mark(start, end, radius, masks):  # type: ignore[no-untyped-def]
    """Set the bits of one capsule; return the first and last columns touched."""
    one, zero, last, none = np.float32(1.0), np.float32(0.0), np.float32(63.0), np.uint64(0)
    reach, (ax, ay, az) = radius + SLACK, (start[0], start[1], start[2])
    dx, dy, dz = end[0] - ax, end[1] - ay, end[2] - az
    flat = np.sqrt(dx * dx + dy * dy)
    level = max(flat, LEVEL)
    length = np.sqrt(level * level + dz * dz)
    ex, ey = (dx / flat, dy / flat) if flat > zero else (one, zero)
    steep, inverse, square = dz / length, one / level, reach * reach
    x0 = max(int(np.ceil(min(ax, end[0]) - reach)), 0)
    x1 = min(int(np.floor(max(ax, end[0]) + reach)), masks.shape[1] - 1)
    y0 = max(int(np.ceil(min(ay, end[1]) - reach)), 0)
    y1 = min(int(np.floor(max(ay, end[1]) + reach)), masks.shape[2] - LANES)
    if x1 < x0 or y1 < y0:
        return masks.shape[1], -1, masks.shape[2], -1
    width = (y1 - y0 + LANES) // LANES * LANES
    first_word = max(int(np.floor((min(az, end[2]) - reach) / 64)), 0)
    last_word = min(int(np.floor((max(az, end[2]) + reach) / 64)), masks.shape[0] - 1)
    for x in range(x0, x1 + 1):
        px = np.float32(x) - ax
        for word in range(first_word, last_word + 1):
            lowest = np.float32(64 * word)
            row = masks[word, x, y0 : y0 + width]
            for lane in range(len(row)):
                py = np.float32(np.int32(y0 + lane)) - ay
                along, across = px * ex + py * ey, py * ex - px * ey
                rest = square - across * across
                root = np.sqrt(max(rest, zero)) * steep
                up = min(max((along + root) * inverse, zero), one)
                down = min(max((along - root) * inverse, zero), one)
                off_up, off_down = along - up * level, along - down * level
                left_up = rest - off_up * off_up
                left_down = rest - off_down * off_down
                top = az + up * dz + np.sqrt(max(left_up, zero)) - lowest
                bottom = az + down * dz - np.sqrt(max(left_down, zero)) - lowest
                high = np.int32(np.floor(min(max(top, -one), last)))
                low = np.int32(np.ceil(min(max(bottom, zero), np.float32(64.0))))
                hit = min(left_up, left_down) >= zero and high >= low
                bits = _ALL >> np.uint64(np.int32(63) - high & 63) & _ALL << np.uint64(low & 63)
                row[lane] |= bits if hit else none
    return x0, x1, y0, y1


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
