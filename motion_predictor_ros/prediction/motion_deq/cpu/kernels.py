# SPDX-License-Identifier: Apache-2.0
"""Compiled loops between the matrix products of the fused encoder and cell.

Stage: prediction. Arrays are float32 with channels last, so that inner loops become vector loops:
geometry [joint, xyz, channel], ordered pairs [joint, joint - 1, channel] without the pair of a
joint with itself, or as rows of a matrix. Unordered pairs i < j are rows in the order (0, 1),
(0, 2), ..., (1, 2), ...
"""

from functools import partial

import numpy as np
from jaxtyping import Float32

from motion_predictor_ros.runtime.jit import compiled, inlined

_MIN_DISTANCE2 = np.float32(1e-8)
_KEY_RIDGE = np.float32(1e-4)
_STILL2 = np.float32(1e-6)
_MIN_STEP2 = np.float32(1e-12)
_HALF, _ONE = np.float32(0.5), np.float32(1.0)
_NORM_EPSILON = np.float32(1e-5)
# tanh(x) = x P(x^2) / Q(x^2) in float32, constant beyond the bound: `EmitFastTanh` of XLA.
_TANH_BOUND = np.float32(7.90531110763549805)
_P, _Q = (
    tuple(map(np.float32, coefficients))
    for coefficients in (
        (
            4.89352455891786e-03, 6.37261928875436e-04, 1.48572235717979e-05, 5.12229709037114e-08,
            -8.60467152213735e-11, 2.00018790482477e-13, -2.76076847742355e-16,
        ),
        (4.89352518554385e-03, 2.26843463243900e-03, 1.18534705686654e-04, 1.19825839466702e-06),
    )
)  # fmt: skip


@partial(inlined, rounding=('contract',))
def tanh(x: np.float32) -> np.float32:
    """Compute the hyperbolic tangent by arithmetic alone: its loops vectorise."""
    t = x if x < _TANH_BOUND else _TANH_BOUND
    t = t if t > -_TANH_BOUND else -_TANH_BOUND
    u = t * t
    p = _P[6]
    p = p * u + _P[5]
    p = p * u + _P[4]
    p = p * u + _P[3]
    p = p * u + _P[2]
    p = p * u + _P[1]
    p = p * u + _P[0]
    q = ((_Q[3] * u + _Q[2]) * u + _Q[1]) * u + _Q[0]
    return t * p / q


@partial(inlined, rounding=('contract',))
def silu(x: np.float32) -> np.float32:
    """Return x sigmoid(x) = x (1 + tanh(x / 2)) / 2."""
    half = _HALF * x
    return half + half * tanh(half)


@compiled
def pair_distances(
    geometry: Float32[np.ndarray, 'joint xyz=3 channel'],
    distances: Float32[np.ndarray, 'unordered channel'],
) -> None:
    """Write |g_i - g_j| of each channel, at least 1e-4."""
    joints, _, channels = geometry.shape
    row = 0
    for i in range(joints):
        for j in range(i + 1, joints):
            for c in range(channels):
                x = geometry[i, 0, c] - geometry[j, 0, c]
                y = geometry[i, 1, c] - geometry[j, 1, c]
                z = geometry[i, 2, c] - geometry[j, 2, c]
                square = x * x + y * y + z * z
                distances[row, c] = np.sqrt(square if square > _MIN_DISTANCE2 else _MIN_DISTANCE2)
            row += 1


@inlined
def hidden_pairs(
    edges: Float32[np.ndarray, 'unordered part_width'],
    nodes: Float32[np.ndarray, 'joint two part_width'],
    category: Float32[np.ndarray, 'pair acting'],
    of_message: Float32[np.ndarray, 'pair width'],
    of_category: Float32[np.ndarray, 'pair acting_width'],
) -> None:
    """Write silu(a_i + b_j + e_ij): first the message's part, then each category's times x_ijk."""
    joints, _, _ = nodes.shape
    width, acting = of_message.shape[1], category.shape[1]
    for i in range(joints):
        for j in range(joints):
            if j == i:
                continue
            low, high, pair = (i, j, j - 1) if i < j else (j, i, j)
            edge = low * joints - low * (low + 1) // 2 + high - low - 1
            pair += i * (joints - 1)
            for c in range(width):
                of_message[pair, c] = silu(edges[edge, c] + nodes[i, 0, c] + nodes[j, 1, c])
            for k in range(acting):
                factor = category[pair, k]
                for c in range(width):
                    at = (k + 1) * width + c
                    hidden = silu(edges[edge, at] + nodes[i, 0, at] + nodes[j, 1, at])
                    of_category[pair, at - width] = factor * hidden


