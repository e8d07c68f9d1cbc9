# SPDX-License-Identifier: Apache-2.0
"""The cached z nearest to a draw from q, exactly ([CacheFlow] eq. 13).

Stage: density. On a CPU only boxes of points near the draw are searched; a GPU is faster by brute
force.
"""

from functools import partial
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from motion_predictor_ros.runtime.jit import compiled, inlined

_BOX = 64
"""Points in a box."""


@runtime_checkable
class Neighbours(Protocol):
    """Finds the nearest of many fixed points."""

    def nearest(
        self, points: Float[Tensor, 'point latent']
    ) -> tuple[Float[Tensor, ' point'], Int64[Tensor, ' point']]:
        """Return distance and row of the nearest fixed point."""


def neighbours_among(fixed: Float[Tensor, 'cached latent']) -> Neighbours:
    """Return boxes on a CPU, else brute force."""
    return BoxedPoints(fixed) if fixed.device.type == 'cpu' else BruteForce(fixed)


class BoxedPoints:
    """On a CPU, in float32: the leaves of a k-d tree.

    There are so few leaves that the distance to all of them, in vector instructions, costs less
    than finding the way down a tree.
    """

    def __init__(self, fixed: Float[Tensor, 'cached latent']) -> None:
        points = fixed.float().numpy()
        leaves = _leaves(points, np.arange(len(points)))
        # Short leaves repeat their points.
        self._rows = np.stack([np.resize(leaf, _BOX) for leaf in leaves]).astype(np.int64)
        self._points = np.ascontiguousarray(points[self._rows].transpose(0, 2, 1))
        self._low = np.ascontiguousarray(self._points.min(axis=2).T)
        self._high = np.ascontiguousarray(self._points.max(axis=2).T)

    def nearest(
        self, points: Float[Tensor, 'point latent']
    ) -> tuple[Float[Tensor, ' point'], Int64[Tensor, ' point']]:
        """Return distance and row of the nearest fixed point; of several the first."""
        queries = np.ascontiguousarray(points.float().numpy())
        distance, row = np.empty(len(queries), np.float32), np.zeros(len(queries), np.int64)
        to_boxes = np.empty(len(self._rows), np.float32)
        to_points = np.empty(_BOX, np.float32)
        _find_nearest(
            queries, self._low, self._high, self._points, self._rows,
            to_boxes, to_points, distance, row,
        )  # fmt: skip
        return torch.from_numpy(distance).to(points), torch.from_numpy(row)


class BruteForce:
    """On a GPU."""

    def __init__(self, fixed: Float[Tensor, 'cached latent']) -> None:
        self._fixed = fixed

    def nearest(
        self, points: Float[Tensor, 'point latent']
    ) -> tuple[Float[Tensor, ' point'], Int64[Tensor, ' point']]:
        """Return distance and row of the nearest fixed point."""
        mode = 'donot_use_mm_for_euclid_dist'  # the matrix product loses small distances
        distance, row = torch.cdist(points, self._fixed, compute_mode=mode).min(dim=1)
        return distance, row


def _leaves(
    points: Float32[np.ndarray, 'cached latent'], rows: Int64[np.ndarray, ' row']
) -> list[Int64[np.ndarray, ' few']]:
    """Halve rows where they reach widest, until a box holds them."""
    if len(rows) <= _BOX:
        return [rows]
    selected = points[rows]
    along = selected[:, np.ptp(selected, axis=0).argmax()]
    half = _BOX * -(-len(rows) // (2 * _BOX))  # so that all boxes but one are full
    order = rows[np.argpartition(along, half)]
    return _leaves(points, order[:half]) + _leaves(points, order[half:])


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
def _find_nearest(
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
