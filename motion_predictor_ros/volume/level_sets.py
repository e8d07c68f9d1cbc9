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
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64
from scipy.special import ndtr
from torch import Tensor

from motion_predictor_ros.runtime.jit import compiled
from motion_predictor_ros.volume.body import BodyShape
from motion_predictor_ros.volume.capsules import Bodies
from motion_predictor_ros.volume.forecast import BodyForecast
from motion_predictor_ros.volume.grid import VoxelGrid
from motion_predictor_ros.volume.voxels import in_voxels, voxel_probability

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
    """

    grid: VoxelGrid
    values: Float32[np.ndarray, 'x y z']

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
    *,
    every: int = 3,
    device: torch.device | None = None,
) -> WindowField:
    """Rank the space of one window, as far as F is at least `lowest` or a future goes.

    Args:
        size_m: Edge of a voxel [m].
        every: Predicted frames that share one set of capsules.
        device: Where to compute; None: the CPU.

    Raises:
        DataError: There would be more voxels than fit in memory.
    """
    futures = forecast.future_bodies(shape, window_s, every)
    likeliest = forecast.likeliest_body(shape, window_s, every)
    return rank_around(likeliest, futures, ranking, lowest, size_m, device)


def rank_around(
    likeliest: Bodies,
    futures: Bodies,
    ranking: Ranking,
    lowest: float,
    size_m: float,
    device: torch.device | None = None,
) -> WindowField:
    """Rank space as `window_field` does, around bodies that are swept through a window.

    Raises:
        DataError: There would be more voxels than fit in memory.
    """
    (low, high), (first, last) = likeliest.bounds, futures.bounds
    reach_m = max(-lowest, 0.0)
    beyond = np.stack([low - first, last - high])
    reaches = side_reaches(ranking, reach_m, beyond, 2.0 * size_m)
    low, high = np.minimum(low - reaches[0], first), np.maximum(high + reaches[1], last)
    coarse = VoxelGrid.around(low - 2.0 * size_m, high + 2.0 * size_m, 2.0 * size_m)
    # Of interpolated values at least `lowest`, no corner is farther away.
    farthest_m = reach_m + 2.0 * np.sqrt(3.0) * size_m
    values = rank_space(likeliest, futures, coarse, ranking, farthest_m, device)
    cut = _around(values >= lowest, coarse, first, last)
    return refined(WindowField(coarse, values), cut, device)


def side_reaches(
    ranking: Ranking,
    reach_m: float,
    beyond_m: Float64[np.ndarray, 'side xyz=3'],
    size_m: float,
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
    u = size_m * np.arange(np.ceil(reach_m / size_m) + 1.0)[:, None, None]
    t = u - beyond_m - 2.0 * size_m
    smooth = sum(
        share * (ndtr(-t / width_m) if width_m else (t <= 0.0))
        for width_m, share in zip(ranking.widths_m, ranking.shares, strict=True)
    )
    limit_m = reach_m + ranking.beta_m * np.log((smooth + SMALLEST) / (1.0 + SMALLEST))
    cost = np.ones((2, 3))
    cost[1, 2] += ranking.rise
    count: Float64[np.ndarray, 'side xyz=3'] = (cost * u <= limit_m).sum(axis=0)
    return size_m * count


def rank_space(
    likeliest: Bodies,
    futures: Bodies,
    grid: VoxelGrid,
    ranking: Ranking,
    reach_m: float = FARTHEST_M,
    device: torch.device | None = None,
) -> Float32[np.ndarray, 'x y z']:
    """Return F at the centres of a grid that holds all futures.

    Args:
        reach_m: Where d + g h > reach + beta log((S + e) / (1 + e)) in a whole column and those
            beside it, d counts as `FARTHEST_M`.
    """
    occupancy = voxel_probability(futures, grid, device=device)
    smooth = (smoothed(occupancy, grid.size_m, ranking, device) + SMALLEST) / (1.0 + SMALLEST)
    heights = grid.origin[2] + grid.size_m * (np.arange(grid.shape[2]) + 0.5)
    above = np.maximum(heights - likeliest.bounds[1][2], 0.0)
    closeness = ranking.beta_m * np.log(smooth) - (ranking.rise * above).astype(np.float32)
    distance = body_distance(likeliest, grid, _column_reaches(closeness, reach_m), device)
    return closeness - distance


def _column_reaches(
    closeness_m: Float32[np.ndarray, 'x y z'], reach_m: float
) -> Float32[np.ndarray, 'x y']:
    """Return how far from the body a level can be in each column and those beside it [m].

    Args:
        closeness_m: beta log((S + e) / (1 + e)) - g h, by which distances must be smaller.
    """
    highest = closeness_m.max(axis=2)
    for axis in (0, 1):
        beside = np.moveaxis(highest.copy(), axis, 0)
        target = np.moveaxis(highest, axis, 0)
        np.maximum(target[1:], beside[:-1], out=target[1:])
        np.maximum(target[:-1], beside[1:], out=target[:-1])
    return np.float32(reach_m) + highest


def _around(
    inside: Bool[np.ndarray, 'x y z'],
    grid: VoxelGrid,
    low: Float64[np.ndarray, 'xyz=3'],
    high: Float64[np.ndarray, 'xyz=3'],
) -> tuple[slice, ...]:
    """Return where voxels inside and the box from low to high are, and their neighbours."""
    first = np.floor((low - grid.origin) / grid.size_m).astype(int)
    last = np.floor((high - grid.origin) / grid.size_m).astype(int)
    cuts = []
    for axis in range(3):
        there = np.flatnonzero(inside.any(axis=tuple({0, 1, 2} - {axis})))
        start, end = int(first[axis]), int(last[axis])
        if len(there):
            start, end = min(start, int(there[0])), max(end, int(there[-1]))
        cuts.append(slice(max(start - 1, 0), min(end + 2, grid.shape[axis])))
    return tuple(cuts)


def refined(
    field: WindowField, cut: tuple[slice, ...] | None = None, device: torch.device | None = None
) -> WindowField:
    """Interpolate a part of a field on voxels of half the edge."""
    x, y, z = cut or (slice(0, count) for count in field.grid.shape)
    part = np.ascontiguousarray(field.values[x, y, z])
    size_m, origin = 0.5 * field.grid.size_m, field.grid.origin
    starts = [
        at + field.grid.size_m * axis.start for at, axis in zip(origin, (x, y, z), strict=True)
    ]
    fine = torch.nn.functional.interpolate(
        torch.from_numpy(part)[None, None].to(device or 'cpu'), scale_factor=2.0, mode='trilinear'
    )
    values = fine[0, 0].cpu().numpy()
    nx, ny, nz = values.shape
    return WindowField(VoxelGrid((starts[0], starts[1], starts[2]), size_m, (nx, ny, nz)), values)


def smoothed(
    occupancy: Float32[np.ndarray, 'x y z'],
    size_m: float,
    ranking: Ranking,
    device: torch.device | None = None,
) -> Float32[np.ndarray, 'x y z']:
    """Return S = sum over m of w_m Gaussian(sigma_m) * P; P is zero outside the grid.

    A Gaussian is a product of banded matrices X, Y, Z along the axes. Those of all m are applied
    together, one axis after the other, to the part of the grid where P is not zero:

        S[x, y, z] = sum over m, i of w_m X_m[x, i] B_m[i, y, z]
        B_m[i, y, z] = sum over j of Y_m[y, j] sum over k of P[i, j, k] Z_m[k, z]
    """
    ahead = [share for width_m, share in _terms(ranking) if width_m == 0.0]
    total = np.float32(sum(ahead)) * occupancy
    blurs = [(width_m / size_m, share) for width_m, share in _terms(ranking) if width_m > 0.0]
    support = _support(occupancy > 0.0)
    if not blurs or support is None:
        return total
    where = device or torch.device('cpu')
    x, y, z = (
        torch.stack([_gaussian(count, width)[:, part] for width, _ in blurs]).to(where)
        for count, part in zip(occupancy.shape, support, strict=True)
    )
    part = torch.from_numpy(np.ascontiguousarray(occupancy[support])).to(where)
    part = (part @ z.flatten(0, 1).mT).unflatten(2, z.shape[:2])  # i j m z
    part = (y @ part.transpose(1, 2)).flatten(0, 1)  # (i m) y z
    shares = torch.tensor([share for _, share in blurs]).to(x)
    x = (shares[:, None, None] * x).permute(1, 2, 0).flatten(1)  # x (i m)
    blurred = (x @ part.flatten(1)).reshape(occupancy.shape)
    total += blurred.cpu().numpy()
    return total


def _terms(ranking: Ranking) -> list[tuple[float, float]]:
    return list(zip(ranking.widths_m, ranking.shares, strict=True))


def _support(inside: Bool[np.ndarray, 'x y z']) -> tuple[slice, slice, slice] | None:
    """Return the smallest box around voxels; None without any."""
    flat = np.any(inside, axis=2)
    lines = np.any(flat, axis=1), np.any(flat, axis=0), np.any(inside, axis=(0, 1))
    places = [np.flatnonzero(line) for line in lines]
    if not len(places[0]):
        return None
    x, y, z = (slice(int(axis[0]), int(axis[-1]) + 1) for axis in places)
    return x, y, z


@lru_cache(maxsize=1024)
def _gaussian(count: int, width: float) -> Float32[Tensor, 'count count']:
    """Return the matrix that smooths `count` values, `width` in voxels."""
    place = torch.arange(count, dtype=torch.float32)
    around = torch.arange(-np.ceil(5.0 * width), np.ceil(5.0 * width) + 1.0, dtype=torch.float32)
    total = torch.exp(-0.5 * (around / width) ** 2).sum()
    return torch.exp(-0.5 * ((place[:, None] - place) / width) ** 2) / total


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
    starts, ends, radii = in_voxels(body, grid, 0.0)
    starts, ends, radii = starts.reshape(-1, 3), ends.reshape(-1, 3), radii.ravel()
    farthest = np.float32(FARTHEST_M / grid.size_m)
    reach = np.empty(grid.shape[:2], np.float32)
    reach[:] = np.asarray(reach_m) / grid.size_m
    if device is not None and device.type != 'cpu':
        a, b, r = (torch.from_numpy(part).to(device) for part in (starts, ends, radii))
        distance = capsule_distance_torch(a, b, r, grid.shape).cpu().numpy()
    else:
        distance = np.full(grid.shape, farthest, np.float32)
        capsule_distance(starts, ends, radii, reach, float(reach.max()), distance)
    distance[distance > reach[..., None]] = farthest
    return distance * np.float32(grid.size_m)


def capsule_distance_torch(
    starts: Float32[Tensor, 'capsule xyz=3'],
    ends: Float32[Tensor, 'capsule xyz=3'],
    radii: Float32[Tensor, ' capsule'],
    shape: tuple[int, int, int],
) -> Float32[Tensor, 'x y z']:
    """Return the same as `capsule_distance`, of all voxels; for a GPU."""
    axes = [torch.arange(count).to(starts) for count in shape]
    centres = torch.stack(torch.meshgrid(*axes, indexing='ij'), dim=-1)
    distance = torch.full(shape, torch.inf).to(starts)
    for start, end, radius in zip(starts, ends, radii, strict=True):
        along, away = end - start, centres - start
        part = (away @ along / along.square().sum().clamp_min(1e-12)).clamp(0.0, 1.0)
        near = (away - part[..., None] * along).norm(dim=-1) - radius
        distance = torch.minimum(distance, near)
    return distance


@compiled
def capsule_distance(
    starts: Float32[np.ndarray, 'capsule xyz=3'],
    ends: Float32[np.ndarray, 'capsule xyz=3'],
    radii: Float32[np.ndarray, ' capsule'],
    reach: Float32[np.ndarray, 'x y'],
    farthest: float,
    distance: Float32[np.ndarray, 'x y z'],
) -> None:
    """Lower `distance` to that of each voxel's centre from the nearest capsule's surface.

    Args:
        starts, ends, radii: In voxels from the first one's centre.
        reach: In voxels, of each column; what is farther away may stay as it is.
        farthest: The largest of them.
        distance: In voxels; negative inside.
    """
    zero, one = np.float32(0.0), np.float32(1.0)
    nx, ny, nz = distance.shape
    for capsule in range(len(radii)):
        a, b, r = starts[capsule], ends[capsule], radii[capsule]
        far = r + np.float32(farthest)
        dx, dy, dz = b[0] - a[0], b[1] - a[1], b[2] - a[2]
        flat2 = dx * dx + dy * dy
        inverse = one / max(flat2 + dz * dz, np.float32(1e-12))
        flat_inverse = one / max(flat2, np.float32(1e-12))
        x0 = max(int(np.ceil(min(a[0], b[0]) - far)), 0)
        x1 = min(int(max(a[0], b[0]) + far) + 1, nx)
        y0 = max(int(np.ceil(min(a[1], b[1]) - far)), 0)
        y1 = min(int(max(a[1], b[1]) + far) + 1, ny)
        for x in range(x0, x1):
            px = np.float32(x) - a[0]
            for y in range(y0, y1):
                py = np.float32(y) - a[1]
                along = px * dx + py * dy
                u = min(max(along * flat_inverse, zero), one)
                ex, ey = px - u * dx, py - u * dy
                left2 = (r + reach[x, y]) * abs(r + reach[x, y]) - ex * ex - ey * ey
                if left2 < zero:
                    continue
                left = np.sqrt(left2)
                z0 = max(int(np.ceil(min(a[2], b[2]) - left)), 0)
                z1 = min(int(max(a[2], b[2]) + left) + 1, nz)
                row = distance[x, y, z0:z1]
                for lane in range(len(row)):
                    pz = np.float32(np.int32(z0 + lane)) - a[2]
                    t = min(max((along + pz * dz) * inverse, zero), one)
                    fx, fy, fz = px - t * dx, py - t * dy, pz - t * dz
                    near = np.sqrt(fx * fx + fy * fy + fz * fz) - r
                    row[lane] = min(row[lane], near)
