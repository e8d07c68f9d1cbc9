# SPDX-License-Identifier: Apache-2.0
"""The nearest of many points that lie in boxes, in compiled loops.

Stage: density. All is float32.
"""

import numpy as np
from jaxtyping import Float32, Int64

from motion_predictor_ros.runtime.jit import compiled
from motion_predictor_ros.runtime.simd import LANES, fma, larger, least, load, splat, store

BOX = 64
"""Points in a box, a multiple of what is in a register."""


@compiled
def find_nearest(
    asked: Float32[np.ndarray, 'point latent'],
    low: Float32[np.ndarray, 'latent box'],
    high: Float32[np.ndarray, 'latent box'],
    points: Float32[np.ndarray, 'full latent inside'],
    rows: Int64[np.ndarray, 'full inside'],
    distance: Float32[np.ndarray, ' point'],
    row: Int64[np.ndarray, ' point'],
) -> None:
    """Write distance and row of the nearest point, of several equally near the first row.

    Args:
        low, high: Corners of the boxes; those that do not exist are infinitely far away.
        points: What is in each box.
        rows: Of these points.
    """
    away = np.empty(low.shape[1], np.float32)
    near, box = np.empty(low.shape[1], np.float32), np.empty(low.shape[1], np.int64)
    inside = np.empty(BOX, np.float32)
    for each in range(len(asked)):
        point = asked[each]
        _box_distances(point, low, high, away)
        first = _place_of_least(away, len(away))
        best, found = _look_into(point, points[first], rows[first], inside, np.float32(np.inf), 0)
        away[first] = np.float32(np.inf)
        count = _no_farther(away, best, near, box)
        while count > 0:
            place = _place_of_least(near, count)
            if not near[place] <= best:
                break
            near[place] = np.float32(np.inf)
            at = box[place]
            best, found = _look_into(point, points[at], rows[at], inside, best, found)
        distance[each], row[each] = np.sqrt(best), found


@compiled
def _box_distances(point, low, high, away):  # type: ignore[no-untyped-def]
    """Write the squared distance to each box, zero inside."""
    zero = splat(np.float32(0.0))
    for at in range(0, len(away), LANES):
        total = zero
        for coordinate in range(len(point)):
            own = splat(point[coordinate])
            below = load(low[coordinate], at) - own
            gap = larger(larger(below, own - load(high[coordinate], at)), zero)
            total = fma(gap, gap, total)
        store(away, at, total)


@compiled
def _place_of_least(values, count):  # type: ignore[no-untyped-def]
    """Return where the smallest of the first values is; `count` is a multiple of the lanes."""
    smallest, at = np.float32(np.inf), 0
    for group in range(0, count, LANES):
        one = least(load(values, group))
        if one < smallest:
            smallest, at = one, group
    for place in range(at, at + LANES):
        if values[place] == smallest:
            return place
    return at


@compiled
def _no_farther(away, limit, near, box):  # type: ignore[no-untyped-def]
    """Gather boxes that may hold something as near; return how many, with some to spare."""
    count = 0
    for group in range(0, len(away), LANES):
        if least(load(away, group)) <= limit:
            for place in range(group, group + LANES):
                if away[place] <= limit:
                    near[count], box[count] = away[place], place
                    count += 1
    while count % LANES:
        near[count] = np.float32(np.inf)
        count += 1
    return count


@compiled
def _look_into(point, points, rows, inside, best, found):  # type: ignore[no-untyped-def]
    """Return the squared distance and the row of the nearest so far."""
    for at in range(0, BOX, LANES):
        total = splat(np.float32(0.0))
        for coordinate in range(len(point)):
            gap = load(points[coordinate], at) - splat(point[coordinate])
            total = fma(gap, gap, total)
        if least(total) <= best:
            store(inside, at, total)
            for place in range(at, at + LANES):
                if inside[place] < best or (inside[place] == best and rows[place] < found):
                    best, found = inside[place], rows[place]
    return best, found
