# SPDX-License-Identifier: Apache-2.0
"""What the folded cell does between its matrix products, one compiled loop for each gap.

Stage: prediction. Arrays are float32 with channels last, so that every inner loop is a vector
loop: geometry [joint, xyz, channel], pairs [joint, joint - 1, channel]: no joint is a pair with
itself. Distances do not change when the joints of a pair are exchanged: `twin` holds each
unordered pair once, first those of joint 0.
"""

import numpy as np
from jaxtyping import Float32

from motion_predictor_ros.runtime.jit import compiled
from motion_predictor_ros.runtime.simd import silu

_LEAST2 = np.float32(1e-8)
_KEY_RIDGE = np.float32(1e-4)


@compiled
def pair_distances(
    geometry: Float32[np.ndarray, 'joint xyz=3 channel'],
    twin: Float32[np.ndarray, 'half channel'],
) -> None:
    """Write |g_i - g_j| per channel, at least 1e-4."""
    joints, _, channels = geometry.shape
    row = 0
    for i in range(joints):
        for j in range(i + 1, joints):
            one, other, out = geometry[i], geometry[j], twin[row]
            for c in range(channels):
                x, y = one[0, c] - other[0, c], one[1, c] - other[1, c]
                z = one[2, c] - other[2, c]
                out[c] = np.sqrt(max(x * x + y * y + z * z, _LEAST2))
            row += 1


@compiled
def hidden_pairs(
    edges: Float32[np.ndarray, 'half part pattern'],
    nodes: Float32[np.ndarray, 'joint two part pattern'],
    category: Float32[np.ndarray, 'joint joint-1 acting'],
    message: Float32[np.ndarray, 'joint joint-1 pattern'],
    gated: Float32[np.ndarray, 'joint joint-1 acting pattern'],
) -> None:
    """Add what receivers and senders (first and second of a node) say, and gate by category.

    Parts are those of the message, then of each acting category. They are whole rows of
    contiguous arrays: parts of rows would not become vectors.
    """
    joints, _, width = message.shape
    for i in range(joints):
        for j in range(joints):
            if j == i:
                continue
            low, high, place = min(i, j), max(i, j), j - (j > i)
            edge = edges[low * joints - low * (low + 1) // 2 + high - low - 1]
            one, two, three, out = edge[0], nodes[i, 0, 0], nodes[j, 1, 0], message[i, place]
            for c in range(width):
                out[c] = silu(one[c] + two[c] + three[c])
            for k in range(category.shape[2]):
                one, two, three = edge[1 + k], nodes[i, 0, 1 + k], nodes[j, 1, 1 + k]
                gate, out = category[i, place, k], gated[i, place, k]
                for c in range(width):
                    out[c] = gate * silu(one[c] + two[c] + three[c])


@compiled
def gather_messages(
    raw: Float32[np.ndarray, 'joint joint-1 pattern'],
    bias: Float32[np.ndarray, ' pattern'],
    mean: Float32[np.ndarray, 'joint pattern'],
) -> None:
    """Write the mean message to each joint from all others."""
    joints, others, width = raw.shape
    share = np.float32(1.0 / others)
    for i in range(joints):
        out = mean[i]
        out[:] = np.float32(0.0)
        for j in range(others):
            row = raw[i, j]
            for c in range(width):
                out[c] += silu(row[c] + bias[c])
        for c in range(width):
            out[c] *= share


@compiled
def join_categories(
    raw: Float32[np.ndarray, 'joint joint-1 pattern'],
    category: Float32[np.ndarray, 'joint joint-1 acting'],
    bias: Float32[np.ndarray, 'acting pattern'],
) -> None:
    """Add the bias of each acting category and bend, in place."""
    joints, others, width = raw.shape
    for i in range(joints):
        for j in range(others):
            row = raw[i, j]
            for k in range(category.shape[2]):
                gate, own = category[i, j, k], bias[k]
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
    attention: Float32[np.ndarray, 'joint channel'],
    weight: Float32[np.ndarray, 'joint joint-1 channel'],
    bias: Float32[np.ndarray, ' channel'],
    velocity: Float32[np.ndarray, 'joint xyz=3 channel'],
    moved: Float32[np.ndarray, 'joint xyz=3 channel'],
) -> None:
    """Write the geometry after inner attention, aggregation and velocity."""
    joints, _, channels = geometry.shape
    share = np.float32(1.0 / joints)
    for i in range(joints):
        own, out = geometry[i], moved[i]
        out[:] = np.float32(0.0)
        for j in range(joints):
            if j == i:
                continue
            pull, other = weight[i, j - (j > i)], geometry[j]
            for axis in range(3):
                for c in range(channels):
                    out[axis, c] += (pull[c] + bias[c]) * (own[axis, c] - other[axis, c])
        for axis in range(3):
            for c in range(channels):
                inner = silu(attention[i, c]) * relative[i, axis, c]
                given = own[axis, c] + velocity[i, axis, c]
                out[axis, c] = given + inner + share * out[axis, c]


