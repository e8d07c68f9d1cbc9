# SPDX-License-Identifier: Apache-2.0
"""The inner products of Anderson mixing, compiled: states are short, calls of libraries are not.

Stage: prediction. Sums are vectors, so that their order depends on the processor.
"""

from functools import partial

import numpy as np
from jaxtyping import Float32, Float64

from motion_predictor_ros.compiled import compiled

_summing = partial(compiled, rounding=('contract', 'reassoc'))


@_summing
def difference(
    image: Float32[np.ndarray, ' size'],
    current: Float32[np.ndarray, ' size'],
    split: int,
    units: tuple[float, float],
    residual: Float32[np.ndarray, ' size'],
) -> float:
    """Write f(z) - z, both parts in their unit; return how long it is beside f(z).

    Args:
        split: Where geometry ends and patterns begin.
    """
    apart, whole = np.float32(0.0), np.float32(0.0)
    for part in range(2):
        begin, end = (0, split) if part == 0 else (split, len(image))
        new, old, out = image[begin:end], current[begin:end], residual[begin:end]
        unit = np.float32(units[part])
        for place in range(len(new)):
            own = unit * new[place]
            off = own - unit * old[place]
            out[place] = off
            apart += off * off
            whole += own * own
    return float(np.sqrt(apart) / max(np.sqrt(whole), np.float32(1e-12)))


@_summing
def mix(
    images: Float32[np.ndarray, 'window size'],
    residuals: Float32[np.ndarray, 'window size'],
    gram: Float64[np.ndarray, 'window window'],
    newest: int,
    count: int,
    ridge: float,
    mixed: Float32[np.ndarray, ' size'],
) -> None:
    """Combine images with the weights (sum 1) that make the mixed residual smallest.

    Of the Gram matrix of residuals only the row of the newest is computed.
    """
    last, largest = residuals[newest], 1e-30
    for k in range(count):
        row, total = residuals[k], np.float32(0.0)
        for place in range(len(last)):
            total += row[place] * last[place]
        gram[newest, k] = gram[k, newest] = total
    for k in range(count):
        largest = max(largest, gram[k, k])
    system, weights = np.empty_like(gram), np.empty(len(gram))
    for k in range(count):
        for other in range(count):
            system[k, other] = gram[k, other] / largest + (ridge if k == other else 0.0)
    _solve(system, weights, count)
    whole = 0.0
    for k in range(count):
        whole += weights[k]
    for k in range(count):
        row, weight = images[k], np.float32(weights[k] / whole)
        for place in range(len(mixed)):
            mixed[place] = weight * row[place] + (mixed[place] if k else np.float32(0.0))


@compiled
def _solve(
    system: Float64[np.ndarray, 'window window'],
    right: Float64[np.ndarray, ' window'],
    count: int,
) -> None:
    """Solve A w = 1 of a positive definite A, the first `count` rows, by elimination."""
    for k in range(count):
        right[k] = 1.0
    for k in range(count):
        for below in range(k + 1, count):
            factor = system[below, k] / system[k, k]
            for column in range(k + 1, count):
                system[below, column] -= factor * system[k, column]
            right[below] -= factor * right[k]
    for k in range(count - 1, -1, -1):
        for column in range(k + 1, count):
            right[k] -= system[k, column] * right[column]
        right[k] /= system[k, k]
