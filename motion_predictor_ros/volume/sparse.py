# SPDX-License-Identifier: Apache-2.0
"""Only the voxels that say something: what is sent of a volume.

Stage: volume. Where too many would have to be sent, voxels are joined to larger ones. A larger one
is covered if any of its voxels is, so that nothing is lost; its probability is that of the
likeliest of them, which is less than that of touching any.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64, Shaped

from motion_predictor_ros.runtime.jit import compiled
from motion_predictor_ros.volume.grid import Patch, VoxelGrid
from motion_predictor_ros.volume.types import SafetyVolume


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
    grid, count = volume.grid, len(volume.windows)
    covered = [Patch((0, 0, 0), each.covered) for each in volume.windows]
    likely = [each.likely or Patch((0, 0, 0), each.covered) for each in volume.windows]
    while True:
        both = list(zip(covered, likely, strict=True))
        last = max(grid.shape) <= 2
        # There are at least those that are covered.
        if shell or last or _count(each.values for each in covered) <= max(most, count):
            kept = [_kept(inside.values, values, least, shell) for inside, values in both]
            if last or _count(kept) <= max(most, count):
                break
        larger, grid = downsampled([*covered, *likely], grid)
        covered, likely = larger[:count], larger[count:]
    windows = tuple(
        SparseWindow(
            window.start_s,
            window.end_s,
            np.flatnonzero(mask),
            values.within(grid.shape)[mask].astype(np.float32),
            inside.values[mask],
        )
        for window, mask, (inside, values) in zip(volume.windows, kept, both, strict=True)
    )
    return SparseVolume(grid, windows)


def _count(masks: Iterable[Bool[np.ndarray, '_ _ _']]) -> int:
    return sum(int(np.count_nonzero(each)) for each in masks)


def _kept(
    covered: Bool[np.ndarray, 'x y z'], likely: Patch, least: float, shell: bool
) -> Bool[np.ndarray, 'x y z']:
    if shell:
        return covered & ~_inner(covered)
    kept = covered.copy()
    kept[likely.box] |= likely.values >= least
    return kept


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


def downsampled(patches: list[Patch], grid: VoxelGrid) -> tuple[list[Patch], VoxelGrid]:
    """Join 2 x 2 x 2 voxels to the largest; they too lie at multiples of their size."""
    first = np.round(np.array(grid.origin) / grid.size_m).astype(np.int64)
    before = first % 2
    nx, ny, nz = (before + np.array(grid.shape) + 1) // 2
    x, y, z = (float(each) * grid.size_m for each in first - before)
    larger = VoxelGrid((x, y, z), 2.0 * grid.size_m, (int(nx), int(ny), int(nz)))
    return [_joined(each, before) for each in patches], larger


def _joined(patch: Patch, before: Int64[np.ndarray, ' xyz=3']) -> Patch:
    """Return the largest of each 2 x 2 x 2, of which the first begin `before` the grid."""
    (x, y, z), odd = np.divmod(before + patch.first, 2)
    shape = (odd + patch.values.shape + 1) // 2
    largest = np.empty(shape, patch.values.dtype)
    bits = largest.dtype == np.bool_
    _join(
        patch.values.view(np.uint8) if bits else patch.values,
        odd,
        largest.view(np.uint8) if bits else largest,
    )
    return Patch((int(x), int(y), int(z)), largest)


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
