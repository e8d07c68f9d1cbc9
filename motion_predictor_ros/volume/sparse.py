# SPDX-License-Identifier: Apache-2.0
"""Only the voxels that say something: what is sent of a volume.

Stage: volume. Where too many would have to be sent, voxels are joined to larger ones. A larger one
is covered if any of its voxels is, so that nothing is lost; its probability is that of the
likeliest of them, which is less than that of touching any.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64, Shaped

from motion_predictor_ros.compiled import compiled
from motion_predictor_ros.volume.grid import VoxelGrid
from motion_predictor_ros.volume.safety_volume import SafetyVolume

Dense = tuple[Bool[np.ndarray, '_ _ _'], np.ndarray]


@dataclass(frozen=True)
class SparseWindow:
    """Voxels of one window.

    Attributes:
        start_s, end_s: After the observation.
        voxels: Flat indices into the grid, x slowest, ascending.
        probability: That a body part is in the voxel at any time of the window.
        covered: Whether it belongs to the space to keep free.
    """

    start_s: float
    end_s: float
    voxels: Int64[np.ndarray, ' voxel']
    probability: Float32[np.ndarray, ' voxel']
    covered: Bool[np.ndarray, ' voxel']

    def centres(self, grid: VoxelGrid) -> Float64[np.ndarray, 'voxel xyz=3']:
        """Return where the voxels are [m]."""
        places = np.stack(np.unravel_index(self.voxels, grid.shape), axis=-1)
        return np.array(grid.origin) + grid.size_m * (places + 0.5)


@dataclass(frozen=True)
class SparseVolume:
    """Voxels of all windows, of one grid."""

    grid: VoxelGrid
    windows: tuple[SparseWindow, ...]


def sparse(
    volume: SafetyVolume, most: int, least: float = 0.01, *, shell: bool = False
) -> SparseVolume:
    """Return the voxels that are covered, or likelier than `least`.

    Args:
        most: Voxels of all windows together; voxels are joined, eight to one, until so few remain.
        shell: Return only those that are covered and touch one that is not.
    """
    grid = volume.grid
    dense: list[Dense] = [(each.covered, each.probability) for each in volume.windows]
    while True:
        kept = [_kept(covered, probability, least, shell) for covered, probability in dense]
        if (
            sum(np.count_nonzero(each) for each in kept) <= max(most, len(dense))
            or max(grid.shape) <= 2
        ):
            break
        dense, grid = joined(dense, grid)
    windows = tuple(
        SparseWindow(
            window.start_s,
            window.end_s,
            np.flatnonzero(mask),
            probability[mask],
            covered[mask],
        )
        for window, mask, (covered, probability) in zip(volume.windows, kept, dense, strict=True)
    )
    return SparseVolume(grid, windows)


def _kept(
    covered: Bool[np.ndarray, 'x y z'],
    probability: Float32[np.ndarray, 'x y z'],
    least: float,
    shell: bool,
) -> Bool[np.ndarray, 'x y z']:
    return covered & ~_inner(covered) if shell else covered | (probability >= least)


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


def joined(dense: list[Dense], grid: VoxelGrid) -> tuple[list[Dense], VoxelGrid]:
    """Join 2 x 2 x 2 voxels of every window; larger ones lie at multiples of their size too."""
    first = np.round(np.array(grid.origin) / grid.size_m).astype(np.int64)
    before = first % 2
    nx, ny, nz = (before + np.array(grid.shape) + 1) // 2
    shape = int(nx), int(ny), int(nz)
    larger: list[Dense] = [
        (_largest(covered, before, shape), _largest(probability, before, shape))
        for covered, probability in dense
    ]
    x, y, z = (float(each) * grid.size_m for each in first - before)
    return larger, VoxelGrid((x, y, z), 2.0 * grid.size_m, shape)


def _largest(
    values: np.ndarray, before: Int64[np.ndarray, ' xyz=3'], shape: tuple[int, ...]
) -> np.ndarray:
    """Return the largest of each 2 x 2 x 2, of which the first begin `before` the grid."""
    largest = np.empty(shape, values.dtype)
    bits = values.dtype == np.bool_
    _join(
        values.view(np.uint8) if bits else values,
        before,
        largest.view(np.uint8) if bits else largest,
    )
    return largest


@compiled
def _join(
    values: Shaped[np.ndarray, 'x y z'],
    before: Int64[np.ndarray, ' xyz=3'],
    largest: Shaped[np.ndarray, 'X Y Z'],
) -> None:
    """Pillars of 2 x 2 first, because along z they are vectors; then pairs along z."""
    nx, ny, nz = values.shape
    margins = np.zeros(2 * largest.shape[2], values.dtype)
    pillar = margins[before[2] : before[2] + nz]
    for x in range(largest.shape[0]):
        for y in range(largest.shape[1]):
            for k in range(nz):
                pillar[k] = 0
            for i in range(max(2 * x - before[0], 0), min(2 * x - before[0] + 2, nx)):
                for j in range(max(2 * y - before[1], 0), min(2 * y - before[1] + 2, ny)):
                    column = values[i, j]
                    for k in range(nz):
                        pillar[k] = pillar[k] if pillar[k] > column[k] else column[k]
            out, low, high = largest[x, y], margins[::2], margins[1::2]
            for k in range(len(out)):
                out[k] = low[k] if low[k] > high[k] else high[k]
