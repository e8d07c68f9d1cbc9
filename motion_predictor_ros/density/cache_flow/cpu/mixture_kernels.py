# SPDX-License-Identifier: Apache-2.0
"""A mixture's density at many places, in one pass that writes nothing but the answer.

Stage: density. All is float32, and in bits: exp2 takes less time than exp. A mode's
exponent is a sum of squares, so that places far from its mean cost no digits.
"""

import numpy as np
from jaxtyping import Float32

from motion_predictor_ros.runtime.jit import compiled
from motion_predictor_ros.runtime.simd import (
    LANES,
    exp2,
    fma,
    larger,
    least,
    load,
    smaller,
    splat,
    store,
)

_TWO, _THREE = 2 * LANES, 3 * LANES
_BLOCK = 4 * LANES

_RAISED = np.float32(100.0)
"""Exponents are at most 0 [bit]; raised by this, more of them stay within float32."""

_FAINT = np.float32(2.0**-90)
"""Sums below this may have lost modes to float32's range."""


def sum_modes(
    scales: Float32[np.ndarray, 'mode latent'],
    shifts: Float32[np.ndarray, 'mode latent'],
    heights: Float32[np.ndarray, ' mode'],
    places: Float32[np.ndarray, 'latent cached'],
    count: int,
) -> tuple[Float32[np.ndarray, ' count'], Float32[np.ndarray, ' count']]:
    """Return sums and tops at the first places, whose densities are sum 2^top.

    A mode is 2^(height - sum((scale z + shift)^2)).

    Args:
        heights: At most 0.
    """
    workspace = -(-count // _BLOCK) * _BLOCK
    sums, tops = np.empty(workspace, np.float32), np.empty(workspace, np.float32)
    last = count // _BLOCK * _BLOCK
    _sum_blocks(scales, shifts, heights, places, sums[:last], tops[:last])
    if last < count:
        rest = np.zeros((len(places), _BLOCK), np.float32)
        rest[:, : count - last] = places[:, last:count]
        _sum_blocks(scales, shifts, heights, rest, sums[last:], tops[last:])
    return sums[:count], tops[:count]


@compiled
def _sum_blocks(scales, shifts, heights, places, sums, tops):  # type: ignore[no-untyped-def]
    for at in range(0, len(sums), _BLOCK):
        _sum_block(scales, shifts, heights, places, at, sums, tops)


@compiled
def _sum_block(scales, shifts, heights, places, at, sums, tops):  # type: ignore[no-untyped-def]
    zero = splat(np.float32(0.0))
    a, b, c, d = zero, zero, zero, zero
    for mode in range(len(heights)):
        lost = splat(-(heights[mode] + _RAISED))
        e, f, g, h = _distances(scales[mode], shifts[mode], lost, places, at)
        a, b, c, d = a + exp2(zero - e), b + exp2(zero - f), c + exp2(zero - g), d + exp2(zero - h)
    if least(smaller(smaller(a, b), smaller(c, d))) < _FAINT:
        _sum_block_carefully(scales, shifts, heights, places, at, sums, tops)
        return
    _store(sums, at, a, b, c, d)
    low = splat(-_RAISED)
    _store(tops, at, low, low, low, low)


@compiled
def _sum_block_carefully(scales, shifts, heights, places, at, sums, tops):  # type: ignore[no-untyped-def]
    """Do the same relative to each place's own densest mode."""
    zero, low = splat(np.float32(0.0)), splat(np.float32(-np.inf))
    p, q, r, s = low, low, low, low
    for mode in range(len(heights)):
        lost = splat(-heights[mode])
        e, f, g, h = _distances(scales[mode], shifts[mode], lost, places, at)
        p, q, r, s = (
            larger(p, zero - e),
            larger(q, zero - f),
            larger(r, zero - g),
            larger(s, zero - h),
        )
    a, b, c, d = zero, zero, zero, zero
    for mode in range(len(heights)):
        lost = splat(-heights[mode])
        e, f, g, h = _distances(scales[mode], shifts[mode], lost, places, at)
        a, b = a + exp2(zero - e - p), b + exp2(zero - f - q)
        c, d = c + exp2(zero - g - r), d + exp2(zero - h - s)
    _store(sums, at, a, b, c, d)
    _store(tops, at, p, q, r, s)


@compiled
def _distances(scale, shift, lost, places, at):  # type: ignore[no-untyped-def]
    e, f, g, h = lost, lost, lost, lost
    for coordinate in range(len(scale)):
        row, by, plus = places[coordinate], splat(scale[coordinate]), splat(shift[coordinate])
        a, b = fma(load(row, at), by, plus), fma(load(row, at + LANES), by, plus)
        c, d = fma(load(row, at + _TWO), by, plus), fma(load(row, at + _THREE), by, plus)
        e, f, g, h = fma(a, a, e), fma(b, b, f), fma(c, c, g), fma(d, d, h)
    return e, f, g, h


@compiled
def _store(array, at, a, b, c, d):  # type: ignore[no-untyped-def]
    store(array, at, a)
    store(array, at + LANES, b)
    store(array, at + _TWO, c)
    store(array, at + _THREE, d)
