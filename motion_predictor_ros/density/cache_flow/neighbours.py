# SPDX-License-Identifier: Apache-2.0
"""The cached z nearest to a draw from q, exactly ([CacheFlow] eq. 13).

Stage: density. A k-d tree on a CPU; on a GPU the distances to all cached z.
"""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64
from scipy.spatial import cKDTree
from torch import Tensor

_LEAF = 96
"""Points in a leaf; large leaves answer fastest for 100,000 points in 8 dimensions."""


@runtime_checkable
class Neighbours(Protocol):
    """Finds the nearest of many fixed points."""

    def nearest(
        self, points: Float[Tensor, 'point latent']
    ) -> tuple[Float[Tensor, ' point'], Int64[Tensor, ' point']]:
        """Return distance and row of the nearest fixed point."""


def neighbours_among(fixed: Float[Tensor, 'cached latent']) -> Neighbours:
    """Return a k-d tree on a CPU, else brute force."""
    return KDTreeNeighbours(fixed) if fixed.device.type == 'cpu' else BruteForce(fixed)


class KDTreeNeighbours:
    """On a CPU: scipy's k-d tree."""

    def __init__(self, fixed: Float[Tensor, 'cached latent']) -> None:
        self._tree = cKDTree(
            fixed.double().numpy(), leafsize=_LEAF, balanced_tree=False, compact_nodes=False
        )

    def nearest(
        self, points: Float[Tensor, 'point latent']
    ) -> tuple[Float[Tensor, ' point'], Int64[Tensor, ' point']]:
        """Return distance and row of the nearest fixed point."""
        distance, row = self._tree.query(points.double().numpy())
        return torch.from_numpy(distance).to(points), torch.from_numpy(row)


class BruteForce:
    """On a GPU."""

    def __init__(self, fixed: Float[Tensor, 'cached latent']) -> None:
        self._fixed = fixed

    def nearest(
        self, points: Float[Tensor, 'point latent']
    ) -> tuple[Float[Tensor, ' point'], Int64[Tensor, ' point']]:
        """Return distance and row of the nearest fixed point."""
        mode = 'donot_use_mm_for_euclid_dist'  # the matrix product cannot tell close ones apart
        distance, row = torch.cdist(points, self._fixed, compute_mode=mode).min(dim=1)
        return distance, row
