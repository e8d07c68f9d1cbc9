# SPDX-License-Identifier: Apache-2.0
"""The voxels of a volume that are worth sending.

Stage: volume. Where there are too many, voxels are joined to larger ones: a larger one is covered
if any of its voxels is, so that nothing is lost; its probability is that of the likeliest of them,
which is less than that of touching any.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64, Shaped

from motion_predictor_ros.volume.grid import VoxelGrid
from motion_predictor_ros.volume.types import SafetyVolume, WindowVolume


@dataclass(frozen=True)
class SparseWindow:
    """Voxels of one window.

    Attributes:
        start_s, end_s: After the observation.
        voxels: Flat indices into the grid, x slowest, ascending.
        probability: That a body part is in the voxel at any time of the window.
        covered: Whether it belongs to the keep-out volume.
        threshold: Lowest value of the field in the volume; NaN in a reachable set.
    """

    start_s: float
    end_s: float
    grid: VoxelGrid
    voxels: Int64[np.ndarray, ' voxel']
    probability: Float32[np.ndarray, ' voxel']
    covered: Bool[np.ndarray, ' voxel']
    threshold: float = float('nan')

    @property
    def centres(self) -> Float64[np.ndarray, 'voxel xyz=3']:
        """Centres of the voxels [m]."""
        places = np.stack(np.unravel_index(self.voxels, self.grid.shape), axis=-1)
        return np.array(self.grid.origin) + self.grid.size_m * (places + 0.5)


def sparse(
    volume: SafetyVolume, max_voxels: int, min_probability: float = 0.01, *, shell: bool = False
) -> tuple[SparseWindow, ...]:
    """Return the voxels of each window that are covered, or likelier than `min_probability`.

    Args:
        max_voxels: Of all windows together; in the window with most of them eight are joined to
            one, until so few remain.
        shell: Return only those that are covered and touch one that is not.
    """
    windows = list(volume.windows)
    masks = [_mask(window, min_probability, shell) for window in windows]
    while sum(map(np.count_nonzero, masks)) > max(max_voxels, len(windows)):
        largest = int(np.argmax([np.count_nonzero(mask) for mask in masks]))
        window = windows[largest]
        if max(window.grid.shape) <= 2:
            break
        covered, grid = downsampled(window.covered, window.grid)
        probability, _ = downsampled(window.probability, window.grid)
        windows[largest] = replace(window, grid=grid, covered=covered, probability=probability)
        masks[largest] = _mask(windows[largest], min_probability, shell)
    return tuple(
        SparseWindow(
            window.start_s,
            window.end_s,
            window.grid,
            np.flatnonzero(mask),
            window.probability[mask].astype(np.float32),
            window.covered[mask],
            window.threshold,
        )
        for window, mask in zip(windows, masks, strict=True)
    )


def _mask(window: WindowVolume, min_probability: float, shell: bool) -> Bool[np.ndarray, 'x y z']:
    if shell:
        return window.covered & ~_inner(window.covered)
    return window.covered | (window.probability >= min_probability)


def _inner(covered: Bool[np.ndarray, 'x y z']) -> Bool[np.ndarray, 'x y z']:
    """Return voxels all six neighbours of which are covered."""
    around = np.pad(covered, 1)
    inner = covered.copy()
    for axis in range(3):
        for side in (0, 2):
            cut = [slice(1, -1)] * 3
            cut[axis] = slice(side, side + covered.shape[axis])
            inner &= around[tuple(cut)]
    return inner


def downsampled(
    values: Shaped[np.ndarray, 'x y z'], grid: VoxelGrid
) -> tuple[Shaped[np.ndarray, 'X Y Z'], VoxelGrid]:
    """Join 2 x 2 x 2 voxels to the largest; they too lie at multiples of their size."""
    first = np.round(np.array(grid.origin) / grid.size_m).astype(np.int64)
    odd = first % 2
    nx, ny, nz = (odd + np.array(grid.shape) + 1) // 2
    x, y, z = (float(place) * grid.size_m for place in first - odd)
    larger = VoxelGrid((x, y, z), 2.0 * grid.size_m, (int(nx), int(ny), int(nz)))
    padded = np.zeros(2 * np.array(larger.shape), values.dtype)
    inside = tuple(
        slice(int(start), int(start) + count)
        for start, count in zip(odd, values.shape, strict=True)
    )
    padded[inside] = values
    pairs = np.maximum(padded[::2], padded[1::2])  # the longest rows first
    pairs = np.maximum(pairs[:, ::2], pairs[:, 1::2])
    return np.maximum(pairs[:, :, ::2], pairs[:, :, 1::2]), larger
