# SPDX-License-Identifier: Apache-2.0
"""The field ranks space as its formula says, and its level sets are the same on any grid."""

import dataclasses

import numpy as np
import pytest
import torch
from scipy import ndimage
from volume_scenes import PERIOD_S, RANKING, SHAPE, STANDING, forecast_of

from motion_predictor_ros.volume.forecast import body_forecast
from motion_predictor_ros.volume.grid import VoxelGrid
from motion_predictor_ros.volume.level_sets import (
    FARTHEST_M,
    SMALLEST,
    WINDOWS_S,
    WindowField,
    body_distance,
    rank_space,
    refined,
    side_reaches,
    smoothed,
    window_field,
)
from motion_predictor_ros.volume.voxels import capsule_distance_torch, in_voxels, voxel_probability

BODY = forecast_of(1, spread=1.0).likeliest_body(SHAPE, (0.0, 0.5), every=3)
GRID = VoxelGrid.around(*BODY.bounds, 0.1)


def direct_distance(grid: VoxelGrid) -> np.ndarray:
    """Distance of every centre from every capsule, one by one [m]."""
    centres = grid.centres(np.ones(grid.shape, dtype=bool))
    nearest = np.full(len(centres), np.inf)
    parts = zip(
        BODY.starts.reshape(-1, 3), BODY.ends.reshape(-1, 3), BODY.radii.ravel(), strict=True
    )
    for a, b, r in parts:
        along = np.clip((centres - a) @ (b - a) / max((b - a) @ (b - a), 1e-12), 0.0, 1.0)
        off = np.linalg.norm(centres - a - along[:, None] * (b - a), axis=-1)
        nearest = np.minimum(nearest, off - r)
    return nearest.reshape(grid.shape)


def test_distance_is_that_from_the_nearest_capsule() -> None:
    direct = direct_distance(GRID)
    np.testing.assert_allclose(body_distance(BODY, GRID), direct, atol=1e-4)
    assert direct.min() < -0.02 and direct.max() > 0.2
    near = body_distance(BODY, GRID, reach_m=0.15)
    np.testing.assert_allclose(near[direct < 0.149], direct[direct < 0.149], atol=1e-4)
    np.testing.assert_allclose(near[direct > 0.151], FARTHEST_M)


def test_distance_in_torch_is_the_same() -> None:
    starts, ends, radii = (torch.from_numpy(part) for part in in_voxels(BODY, GRID))
    parts = starts.flatten(1, 2), ends.flatten(1, 2), radii.flatten(1)
    distance = GRID.size_m * capsule_distance_torch(*parts, GRID.shape)[0].numpy()
    np.testing.assert_allclose(distance, body_distance(BODY, GRID), atol=1e-5)
    wider = capsule_distance_torch(parts[0], parts[1], parts[2] + 1.0, GRID.shape)[0].numpy()
    assert np.abs(GRID.size_m * wider - distance).max() > 0.05


def test_smoothing_is_a_sum_of_gaussians() -> None:
    occupancy = np.random.default_rng(0).random((12, 15, 9)).astype(np.float32)
    ranking = dataclasses.replace(RANKING, widths_m=(0.0, 0.15, 0.3), shares=(0.5, 0.3, 0.2))
    expected = 0.5 * occupancy
    for width, share in ((1.5, 0.3), (3.0, 0.2)):
        expected += share * ndimage.gaussian_filter(
            occupancy, width, mode='constant', truncate=6.0
        )
    found = smoothed(occupancy, 0.1, ranking)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert np.abs(smoothed(occupancy, 0.2, ranking) - expected).max() > 0.01


def test_the_field_is_its_formula_at_every_other_corner() -> None:
    forecast, window_s = forecast_of(), (0.5, 1.0)
    futures = forecast.future_bodies(SHAPE, window_s, 3)
    likeliest = forecast.likeliest_body(SHAPE, window_s, 3)
    grid = VoxelGrid.around(futures.bounds[0] - 0.3, futures.bounds[1] + 0.3, 0.2)
    values, _ = rank_space(likeliest, futures, grid, RANKING)
    smooth = smoothed(voxel_probability(futures, grid), 0.2, RANKING)
    logs = np.log((smooth + SMALLEST) / (1.0 + SMALLEST))
    above = grid.origin[2] + 0.2 * (np.arange(grid.shape[2]) + 0.5) - likeliest.bounds[1][2]
    assert above.max() > 0.2 and RANKING.rise == 0.5
    cost = body_distance(likeliest, grid) + 0.5 * np.maximum(above, 0.0)
    expected = 0.2 * logs - cost
    np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-5)
    fine = refined(WindowField(grid, values))
    assert fine.grid.size_m == pytest.approx(0.1)
    corner = np.array(grid.origin) + 0.2 * np.array([3.0, 4.0, 5.0])  # between eight centres
    around = fine.at(
        corner + 0.05 * np.array([[i, j, k] for i in (-1, 1) for j in (-1, 1) for k in (-1, 1)])
    )
    eight = values[2:4, 3:5, 4:6]
    assert around.mean() == pytest.approx(eight.mean(), rel=1e-5)
    assert around.min() >= eight.min() and around.max() <= eight.max()


