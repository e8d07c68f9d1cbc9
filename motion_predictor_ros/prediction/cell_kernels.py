# SPDX-License-Identifier: Apache-2.0
"""What the folded cell does between its matrix products, one compiled loop for each gap.

Stage: prediction. Arrays are float32 with channels last, so that every inner loop is a vector
loop: geometry [joint, xyz, channel], pairs [joint, joint, channel]. Distances do not
change when the joints of a pair are exchanged: `twin` holds each unordered pair once, the first
joint's row from itself onwards.
"""

from typing import Any

import numpy as np
from jaxtyping import Float32
from llvmlite import ir
from numba import float32, int32
from numba.extending import intrinsic

from motion_predictor_ros.compiled import compiled

_LEAST2 = np.float32(1e-8)
_KEY_RIDGE = np.float32(1e-4)


@intrinsic  # type: ignore[untyped-decorator]
def _from_bits(typing: Any, bits: Any) -> Any:
    """Read 32 bits as a float: the exponent of a power of two is set so."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.FloatType())

    return float32(int32), generate


@compiled
def silu(x):  # type: ignore[no-untyped-def]
    """Return x / (1 + exp(-x)) to float32's rounding, in operations that vectors have."""
    power = min(max(np.float32(-1.44269504) * x, np.float32(-126.0)), np.float32(126.0))
    whole = np.floor(power + np.float32(0.5))
    rest = power - whole
    two = np.float32(1.5403530e-4)
    two = two * rest + np.float32(1.3333558e-3)
    two = two * rest + np.float32(9.6181291e-3)
    two = two * rest + np.float32(5.5504109e-2)
    two = two * rest + np.float32(0.24022651)
    two = two * rest + np.float32(0.69314718)
    two = two * rest + np.float32(1.0)
    exponent = np.int32((np.int32(whole) + np.int32(127)) << np.int32(23))
    return x / (np.float32(1.0) + two * _from_bits(exponent))


@compiled
def pair_distances(
    geometry: Float32[np.ndarray, 'joint xyz=3 channel'],
    twin: Float32[np.ndarray, 'half channel'],
) -> None:
    """Write |g_i - g_j| per channel, at least 1e-4."""
    joints, _, channels = geometry.shape
    row = 0
    for i in range(joints):
        for j in range(i, joints):
            one, other, out = geometry[i], geometry[j], twin[row]
            for c in range(channels):
                x, y = one[0, c] - other[0, c], one[1, c] - other[1, c]
                z = one[2, c] - other[2, c]
                out[c] = np.sqrt(max(x * x + y * y + z * z, _LEAST2))
            row += 1


