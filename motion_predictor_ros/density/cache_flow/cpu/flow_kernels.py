# SPDX-License-Identifier: Apache-2.0
"""The inverse flow of an MLP in compiled loops; `folded_flow.py` says what they compute.

Stage: density. All is float32. The value and its tangents are rows that layers turn together.
"""

import numpy as np
from jaxtyping import Float32

from motion_predictor_ros.runtime.jit import compiled
from motion_predictor_ros.runtime.simd import LANES, products, sigmoid

ROWS = 5 if LANES == 16 else 4
"""Rows that are turned together."""

WIDE = 2 * LANES
"""Hidden units that are worked out together."""

_layer_products = products(ROWS, 2)


@compiled
def follow(
    places: Float32[np.ndarray, 'batch latent'],
    volumes: Float32[np.ndarray, ' batch'],
    first: Float32[np.ndarray, 'latent hidden'],
    rest: Float32[np.ndarray, 'layer-1 block hidden wide'],
    last: Float32[np.ndarray, 'latent hidden'],
    bias: Float32[np.ndarray, ' latent'],
    films: Float32[np.ndarray, 'step stage layer two hidden'],
    looks: Float32[np.ndarray, ' stage'],
    shares: Float32[np.ndarray, ' stage'],
    steps: Float32[np.ndarray, ' step'],
    scratch: Float32[np.ndarray, 'two rows hidden'],
) -> None:
    """Carry places along the velocity, and add to volumes what is gained on the way.

    Args:
        looks: How far into a step each stage looks, along the velocity of the stage before.
        shares: Weights of the stages.
        steps: Lengths.
    """
    latent = len(bias)
    speed, here = np.zeros(latent, np.float32), np.empty(latent, np.float32)
    moved = np.empty(latent, np.float32)
    for each in range(len(places)):
        place = places[each]
        for step in range(len(steps)):
            for d in range(latent):
                moved[d] = place[d]
            for stage in range(len(looks)):
                for d in range(latent):
                    here[d] = place[d] + steps[step] * looks[stage] * speed[d]
                trace = _rate(here, first, rest, last, bias, films[step, stage], scratch, speed)
                share = steps[step] * shares[stage]
                volumes[each] += share * trace
                for d in range(latent):
                    moved[d] += share * speed[d]
            for d in range(latent):
                place[d] = moved[d]


@compiled
def _rate(here, first, rest, last, bias, film, scratch, speed):  # type: ignore[no-untyped-def]
    """Write the velocity; return its trace."""
    latent, hidden = first.shape
    rows, turned = scratch[0], scratch[1]
    for c in range(hidden):
        rows[0, c] = np.float32(0.0)
    for k in range(latent):
        for c in range(hidden):
            rows[1 + k, c] = first[k, c]
            rows[0, c] += here[k] * first[k, c]
    _activation(rows, latent, film[0, 0], film[0, 1])
    for layer in range(len(rest)):
        _turn(rows, rest[layer], turned)
        _activation(turned, latent, film[1 + layer, 0], film[1 + layer, 1])
        rows, turned = turned, rows
    trace = np.float32(0.0)
    for d in range(latent):
        total = bias[d]
        for c in range(hidden):
            total += rows[0, c] * last[d, c]
            trace += rows[1 + d, c] * last[d, c]
        speed[d] = total
    return trace


@compiled
def _turn(rows, weight, turned):  # type: ignore[no-untyped-def]
    blocks, hidden, _ = weight.shape
    nothing = np.zeros(WIDE, np.float32)
    for block in range(blocks):
        for row in range(0, len(rows), ROWS):
            _layer_products(
                nothing, 0, 0, rows, row * hidden, hidden,
                weight, block * hidden * WIDE, hidden, turned, row * hidden + block * WIDE, hidden,
            )  # fmt: skip


@compiled
def _activation(rows, latent, scale, shift):  # type: ignore[no-untyped-def]
    """Bend the value and multiply its tangents by the slope there, in place."""
    value, one = rows[0], np.float32(1.0)
    for c in range(len(value)):
        inner = value[c] * scale[c] + shift[c]
        gate = sigmoid(inner)
        value[c] = inner * gate
        slope = gate * (one + inner * (one - gate)) * scale[c]
        for tangent in range(1, 1 + latent):
            rows[tangent, c] *= slope