def test_a_level_set_does_not_depend_on_how_much_space_is_ranked() -> None:
    forecast, tau = forecast_of(), -0.4
    for window_s in WINDOWS_S:
        small = window_field(SHAPE, forecast, RANKING, window_s, tau, 0.1)
        large = window_field(SHAPE, forecast, RANKING, window_s, 8.0 * tau, 0.1)
        first = np.round((np.array(small.grid.origin) - large.grid.origin) / 0.1).astype(int)
        box = tuple(slice(a, a + n) for a, n in zip(first, small.grid.shape, strict=True))
        inside = large.values >= tau
        np.testing.assert_array_equal(small.values >= tau, inside[box])
        assert inside.sum() == inside[box].sum() > 100
        assert small.values.size < large.values.size and (large.values >= 8.0 * tau).sum() > 200


def test_no_level_set_reaches_beyond_the_box_in_which_space_is_ranked() -> None:
    forecast, tau = forecast_of(), -1.5
    for window_s in WINDOWS_S:
        futures = forecast.future_bodies(SHAPE, window_s, 3)
        body = forecast.likeliest_body(SHAPE, window_s, 3)
        (low, high), reach_m = body.bounds, -tau
        beyond = np.stack([low - futures.bounds[0], futures.bounds[1] - high])
        reaches = side_reaches(RANKING, reach_m, beyond, 0.2)
        grid = VoxelGrid.around(low - reach_m - 0.4, high + reach_m + 0.4, 0.2)
        inside = rank_space(body, futures, grid, RANKING)[0] >= tau
        centres = grid.centres(inside)
        assert (low - centres.min(axis=0) <= reaches[0]).all()
        assert (centres.max(axis=0) - high <= reaches[1]).all()
        assert reaches.min() < reach_m - 0.2  # less space than the distance alone would need
        assert (centres.max(axis=0) - high > 0.5 * reaches[1]).any()  # control: it is close


def test_what_is_farther_than_the_threshold_is_not_in_a_level_set() -> None:
    forecast, tau = forecast_of(), -0.4
    field = window_field(SHAPE, forecast, RANKING, (0.5, 1.0), tau, 0.1)
    body = forecast.likeliest_body(SHAPE, (0.5, 1.0), 3)
    distance = body_distance(body, field.grid)
    assert distance[field.values >= tau].max() <= 0.4 + 0.01 < distance.max()
    farther = distance > field.farthest_m
    assert farther.any() and not (field.values[farther] >= tau).any()
    assert (field.values[distance > field.farthest_m - 0.4] >= tau).any()  # control: it is close


def test_a_field_is_read_where_points_lie() -> None:
    field = window_field(SHAPE, forecast_of(), RANKING, (0.0, 0.25), -0.3, 0.1)
    x, y, z = np.unravel_index(int(field.values.argmax()), field.values.shape)
    place = np.array(field.grid.origin) + 0.1 * (np.array([x, y, z]) + 0.5)
    found = field.at(np.stack([place, place + 0.04, place + 50.0]))
    assert found[0] == found[1] == field.values.max() and np.isneginf(found[2])


def test_futures_stand_around_the_likeliest_one_as_far_as_it_goes() -> None:
    random = np.random.default_rng(0)
    futures = STANDING + random.normal(0.0, 0.1, (6, 10, *STANDING.shape))
    likeliest = STANDING + random.normal(0.0, 0.1, (4, *STANDING.shape))
    weights = random.dirichlet(np.ones(6))
    past = np.repeat(STANDING[None], 5, axis=0)
    times_s = PERIOD_S * np.arange(1, 11)
    joints = len(STANDING)
    bare = body_forecast(SHAPE, past, PERIOD_S, futures, weights, times_s)
    moved = body_forecast(SHAPE, past, PERIOD_S, futures, weights, times_s, likeliest)
    np.testing.assert_allclose(moved.likeliest[1:5, :joints], likeliest)
    np.testing.assert_allclose(moved.now[:joints], STANDING)
    shift = moved.paths - bare.paths
    np.testing.assert_allclose(shift[:, 5:, :joints] - shift[:, 4:5, :joints], 0.0, atol=1e-12)
    mean = np.einsum('f,ftpx->tpx', weights, moved.paths)
    np.testing.assert_allclose(mean[1:], moved.likeliest[1:])
