# SPDX-License-Identifier: Apache-2.0
"""Keep-out volumes seen from above: what a planner in the plane needs.

Stage: volume. A cell of the plane is covered if any voxel above it is, within a band of heights
and until a time. The frame's z axis must point up.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64, Num

from motion_predictor_ros.volume.grid import VoxelGrid
from motion_predictor_ros.volume.types import SafetyVolume

_MOST_CELLS = 1_000_000
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Band:
    """Which part of volumes is looked at.

    Attributes:
        until_s: Windows that begin before then count; the first one always does.
        low_m, high_m: Heights in the frame.
    """

    until_s: float
    low_m: float
    high_m: float


@dataclass(frozen=True)
class Footprint:
    """Cells of the plane.

    Attributes:
        origin: [m] of the lowest corner of the first cell.
        cell_m: Edge of a cell [m].
        covered: Cells under a keep-out volume.
        probability: That of the likeliest voxel of the column, of any person in any window.
    """

    origin: tuple[float, float]
    cell_m: float
    covered: Bool[np.ndarray, 'x y']
    probability: Float32[np.ndarray, 'x y']

    def centres(self) -> Float64[np.ndarray, 'cell xy=2']:
        """Return the centres of covered cells [m]."""
        return np.array(self.origin) + self.cell_m * (np.argwhere(self.covered) + 0.5)


def footprint(
    volumes: Sequence[SafetyVolume], band: Band, cell_m: float, block_m: float = 2.0
) -> Footprint:
    """Project the volumes of all people onto the plane.

    Args:
        cell_m: Edge of a cell [m]; doubled until the plane has no more than a million of them.
        block_m: The plane begins and ends at multiples of it [m], so that it seldom changes its
            size; it has at least one such block, at the frame's origin without people.
    """
    low, high = _extent(volumes, block_m)
    while np.prod((high - low) / cell_m) > _MOST_CELLS:
        cell_m *= 2.0
    size = np.ceil((high - low) / cell_m - _ROUNDING).astype(int)
    edges = [start + cell_m * np.arange(count + 1) for start, count in zip(low, size, strict=True)]
    covered = np.zeros(size, dtype=bool)
    probability = np.zeros(size, dtype=np.float32)
    for volume in volumes:
        for index, window in enumerate(volume.windows):
            if index and window.start_s >= band.until_s - _ROUNDING:
                continue
            covered |= _highest(window.covered, window.grid, band, edges)
            probability = np.maximum(
                probability, _highest(window.probability, window.grid, band, edges)
            )
    return Footprint((float(low[0]), float(low[1])), cell_m, covered, probability)


def _extent(
    volumes: Sequence[SafetyVolume], block_m: float
) -> tuple[Float64[np.ndarray, 'xy=2'], Float64[np.ndarray, 'xy=2']]:
    if not volumes:
        return np.zeros(2), np.full(2, block_m)
    grids = [window.grid for volume in volumes for window in volume.windows]
    lows = [grid.origin[:2] for grid in grids]
    highs = [np.array(grid.origin[:2]) + grid.size_m * np.array(grid.shape[:2]) for grid in grids]
    low = np.floor(np.min(lows, axis=0) / block_m) * block_m
    high = np.ceil(np.max(highs, axis=0) / block_m) * block_m
    return low, np.maximum(high, low + block_m)


def _highest(
    values: Num[np.ndarray, 'x y z'] | Bool[np.ndarray, 'x y z'],
    grid: VoxelGrid,
    band: Band,
    edges: list[np.ndarray],
) -> np.ndarray:
    """Return the largest value above each cell, within the band."""
    heights = np.array([band.low_m, band.high_m])
    lowest, highest = _overlap(heights, grid.origin[2], grid.size_m)
    slab = values[:, :, max(int(lowest[0]), 0) : max(int(highest[0]) + 1, 0)]
    highest = slab.max(axis=2) if slab.shape[2] else np.zeros(values.shape[:2], values.dtype)
    highest = _largest(highest, grid.origin[0], grid.size_m, edges[0])
    return _largest(highest.T, grid.origin[1], grid.size_m, edges[1]).T


def _largest(
    values: np.ndarray, origin: float, size_m: float, edges: Float64[np.ndarray, ' edge']
) -> np.ndarray:
    """Return, between edges along the first axis, the largest of the values that overlap."""
    first, last = _overlap(edges, origin, size_m)
    largest = np.zeros((len(first), *values.shape[1:]), dtype=values.dtype)
    for step in range(int((last - first).max()) + 1):
        place = first + step
        inside = np.flatnonzero((place <= last) & (place >= 0) & (place < len(values)))
        largest[inside] = np.maximum(largest[inside], values[place[inside]])
    return largest


def _overlap(
    edges: Float64[np.ndarray, ' edge'], origin: float, size_m: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the first and the last voxel that overlap with what lies between edges."""
    places = (edges - origin) / size_m
    first = np.floor(places[:-1] + _ROUNDING).astype(int)
    last = np.ceil(places[1:] - _ROUNDING).astype(int) - 1
    return first, last
