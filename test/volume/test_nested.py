# SPDX-License-Identifier: Apache-2.0
"""Capsules that are left out would not have changed a voxel."""

import numpy as np
from volume_scenes import SHAPE, wandering

from motion_predictor_ros.volume.capsules import Bodies, bodies
from motion_predictor_ros.volume.grid import VoxelGrid
from motion_predictor_ros.volume.voxels import covered, cull_enclosed_capsules, voxel_probability

GRID = VoxelGrid((-2.0, -2.0, -1.0), 0.05, (90, 90, 80))


def thick(seed: int) -> Bodies:
    """Bodies made so much thicker that most of their capsules are hidden."""
    points, times_s = wandering(4, 5, seed=seed)
    found = bodies(SHAPE, points, np.full(4, 0.25), times_s)
    more = np.random.default_rng(seed).uniform(0.2, 0.6, found.radii.shape)
    return Bodies(found.starts, found.ends, found.radii + more, found.weights, found.times_s)


def test_the_union_is_the_same_without_them() -> None:
    for seed in range(2):
        found = thick(seed)
        all_of_them = voxel_probability(found, GRID) > 0.0
        np.testing.assert_array_equal(covered(found, GRID), all_of_them)


def test_few_are_left_and_they_count() -> None:
    found = thick(0)
    starts, ends = (each.reshape(-1, 3).astype(np.float32) for each in (found.starts, found.ends))
    radii = found.radii.ravel().astype(np.float32)
    kept = cull_enclosed_capsules(starts, ends, radii, 0.0)
    assert 1 < len(kept) < len(radii) / 2
    assert radii[kept[0]] == radii.max()
    too_few = Bodies(
        *(each[None, None, kept[::2]].astype(np.float64) for each in (starts, ends, radii)),
        np.ones(1),
        np.zeros(1),
    )
    assert (covered(found, GRID) & ~covered(too_few, GRID)).any()


def test_what_sticks_out_stays() -> None:
    starts = np.zeros((3, 3), np.float32)
    ends = np.array([[1, 0, 0], [0.5, 0, 0], [1.2, 0, 0]], np.float32)
    radii = np.array([0.5, 0.4, 0.4], np.float32)
    assert cull_enclosed_capsules(starts, ends, radii, 0.0).tolist() == [0, 2]
    assert cull_enclosed_capsules(starts, ends, radii, 0.2).tolist() == [0, 1, 2]
