# SPDX-License-Identifier: Apache-2.0
"""Nested volumes: a field that ranks space by how soon it has to be kept free.

Stage: volume. Within a window of time, a place is ranked by

    F = -d - g h + beta log((S + e) / (1 + e))    [m]

* d: distance from the body of the likeliest future, swept through the window [m]
* h: height above that body [m]; people move over the floor farther than they jump
* S = sum over m of w_m Gaussian(sigma_m) * P: smoothed occupancy P of all futures

The volumes {F >= tau} are nested; `calibration.py` finds tau for each promise. As S <= 1,
F >= tau only where d <= -tau: what is farther away is never computed. F is computed at the
centres of voxels of twice the edge, and interpolated linearly between them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Float64
from scipy.special import ndtr

from motion_predictor_ros.volume import kernels
from motion_predictor_ros.volume.body import BodyShape
from motion_predictor_ros.volume.capsules import Bodies
from motion_predictor_ros.volume.forecast import BodyForecast
from motion_predictor_ros.volume.grid import VoxelGrid
from motion_predictor_ros.volume.voxels import capsule_distance_torch, in_voxels, voxel_probability

WINDOWS_S = ((0.0, 0.25), (0.25, 0.5), (0.5, 1.0), (1.0, 2.0))
"""Windows of time that space is ranked in [s]."""

SMALLEST = 1e-4
"""e: occupancy below which space is ranked by distance alone."""

FARTHEST_M = 1e3
"""Distance of what is out of reach."""


@dataclass(frozen=True)
class Ranking:
    """What the field is made of; fitted by `training/volume_calibration.py`.

    Attributes:
        beta_m: How much a factor e of occupancy counts, as a distance [m].
        widths_m: Standard deviations of the Gaussians that smooth occupancy [m].
        shares: Of each of them; they sum to one.
        rise: g, how much more a metre above the body counts than one beside it.
    """

    beta_m: float
    widths_m: tuple[float, ...]
    shares: tuple[float, ...]
    rise: float = 0.0

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> 'Ranking':
        """Read what `dataclasses.asdict` wrote.

        Raises:
            KeyError, TypeError, ValueError: It is something else.
        """
        return cls(
            float(values['beta_m']),
            tuple(float(width) for width in values['widths_m']),
            tuple(float(share) for share in values['shares']),
            float(values['rise']),
        )


@dataclass(frozen=True)
class WindowField:
    """Space ranked in one window of time.

    Attributes:
        values: F [m].
        farthest_m: Voxels with F >= `lowest` are no farther from the likeliest body [m].
    """

    grid: VoxelGrid
    values: Float32[np.ndarray, 'x y z']
    farthest_m: float = FARTHEST_M

    def at(self, points_m: Float64[np.ndarray, 'point xyz=3']) -> Float32[np.ndarray, ' point']:
        """Return F of the voxels that points lie in; minus infinity outside the grid."""
        place = np.floor((points_m - np.array(self.grid.origin)) / self.grid.size_m).astype(int)
        inside = ((place >= 0) & (place < self.grid.shape)).all(axis=1)
        x, y, z = np.where(inside[:, None], place, 0).T
        return np.where(inside, self.values[x, y, z], np.float32(-np.inf))


def window_field(
    shape: BodyShape,
    forecast: BodyForecast,
    ranking: Ranking,
    window_s: tuple[float, float],
    lowest: float,
    size_m: float,
    every: int = 3,
) -> WindowField:
    """Rank the space of one window, as far as F is at least `lowest` or a future goes.

    Args:
        size_m: Edge of a voxel [m].
        every: Predicted frames that share one set of capsules.

    Raises:
        DataError: There would be more voxels than fit in memory.
    """
    futures = forecast.future_bodies(shape, window_s, every)
    likeliest = forecast.likeliest_body(shape, window_s, every)
    return rank_around(likeliest, futures, ranking, lowest, size_m)


def rank_around(
    likeliest: Bodies, futures: Bodies, ranking: Ranking, lowest: float, size_m: float
) -> WindowField:
    """Rank space as `window_field` does, around bodies that are swept through a window.

    Raises:
        DataError: There would be more voxels than fit in memory.
    """
    (low, high), (first, last) = likeliest.bounds, futures.bounds
    reach_m, coarse_m = max(-lowest, 0.0), 2.0 * size_m
    beyond = np.array([low - first, last - high])
    reaches = side_reaches(ranking, reach_m, beyond, coarse_m)
    low, high = np.minimum(low - reaches[0], first), np.maximum(high + reaches[1], last)
    grid = VoxelGrid.around(low - coarse_m, high + coarse_m, coarse_m)
    # Of interpolated values at least `lowest`, no corner is farther away.
    farthest_m = reach_m + np.sqrt(3.0) * coarse_m
    values, distance = rank_space(likeliest, futures, grid, ranking, farthest_m)
    box = np.floor((np.array([first, last]) - grid.origin) / coarse_m).astype(np.int64)
    away_m = kernels.widen_box(values, distance, lowest, box)
    cut = tuple(
        slice(max(low - 1, 0), min(high + 2, count))
        for low, high, count in zip(*box.tolist(), grid.shape, strict=True)
    )
    # No corner of the eight around is farther away than this.
    away_m += 0.75 * np.sqrt(3.0) * coarse_m
    return replace(refined(WindowField(grid, values), cut), farthest_m=float(away_m))


def side_reaches(
    ranking: Ranking, reach_m: float, beyond_m: Float64[np.ndarray, 'side xyz=3'], size_m: float
) -> Float64[np.ndarray, 'side xyz=3']:
    """Return how far beyond the body's box F can be at least `lowest`, on each side [m].

    At u beyond the body and t beyond the futures, P <= 1 and Phi is the normal distribution:

        d >= u,  S <= sum over m of w_m Phi(-t / sigma_m),  h = u above it
        F >= lowest  <=>  d + g h <= reach + beta log((S + e) / (1 + e))

    Args:
        reach_m: -lowest.
        beyond_m: How far the box of all futures reaches beyond that of the body; may be negative.
        size_m: Edge of a voxel; P is not zero up to its diagonal beyond the futures.
    """
    steps = np.ceil(4.0 * beyond_m / size_m).astype(int).tolist()  # few different ones: cached
    reaches = [[_side_reach(ranking, reach_m, step, size_m) for step in side] for side in steps]
    reaches[1][2] = _side_reach(ranking, reach_m, steps[1][2], size_m, ranking.rise)
    return np.array(reaches)


@lru_cache(maxsize=4096)
def _side_reach(
    ranking: Ranking, reach_m: float, beyond_quarters: int, size_m: float, rise: float = 0.0
) -> float:
    """Return the same of one side; futures reach so many quarters of a voxel beyond the body."""
    u = size_m * np.arange(np.ceil(reach_m / size_m) + 1.0)
    t = u - 0.25 * size_m * beyond_quarters - 2.0 * size_m
    smooth = sum(
        share * (ndtr(-t / width_m) if width_m else (t <= 0.0))
        for width_m, share in zip(ranking.widths_m, ranking.shares, strict=True)
    )
    limit_m = reach_m + ranking.beta_m * np.log((smooth + SMALLEST) / (1.0 + SMALLEST))
    return size_m * float(np.count_nonzero((1.0 + rise) * u <= limit_m))


def rank_space(
    likeliest: Bodies,
    futures: Bodies,
    grid: VoxelGrid,
    ranking: Ranking,
    reach_m: float = FARTHEST_M,
    device: torch.device | None = None,
) -> tuple[Float32[np.ndarray, 'x y z'], Float32[np.ndarray, 'x y z']]:
    """Return F and d at the centres of a grid that holds all futures [m].

    Args:
        reach_m: Where d + g h > reach + beta log((S + e) / (1 + e)) in a whole column and those
            beside it, d counts as `FARTHEST_M`.
    """
    occupancy = voxel_probability(futures, grid, device=device)
    closeness = smoothed(occupancy, grid.size_m, ranking, device)
    closeness += SMALLEST
    closeness /= 1.0 + SMALLEST
    np.log(closeness, out=closeness)
    closeness *= ranking.beta_m
    heights = grid.origin[2] + grid.size_m * (np.arange(grid.shape[2]) + 0.5)
    above = np.maximum(heights - likeliest.bounds[1][2], 0.0)
    closeness -= (ranking.rise * above).astype(np.float32)
    reaches = np.empty(grid.shape[:2], np.float32)
    kernels.column_reaches(closeness, reach_m, reaches)
    distance = body_distance(likeliest, grid, reaches, device)
    return closeness - distance, distance


def refined(field: WindowField, cut: tuple[slice, ...] | None = None) -> WindowField:
    """Interpolate a part of a field linearly on voxels of half the edge."""
    x, y, z = cut or (slice(0, count) for count in field.grid.shape)
    part, size_m = field.values[x, y, z], field.grid.size_m
    origin = np.array(field.grid.origin) + size_m * np.array([x.start, y.start, z.start])
    nx, ny, nz = part.shape
    values = np.empty((2 * nx, 2 * ny, 2 * nz), np.float32)
    kernels.interpolate(np.ascontiguousarray(part), np.empty(nz, np.float32), values)
    start: tuple[float, float, float] = tuple(origin.tolist())
    return WindowField(VoxelGrid(start, 0.5 * size_m, values.shape), values)


def smoothed(
    occupancy: Float32[np.ndarray, 'x y z'],
    size_m: float,
    ranking: Ranking,
    device: torch.device | None = None,
) -> Float32[np.ndarray, 'x y z']:
    """Return S = sum over m of w_m Gaussian(sigma_m) * P; P is zero outside the grid.

    A Gaussian is a product of matrices X, Y, Z along the axes:

        S[x, y, z] = sum over m, i of w_m X_m[x, i] B_m[i, y, z]
        B_m[i, y, z] = sum over j of Y_m[y, j] sum over k of P[i, j, k] Z_m[z, k]
    """
    blurs = tuple(width_m / size_m for width_m in ranking.widths_m if width_m > 0.0)
    shares = tuple(w for w, m in zip(ranking.shares, ranking.widths_m, strict=True) if m > 0.0)
    total = np.float32(sum(ranking.shares) - sum(shares)) * occupancy
    nx, ny, nz = occupancy.shape
    x, y, z = _gaussians(nx, blurs, shares), _gaussians(ny, blurs), _gaussians(nz, blurs)
    if device is not None and device.type != 'cpu':
        p, *xyz = (torch.from_numpy(part).to(device) for part in (occupancy, x, y, z))
        return total + torch.einsum('ijk,mxi,myj,mzk->xyz', p, *xyz).cpu().numpy()
    lines = np.empty((len(blurs), ny, nz), np.float32)
    planes = np.empty((nx, len(blurs), ny * nz), np.float32)
    kernels.add_blurs(occupancy, x, y, z, lines, planes, total.reshape(nx, ny * nz))
    return total


@lru_cache(maxsize=1024)
def _gaussians(
    count: int, widths: tuple[float, ...], shares: tuple[float, ...] | None = None
) -> Float32[np.ndarray, 'width count count']:
    """Return the matrices that smooth `count` values, times shares; widths in voxels."""
    matrices = np.empty((len(widths), count, count), np.float32)
    apart = np.subtract.outer(np.arange(count), np.arange(count))
    for matrix, width, share in zip(matrices, widths, shares or len(widths) * (1.0,), strict=True):
        around = np.arange(-np.ceil(5.0 * width), np.ceil(5.0 * width) + 1.0)
        total = np.exp(-0.5 * (around / width) ** 2).sum()
        matrix[:] = share / total * np.exp(-0.5 * (apart / width) ** 2)
    return matrices


def body_distance(
    body: Bodies,
    grid: VoxelGrid,
    reach_m: float | Float32[np.ndarray, 'x y'] = FARTHEST_M,
    device: torch.device | None = None,
) -> Float32[np.ndarray, 'x y z']:
    """Return how far voxel centres are from a body's surface [m]; negative inside.

    Args:
        reach_m: What is farther away counts as `FARTHEST_M`; one for all, or one for each column.
    """
    starts, ends, radii = in_voxels(body, grid)
    starts, ends, radii = starts.reshape(-1, 3), ends.reshape(-1, 3), radii.ravel()
    reach = np.empty(grid.shape[:2], np.float32)
    reach[:] = np.asarray(reach_m) / grid.size_m
    nx, ny, nz = grid.shape
    padded = np.full((nx, ny, nz + kernels.BLOCK), FARTHEST_M / grid.size_m, np.float32)
    distance = padded[..., :nz]
    if device is not None and device.type != 'cpu':
        a, b, r = (torch.from_numpy(part[None]).to(device) for part in (starts, ends, radii))
        near = capsule_distance_torch(a, b, r, grid.shape)[0].cpu().numpy()
        np.copyto(distance, near, where=near <= reach[..., None])
    else:
        kernels.capsule_distance(starts, ends, radii, reach, float(reach.max()), padded)
    return distance * np.float32(grid.size_m)
