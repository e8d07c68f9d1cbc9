# SPDX-License-Identifier: Apache-2.0
"""No voxel that a body touches is missed, hardly one is extra, and a future counts once."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from volume_scenes import SHAPE, wandering

from motion_predictor_ros.bench.volume import (
    GRID as BENCH_GRID,
)
from motion_predictor_ros.bench.volume import compare, direct_probability, walkers
from motion_predictor_ros.errors import DataError
from motion_predictor_ros.volume import voxels
from motion_predictor_ros.volume.capsules import Bodies, bodies
from motion_predictor_ros.volume.grid import VoxelGrid
from motion_predictor_ros.volume.voxels import covered, voxel_probability

GRID = VoxelGrid((-1.0, -1.0, -1.0), 0.05, (40, 40, 40))
TALL = VoxelGrid((-1.0, -1.0, -3.0), 0.05, (40, 41, 150))


def capsules(starts: np.ndarray, ends: np.ndarray, radii: np.ndarray) -> Bodies:
    """One future, one pose."""
    shaped = (starts[None, None], ends[None, None], radii[None, None])
    return Bodies(*shaped, np.ones(1), np.zeros(1))


def numpy_distance(found: Bodies, grid: VoxelGrid) -> np.ndarray:
    """Return each centre's distance beyond the nearest capsule's surface [m]."""
    centres = grid.centres(np.ones(grid.shape, dtype=bool)).reshape(*grid.shape, 3)
    away = np.full(grid.shape, np.inf)
    a, b, r = (each[0, 0] for each in (found.starts, found.ends, found.radii))
    for start, end, radius in zip(a, b, r, strict=True):
        d = end - start
        u = np.clip((centres - start) @ d / max(d @ d, 1e-18), 0.0, 1.0)[..., None]
        away = np.minimum(away, np.linalg.norm(centres - start - u * d, axis=-1) - radius)
    return away


coordinates = st.floats(-1.2, 1.2)
places = st.tuples(coordinates, coordinates, coordinates)


@hypothesis_settings(max_examples=60)
@given(start=places, end=places, radius=st.floats(0.0, 0.4), kind=st.integers(0, 3))
def test_a_capsule_marks_what_it_touches_and_no_more(
    start: tuple[float, ...], end: tuple[float, ...], radius: float, kind: int
) -> None:
    a, b = np.array(start), np.array(end)
    if kind == 1:
        b[:2] = a[:2]  # upright
    if kind == 2:
        b = a  # a sphere
    if kind == 3:
        b[:2] = a[:2] + 1e-4  # nearly upright
    found = capsules(a[None], b[None], np.array([radius]))
    inside = covered(found, GRID)
    away = numpy_distance(found, GRID)
    assert inside[away <= GRID.padding_m].all()
    assert not inside[away > GRID.padding_m + 0.02 * GRID.size_m].any()


@hypothesis_settings(max_examples=30)
@given(start=places, end=places, radius=st.floats(0.4, 3.0))
def test_a_wide_capsule_marks_tall_columns_just_so(
    start: tuple[float, ...], end: tuple[float, ...], radius: float
) -> None:
    """It goes through several words of bits, and each row has its own columns."""
    found = capsules(np.array(start)[None], np.array(end)[None], np.array([radius]))
    inside = covered(found, TALL)
    away = numpy_distance(found, TALL)
    assert inside[away <= TALL.padding_m].all()
    assert not inside[away > TALL.padding_m + 0.02 * TALL.size_m].any()


def test_people_are_marked_as_by_the_direct_test() -> None:
    missed, extra, true = compare(walkers(SHAPE, 5, 6), BENCH_GRID)
    assert missed == 0
    assert extra <= 0.05 * true and true > 10_000


def test_the_direct_test_sees_capsules_too_thin() -> None:
    """The comparison counts what is missed where capsules lack one part in ten."""
    people = walkers(SHAPE, 2, 3)
    thin = Bodies(people.starts, people.ends, 0.9 * people.radii, people.weights, people.times_s)
    direct, ours = direct_probability(people, BENCH_GRID), voxel_probability(thin, BENCH_GRID)
    missed = (direct > 0) & ~(ours > 0)
    assert missed.sum() > 100


def touched_share(padding_m: float | None) -> float:
    """Return which share of points inside bodies lies in marked voxels."""
    random = np.random.default_rng(0)
    a, b = random.uniform(-0.5, 0.5, (2, 5, 3))
    radii = np.full(5, 0.06)
    inside = covered(capsules(a, b, radii), GRID, padding_m=padding_m)
    u, turn = random.uniform(size=(5, 400, 1)), random.normal(size=(5, 400, 3))
    turn /= np.linalg.norm(turn, axis=-1, keepdims=True)
    points = (1 - u) * a[:, None] + u * b[:, None] + 0.06 * turn
    voxels = np.floor((points - np.array(GRID.origin)) / GRID.size_m).astype(int).reshape(-1, 3)
    return float(inside[tuple(voxels.T)].mean())


def test_every_voxel_that_a_capsule_touches_is_marked() -> None:
    assert touched_share(None) == 1.0


def test_without_padding_touched_voxels_are_missed() -> None:
    assert touched_share(0.0) < 0.9


def test_each_future_counts_once_however_long_it_stays() -> None:
    points, times_s = wandering(4, 6)
    weights = np.array([0.1, 0.2, 0.3, 0.4])
    found = voxel_probability(bodies(SHAPE, points, weights, times_s), GRID)
    expected = np.zeros(GRID.shape)
    for future, weight in enumerate(weights):
        one = bodies(SHAPE, points[future : future + 1], np.ones(1), times_s)
        expected += weight * (voxel_probability(one, GRID) > 0)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert found.max() <= 1.0 + 1e-6 and len(np.unique(found.round(3))) > 4


@pytest.mark.parametrize('at_once', [1, 10**9])
def test_torch_marks_the_same_voxels(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """All voxels but those whose centres lie within 1e-5 m of a padded capsule's surface."""
    grid = VoxelGrid((-1.0, -1.0, -3.0), 0.1, (20, 21, 75))
    points, times_s = wandering(3, 2, speed=2.0)
    people = bodies(SHAPE, points, np.array([0.2, 0.3, 0.5]), times_s)
    monkeypatch.setattr(voxels, '_AT_ONCE', at_once)
    ours = voxel_probability(people, grid)
    thinner, thicker = (
        voxels._voxel_probability_torch(people.inflated(more_m), grid, torch.device('cpu'))
        for more_m in (grid.padding_m - 1e-5, grid.padding_m + 1e-5)
    )
    assert (thinner <= ours + 1e-6).all() and (ours <= thicker + 1e-6).all()
    assert (thicker - thinner > 1e-6).mean() < 1e-3  # control: the bounds are close
    assert 0.005 < (ours > 0).mean() < 0.99


def test_bodies_outside_the_grid_leave_it_empty() -> None:
    far = capsules(np.full((1, 3), 50.0), np.full((1, 3), 51.0), np.array([0.2]))
    assert not covered(far, GRID).any()


def test_a_grid_around_a_box_holds_it_and_refuses_what_is_not_finite() -> None:
    low, high = np.array([-0.31, 2.2, 0.0]), np.array([0.4, 3.01, 1.9])
    grid = VoxelGrid.around(low, high, 0.05)
    first = np.array(grid.origin)
    assert (first <= low - 0.05).all() and (first + 0.05 * np.array(grid.shape) >= high).all()
    np.testing.assert_allclose(first / 0.05, np.round(first / 0.05), atol=1e-9)
    with pytest.raises(DataError, match='finite'):
        VoxelGrid.around(low * np.nan, high, 0.05)
    with pytest.raises(DataError, match='more than'):
        VoxelGrid.around(low, 1e6 * high, 0.05)
