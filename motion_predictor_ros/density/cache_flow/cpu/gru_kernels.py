# SPDX-License-Identifier: Apache-2.0
"""Steps of a folded GRU in compiled loops; `recurrence.py` says what they compute.

Stage: density. All is float32. Of a step, the gates of a few rows and a register's width of
states are one product whose sums stay in registers, and are bent right there. A row's states do
not depend on the rows beside it.
"""

import numpy as np
from jaxtyping import Float32, Float64

from motion_predictor_ros.runtime.jit import compiled
from motion_predictor_ros.runtime.simd import (
    LANES,
    exp2,
    fma,
    load,
    products,
    sigmoid,
    smaller,
    splat,
    store,
)

ROWS = 5 if LANES == 16 else 4
"""Rows that are stepped together; a batch is a multiple of it."""

_GATES, _ENTRY = 3 * LANES, 4 * LANES
WIDE = 2 * LANES
"""Values of a pose that are worked out together."""

_gate_products, _value_products = products(ROWS, 3), products(ROWS, 2)

_FLAT = np.float32(60.0)
"""Exponents [bit] beyond which a sigmoid is flat; the product of two is in float32's range."""


@compiled
def states_of_many(
    entered: Float32[np.ndarray, 'given panel batch entry'],
    weight: Float32[np.ndarray, 'panel hidden gates'],
    states: Float32[np.ndarray, 'step batch width'],
) -> None:
    """Write u after each step.

    Args:
        entered: Through `Recurrence.packed_entry`; one for each step, or one that never changes.
    """
    steps, batch, width = states.shape
    before = np.full((batch, width), np.float32(0.5))
    scratch = np.empty((ROWS, _GATES), np.float32)
    for step in range(steps):
        _step(entered[min(step, len(entered) - 1)], weight, before, states[step], scratch)
        before = states[step]


@compiled
def decode(
    entered: Float32[np.ndarray, 'panel batch entry'],
    weight: Float32[np.ndarray, 'panel hidden gates'],
    offset: Float32[np.ndarray, 'block hidden wide'],
    start: Float32[np.ndarray, ' values'],
    origin: Float64[np.ndarray, ' value'],
    places: Float64[np.ndarray, 'future horizon value'],
) -> None:
    """Write start + offset u + origin after each step, of an input that never changes.

    Args:
        entered: Through `Recurrence.packed_entry`.
        start: Padded to whole blocks of offsets.
    """
    batch, width = entered.shape[1], len(weight) * LANES
    hidden, value = weight.shape[1], len(origin)
    before = np.full((batch, width), np.float32(0.5))
    after = np.empty_like(before)
    scratch = np.empty((ROWS, _GATES), np.float32)
    for step in range(places.shape[1]):
        _step(entered, weight, before, after, scratch)
        for first in range(0, batch, ROWS):
            for block in range(len(offset)):
                _value_products(
                    start, block * WIDE, 0, after, first * width, width,
                    offset, block * hidden * WIDE, hidden, scratch, 0, _GATES,
                )  # fmt: skip
                begin = block * WIDE
                end = min(begin + WIDE, value)
                for row in range(min(ROWS, len(places) - first)):
                    out, found = places[first + row, step], scratch[row]
                    for c in range(begin, end):
                        out[c] = np.float64(found[c - begin]) + origin[c]
        before, after = after, before


@compiled
def _step(entered, weight, before, after, scratch):  # type: ignore[no-untyped-def]
    panels, hidden, _ = weight.shape
    batch, width = before.shape
    for panel in range(panels):
        for first in range(0, batch, ROWS):
            given = (panel * batch + first) * _ENTRY
            _gate_products(
                entered, given, _ENTRY, before, first * width, width,
                weight, panel * hidden * _GATES, hidden, scratch, 0, _GATES,
            )  # fmt: skip
            for row in range(ROWS):
                at = (first + row) * width + panel * LANES
                told = load(entered, given + row * _ENTRY + _GATES)
                store(after, at, _activation(scratch, row * _GATES, told, load(before, at)))