@compiled
def vector_nonlinearity(
    pair: Float32[np.ndarray, 'joint xyz=3 two channel'],
    mean: Float32[np.ndarray, 'xyz=3'],
    geometry: Float32[np.ndarray, 'joint xyz=3 channel'],
) -> None:
    """Write each query less the part that points against its key, around the mean.

    Args:
        pair: Query and key.
    """
    joints, _, channels = geometry.shape
    for i in range(joints):
        query0, query1, query2 = pair[i, 0, 0], pair[i, 1, 0], pair[i, 2, 0]
        key0, key1, key2 = pair[i, 0, 1], pair[i, 1, 1], pair[i, 2, 1]
        for c in range(channels):
            x, y, z = query0[c], query1[c], query2[c]
            kx, ky, kz = key0[c], key1[c], key2[c]
            along, length2 = x * kx + y * ky + z * kz, kx * kx + ky * ky + kz * kz
            against = min(along, np.float32(0.0)) / (length2 + _KEY_RIDGE)
            geometry[i, 0, c] = x - against * kx + mean[0]
            geometry[i, 1, c] = y - against * ky + mean[1]
            geometry[i, 2, c] = z - against * kz + mean[2]


@compiled
def bound(
    relative: Float32[np.ndarray, 'joint xyz=3 channel'],
    scale: float,
    bounded: Float32[np.ndarray, 'joint xyz=3 channel'],
) -> None:
    """Limit each joint's rms to the scale, smoothly: G / sqrt(1 + rms^2 / scale^2)."""
    joints, _, channels = relative.shape
    squares = np.empty(channels, np.float32)
    for i in range(joints):
        rows, out = relative[i], bounded[i]
        for c in range(channels):
            x, y, z = rows[0, c], rows[1, c], rows[2, c]
            squares[c] = x * x + y * y + z * z
        rms2 = squares.sum() / (3 * channels * scale * scale)
        factor = np.float32(1.0 / np.sqrt(1.0 + rms2))
        for axis in range(3):
            for c in range(channels):
                out[axis, c] = factor * rows[axis, c]


@compiled
def norm(
    pattern: Float32[np.ndarray, 'joint pattern'],
    weight: Float32[np.ndarray, ' pattern'],
    bias: Float32[np.ndarray, ' pattern'],
    least: float,
    normed: Float32[np.ndarray, 'joint pattern'],
) -> None:
    """Write each joint's patterns after a LayerNorm; `least` is what it adds to the variance."""
    joints, width = pattern.shape
    for i in range(joints):
        total, squares = 0.0, 0.0
        for c in range(width):
            total += pattern[i, c]
        middle = np.float32(total / width)
        for c in range(width):
            squares += (pattern[i, c] - middle) * (pattern[i, c] - middle)
        factor = np.float32(1.0 / np.sqrt(squares / width + least))
        for c in range(width):
            normed[i, c] = (pattern[i, c] - middle) * factor * weight[c] + bias[c]
