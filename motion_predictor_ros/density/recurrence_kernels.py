# SPDX-License-Identifier: Apache-2.0
"""Steps of a folded GRU in compiled loops; `recurrence.py` says what they compute.

Stage: density. All is float32.
"""

import numpy as np
from jaxtyping import Float32

from motion_predictor_ros.compiled import compiled
from motion_predictor_ros.vector_math import sigmoid


@compiled
def turn(
    own: Float32[np.ndarray, 'batch gate=3 hidden'],
    given: Float32[np.ndarray, 'batch hidden'],
    before: Float32[np.ndarray, 'batch hidden'],
    after: Float32[np.ndarray, 'batch hidden'],
) -> None:
    """Write u after one step.

    Args:
        own: What the state says to the three gates, biases included.
        given: What the input says to the third.
    """
    for row in range(len(before)):
        _turn_one(own[row], given[row], before[row], after[row])


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
    hidden, gates = weight.shape
    own, state = np.empty((3, hidden), np.float32), np.full(hidden, np.float32(0.5))
    row = own.reshape(-1)
    for step in range(len(states)):
        own[:] = entered[step, :3]
        for k in range(0, hidden - 3, 4):
            a, b, c, d = state[k], state[k + 1], state[k + 2], state[k + 3]
            one, two, three, four = weight[k], weight[k + 1], weight[k + 2], weight[k + 3]
            for g in range(gates):
                row[g] += a * one[g] + b * two[g] + c * three[g] + d * four[g]
        for k in range(hidden - hidden % 4, hidden):
            for g in range(gates):
                row[g] += state[k] * weight[k, g]
        _turn_one(own, entered[step, 3], state, states[step])
        state = states[step]
