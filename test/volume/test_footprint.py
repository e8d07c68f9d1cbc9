# SPDX-License-Identifier: Apache-2.0
"""Seen from above: a cell is covered just if a voxel overlaps with it in the band."""

import numpy as np
import pytest
from safety_volumes import volume

from motion_predictor_ros.skeleton.frame import Validity
from motion_predictor_ros.volume.footprint import Band, footprint

ALL = Band(10.0, -10.0, 10.0)


@pytest.mark.parametrize('cell_m', [0.05, 0.1, 0.13, 0.3])
def test_cells_are_those_that_voxels_overlap(cell_m: float) -> None:
    one = volume(shift_m=(3.03, -1.07, 0.0))
    band = Band(0.5, 0.55, 1.0)
    seen = footprint([one], band, cell_m)
    wanted = np.zeros_like(seen.covered)
    likely = np.zeros_like(seen.probability)
    first = np.array(seen.origin)
    for window in one.windows[:2]:
        half = 0.5 * window.grid.size_m
        for index in np.argwhere(window.covered | (window.probability > 0)):
            centre = np.array(window.grid.origin) + window.grid.size_m * (index + 0.5)
            if centre[2] + half <= band.low_m + 1e-6 or centre[2] - half >= band.high_m - 1e-6:
                continue
            low = np.floor((centre[:2] - half - first) / cell_m + 1e-6).astype(int)
            high = np.ceil((centre[:2] + half - first) / cell_m - 1e-6).astype(int)
            area = slice(low[0], high[0]), slice(low[1], high[1])
            wanted[area] |= window.covered[tuple(index)]
            likely[area] = np.maximum(likely[area], window.probability[tuple(index)])
    np.testing.assert_array_equal(seen.covered, wanted)
    np.testing.assert_array_equal(seen.probability, likely)
    assert wanted.any() and not wanted.all()


def test_later_windows_and_other_heights_do_not_count() -> None:
    one = volume(validity=Validity.INCOMPLETE)
    areas = [
        footprint([one], Band(until_s, -10.0, 10.0), 0.1).covered.sum()
        for until_s in (0.0, 0.3, 0.6)
    ]
    assert 0 < areas[0] < areas[1] < areas[2]
    assert not footprint([one], Band(10.0, 90.0, 91.0), 0.1).covered.any()


def test_everybody_is_in_one_plane_that_begins_at_blocks() -> None:
    both = [volume('anna'), volume('ben', (5.0, 1.0, 0.0))]
    seen = footprint(both, ALL, 0.1, block_m=2.0)
    np.testing.assert_allclose(np.array(seen.origin) % 2.0, 0.0, atol=1e-9)
    np.testing.assert_allclose(np.array(seen.covered.shape) * 0.1 % 2.0, 0.0, atol=1e-9)
    alone = [footprint([each], ALL, 0.1).covered.sum() for each in both]
    assert seen.covered.sum() == sum(alone)


def test_nobody_leaves_one_free_block() -> None:
    seen = footprint([], ALL, 0.1)
    assert seen.covered.shape == (20, 20) and not seen.covered.any()


def test_a_wide_scene_has_larger_cells_not_a_full_memory() -> None:
    seen = footprint([volume('anna'), volume('ben', (200.0, 0.0, 0.0))], ALL, 0.01)
    assert seen.covered.size <= 1_000_000 and seen.cell_m > 0.01 and seen.covered.any()
