# SPDX-License-Identifier: Apache-2.0
"""What is sent of a volume loses nothing that is covered."""

import numpy as np
import pytest
from safety_volumes import volume

from motion_predictor_ros.skeleton.frame import Validity
from motion_predictor_ros.volume.grid import VoxelGrid
from motion_predictor_ros.volume.sparse import SparseWindow, downsampled, sparse


def holds(window: SparseWindow, places: np.ndarray) -> np.ndarray:
    """Whether covered voxels of the window contain these places."""
    inside = np.zeros(window.grid.shape, dtype=bool)
    inside.ravel()[window.voxels[window.covered]] = True
    x, y, z = np.floor((places - window.grid.origin) / window.grid.size_m).astype(int).T
    return inside[x, y, z]


def test_all_that_is_covered_or_likely_is_listed_and_nothing_else() -> None:
    whole = volume()
    for window, dense in zip(sparse(whole, 10**9, 0.2), whole.windows, strict=True):
        assert window.grid == dense.grid and window.threshold == dense.threshold
        listed = np.zeros(dense.grid.shape, dtype=bool)
        listed.ravel()[window.voxels] = True
        np.testing.assert_array_equal(listed, dense.covered | (dense.probability >= 0.2))
        np.testing.assert_array_equal(window.probability, dense.probability[listed])
        np.testing.assert_array_equal(window.covered, dense.covered[listed])


@pytest.mark.parametrize('most', [2000, 300])
@pytest.mark.parametrize('shift_m', [0.0, 0.1, -0.3])
def test_joined_voxels_hold_all_that_was_covered(most: int, shift_m: float) -> None:
    whole = volume(shift_m=(shift_m, -shift_m, shift_m))
    few = sparse(whole, most)
    assert sum(len(window.voxels) for window in few) <= most
    assert few[-1].grid.size_m > whole.windows[-1].grid.size_m
    for window, dense in zip(few, whole.windows, strict=True):
        steps = np.array(window.grid.origin) / window.grid.size_m
        np.testing.assert_allclose(steps, np.round(steps), atol=1e-6)  # people's grids agree
        assert holds(window, dense.grid.centres(dense.covered)).all()
        assert window.probability.max() == dense.probability.max()


def test_the_window_with_most_voxels_is_joined_first() -> None:
    whole = volume()
    counts = [len(window.voxels) for window in sparse(whole, 10**9)]
    few = sparse(whole, sum(counts) - 1)
    joined = [
        window.grid.size_m > dense.grid.size_m
        for window, dense in zip(few, whole.windows, strict=True)
    ]
    assert joined == [count == max(counts) for count in counts]


def test_a_shell_is_what_touches_free_space() -> None:
    whole = volume(validity=Validity.INCOMPLETE)
    covered = whole.windows[0].covered
    window = sparse(whole, 10**9, shell=True)[0]
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
def test_eight_voxels_are_joined_to_the_largest_of_them(kind: type) -> None:
    generator = np.random.default_rng(3)
    for _ in range(20):
        shape = tuple(int(count) for count in generator.integers(5, 9, size=3))
        x, y, z = (float(place) for place in generator.integers(-4, 4, size=3) * 0.1)
        grid = VoxelGrid((x, y, z), 0.1, shape)
        values = (generator.random(shape) * (generator.random(shape) < 0.2)).astype(kind)
        joined, larger = downsampled(values, grid)
        assert joined.dtype == kind and joined.shape == larger.shape
        centres = grid.centres(values > 0)
        inside = tuple(np.floor((centres - larger.origin) / larger.size_m + 1e-6).astype(int).T)
        expected = np.zeros(larger.shape, kind)
        np.maximum.at(expected, inside, values[values > 0])
        np.testing.assert_array_equal(joined, expected)
