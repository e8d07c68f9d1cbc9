# SPDX-License-Identifier: Apache-2.0
"""Thresholds keep their promises on exchangeable people, and refuse what clips cannot certify."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from volume_scenes import calibration, forecast_of

from motion_predictor_ros.errors import CheckpointError, ConfigError
from motion_predictor_ros.volume.calibration import (
    SHARES,
    HorizonCalibration,
    ModelDigests,
    coverage_thresholds,
    has_calibration,
    load_calibration,
    missed_shares,
    needed_clips,
    profile,
    quantile,
    risk_thresholds,
    save_calibration,
)


def clips(count: int, random: np.random.Generator) -> np.ndarray:
    """Profiles of made-up bodies in three windows that depend on each other."""
    common = random.normal(size=(count, 1))
    lowest = -np.exp(common + 0.5 * random.normal(size=(count, 3)))
    return lowest[..., None] * np.maximum(1.0 - 20.0 * np.array(SHARES), 0.0)


def test_a_profile_says_which_share_lies_below() -> None:
    values = np.random.default_rng(0).normal(size=5000).astype(np.float32)
    for tau in (-3.0, -2.0, -1.0, 0.0):
        (share,) = missed_shares(profile(values)[None], tau)
        assert share == pytest.approx((values < tau).mean(), abs=0.01)
    assert missed_shares(profile(values)[None], float(values.min())) == 0.0


@pytest.mark.parametrize('alpha', [0.2, 0.05])
def test_coverage_holds_jointly_on_new_people(alpha: float) -> None:
    """Over many calibrations of 60 people each: at least the level, by not much more."""
    random = np.random.default_rng(0)
    held = []
    for _ in range(400):
        taus = coverage_thresholds(clips(60, random), np.ones(60), alpha)
        held.append((clips(200, random)[..., 0] >= taus).all(axis=1).mean())
    assert 1.0 - alpha - 0.01 <= np.mean(held) <= 1.0 - alpha + 0.04


def test_quantiles_of_each_window_alone_cover_too_little() -> None:
    random = np.random.default_rng(0)
    held = []
    for _ in range(100):
        taus = np.quantile(clips(60, random)[..., 0], 0.2, axis=0)
        held.append((clips(200, random)[..., 0] >= taus).all(axis=1).mean())
    assert np.mean(held) < 0.75


def test_windows_of_a_clip_share_the_weight_of_one() -> None:
    """A clip whose window is there three times counts as one whose window is there once."""
    random = np.random.default_rng(2)
    profiles = clips(60, random)
    often = np.concatenate([profiles, profiles[:20], profiles[:20]])
    shared = np.repeat([1 / 3, 1.0, 1 / 3], [20, 40, 40])
    for threshold, alpha in ((coverage_thresholds, 0.1), (risk_thresholds, 0.02)):
        once = threshold(profiles, np.ones(60), alpha)
        assert threshold(often, shared, alpha) == pytest.approx(once)
        assert threshold(often, np.ones(100), alpha) != pytest.approx(once)


def test_early_windows_are_left_more_rarely() -> None:
    random = np.random.default_rng(0)
    new = clips(20_000, random)[..., 0]
    missed = np.array(
        [(new < coverage_thresholds(clips(400, random), np.ones(400), 0.1)).mean(axis=0)
         for _ in range(20)]
    ).mean(axis=0)  # fmt: skip
    assert missed[:2] == pytest.approx(0.5 * missed[2], rel=0.1)


def test_no_more_than_the_share_is_missed_in_expectation() -> None:
    random, missed, plain = np.random.default_rng(1), [], []
    for _ in range(600):
        known, new = clips(15, random)[:, :1], clips(100, random)[:, 0]
        (tau,) = risk_thresholds(known, np.ones(15), 0.1)
        missed.append(missed_shares(new, tau).mean())
        # The control takes off what is added for the worst person: its share is that of the 15.
        (tau,) = risk_thresholds(known, np.ones(15), (15 * 0.1 + 1.0) / 16)
        plain.append(missed_shares(new, tau).mean())
    assert 0.02 < np.mean(missed) <= 0.1
    assert np.mean(plain) > np.mean(missed) + 0.01


def until(profiles: np.ndarray, speeds: np.ndarray) -> HorizonCalibration:
    made = calibration(np.ones(len(profiles))).until(1.0)
    return dataclasses.replace(made, profiles=profiles, speeds=speeds)


def test_fast_and_slow_people_each_have_their_promise() -> None:
    random = np.random.default_rng(0)
    speeds = random.uniform(0.0, 2.0, 600)
    profiles = clips(600, random) * (0.2 + speeds)[:, None, None]
    groups = until(profiles, speeds).group_thresholds('coverage', 0.9)
    assert [speed for speed, _ in groups] == pytest.approx([2 / 3, 4 / 3, np.inf], abs=0.1)
    new_speeds = random.uniform(0.0, 2.0, 3000)
    new = clips(3000, random) * (0.2 + new_speeds)[:, None, None]
    together = coverage_thresholds(profiles, np.ones(600), 0.1)
    for low, high, (_, taus) in zip((0.0, 0.7, 1.4), (0.6, 1.3, 2.0), groups, strict=True):
        members = (new_speeds > low) & (new_speeds < high)
        held = (new[members, :, 0] >= taus).all(axis=1).mean()
        assert held == pytest.approx(0.9, abs=0.05)
    fast = new_speeds > 1.4  # the control: thresholds of all people leave the fast ones outside
    assert (new[fast, :, 0] >= together).all(axis=1).mean() < 0.85


def test_groups_are_as_many_as_clips_suffice_for() -> None:
    random = np.random.default_rng(0)
    many = until(clips(400, random), random.uniform(0.0, 2.0, 400))
    counts = [len(many.group_thresholds('coverage', level)) for level in (0.8, 0.95, 0.98, 0.99)]
    assert counts == [3, 3, 1, 1]
    slow, fast = forecast_of(), forecast_of()
    fast = dataclasses.replace(fast, speeds=fast.speeds + 1.9)
    assert many.thresholds('coverage', 0.95, slow) != many.thresholds('coverage', 0.95, fast)
    assert many.thresholds('risk', 0.01, slow) == many.thresholds('risk', 0.01, fast)


def test_a_stricter_promise_has_lower_thresholds() -> None:
    made, forecast = calibration(np.linspace(0.1, 1.0, 200)).until(1.0), forecast_of()
    for promise, values in (('coverage', (0.8, 0.9, 0.95, 0.99)), ('risk', (0.1, 0.05, 0.01))):
        taus = np.array([made.thresholds(promise, value, forecast) for value in values])
        assert (np.diff(taus, axis=0) <= 0.0).all() and (taus[-1] < taus[0]).all()


def test_promises_that_so_many_clips_cannot_certify_are_refused() -> None:
    assert needed_clips(0.01) == 99 and needed_clips(0.05) == 19
    few = calibration(np.linspace(0.1, 1.0, 98)).until(1.0)
    enough = calibration(np.linspace(0.1, 1.0, 99)).until(1.0)
    for promise, value in (('coverage', 0.99), ('risk', 0.01)):
        assert len(enough.group_thresholds(promise, value)) == 1
        with pytest.raises(ConfigError, match='needs 99 clips or more, this calibration has 98'):
            few.group_thresholds(promise, value)
    with pytest.raises(ConfigError, match='was not calibrated'):
        calibration(np.ones(99)).until(3.0)
    assert quantile(np.arange(99.0), 0.99) == 98.0
    with pytest.raises(ConfigError, match='needs 99'):
        quantile(np.arange(98.0), 0.99)


def test_a_calibration_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    path = tmp_path / 'c.safetensors'
    saved = calibration(np.random.default_rng(0).exponential(size=50))
    save_calibration(path, saved)
    loaded = load_calibration(str(path), ModelDigests('d', 'c', 'p'))
    assert loaded.name.startswith('c@') and loaded.digests == saved.digests
    after, before = loaded.until(1.0), saved.until(1.0)
    assert after.ranking == before.ranking and after.voxels_m == before.voxels_m
    for promise, value in (('coverage', 0.9), ('risk', 0.05)):
        for loaded_group, saved_group in zip(
            after.group_thresholds(promise, value),
            before.group_thresholds(promise, value),
            strict=True,
        ):
            assert loaded_group[0] == pytest.approx(saved_group[0])
            assert loaded_group[1] == pytest.approx(saved_group[1], rel=1e-6)
    np.testing.assert_array_equal(after.factors, before.factors)


def test_a_calibration_of_other_weights_is_refused(tmp_path: Path) -> None:
    path = tmp_path / 'c.safetensors'
    save_calibration(path, calibration(np.ones(50)))
    with pytest.raises(CheckpointError, match='in use are'):
        load_calibration(str(path), ModelDigests('d', 'another', 'p'))
    with pytest.raises(CheckpointError, match='motion-predictor calibrate'):
        load_calibration(str(tmp_path / 'none.safetensors'))
    assert has_calibration(str(path), ModelDigests('d', 'c', 'p'))
    assert not has_calibration(str(path), ModelDigests('d', 'another', 'p'))
    assert not has_calibration(str(tmp_path / 'none.safetensors'), ModelDigests('d', 'c', 'p'))


def test_the_shipped_calibration_is_of_the_shipped_weights() -> None:
    shipped = ModelDigests.of('body_2s', 'body_2s_cache', 'body_1s')
    loaded = load_calibration('body_2s_calibration', shipped)
    assert [until.horizon_s for until in loaded.horizons] == [0.5, 1.0, 2.0]
    for until in loaded.horizons:
        assert until.group_thresholds('coverage', 0.99) and until.group_thresholds('risk', 0.005)
    assert not loaded.approximate
