# SPDX-License-Identifier: Apache-2.0
"""Compiled loops between the matrix products of the fused encoder and cell.

Stage: prediction. Arrays are float32 with channels last, so that inner loops become vector loops:
geometry [joint, xyz, channel], ordered pairs [joint, joint - 1, channel] without the pair of a
joint with itself. Unordered pairs i < j are rows in the order (0, 1), (0, 2), ..., (1, 2), ...
"""

from functools import partial

import numpy as np
from jaxtyping import Float32

from motion_predictor_ros.runtime.jit import compiled

_MIN_DISTANCE2 = np.float32(1e-8)
_KEY_RIDGE = np.float32(1e-4)
_STILL2 = np.float32(1e-6)
_MIN_STEP2 = np.float32(1e-12)


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


@compiled
def pair_sums(
    edges: Float32[np.ndarray, 'unordered width'],
    nodes: Float32[np.ndarray, 'joint two width'],
    sums: Float32[np.ndarray, 'joint joint-1 width'],
) -> None:
    """Write a_i + b_j + e_ij of each ordered pair, with nodes (a, b) and edges e_ij = e_ji."""
    joints, _, width = nodes.shape
    for i in range(joints):
        for j in range(joints):
            if j == i:
                continue
            low, high, place = (i, j, j - 1) if i < j else (j, i, j)
            edge = low * joints - low * (low + 1) // 2 + high - low - 1
            for c in range(width):
                sums[i, place, c] = edges[edge, c] + nodes[i, 0, c] + nodes[j, 1, c]


@partial(compiled, rounding=('reassoc',))
def centre(
    geometry: Float32[np.ndarray, 'joint xyz=3 channel'],
    mean: Float32[np.ndarray, 'xyz=3'],
    relative: Float32[np.ndarray, 'joint xyz=3 channel'],
) -> None:
    """Write M(G), the mean over joints and channels, and G - M(G); may write over G."""
    joints, _, channels = geometry.shape
    for axis in range(3):
        total = np.float32(0.0)
        for i in range(joints):
            for c in range(channels):
                total += geometry[i, axis, c]
        middle = total / np.float32(joints * channels)
        mean[axis] = middle
        for i in range(joints):
            for c in range(channels):
                relative[i, axis, c] = geometry[i, axis, c] - middle


@compiled
def move(
    geometry: Float32[np.ndarray, 'joint xyz=3 channel'],
    relative: Float32[np.ndarray, 'joint xyz=3 channel'],
    attention: Float32[np.ndarray, 'joint channel'],
    weight: Float32[np.ndarray, 'joint joint-1 channel'],
    velocity: Float32[np.ndarray, 'joint xyz=3 channel'],
    moved: Float32[np.ndarray, 'joint xyz=3 channel'],
) -> None:
    """Write g_i + v_i + a_i (g_i - M) + 1/J sum_j w_ij (g_i - g_j)."""
    joints, _, channels = geometry.shape
    share = np.float32(1.0 / joints)
    for i in range(joints):
        for axis in range(3):
            for c in range(channels):
                moved[i, axis, c] = np.float32(0.0)
        for j in range(joints):
            if j == i:
                continue
            place = j - 1 if i < j else j
            for axis in range(3):
                for c in range(channels):
                    apart = geometry[i, axis, c] - geometry[j, axis, c]
                    moved[i, axis, c] += weight[i, place, c] * apart
        for axis in range(3):
            for c in range(channels):
                inner = attention[i, c] * relative[i, axis, c]
                base = geometry[i, axis, c] + velocity[i, axis, c] + inner
                moved[i, axis, c] = base + share * moved[i, axis, c]


@compiled
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


@compiled
def bound(
    relative: Float32[np.ndarray, 'joint xyz=3 channel'],
    scale: float,
    bounded: Float32[np.ndarray, 'joint xyz=3 channel'],
) -> None:
    """Write G / sqrt(1 + rms_i^2 / scale^2) with the rms of each joint."""
    joints, _, channels = relative.shape
    for i in range(joints):
        total = 0.0
        for axis in range(3):
            for c in range(channels):
                total += relative[i, axis, c] * relative[i, axis, c]
        rms2 = total / (3 * channels * scale * scale)
        factor = np.float32(1.0 / np.sqrt(1.0 + rms2))
        for axis in range(3):
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
