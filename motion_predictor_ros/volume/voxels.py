# SPDX-License-Identifier: Apache-2.0
"""Voxel probability: how likely a body part is in a voxel at any time of a window.

Stage: volume. P(v) = sum over futures of W 1[v touched by any capsule of the future]: each future
counts once, however long it stays. Conservative: radii are padded by half a voxel's diagonal, so
that a voxel that a capsule touches anywhere is never missed. A capsule marks an interval of each
column along z, in a compiled loop; on a GPU, distances of voxel centres in torch say the same.
"""

import math
from functools import partial

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, UInt64
from torch import Tensor

from motion_predictor_ros.runtime.jit import compiled, inlined
from motion_predictor_ros.volume.capsules import Bodies
from motion_predictor_ros.volume.grid import VoxelGrid

_AT_ONCE = 2**24
"""Most voxels of futures in a GPU's memory at once."""

BLOCK = 8
"""Columns that the compiled loop tests at once; masks have so many more along y than the grid."""

SLACK = np.float32(0.01)
"""Added to radii, in voxels: far above float32's rounding, far below what matters."""

LEVEL = np.float32(1e-3)
"""Segments steeper than this, in voxels across, count as this much across."""

_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)


@compiled
def add_futures(
    starts: Float64[np.ndarray, 'future pose capsule 3'],
    ends: Float64[np.ndarray, 'future pose capsule 3'],
    radii: Float64[np.ndarray, 'future pose capsule'],
    weights: Float64[np.ndarray, ' future'],
    origin: Float64[np.ndarray, 'xyz=3'],
    size_m: float,
    masks: UInt64[np.ndarray, 'word x y'],
    probability: Float32[np.ndarray, 'x y z'],
) -> None:
    """Add each future's weight once wherever any of its capsules is.

    In the vertical plane of a column, at `along` the segment's projection and `across` it, the
    column enters and leaves a capsule of radius r over the points u of the segment:

        u = clip((along -+ sqrt(r^2 - across^2) sin(slope)) / level, 0, 1)
        z = az + u dz -+ sqrt(r^2 - across^2 - (along - u level)^2)

    Args:
        starts, ends, radii: [m], radii padded.
        origin: Centre of the first voxel [m].
        size_m: Edge of a voxel [m].
        masks: Workspace, zero, along y `BLOCK` longer than the grid; a bit is a voxel.
        probability: Added to.
    """
    one, zero = np.float32(1.0), np.float32(0.0)
    words, nx, ny = masks.shape[0], masks.shape[1], masks.shape[2] - BLOCK
    for future in range(len(weights)):
        box = nx, -1, ny, -1
        for part in range(starts.shape[1] * starts.shape[2]):
            pose, capsule = part // starts.shape[2], part % starts.shape[2]
            start, end = starts[future, pose, capsule], ends[future, pose, capsule]
            ax = np.float32((start[0] - origin[0]) / size_m)
            ay = np.float32((start[1] - origin[1]) / size_m)
            az = np.float32((start[2] - origin[2]) / size_m)
            bx = np.float32((end[0] - origin[0]) / size_m)
            by = np.float32((end[1] - origin[1]) / size_m)
            bz = np.float32((end[2] - origin[2]) / size_m)
            reach = np.float32(radii[future, pose, capsule] / size_m) + SLACK
            x0 = max(int(np.ceil(min(ax, bx) - reach)), 0)
            x1 = min(int(np.floor(max(ax, bx) + reach)), nx - 1)
            y0 = max(int(np.ceil(min(ay, by) - reach)), 0)
            y1 = min(int(np.floor(max(ay, by) + reach)), ny - 1)
            first = max(int(np.floor((min(az, bz) - reach) / 64)), 0)
            last = min(int(np.floor((max(az, bz) + reach) / 64)), words - 1)
            box = min(box[0], x0), max(box[1], x1), min(box[2], y0), max(box[3], y1)
            dx, dy, dz = bx - ax, by - ay, bz - az
            flat = np.sqrt(dx * dx + dy * dy)
            level = max(flat, LEVEL)
            slope = dz / np.sqrt(level * level + dz * dz)
            ex, ey = (dx / flat, dy / flat) if flat > zero else (one, zero)
            inverse = one / level
            for word in range(first, last + 1):
                lowest = np.float32(64 * word)
                for x in range(x0, x1 + 1):
                    px = np.float32(x) - ax
                    for block in range((y1 - y0 + BLOCK) // BLOCK):
                        base = y0 + BLOCK * block
                        for offset in range(BLOCK):
                            py = np.float32(np.int32(base + offset)) - ay
                            along, across = px * ex + py * ey, py * ex - px * ey
                            rest = reach * reach - across * across
                            root = np.sqrt(max(rest, zero)) * slope
                            up = min(max((along + root) * inverse, zero), one)
                            down = min(max((along - root) * inverse, zero), one)
                            off_up, off_down = along - up * level, along - down * level
                            up2, down2 = rest - off_up * off_up, rest - off_down * off_down
                            top = az + up * dz + np.sqrt(max(up2, zero)) - lowest
                            bottom = az + down * dz - np.sqrt(max(down2, zero)) - lowest
                            top = min(max(top, np.float32(-1.0)), np.float32(63.0))
                            bottom = min(max(bottom, zero), np.float32(64.0))
                            high, low = np.int32(np.floor(top)), np.int32(np.ceil(bottom))
                            bits = _ALL >> np.uint64(np.int32(63) - high & 63)
                            bits &= _ALL << np.uint64(low & 63)
                            hit = (min(up2, down2) >= zero) & (high >= low)
                            masks[word, x, base + offset] |= bits if hit else np.uint64(0)
        _add(np.float32(weights[future]), masks, probability, box)


@partial(inlined, early=True)
def _add(
    weight: float,
    masks: UInt64[np.ndarray, 'word x y'],
    probability: Float32[np.ndarray, 'x y z'],
    box: tuple[int, int, int, int],
) -> None:
    """Add the weight where bits are set, and clear them.

    Args:
        box: First and last column along x, and along y.
    """
    height = probability.shape[2]
    for x in range(box[0], box[1] + 1):
        for y in range(box[2], min(box[3] + 1 + BLOCK, masks.shape[2])):
            for word in range(masks.shape[0]):
                bits = masks[word, x, y]
                if bits != 0:
                    masks[word, x, y] = np.uint64(0)
                    base = 64 * word
                    for z in range(min(64, height - base) if y < probability.shape[1] else 0):
                        bit = (bits >> np.uint64(z)) & np.uint64(1)
                        probability[x, y, base + z] += weight * np.float32(bit)


def voxel_probability(
    bodies: Bodies,
    grid: VoxelGrid,
    *,
    padding_m: float | None = None,
    device: torch.device | None = None,
) -> Float32[np.ndarray, 'x y z']:
    """Return P of every voxel of the grid.

    Args:
        padding_m: Added to radii; None: half a voxel's diagonal. Zero marks the voxels whose
            centre is inside, which measures volumes without bias and misses touched voxels.
        device: Where to compute; None: the CPU.
    """
    padded = bodies.inflated(grid.padding_m if padding_m is None else padding_m)
    if device is not None and device.type != 'cpu':
        return _voxel_probability_torch(padded, grid, device)
    nx, ny, nz = grid.shape
    masks = np.zeros((-(-nz // 64), nx, ny + BLOCK), dtype=np.uint64)
    probability = np.zeros(grid.shape, dtype=np.float32)
    add_futures(
        padded.starts, padded.ends, padded.radii, padded.weights,
        grid.first_centre, grid.size_m, masks, probability,
    )  # fmt: skip
    return probability


def covered(
    bodies: Bodies,
    grid: VoxelGrid,
    *,
    padding_m: float | None = None,
    device: torch.device | None = None,
) -> Bool[np.ndarray, 'x y z']:
    """Return which voxels any of the capsules touches, whatever the futures weigh."""
    starts, ends = (places.reshape(1, 1, -1, 3) for places in (bodies.starts, bodies.ends))
    single = Bodies(starts, ends, bodies.radii.reshape(1, 1, -1), np.ones(1), bodies.times_s[:1])
    return voxel_probability(single, grid, padding_m=padding_m, device=device) > 0.0


def touched(body: Bodies, grid: VoxelGrid) -> Bool[np.ndarray, 'x y z']:
    """Return the voxels that a body touches; tested on voxels of half the size, never too few."""
    nx, ny, nz = grid.shape
    half = VoxelGrid(grid.origin, 0.5 * grid.size_m, (2 * nx, 2 * ny, 2 * nz))
    inside = covered(body, half).reshape(nx, 2, ny, 2, nz, 2)
    return np.asarray(inside.any(axis=(1, 3, 5)))


def in_voxels(
    bodies: Bodies, grid: VoxelGrid
) -> tuple[
    Float32[np.ndarray, 'future pose capsule xyz=3'],
    Float32[np.ndarray, 'future pose capsule xyz=3'],
    Float32[np.ndarray, 'future pose capsule'],
]:
    """Return starts, ends and radii in voxels, from the centre of the first one."""
    starts, ends = (
        ((places - grid.first_centre) / grid.size_m).astype(np.float32)
        for places in (bodies.starts, bodies.ends)
    )
    return starts, ends, (bodies.radii / grid.size_m).astype(np.float32)


def _voxel_probability_torch(
    bodies: Bodies, grid: VoxelGrid, device: torch.device
) -> Float32[np.ndarray, 'x y z']:
    """Return P as the distance from the nearest capsule of each future says, on a GPU."""
    weights = torch.from_numpy(bodies.weights.astype(np.float32)).to(device)
    starts, ends, radii = (
        torch.from_numpy(part).to(device).flatten(1, 2) for part in in_voxels(bodies, grid)
    )
    probability = weights.new_zeros(grid.shape)
    for part in torch.arange(len(weights)).split(max(1, _AT_ONCE // math.prod(grid.shape))):
        index = part.to(device)
        distance = capsule_distance_torch(starts[index], ends[index], radii[index], grid.shape)
        inside = (distance <= float(SLACK)).to(weights)
        probability += torch.einsum('f,fxyz->xyz', weights[index], inside)
    return probability.cpu().numpy()


def capsule_distance_torch(
    starts: Float32[Tensor, 'future capsule xyz=3'],
    ends: Float32[Tensor, 'future capsule xyz=3'],
    radii: Float32[Tensor, 'future capsule'],
    shape: tuple[int, int, int],
) -> Float32[Tensor, 'future x y z']:
    """Return how far voxel centres are from the nearest capsule's surface, negative inside.

    Args:
        starts, ends, radii: In voxels from the first one's centre.
    """
    axes = [torch.arange(count).to(starts) for count in shape]
    centres = torch.stack(torch.meshgrid(*axes, indexing='ij'), dim=-1)
    distance = starts.new_full((len(starts), *shape), torch.inf)
    for capsule in range(radii.shape[1]):
        start, end, radius = (part[:, capsule, None, None, None] for part in (starts, ends, radii))
        along, away = end - start, centres - start
        share = (away * along).sum(-1) / along.square().sum(-1).clamp_min(1e-12)
        away -= share.clamp(0.0, 1.0)[..., None] * along
        distance = torch.minimum(distance, away.norm(dim=-1) - radius)
    return distance