@inlined
def mean_messages(
    message: Float32[np.ndarray, 'joint joint-1 width'],
    bias: Float32[np.ndarray, ' width'],
    mean: Float32[np.ndarray, 'joint width'],
) -> None:
    """Write mean_j silu(m_ij + b)."""
    joints, others, width = message.shape
    share = np.float32(1.0 / others)
    for i in range(joints):
        for c in range(width):
            mean[i, c] = np.float32(0.0)
        for j in range(others):
            for c in range(width):
                mean[i, c] += silu(message[i, j, c] + bias[c])
        for c in range(width):
            mean[i, c] *= share


@inlined
def add_mixed_bias(
    mixed: Float32[np.ndarray, 'pair width'],
    category: Float32[np.ndarray, 'pair acting'],
    bias: Float32[np.ndarray, 'acting width'],
) -> None:
    """Replace m_ij by silu(m_ij + sum_k x_ijk b_k)."""
    pairs, width = mixed.shape
    for pair in range(pairs):
        for k in range(len(bias)):
            factor = category[pair, k]
            for c in range(width):
                mixed[pair, c] += factor * bias[k, c]
        for c in range(width):
            mixed[pair, c] = silu(mixed[pair, c])


@inlined
def add_rows(
    values: Float32[np.ndarray, 'row width'], added: Float32[np.ndarray, 'row_or_one width']
) -> None:
    """Add a row for each row, or the same one to all."""
    rows, width = values.shape
    for row in range(rows):
        source = row if len(added) > 1 else 0
        for c in range(width):
            values[row, c] += added[source, c]


@inlined
def add_silu(
    values: Float32[np.ndarray, 'row width'], added: Float32[np.ndarray, 'row_or_one width']
) -> None:
    """Replace x by silu(x + a), with a row for each row, or the same one for all."""
    rows, width = values.shape
    for row in range(rows):
        source = row if len(added) > 1 else 0
        for c in range(width):
            values[row, c] = silu(values[row, c] + added[source, c])


@partial(inlined, rounding=('reassoc',))
def normalise(
    pattern: Float32[np.ndarray, 'joint width'],
    weight: Float32[np.ndarray, ' width'],
    bias: Float32[np.ndarray, ' width'],
    normalised: Float32[np.ndarray, 'joint width'],
) -> None:
    """Write w (h - mean) / sqrt(variance + 1e-5) + b, as torch's LayerNorm."""
    joints, width = pattern.shape
    for i in range(joints):
        total = np.float32(0.0)
        for c in range(width):
            total += pattern[i, c]
        mean = total / np.float32(width)
        squares = np.float32(0.0)
        for c in range(width):
            squares += (pattern[i, c] - mean) * (pattern[i, c] - mean)
        scale = _ONE / np.sqrt(squares / np.float32(width) + _NORM_EPSILON)
        for c in range(width):
            normalised[i, c] = weight[c] * (pattern[i, c] - mean) * scale + bias[c]


@partial(compiled, rounding=('reassoc',))
def centre(
    geometry: Float32[np.ndarray, 'joint xyz=3 channel'],
    mean: Float32[np.ndarray, 'xyz=3'],
    relative: Float32[np.ndarray, 'joint xyz=3 channel'],
) -> None:
    """Write M(G), the mean over joints and channels, and G - M(G); may write over G."""
    joints, axes, channels = geometry.shape
    for axis in range(axes):
        total = np.float32(0.0)
        for i in range(joints):
            for c in range(channels):
                total += geometry[i, axis, c]
        middle = total / np.float32(joints * channels)
        mean[axis] = middle
        for i in range(joints):
            for c in range(channels):
                relative[i, axis, c] = geometry[i, axis, c] - middle


