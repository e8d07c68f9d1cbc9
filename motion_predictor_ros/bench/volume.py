# SPDX-License-Identifier: Apache-2.0
"""Time the rasteriser, and compare its voxels with a direct test of every voxel near a capsule.

A synthetic person walks off in `futures` directions with swinging arms, observed at `poses`
times in one second; 64^3 voxels of 5 cm. The direct test is compiled too, and stops at nothing but
the capsule's box: it is the yardstick for time and for truth.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64
from rich.console import Console

from motion_predictor_ros.bench.timing import rounds_ms
from motion_predictor_ros.data.synthetic import STANDING
from motion_predictor_ros.runtime.jit import compiled
from motion_predictor_ros.volume.body import BodyShape
from motion_predictor_ros.volume.capsules import Bodies, bodies
from motion_predictor_ros.volume.collision import RobotMotion, collision_probability
from motion_predictor_ros.volume.grid import VoxelGrid
from motion_predictor_ros.volume.voxels import voxel_probability

GRID = VoxelGrid((-1.6, -1.6, -0.4), 0.05, (64, 64, 64))

_SIDES = (16, 32, 64, 128, 256)
"""Voxels along each side of grids with the extent of `GRID`."""


def walkers(shape: BodyShape, futures: int, poses: int, seed: int = 0) -> Bodies:
    """Return bodies of a person walking in random directions for a second."""
    random = np.random.default_rng(seed)
    times_s = np.linspace(0.0, 1.0, poses)
    heading = random.uniform(0.0, 2.0 * np.pi, futures)
    speed = random.uniform(0.0, 1.2, futures)[:, None]
    way = speed * np.stack([np.cos(heading), np.sin(heading)], axis=1)
    swing = random.normal(0.0, 0.1, (futures, 1, len(shape.layout.joint_names), 3))
    positions = STANDING + swing * np.sin(2.0 * np.pi * times_s)[:, None, None]
    positions[..., :2] += times_s[:, None, None] * way[:, None, None]
    weights = np.full(futures, 1.0 / futures)
    return bodies(shape, shape.points(positions), weights, times_s)


@compiled
def direct_test(
    starts: Float64[np.ndarray, 'pose capsule xyz=3'],
    ends: Float64[np.ndarray, 'pose capsule xyz=3'],
    radii: Float64[np.ndarray, 'pose capsule'],
    origin: Float64[np.ndarray, 'xyz=3'],
    size_m: float,
    inside: Bool[np.ndarray, 'x y z'],
) -> None:
    """Mark every voxel whose centre is within any capsule, by its distance."""
    first, last = np.empty(3, np.int64), np.empty(3, np.int64)
    for pose in range(starts.shape[0]):
        for capsule in range(starts.shape[1]):
            a, b, r = starts[pose, capsule], ends[pose, capsule], radii[pose, capsule]
            for axis in range(3):
                low = (min(a[axis], b[axis]) - r - origin[axis]) / size_m - 0.5
                high = (max(a[axis], b[axis]) + r - origin[axis]) / size_m - 0.5
                first[axis] = max(int(np.floor(low)), 0)
                last[axis] = min(int(np.ceil(high)), inside.shape[axis] - 1)
            dx, dy, dz = b[0] - a[0], b[1] - a[1], b[2] - a[2]
            scale = 1.0 / max(dx * dx + dy * dy + dz * dz, 1e-18)
            for x in range(first[0], last[0] + 1):
                px = origin[0] + (x + 0.5) * size_m - a[0]
                for y in range(first[1], last[1] + 1):
                    py = origin[1] + (y + 0.5) * size_m - a[1]
                    for z in range(first[2], last[2] + 1):
                        pz = origin[2] + (z + 0.5) * size_m - a[2]
                        u = min(max((px * dx + py * dy + pz * dz) * scale, 0.0), 1.0)
                        ex, ey, ez = px - u * dx, py - u * dy, pz - u * dz
                        inside[x, y, z] |= ex * ex + ey * ey + ez * ez <= r * r


def direct_probability(people: Bodies, grid: VoxelGrid) -> Float32[np.ndarray, 'x y z']:
    """Compute `voxel_probability` by the direct test."""
    probability = np.zeros(grid.shape, dtype=np.float32)
    origin = np.array(grid.origin)
    for future, weight in enumerate(people.weights):
        inside = np.zeros(grid.shape, dtype=np.bool_)
        direct_test(
            people.starts[future],
            people.ends[future],
            people.radii[future] + grid.padding_m,
            origin,
            grid.size_m,
            inside,
        )
        probability += np.float32(weight) * inside
    return probability


def bench_volume(futures: int = 50, poses: int = 15, robots: int = 1000) -> dict[str, Any]:
    """Return times [ms] and how voxels differ from the direct test's."""
    shape = BodyShape.load('body18')
    people = walkers(shape, futures, poses)
    rasterise_ms = _best_ms(lambda: voxel_probability(people, GRID), 30)
    yardstick_ms = _best_ms(lambda: direct_probability(people, GRID), 3)
    missed, extra, true = compare(people, GRID)
    arms = arms_near(robots)
    collision_ms = _best_ms(lambda: collision_probability(people, arms), 10)
    probability = collision_probability(people, arms)
    return {
        'rasterise_ms': rasterise_ms[0],
        'yardstick_ms': yardstick_ms[0],
        'missed_voxels': missed,
        'extra_voxels_share': extra / true,
        'collision_ms': collision_ms[0],
        'wall_ms': {
            'rasterise': rasterise_ms[1],
            'yardstick': yardstick_ms[1],
            'collision': collision_ms[1],
        },
        'robots': robots,
        'robots_that_may_collide': int((probability > 0.0).sum()),
        'futures': futures,
        'poses': poses,
        'capsules': people.radii.shape[2],
        'grid': list(GRID.shape),
        'by_voxels': {str(side**3): _rasterise_ms(people, side) for side in _SIDES},
    }


