# SPDX-License-Identifier: Apache-2.0
"""Compiled search of boxes of points for the one nearest to a draw.

Stage: density. Nothing imports torch: this can be compiled without it.
"""

from functools import partial

import numpy as np
from jaxtyping import Float32, Int64

from motion_predictor_ros.runtime.jit import compiled, inlined


@partial(inlined, early=True)
def _distances2_to_boxes(
    query: Float32[np.ndarray, ' latent'],
    low: Float32[np.ndarray, 'latent box'],
    high: Float32[np.ndarray, 'latent box'],
    distances2: Float32[np.ndarray, ' box'],
) -> int:
    """Write |max(low - q, q - high, 0)|^2; return the nearest box."""
    for box in range(len(distances2)):
        distances2[box] = np.float32(0.0)
    for axis in range(len(query)):
        for box in range(len(distances2)):
            gap = max(low[axis, box] - query[axis], query[axis] - high[axis, box])
            gap = max(gap, np.float32(0.0))
            distances2[box] += gap * gap
    first = 0
    for box in range(len(distances2)):
        if distances2[box] < distances2[first]:
            first = box
    return first


@inlined
def _nearest_inside(
    query: Float32[np.ndarray, ' latent'],
    points: Float32[np.ndarray, 'latent inside'],
    rows: Int64[np.ndarray, ' inside'],
    distances2: Float32[np.ndarray, ' inside'],
    best: float,
    nearest: int,
) -> tuple[float, int]:
    """Return squared distance and row of the nearest point of a box, if nearer than the best."""
    for point in range(len(distances2)):
        distances2[point] = np.float32(0.0)
    for axis in range(len(query)):
        for point in range(len(distances2)):
            gap = points[axis, point] - query[axis]
            distances2[point] += gap * gap
    for point in range(len(distances2)):
        here = distances2[point]
        if here < best or (here == best and rows[point] < nearest):
            best, nearest = here, rows[point]
    return best, nearest


@compiled
def find_nearest(
    queries: Float32[np.ndarray, 'query latent'],
    low: Float32[np.ndarray, 'latent box'],
    high: Float32[np.ndarray, 'latent box'],
    points: Float32[np.ndarray, 'box latent inside'],
    rows: Int64[np.ndarray, 'box inside'],
    to_boxes: Float32[np.ndarray, ' box'],
    to_points: Float32[np.ndarray, ' inside'],
    distance: Float32[np.ndarray, ' query'],
    row: Int64[np.ndarray, ' query'],
) -> None:
    """Write distance and row of the nearest point: in the nearest box, then in all near enough.

    Args:
        low, high: Corners of the boxes.
        to_boxes, to_points: Workspace.
    """
    for index in range(len(queries)):
        query = queries[index]
        box = _distances2_to_boxes(query, low, high, to_boxes)
        best, nearest = np.float32(np.inf), np.int64(0)  # a bare 0 has a type of its own
        best, nearest = _nearest_inside(query, points[box], rows[box], to_points, best, nearest)
        for box in range(len(to_boxes)):
            if to_boxes[box] <= best:
                best, nearest = _nearest_inside(
                    query, points[box], rows[box], to_points, best, nearest
                )
        distance[index], row[index] = np.sqrt(best), nearest
