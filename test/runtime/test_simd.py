# SPDX-License-Identifier: Apache-2.0
"""What registers are told is what numpy does with whole arrays."""

import numpy as np
import pytest
from numba import njit

from motion_predictor_ros.runtime.simd import (
    LANES,
    exp2,
    fma,
    larger,
    least,
    load,
    products,
    smaller,
    splat,
    store,
)

RANDOM = np.random.default_rng(0)


def test_powers_of_two_are_right_to_rounding_and_stop_at_the_smallest() -> None:
    @njit
    def powers(values, out):  # type: ignore[no-untyped-def]
        for at in range(0, len(values), LANES):
            store(out, at, exp2(load(values, at)))

    values = RANDOM.uniform(-126.0, 126.0, 100 * LANES).astype(np.float32)
    found = np.empty_like(values)
    powers(values, found)
    np.testing.assert_allclose(found, np.exp2(values.astype(np.float64)), rtol=3e-7)
    powers(np.full(LANES, np.float32(-500.0)), found)
    np.testing.assert_allclose(found[:LANES], 2.0**-126, rtol=3e-7)
    powers(np.full(LANES, np.float32(np.nan)), found)
    assert np.isnan(found[:LANES]).all()  # what is no number does not become one


def test_arithmetic_is_that_of_each_lane() -> None:
    @njit
    def mix(a, b, out):  # type: ignore[no-untyped-def]
        one, other = load(a, 0), load(b, 0)
        mixed = fma(one, other, splat(np.float32(3.0))) - one / other
        store(out, 0, larger(one, smaller(other, mixed)))
        return least(one + other * one)

    a, b = RANDOM.uniform(1.0, 2.0, (2, LANES)).astype(np.float32)
    out = np.empty_like(a)
    lowest = mix(a, b, out)
    np.testing.assert_allclose(out, np.maximum(a, np.minimum(b, a * b + 3 - a / b)), rtol=1e-6)
    np.testing.assert_allclose(lowest, (a + b * a).min(), rtol=1e-6)
    assert np.ptp(out) > 0.0


@pytest.mark.parametrize(('rows', 'columns', 'depth'), [(5, 3, 7), (1, 1, 1), (2, 2, 0)])
def test_products_are_those_of_matrices(rows: int, columns: int, depth: int) -> None:
    multiply = products(rows, columns)
    wide = columns * LANES

    @njit
    def run(start, left, right, out):  # type: ignore[no-untyped-def]
        multiply(start, 0, wide, left, 1, depth + 1, right, 0, depth, out, 0, wide)

    shapes = (rows, wide), (rows, depth + 1), (depth, wide)
    start, left, right = (RANDOM.normal(size=shape).astype(np.float32) for shape in shapes)
    out = np.empty_like(start)
    run(start, left, right, out)
    np.testing.assert_allclose(out, start + left[:, 1:] @ right, rtol=1e-5, atol=1e-5)
    if depth:
        assert np.abs(out - start - left[:, :-1] @ right).max() > 0.1