def _rasterise_ms(people: Bodies, side: int) -> float:
    size_m = GRID.size_m * GRID.shape[0] / side
    grid = VoxelGrid(GRID.origin, size_m, (side, side, side))
    return _best_ms(lambda: voxel_probability(people, grid), 5)[0]


def compare(people: Bodies, grid: VoxelGrid) -> tuple[int, int, int]:
    """Return voxels missed, extra and true, future by future."""
    missed = extra = true = 0
    for future in range(len(people.weights)):
        one = Bodies(
            people.starts[future : future + 1],
            people.ends[future : future + 1],
            people.radii[future : future + 1],
            np.ones(1),
            people.times_s,
        )
        ours, direct = voxel_probability(one, grid) > 0.0, direct_probability(one, grid) > 0.0
        missed += int((direct & ~ours).sum())
        extra += int((ours & ~direct).sum())
        true += int(direct.sum())
    return missed, extra, true


def arms_near(count: int, seed: int = 0) -> RobotMotion:
    """Return robot arms of seven links with bases within two metres of the person."""
    random = np.random.default_rng(seed)
    base = random.uniform(-2.0, 2.0, (count, 1, 3)) * np.array([1.0, 1.0, 0.0])
    joints = np.concatenate([base, random.normal(0.0, 0.12, (count, 7, 3))], axis=1).cumsum(axis=1)
    joints[..., 2] = np.abs(joints[..., 2]) + 0.1 * np.arange(8)
    links = joints[:, None]
    return RobotMotion(links[:, :, :-1], links[:, :, 1:], np.full((count, 1, 7), 0.07))


def _best_ms(answer: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Return the minimum CPU time of this thread, and the minimum wall time, of many rounds [ms].

    Other work on the machine only ever adds.
    """
    wall, processor = rounds_ms(answer, rounds).min(axis=0).tolist()
    return processor, wall


def print_bench(report: dict[str, Any], console: Console) -> None:
    """Print times and differences."""
    console.print(
        f'{report["futures"]} futures x {report["poses"]} poses x {report["capsules"]} capsules '
        f'into {report["grid"]} voxels: {report["rasterise_ms"]:.2f} ms, direct test '
        f'{report["yardstick_ms"]:.1f} ms (minimum CPU time of one thread)'
    )
    times = ', '.join(f'{int(n):,} {ms:.1f}' for n, ms in report['by_voxels'].items())
    console.print(f'ms by number of voxels of the same extent: {times}')
    console.print(
        f'missed voxels {report["missed_voxels"]}, extra {report["extra_voxels_share"]:.2%}'
    )
    console.print(
        f'{report["robots"]} robots against all futures: {report["collision_ms"]:.1f} ms; '
        f'{report["robots_that_may_collide"]} of them may collide'
    )