@compiled
def _activation(gates, at, told, before):  # type: ignore[no-untyped-def]
    """Return u after a step; arguments of sigmoids come times -log2(e)."""
    one, flat = splat(np.float32(1.0)), splat(_FLAT)
    reset = one + exp2(smaller(load(gates, at), flat))
    keep = one + exp2(smaller(load(gates, at + LANES), flat))
    both = one / (reset * keep)
    said = fma(both * keep, load(gates, at + 2 * LANES), told)
    new = one / (one + exp2(smaller(said, flat)))
    return fma(both * reset, before - new, new)


@compiled
def _turn_one(own, given, before, after):  # type: ignore[no-untyped-def]
    # Whole rows of contiguous arrays: parts of rows would not become vectors.
    reset, keep, said = own[0], own[1], own[2]
    for c in range(len(before)):
        new = sigmoid(given[c] + sigmoid(reset[c]) * said[c])
        after[c] = new + sigmoid(keep[c]) * (before[c] - new)


@compiled
def states_of_one(
    entered: Float32[np.ndarray, 'step entry=4 hidden'],
    weight: Float32[np.ndarray, 'hidden gates'],
    states: Float32[np.ndarray, 'step hidden'],
) -> None:
    """Write u after each step for a single person: a product with a vector costs less than a call.

    Args:
        entered: Inputs through `Recurrence.entry`, one for each step.
    """
    hidden = len(weight)
    own, state = np.empty((3, hidden), np.float32), np.full(hidden, np.float32(0.5))
    row = own.reshape(-1)
    for step in range(len(states)):
        for gate in range(3):
            for c in range(hidden):
                own[gate, c] = entered[step, gate, c]
        _add_product(state, weight, row)
        _turn_one(own, entered[step, 3], state, states[step])
        state = states[step]


@compiled
def _add_product(state, weight, row):  # type: ignore[no-untyped-def]
    hidden, gates = weight.shape
    for k in range(0, hidden - 3, 4):
        a, b, c, d = state[k], state[k + 1], state[k + 2], state[k + 3]
        one, two, three, four = weight[k], weight[k + 1], weight[k + 2], weight[k + 3]
        for g in range(gates):
            row[g] += a * one[g] + b * two[g] + c * three[g] + d * four[g]
    for k in range(hidden - hidden % 4, hidden):
        for g in range(gates):
            row[g] += state[k] * weight[k, g]


@compiled
def remember(
    entered: Float32[np.ndarray, 'step gate=4 hidden'],
    weight: Float32[np.ndarray, 'hidden gates'],
    state: Float32[np.ndarray, ' hidden'],
) -> None:
    """Write the last state of an LSTM that begins at zero.

    Args:
        entered: What each input says to the gates input, forget, cell, output, biases included.
        weight: From the state to these gates.
    """
    hidden = len(state)
    own, cell = np.empty((4, hidden), np.float32), np.zeros(hidden, np.float32)
    row = own.reshape(-1)
    for c in range(hidden):
        state[c] = np.float32(0.0)
    for step in range(len(entered)):
        for gate in range(4):
            for c in range(hidden):
                own[gate, c] = entered[step, gate, c]
        _add_product(state, weight, row)
        _remember_one(own, cell, state)


@compiled
def _remember_one(own, cell, state):  # type: ignore[no-untyped-def]
    take, keep, new, show = own[0], own[1], own[2], own[3]
    one, two = np.float32(1.0), np.float32(2.0)
    for c in range(len(cell)):
        fresh = two * sigmoid(two * new[c]) - one
        cell[c] = sigmoid(keep[c]) * cell[c] + sigmoid(take[c]) * fresh
        state[c] = sigmoid(show[c]) * (two * sigmoid(two * cell[c]) - one)
