# SPDX-License-Identifier: Apache-2.0
"""What the folded encoder does between its matrix products, one compiled loop for each gap.

Stage: prediction. Arrays are float32 with channels last, as in `cell_kernels`.
"""

import numpy as np
from jaxtyping import Float32

from motion_predictor_ros.runtime.jit import compiled
from motion_predictor_ros.runtime.simd import exp_of_minus, silu

_STILL2 = np.float32(1e-6)
_LEAST2 = np.float32(1e-12)


@compiled
def series(
    positions: Float32[np.ndarray, 'time joint xyz=3'],
    relative: Float32[np.ndarray, 'joint xyz=3 time'],
    pace: Float32[np.ndarray, 'joint two time'],
) -> None:
    """Write positions around their mean, and each joint's speeds and cosines of its turns.

    As in `PatternFeatures`: speed [dm] per frame, turns fading out for joints that hardly move.
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
        speed, turn = pace[j, 0], pace[j, 1]
        before, seen = np.float32(0.0), positions[:, j]
        for t in range(1, frames):
            last = max(t - 1, 1)  # the first step stands for the one before it
            along, length2 = np.float32(0.0), np.float32(0.0)
            for axis in range(3):
                step = seen[t, axis] - seen[t - 1, axis]
                along += step * (seen[last, axis] - seen[last - 1, axis])
                length2 += step * step
            length = np.sqrt(length2 + _LEAST2)
            before = length if t == 1 else before
            speed[t] = np.float32(10.0) * length
            turn[t] = along / (length * before + _STILL2)
            before = length
        speed[0], turn[0] = speed[1], turn[1]


@compiled
def _share_velocity(
    raw: Float32[np.ndarray, 'joint xyz=3 part channel'],
    velocity: Float32[np.ndarray, 'layer joint xyz=3 channel'],
) -> None:
    layers, joints, _, channels = velocity.shape
    for layer in range(layers):
        for j in range(joints):
            for axis in range(3):
                for c in range(channels):
                    velocity[layer, j, axis, c] = raw[j, axis, 2 + layer, c]


@compiled
def share_out(
    raw: Float32[np.ndarray, 'joint xyz=3 part channel'],
    relative: Float32[np.ndarray, 'joint xyz=3 time'],
    lean: Float32[np.ndarray, ' time'],
    heavy: Float32[np.ndarray, ' channel'],
    geometry: Float32[np.ndarray, 'joint xyz=3 channel'],
    both: Float32[np.ndarray, 'joint xyz=3 two channel'],
    velocity: Float32[np.ndarray, 'layer joint xyz=3 channel'],
) -> float:
    """Write X_G - M(X_G), it and V side by side, and W_vel V of each layer; return rms(X_G).

    Args:
        raw: W_x X~, W_v V~ and W_vel V of each layer, without what follows from M(X~).
        lean: What M(X~) takes of the mean joint at each time.
        heavy: The sum of each row of W_x, by which X_G hears of M(X~).
    """
    joints, _, frames = relative.shape
    channels = raw.shape[3]
    squares = 0.0
    for axis in range(3):
        mean = 0.0
        for j in range(joints):
            for t in range(frames):
                mean += lean[t] * relative[j, axis, t]
        mean32, total = np.float32(mean / joints), 0.0
        for j in range(joints):
            row, out = raw[j, axis, 0], geometry[j, axis]
            for c in range(channels):
                out[c] = row[c] - heavy[c] * mean32
                total += out[c]
        middle = np.float32(total / (joints * channels))
        for j in range(joints):
            out = geometry[j, axis]
            for c in range(channels):
                out[c] -= middle
                squares += out[c] * out[c]
                both[j, axis, 0, c] = out[c]
                both[j, axis, 1, c] = raw[j, axis, 1, c]
    _share_velocity(raw, velocity)
    return np.sqrt(max(squares / (3 * joints * channels), 1e-12))


@compiled
def gather_edges(
    edges: Float32[np.ndarray, 'half pattern'],
    own: Float32[np.ndarray, ' pattern'],
    nodes: Float32[np.ndarray, 'joint two pattern'],
    mean: Float32[np.ndarray, 'joint pattern'],
) -> None:
    """Write the mean message to each joint from all, itself included.

    Args:
        edges: What the edge of each unordered pair says; `own` that of a joint with itself.
        nodes: What each joint says as the receiver and as the sender.
    """
    joints, _, width = nodes.shape
    share = np.float32(1.0 / joints)
    for i in range(joints):
        out, receiver, sender = mean[i], nodes[i, 0], nodes[i, 1]
        for c in range(width):
            out[c] = silu(own[c] + receiver[c] + sender[c])
        for j in range(joints):
            if j != i:
                low, high = min(i, j), max(i, j)
                edge = edges[low * joints - low * (low + 1) // 2 + high - low - 1]
                sender = nodes[j, 1]
                for c in range(width):
                    out[c] += silu(edge[c] + receiver[c] + sender[c])
        for c in range(width):
            out[c] *= share


@compiled
def hidden_edges(
    edges: Float32[np.ndarray, 'half pattern'],
    nodes: Float32[np.ndarray, 'joint two pattern'],
    hidden: Float32[np.ndarray, 'joint joint-1 pattern'],
) -> None:
    """Add what edges, receivers and senders say for each ordered pair, and bend."""
    joints, _, width = nodes.shape
    for i in range(joints):
        receiver = nodes[i, 0]
        for j in range(joints):
            if j != i:
                low, high = min(i, j), max(i, j)
                edge = edges[low * joints - low * (low + 1) // 2 + high - low - 1]
                sender, out = nodes[j, 1], hidden[i, j - (j > i)]
                for c in range(width):
                    out[c] = silu(edge[c] + receiver[c] + sender[c])


@compiled
def acting_shares(
    raw: Float32[np.ndarray, 'joint joint-1 category'],
    bias: Float32[np.ndarray, ' category'],
    acting: Float32[np.ndarray, 'joint joint-1 acting'],
) -> None:
    """Write the softmax over categories, of those that act; `raw` is overwritten."""
    joints, others, count = raw.shape
    for i in range(joints):
        for j in range(others):
            row, most, total = raw[i, j], np.float32(-np.inf), np.float32(0.0)
            for k in range(count):
                row[k] += bias[k]
                most = max(most, row[k])
            for k in range(count):
                row[k] = exp_of_minus(most - row[k])
                total += row[k]
            for k in range(acting.shape[2]):
                acting[i, j, k] = row[k] / total