@compiled
def hidden_pairs(
    edges: Float32[np.ndarray, 'half hidden'],
    nodes: Float32[np.ndarray, 'joint node'],
    category: Float32[np.ndarray, 'acting joint joint'],
    message: Float32[np.ndarray, 'joint joint pattern'],
    gated: Float32[np.ndarray, 'joint joint acting_pattern'],
) -> None:
    """Add what receiver (first in a node's row) and sender say, and gate by category."""
    joints, _, width = message.shape
    hidden = edges.shape[1]
    for i in range(joints):
        receiver = nodes[i, :hidden]
        for j in range(joints):
            low, high = min(i, j), max(i, j)
            edge = edges[low * joints - low * (low - 1) // 2 + high - low]
            sender = nodes[j, hidden : 2 * hidden]
            out = message[i, j]
            for c in range(width):
                out[c] = silu(edge[c] + receiver[c] + sender[c])
            for k in range(category.shape[0]):
                gate, part = category[k, i, j], slice((k + 1) * width, (k + 2) * width)
                one, two, three = edge[part], receiver[part], sender[part]
                out = gated[i, j, k * width : (k + 1) * width]
                for c in range(width):
                    out[c] = gate * silu(one[c] + two[c] + three[c])


@compiled
def gather_messages(
    raw: Float32[np.ndarray, 'joint joint pattern'],
    bias: Float32[np.ndarray, ' pattern'],
    mean: Float32[np.ndarray, 'joint pattern'],
) -> None:
    """Write the mean message to each joint from all others."""
    joints, _, width = raw.shape
    share = np.float32(1.0 / max(joints - 1, 1))
    for i in range(joints):
        out = mean[i]
        out[:] = np.float32(0.0)
        for j in range(joints):
            if j != i:
                row = raw[i, j]
                for c in range(width):
                    out[c] += silu(row[c] + bias[c])
        for c in range(width):
            out[c] *= share


@compiled
def join_categories(
    raw: Float32[np.ndarray, 'joint joint pattern'],
    category: Float32[np.ndarray, 'acting joint joint'],
    bias: Float32[np.ndarray, 'acting pattern'],
) -> None:
    """Add the bias of each acting category and bend, in place."""
    joints, _, width = raw.shape
    for i in range(joints):
        for j in range(joints):
            row = raw[i, j]
            for k in range(category.shape[0]):
                gate, own = category[k, i, j], bias[k]
                for c in range(width):
                    row[c] += gate * own[c]
            for c in range(width):
                row[c] = silu(row[c])


@compiled
def centre(
    geometry: Float32[np.ndarray, 'joint xyz=3 channel'],
    mean: Float32[np.ndarray, 'xyz=3'],
    relative: Float32[np.ndarray, 'joint xyz=3 channel'],
) -> None:
    """Write M(G) and G - M(G); both may be the same array."""
    joints, _, channels = geometry.shape
    total = np.empty(channels, np.float32)
    for axis in range(3):
        total[:] = np.float32(0.0)
        for i in range(joints):
            row = geometry[i, axis]
            for c in range(channels):
                total[c] += row[c]
        middle = np.float32(total.sum() / np.float32(joints * channels))
        mean[axis] = middle
        for i in range(joints):
            row, out = geometry[i, axis], relative[i, axis]
            for c in range(channels):
                out[c] = row[c] - middle


@compiled
def move(
    geometry: Float32[np.ndarray, 'joint xyz=3 channel'],
    relative: Float32[np.ndarray, 'joint xyz=3 channel'],
    nodes: Float32[np.ndarray, 'joint node'],
    weight: Float32[np.ndarray, 'joint joint channel'],
    bias: Float32[np.ndarray, ' channel'],
    velocity: Float32[np.ndarray, 'joint xyz=3 channel'],
    moved: Float32[np.ndarray, 'joint xyz=3 channel'],
) -> None:
    """Write what attention (last in a node's row), aggregation and velocity make of geometry."""
    joints, _, channels = geometry.shape
    attention = nodes[:, nodes.shape[1] - channels :]
    share = np.float32(1.0 / joints)
    for i in range(joints):
        own, out = geometry[i], moved[i]
        out[:] = np.float32(0.0)
        for j in range(joints):
            pull, other = weight[i, j], geometry[j]
            for axis in range(3):
                for c in range(channels):
                    out[axis, c] += (pull[c] + bias[c]) * (own[axis, c] - other[axis, c])
        for axis in range(3):
            for c in range(channels):
                inner = silu(attention[i, c]) * relative[i, axis, c]
                given = own[axis, c] + velocity[i, axis, c]
                out[axis, c] = given + inner + share * out[axis, c]


@compiled
def bend_vectors(
    both: Float32[np.ndarray, 'joint xyz=3 query_key'],
    mean: Float32[np.ndarray, 'xyz=3'],
    geometry: Float32[np.ndarray, 'joint xyz=3 channel'],
) -> None:
    """Write each query less the part that points against its key, around the mean."""
    joints, _, channels = geometry.shape
    for i in range(joints):
        query, key = both[i, :, :channels], both[i, :, channels:]
        out, middle = geometry[i], mean
        for c in range(channels):
            along = query[0, c] * key[0, c] + query[1, c] * key[1, c] + query[2, c] * key[2, c]
            length2 = key[0, c] * key[0, c] + key[1, c] * key[1, c] + key[2, c] * key[2, c]
            against = min(along, np.float32(0.0)) / (length2 + _KEY_RIDGE)
            out[0, c] = query[0, c] - against * key[0, c] + middle[0]
            out[1, c] = query[1, c] - against * key[1, c] + middle[1]
            out[2, c] = query[2, c] - against * key[2, c] + middle[2]


@compiled
def bound(
    relative: Float32[np.ndarray, 'joint xyz=3 channel'],
    scale: float,
) -> None:
    """Limit each joint's rms to the scale, smoothly, in place: G / sqrt(1 + rms^2 / scale^2)."""
    joints, _, channels = relative.shape
    squares = np.empty(channels, np.float32)
    for i in range(joints):
        rows = relative[i]
        for c in range(channels):
            x, y, z = rows[0, c], rows[1, c], rows[2, c]
            squares[c] = x * x + y * y + z * z
        rms2 = squares.sum() / (3 * channels * scale * scale)
        factor = np.float32(1.0 / np.sqrt(1.0 + rms2))
        for axis in range(3):
            for c in range(channels):
                rows[axis, c] *= factor
