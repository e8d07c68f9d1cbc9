# SPDX-License-Identifier: Apache-2.0
"""What a score says of points holds for bodies, and conformal radii cover what they promise."""

import math
from pathlib import Path

import numpy as np
import pytest
from volume_scenes import PERIOD_S, SHAPE, STANDING, calibration, linear_spread, looking_ahead

from motion_predictor_ros.errors import CheckpointError, ConfigError
from motion_predictor_ros.volume.calibration import (
    ModelDigests,
    certified,
    least_scores,
    load_calibration,
    quantile,
    save_calibration,
)
from motion_predictor_ros.volume.capsules import bodies
from motion_predictor_ros.volume.coverage import (
    ScenarioSelection,
    body_forecast,
    densest,
    kept_futures,
    region,
    score,
)
from motion_predictor_ros.volume.grid import VoxelGrid
from motion_predictor_ros.volume.voxels import covered


def test_the_densest_futures_reach_the_share_and_none_is_spare() -> None:
    weights, density = np.array([0.1, 0.4, 0.2, 0.3]), np.array([5.0, 1.0, 3.0, 2.0])
    assert densest(weights, density, 0.3).tolist() == [0, 2]
    assert densest(weights, density, 0.31).tolist() == [0, 2, 3]
    assert densest(weights, density, 1.0).tolist() == [0, 2, 3, 1]
    assert densest(weights, density, 0.0).tolist() == [0]


def test_few_futures_that_differ_stand_for_all() -> None:
    look = looking_ahead(futures=40)
    kept = kept_futures(look, 1.0, ScenarioSelection(0.5, 6), 20)
    assert kept.shape == (6, 20, *look.now.shape)
    np.testing.assert_array_equal(kept[0], look.mean[:20])
    drawn = look.mean[:20] + 0.5 * (look.futures[:, :20] - look.mean[:20])

    def farthest(some: np.ndarray) -> float:
        """How far the future that is least stood for is from those kept."""
        away = np.linalg.norm((drawn[:, None] - some).reshape(40, len(some), -1), axis=-1)
        return float(away.min(axis=1).max())

    assert farthest(kept) < farthest(drawn[:6])
    assert len(kept_futures(look, 1.0, ScenarioSelection(0.5, 1), 20)) == 1
    np.testing.assert_allclose(
        kept_futures(look, 1.0, ScenarioSelection(0.0, 6), 20), look.mean[None, :20]
    )


def uncovered(shrink: float, breadth: float, most: int = 8) -> int:
    """Count voxels of true bodies outside the region of exactly the radius that they need."""
    look, spread = looking_ahead(), linear_spread()
    found = 0
    for seed in range(6):
        truth = looking_ahead(1, seed=100 + seed).futures[0]
        kept = kept_futures(look, 0.95, ScenarioSelection(breadth, most), len(truth))
        g = spread.of(look)
        radius = shrink * score(kept, truth, g)
        ours = region(SHAPE, look, kept, g, radius, (0.0, 1.0), every=3)
        true = bodies(SHAPE, truth[None], np.ones(1), look.times_s, look.scale)
        low, high = ours.bounds
        grid = VoxelGrid.around(low - 0.1, high + 0.1, 0.05)
        found += int((covered(true, grid, padding_m=-0.03) & ~covered(ours, grid)).sum())
    return found


@pytest.mark.parametrize('breadth', [0.0, 0.3, 1.0])
def test_a_future_within_the_radius_has_its_whole_body_in_the_region(breadth: float) -> None:
    assert uncovered(1.0, breadth) == 0


def test_a_radius_too_small_leaves_bodies_outside() -> None:
    assert uncovered(0.5, 0.0) > 0


def test_windows_add_up_to_the_whole() -> None:
    look, g = looking_ahead(), linear_spread().of(looking_ahead())
    kept = kept_futures(look, 0.9, ScenarioSelection(0.3, 8), 25)
    parts = [(0.0, 0.25), (0.25, 0.5), (0.5, 1.0)]
    low, high = region(SHAPE, look, kept, g, 0.2, (0.0, 1.0)).bounds
    grid = VoxelGrid.around(low, high, 0.05)
    whole = covered(region(SHAPE, look, kept, g, 0.2, (0.0, 1.0)), grid)
    union = np.zeros_like(whole)
    for window in parts:
        union |= covered(region(SHAPE, look, kept, g, 0.2, window), grid)
    np.testing.assert_array_equal(union, whole)


