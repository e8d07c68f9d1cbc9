# SPDX-License-Identifier: Apache-2.0
"""Where voxels lie.

Stage: volume.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64

from motion_predictor_ros.errors import DataError


@dataclass(frozen=True)
class VoxelGrid:
    """A box of cubes, axes along those of the frame.

    Attributes:
        origin: [m] of the lowest corner of the first voxel.
        size_m: Edge of a voxel [m].
        shape: Voxels along x, y and z.
    """

    origin: tuple[float, float, float]
    size_m: float
    shape: tuple[int, int, int]

    @classmethod
    def around(
        cls,
        low: Float64[np.ndarray, 'xyz=3'],
        high: Float64[np.ndarray, 'xyz=3'],
        size_m: float,
        max_voxels: int = 50_000_000,
    ) -> 'VoxelGrid':
        """Cover a box; voxels lie at multiples of their size, so that grids of people agree.

        Args:
            max_voxels: A larger box is an error, not a full memory.

        Raises:
            DataError: The box is not finite, or has more than `max_voxels` voxels.
        """
        corners = low.tolist(), high.tolist()
        if not all(math.isfinite(value) for corner in corners for value in corner):
            raise DataError(f'a grid needs finite corners, got {low} and {high}')
        i, j, k = (math.floor(value / size_m) - 1 for value in corners[0])
        x, y, z = (math.ceil(value / size_m) + 1 for value in corners[1])
        shape = x - i, y - j, z - k
        if math.prod(shape) > max_voxels:
            raise DataError(f'a grid of {shape} voxels of {size_m} m is more than {max_voxels}')
        return cls((i * size_m, j * size_m, k * size_m), size_m, shape)

    @property
    def padding_m(self) -> float:
        """Half a voxel's diagonal: what touches a voxel is no farther from its centre [m]."""
        return 0.5 * math.sqrt(3.0) * self.size_m

    @property
    def first_centre(self) -> Float64[np.ndarray, 'xyz=3']:
        """Centre of the first voxel [m]."""
        return np.array(self.origin) + 0.5 * self.size_m

    def centres(self, inside: Bool[np.ndarray, 'x y z']) -> Float64[np.ndarray, 'voxel xyz=3']:
        """Return the centres of the voxels marked [m]."""
        return np.array(self.origin) + self.size_m * (np.argwhere(inside) + 0.5)
