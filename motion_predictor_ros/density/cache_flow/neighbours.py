# SPDX-License-Identifier: Apache-2.0
"""The cached z nearest to a draw from q, exactly ([CacheFlow] eq. 13).

Stage: density. On a CPU only points that lie together in boxes near the draw are looked at; a GPU
is faster by brute force.
"""

from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from motion_predictor_ros.density.cache_flow.cpu.neighbour_kernels import BOX, find_nearest
from motion_predictor_ros.runtime.simd import LANES


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

    There are so few leaves that the distance to all of them, worked out side by side in vector
    registers, costs less than finding the way down a tree.
    """

    def __init__(self, fixed: Float[Tensor, 'cached latent']) -> None:
        points = fixed.float().numpy()
        leaves = _leaves(points, np.arange(len(points)))
        rows = np.stack([np.resize(leaf, BOX) for leaf in leaves])  # short ones repeat themselves
        self._rows = rows.astype(np.int64)
        self._points = points[rows].transpose(0, 2, 1).copy()
        # Boxes to spare are infinitely far away.
        shape = points.shape[1], -(-len(leaves) // LANES) * LANES
        self._low, self._high = np.full((2, *shape), np.inf, np.float32)
        self._low[:, : len(leaves)] = self._points.min(axis=2).T
        self._high[:, : len(leaves)] = self._points.max(axis=2).T

    def nearest(
        self, points: Float[Tensor, 'point latent']
    ) -> tuple[Float[Tensor, ' point'], Int64[Tensor, ' point']]:
        """Return distance and row of the nearest fixed point; of several the first."""
        distance, row = np.empty(len(points), np.float32), np.zeros(len(points), np.int64)
        asked = points.float().contiguous().numpy()
        find_nearest(asked, self._low, self._high, self._points, self._rows, distance, row)
        return torch.from_numpy(distance).to(points), torch.from_numpy(row)


def _leaves(
    points: Float32[np.ndarray, 'cached latent'], rows: Int64[np.ndarray, ' row']
) -> list[Int64[np.ndarray, ' few']]:
    """Halve rows where they reach widest, until a box holds them."""
    if len(rows) <= BOX:
        return [rows]
    own = points[rows]
    along = own[:, np.ptp(own, axis=0).argmax()]
    half = BOX * -(-len(rows) // (2 * BOX))  # so that all boxes but one are full
    order = rows[np.argpartition(along, half)]
    return _leaves(points, order[:half]) + _leaves(points, order[half:])


class BruteForce:
    """On a GPU."""

    def __init__(self, fixed: Float[Tensor, 'cached latent']) -> None:
        self._fixed = fixed

    def nearest(
        self, points: Float[Tensor, 'point latent']
    ) -> tuple[Float[Tensor, ' point'], Int64[Tensor, ' point']]:
        """Return distance and row of the nearest fixed point."""
        mode = 'donot_use_mm_for_euclid_dist'  # the fast way cannot tell close neighbours apart
        distance, row = torch.cdist(points, self._fixed, compute_mode=mode).min(dim=1)
        return distance, row
