# SPDX-License-Identifier: Apache-2.0
"""Resampling: close to a smooth motion, and rigid with the room."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy.interpolate import PchipInterpolator
from scipy.spatial.transform import Rotation

from motion_predictor_ros.skeleton.resample import resample

CLOCK_S = 0.04 * np.arange(-24, 1)
POSE = np.random.default_rng(0).normal(scale=0.4, size=(18, 3))

Resampler = Callable[[np.ndarray, np.ndarray], np.ndarray]


def ours(stamps_s: np.ndarray, positions: np.ndarray) -> np.ndarray:
    sure = np.ones(positions.shape[:2], dtype=np.float32)
    return resample(stamps_s, positions, sure, CLOCK_S)[0]


def nearest(stamps_s: np.ndarray, positions: np.ndarray) -> np.ndarray:
    return np.asarray(positions[np.abs(stamps_s - CLOCK_S[:, None]).argmin(axis=1)])


def straight(stamps_s: np.ndarray, positions: np.ndarray) -> np.ndarray:
    columns = positions.reshape(len(stamps_s), -1).T
    values = [np.interp(CLOCK_S, stamps_s, column) for column in columns]
    return np.stack(values, axis=-1).reshape(len(CLOCK_S), -1, 3)


def monotone_per_axis(stamps_s: np.ndarray, positions: np.ndarray) -> np.ndarray:
    return np.asarray(PchipInterpolator(stamps_s, positions)(CLOCK_S))


def swinging(times_s: np.ndarray) -> np.ndarray:
    """Return poses that swing by 0.3 m once a second."""
    aside = 0.3 * np.sin(2 * np.pi * (times_s + 0.1))
    return np.asarray(POSE + aside[:, None, None] * np.array([1.0, 0.0, 0.0]))


def swing_error(resampler: Resampler) -> float:
    stamps_s = np.arange(-40, 1) / 30
    return float(np.abs(resampler(stamps_s, swinging(stamps_s)) - swinging(CLOCK_S)).max())


def test_a_swinging_arm_is_followed_to_a_tenth_of_a_millimetre_at_30_hz() -> None:
    assert swing_error(ours) < 1e-4


@pytest.mark.parametrize('coarse', [nearest, straight])
def test_coarser_resampling_does_not_follow_it_to_a_millimetre(coarse: Resampler) -> None:
    assert swing_error(coarse) > 1e-3


def trembling(hide: bool) -> tuple[np.ndarray, np.ndarray]:
    """A swing with noise and a gap, with or without a wrist that is hidden now and then."""
    rng = np.random.default_rng(3)
    stamps_s = np.arange(-40, 1) / 30 + rng.uniform(-0.01, 0.01, 41)
    stamps_s = stamps_s[(stamps_s < -0.5) | (stamps_s > -0.35)] - stamps_s[-1]
    positions = swinging(stamps_s) + rng.normal(scale=0.01, size=(len(stamps_s), 18, 3))
    if hide:
        positions[np.arange(len(stamps_s)) % 7 < 3, 17] = np.nan
    return stamps_s, positions


def rigid_error(resampler: Resampler, seed: int, hide: bool = False) -> float:
    rng = np.random.default_rng(seed)
    turn, shift = Rotation.random(rng=rng).as_matrix(), rng.normal(size=3)
    stamps_s, positions = trembling(hide)
    moved = resampler(stamps_s, positions @ turn.T + shift)
    return float(np.abs(moved - (resampler(stamps_s, positions) @ turn.T + shift)).max())


@pytest.mark.parametrize('seed', range(5))
@pytest.mark.parametrize('hide', [False, True])
def test_what_comes_out_turns_and_shifts_with_the_room(seed: int, hide: bool) -> None:
    assert rigid_error(ours, seed, hide) < 1e-9


def test_a_monotone_spline_per_axis_does_not_turn_with_the_room() -> None:
    assert rigid_error(monotone_per_axis, seed=0) > 1e-3