@inlined
def move(
    geometry: Float32[np.ndarray, 'joint xyz=3 channel'],
    relative: Float32[np.ndarray, 'joint xyz=3 channel'],
    attention: Float32[np.ndarray, 'joint channel'],
    weight: Float32[np.ndarray, 'joint joint-1 channel'],
    bias: Float32[np.ndarray, ' channel'],
    velocity: Float32[np.ndarray, 'joint xyz=3 channel'],
    moved: Float32[np.ndarray, 'joint xyz=3 channel'],
) -> None:
    """Write g_i + v_i + a_i (g_i - M) + 1/J sum_j (w_ij + b) (g_i - g_j)."""
    joints, axes, channels = geometry.shape
    share = np.float32(1.0 / joints)
    for i in range(joints):
        for axis in range(axes):
            for c in range(channels):
                moved[i, axis, c] = np.float32(0.0)
        for j in range(joints):
            if j == i:
                continue
            place = j - 1 if i < j else j
            for axis in range(axes):
                for c in range(channels):
                    apart = geometry[i, axis, c] - geometry[j, axis, c]
                    moved[i, axis, c] += (weight[i, place, c] + bias[c]) * apart
        for axis in range(axes):
            for c in range(channels):
                inner = attention[i, c] * relative[i, axis, c]
                base = geometry[i, axis, c] + velocity[i, axis, c] + inner
                moved[i, axis, c] = base + share * moved[i, axis, c]


@inlined
def vector_nonlinearity(
    pair: Float32[np.ndarray, 'joint xyz=3 two channel'],
    mean: Float32[np.ndarray, 'xyz=3'],
    geometry: Float32[np.ndarray, 'joint xyz=3 channel'],
) -> None:
    """Write q - min(q.k, 0) / (|k|^2 + 1e-4) k + M with queries q and keys k of a pair."""
    joints, _, _, channels = pair.shape
    for i in range(joints):
        for c in range(channels):
            x, y, z = pair[i, 0, 0, c], pair[i, 1, 0, c], pair[i, 2, 0, c]
            kx, ky, kz = pair[i, 0, 1, c], pair[i, 1, 1, c], pair[i, 2, 1, c]
            along, length2 = x * kx + y * ky + z * kz, kx * kx + ky * ky + kz * kz
            against = along if along < np.float32(0.0) else np.float32(0.0)
            against /= length2 + _KEY_RIDGE
            geometry[i, 0, c] = x - against * kx + mean[0]
            geometry[i, 1, c] = y - against * ky + mean[1]
            geometry[i, 2, c] = z - against * kz + mean[2]


@inlined
def bound(
    relative: Float32[np.ndarray, 'joint xyz=3 channel'],
    scale: float,
    bounded: Float32[np.ndarray, 'joint xyz=3 channel'],
) -> None:
    """Write G / sqrt(1 + rms_i^2 / scale^2) with the rms of each joint."""
    joints, axes, channels = relative.shape
    for i in range(joints):
        total = 0.0
        for axis in range(axes):
            for c in range(channels):
                total += relative[i, axis, c] * relative[i, axis, c]
        rms2 = total / (3 * channels * scale * scale)
        factor = np.float32(1.0 / np.sqrt(1.0 + rms2))
        for axis in range(axes):
            for c in range(channels):
                bounded[i, axis, c] = factor * relative[i, axis, c]


@compiled
def observe(
    positions: Float32[np.ndarray, 'time joint xyz=3'],
    relative: Float32[np.ndarray, 'joint xyz=3 time'],
    pace: Float32[np.ndarray, 'joint two time'],
) -> None:
    """Write positions about their mean, and each joint's speeds and cosines of its turns.

    With steps d_t = x_t - x_(t-1), as in `PatternFeatures`:
        speed_t = 10 |d_t|                                       [dm per frame]
        turn_t  = d_t . d_(t-1) / (|d_t| |d_(t-1)| + 1e-6)       fades where a joint hardly moves
    """
    frames, joints, _ = positions.shape
    for axis in range(3):
        total = 0.0
        for t in range(frames):
            for j in range(joints):
                total += positions[t, j, axis]
        middle = np.float32(total / (frames * joints))
        for t in range(frames):
            for j in range(joints):
                relative[j, axis, t] = positions[t, j, axis] - middle
    for j in range(joints):
        before = np.float32(0.0)
        for t in range(1, frames):
            last = t - 1 if t > 1 else 1  # the first step is repeated before it
            along, length2 = np.float32(0.0), np.float32(0.0)
            for axis in range(3):
                step = positions[t, j, axis] - positions[t - 1, j, axis]
                along += step * (positions[last, j, axis] - positions[last - 1, j, axis])
                length2 += step * step
            length = np.sqrt(length2 + _MIN_STEP2)
            if t == 1:
                before = length
            pace[j, 0, t] = np.float32(10.0) * length
            pace[j, 1, t] = along / (length * before + _STILL2)
            before = length
        pace[j, 0, 0], pace[j, 1, 0] = pace[j, 0, 1], pace[j, 1, 1]
