# SPDX-License-Identifier: Apache-2.0
"""Containment of a body in a published keep-out volume, over all of its time windows."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float64

from motion_predictor_ros.scoring.metrics import Poses
from motion_predictor_ros.volume.body import BodyShape
from motion_predictor_ros.volume.sparse import SparseWindow

_FRACTIONS = np.linspace(0.0, 1.0, 5)
"""Positions of skin points along a capsule's axis [-]."""

_NEIGHBOURS = np.stack(np.meshgrid(*[[-1.0, 0.0, 1.0]] * 3, indexing='ij'), axis=-1).reshape(-1, 3)
_DIRECTIONS = np.delete(_NEIGHBOURS, 13, axis=0)  # all but the middle
_DIRECTIONS /= np.linalg.norm(_DIRECTIONS, axis=1, keepdims=True)
_EDGE_S = 1e-6


def body_inside(
    shape: BodyShape,
    windows: Sequence[SparseWindow],
    poses: Poses,
    times_s: Float64[np.ndarray, ' time'],
) -> bool:
    """Check that the body stays within the covered voxels of every window.

    The body is sampled at skin points: 26 around each of five positions along every capsule, no
    farther apart than an arm is thick. A point in a covered voxel always counts as inside.

    Args:
        poses: Joint positions [m]; the first pose sets the body's scale.
        times_s: Time of each pose after the volume's stamp [s].
    """
    skin = _skin(shape, poses, shape.scale(poses[0]))
    for window in windows:
        within = (times_s >= window.start_s - _EDGE_S) & (times_s <= window.end_s + _EDGE_S)
        if not _covered(window, skin[within].reshape(-1, 3)).all():
            return False
    return True


def _skin(shape: BodyShape, poses: Poses, scale: float) -> Float64[np.ndarray, 'time some xyz=3']:
    """Sample points on the skin [m]."""
    points = shape.points(poses, scale)
    starts, ends = points[:, shape.capsules[:, 0]], points[:, shape.capsules[:, 1]]
    fraction = _FRACTIONS[:, None, None, None, None]
    centres = (1.0 - fraction) * starts[..., None, :] + fraction * ends[..., None, :]
    offsets = scale * shape.radii[:, None, None] * _DIRECTIONS
    return np.moveaxis(centres + offsets, 0, 1).reshape(len(poses), -1, 3)


def _covered(
    window: SparseWindow, points: Float64[np.ndarray, 'some xyz=3']
) -> Bool[np.ndarray, ' some']:
    """Return which points lie in covered voxels of a window [-]."""
    grid = window.grid
    covered = np.zeros(int(np.prod(grid.shape)), dtype=bool)
    covered[window.voxels[window.covered]] = True
    indices = np.floor((points - np.array(grid.origin)) / grid.size_m).astype(np.int64)
    inside = ((indices >= 0) & (indices < np.array(grid.shape))).all(axis=1)
    flat = np.ravel_multi_index(tuple(np.where(inside[:, None], indices, 0).T), grid.shape)
    return np.asarray(inside & covered[flat])