def test_conformal_radii_cover_new_people_as_often_as_promised() -> None:
    """Over many calibrations of 60 people each, exponential scores: at least the level."""
    random = np.random.default_rng(0)
    for level in (0.8, 0.95):
        chances = [
            1.0 - math.exp(-quantile(random.exponential(size=60), level)) for _ in range(3000)
        ]
        assert level - 0.003 <= np.mean(chances) <= level + 1 / 61 + 0.003


def test_a_plain_quantile_of_few_people_promises_too_much() -> None:
    random = np.random.default_rng(0)
    chances = [
        1.0 - math.exp(-np.quantile(random.exponential(size=20), 0.95)) for _ in range(3000)
    ]
    assert np.mean(chances) < 0.94


def test_levels_that_so_many_people_cannot_certify_are_refused() -> None:
    assert least_scores(0.99) == 99 and least_scores(0.95) == 19
    assert certified(98) == (0.5, 0.8, 0.9, 0.95) and 0.99 in certified(99)
    assert quantile(np.arange(99.0), 0.99) == 98.0
    with pytest.raises(ConfigError, match='needs 99 scores or more, this calibration has 98'):
        quantile(np.arange(98.0), 0.99)
    with pytest.raises(ConfigError, match='was not calibrated'):
        calibration(np.arange(50.0)).until(1.0).radius(0.7)
    with pytest.raises(ConfigError, match='was not calibrated'):
        calibration(np.arange(50.0)).until(3.0)


def test_a_calibration_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    path = tmp_path / 'c.safetensors'
    saved = calibration(np.random.default_rng(0).exponential(size=50))
    save_calibration(path, saved)
    loaded = load_calibration(str(path), ModelDigests('d', 'c', 'p'))
    until, before = loaded.until(1.0), saved.until(1.0)
    assert loaded.name.startswith('c@') and loaded.bound == saved.bound
    assert until.radius(0.9) == before.radius(0.9) and until.levels == before.levels
    look = looking_ahead()
    np.testing.assert_array_equal(until.spread.of(look), before.spread.of(look))


def test_a_calibration_of_other_weights_is_refused(tmp_path: Path) -> None:
    path = tmp_path / 'c.safetensors'
    save_calibration(path, calibration(np.arange(50.0)))
    with pytest.raises(CheckpointError, match='in use are'):
        load_calibration(str(path), ModelDigests('d', 'another', 'p'))
    with pytest.raises(CheckpointError, match='motion-predictor calibrate'):
        load_calibration(str(tmp_path / 'none.safetensors'))


def test_futures_stand_around_the_likeliest_one_as_far_as_it_goes() -> None:
    random = np.random.default_rng(0)
    futures = STANDING + random.normal(0.0, 0.1, (6, 10, *STANDING.shape))
    likeliest = STANDING + random.normal(0.0, 0.1, (4, *STANDING.shape))
    weights = random.dirichlet(np.ones(6))
    seen = np.repeat(STANDING[None], 5, axis=0)
    times_s = PERIOD_S * np.arange(1, 11)
    joints = len(STANDING)
    bare = body_forecast(SHAPE, seen, PERIOD_S, futures, weights, weights, times_s)
    look = body_forecast(SHAPE, seen, PERIOD_S, futures, weights, weights, times_s, likeliest)
    np.testing.assert_allclose(look.mean[:4, :joints], likeliest)
    shift = look.futures - bare.futures
    np.testing.assert_allclose(shift[:, 4:, :joints] - shift[:, 3:4, :joints], 0.0, atol=1e-12)
    np.testing.assert_allclose(look.deviation, bare.deviation)
    np.testing.assert_allclose(bare.shift, 0.0)
    np.testing.assert_allclose(np.einsum('f,ftpx->tpx', weights, look.futures), look.mean)


def test_the_shipped_calibration_is_of_the_shipped_weights() -> None:
    shipped = ModelDigests.of('body_2s', 'body_2s_cache', 'body_1s')
    found = load_calibration('body_2s_calibration', shipped)
    for until in found.horizons:
        radii = [until.radius(level) for level in until.levels]
        assert radii == sorted(radii) and until.levels[-1] == 0.95
    assert not found.approximate
