# SPDX-License-Identifier: Apache-2.0
"""What is sent of a volume loses nothing that is covered."""

import numpy as np
import pytest
from safety_volumes import volume

from motion_predictor_ros.skeleton.frame import Validity
from motion_predictor_ros.volume.grid import Patch, VoxelGrid
from motion_predictor_ros.volume.sparse import SparseVolume, downsampled, sparse


def holds(few: SparseVolume, index: int, places: np.ndarray) -> np.ndarray:
    """Whether covered voxels of the window contain these places."""
    window = few.windows[index]
    inside = np.zeros(few.grid.shape, dtype=bool)
    inside.ravel()[window.voxels[window.covered]] = True
    x, y, z = np.floor((places - few.grid.origin) / few.grid.size_m).astype(int).T
    return inside[x, y, z]


def test_all_that_is_covered_or_likely_is_listed_and_nothing_else() -> None:
    whole = volume()
    few = sparse(whole, 10**9, least=0.2)
    assert few.grid == whole.grid
    for window, dense in zip(few.windows, whole.windows, strict=True):
        listed = np.zeros(whole.grid.shape, dtype=bool)
        listed.ravel()[window.voxels] = True
        np.testing.assert_array_equal(listed, dense.covered | (dense.probability >= 0.2))
        np.testing.assert_array_equal(window.probability, dense.probability[listed])
        np.testing.assert_array_equal(window.covered, dense.covered[listed])


@pytest.mark.parametrize('most', [2000, 300])
@pytest.mark.parametrize('shift_m', [0.0, 0.1, -0.3])
def test_joined_voxels_hold_all_that_was_covered(most: int, shift_m: float) -> None:
    whole = volume(shift_m=(shift_m, -shift_m, shift_m))
    few = sparse(whole, most)
    assert sum(len(each.voxels) for each in few.windows) <= most
    assert few.grid.size_m > whole.grid.size_m
    steps = np.array(few.grid.origin) / few.grid.size_m
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-6)  # people's grids agree
    for index, dense in enumerate(whole.windows):
        assert holds(few, index, whole.grid.centres(dense.covered)).all()
        free = ~dense.covered & (dense.probability < 0.01)
        assert not holds(few, index, whole.grid.centres(free)).all()
        assert few.windows[index].probability.max() == dense.probability.max()


def test_a_shell_is_what_touches_free_space() -> None:
    whole = volume(validity=Validity.INCOMPLETE)
    covered = whole.windows[0].covered
    window = sparse(whole, 10**9, shell=True).windows[0]
    x, y, z = np.unravel_index(window.voxels, covered.shape)
    sides = np.concatenate([np.eye(3, dtype=int), -np.eye(3, dtype=int)])
    around = np.pad(covered, 1)
    free = [~around[x + 1 + i, y + 1 + j, z + 1 + k] for i, j, k in sides]
    assert np.any(free, axis=0).all()
    inner = covered.copy()
    inner[x, y, z] = False
    rest = np.argwhere(inner) + 1
    assert len(rest) and all(around[tuple((rest + side).T)].all() for side in sides)


@pytest.mark.parametrize('kind', [np.bool_, np.float32])
def test_a_box_of_voxels_is_joined_as_the_whole_grid_is(kind: type) -> None:
    generator = np.random.default_rng(3)
    for _ in range(20):
        shape = tuple(int(each) for each in generator.integers(5, 9, size=3))
        first = tuple(int(each) for each in generator.integers(0, 3, size=3))
        size = [
            int(generator.integers(1, 1 + most - at))
            for most, at in zip(shape, first, strict=True)
        ]
        x, y, z = (float(each) for each in generator.integers(-4, 4, size=3) * 0.1)
        grid = VoxelGrid((x, y, z), 0.1, shape)
        part = Patch(first, (generator.random(size) * (generator.random(size) < 0.5)).astype(kind))
        (box, whole), larger = downsampled([part, Patch((0, 0, 0), part.within(shape))], grid)
        assert box.values.dtype == kind and whole.values.shape == larger.shape
        np.testing.assert_array_equal(box.within(larger.shape), whole.values)
        centres = grid.centres(part.within(shape) > 0)
        inside = np.floor((centres - larger.origin) / larger.size_m + 1e-6).astype(int)
        assert (whole.values[tuple(inside.T)] > 0).all()
        assert np.count_nonzero(whole.values) == len(np.unique(inside, axis=0))
