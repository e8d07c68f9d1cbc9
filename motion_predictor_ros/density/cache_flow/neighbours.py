# SPDX-License-Identifier: Apache-2.0
"""The cached z nearest to a draw from q, exactly ([CacheFlow] eq. 13).

Stage: density. On a CPU only boxes of points near the draw are searched; a GPU is faster by brute
force.
"""

from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from motion_predictor_ros.density.cache_flow.kernels import find_nearest

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
        find_nearest(
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
