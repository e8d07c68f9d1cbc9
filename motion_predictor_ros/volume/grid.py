# SPDX-License-Identifier: Apache-2.0
"""Where voxels lie.

Stage: volume.
"""

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
        most: int = 50_000_000,
    ) -> 'VoxelGrid':
        """Cover a box; voxels lie at multiples of their size, so that grids of people agree.

        Args:
            most: Voxels; a larger box is an error, not a full memory.

        Raises:
            DataError: The box is not finite, or has more than `most` voxels.
        """
        if not (np.isfinite(low).all() and np.isfinite(high).all()):
            raise DataError(f'a grid needs finite corners, got {low} and {high}')
        first = np.floor(low / size_m) - 1
        shape = (np.ceil(high / size_m) + 1 - first).astype(np.int64)
        if np.prod(shape.astype(np.float64)) > most:
            raise DataError(f'a grid of {shape} voxels of {size_m} m is more than {most}')
        x, y, z = (float(place) for place in first * size_m)
        return cls((x, y, z), size_m, (int(shape[0]), int(shape[1]), int(shape[2])))

    @property
    def padding_m(self) -> float:
        """Half a voxel's diagonal: what touches a voxel is no farther from its centre [m]."""
        return 0.5 * float(np.sqrt(3.0)) * self.size_m

    def centres(self, inside: Bool[np.ndarray, 'x y z']) -> Float64[np.ndarray, 'voxel xyz=3']:
        """Return the centres of the voxels marked [m]."""
        return np.array(self.origin) + self.size_m * (np.argwhere(inside) + 0.5)
