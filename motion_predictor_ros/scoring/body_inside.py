# SPDX-License-Identifier: Apache-2.0
"""Whether a body stayed inside a published volume all the time that the volume spoke of."""

import numpy as np
from jaxtyping import Bool, Float64

from motion_predictor_ros.volume.body import BodyShape
from motion_predictor_ros.volume.sparse import SparseVolume, SparseWindow

_PLACES = np.linspace(0.0, 1.0, 5)
"""Where along a capsule spheres are taken."""

_CORNERS = np.stack(np.meshgrid(*[[-1.0, 0.0, 1.0]] * 3, indexing='ij'), axis=-1).reshape(-1, 3)
_DIRECTIONS = np.delete(_CORNERS, 13, axis=0)  # all but the middle
_DIRECTIONS /= np.linalg.norm(_DIRECTIONS, axis=1, keepdims=True)
_EDGE_S = 1e-6


def body_inside(
    shape: BodyShape,
    volume: SparseVolume,
    poses: Float64[np.ndarray, 'time joint xyz=3'],
    times_s: Float64[np.ndarray, ' time'],
) -> bool:
    """Tell whether no part of the body left the covered voxels of any window.

    A part is a point of the skin: 26 around each of five places along every capsule, no farther
    apart than an arm is thick. A point in a covered voxel is never taken for outside.

    Args:
        poses: [m] where the joints were; the first says how large the person is.
        times_s: When, after the volume's stamp.
    """
    skin = _skin(shape, poses, shape.scale(poses[0]))
    for window in volume.windows:
        within = (times_s >= window.start_s - _EDGE_S) & (times_s <= window.end_s + _EDGE_S)
        if not _covered(volume, window, skin[within].reshape(-1, 3)).all():
            return False
    return True


def _skin(
    shape: BodyShape, poses: Float64[np.ndarray, 'time joint xyz=3'], scale: float
) -> Float64[np.ndarray, 'time some xyz=3']:
    """Return points all over the body [m]."""
    points = shape.points(poses, scale)
    starts, ends = points[:, shape.capsules[:, 0]], points[:, shape.capsules[:, 1]]
    part = _PLACES[:, None, None, None, None]
    middles = (1.0 - part) * starts[..., None, :] + part * ends[..., None, :]
    around = scale * shape.radii[:, None, None] * _DIRECTIONS
    return np.moveaxis(middles + around, 0, 1).reshape(len(poses), -1, 3)


def _covered(
    volume: SparseVolume, window: SparseWindow, points: Float64[np.ndarray, 'some xyz=3']
) -> Bool[np.ndarray, ' some']:
    """Return which points lie in covered voxels of a window."""
    grid = volume.grid
    covered = np.zeros(int(np.prod(grid.shape)), dtype=bool)
    covered[window.voxels[window.covered]] = True
    places = np.floor((points - np.array(grid.origin)) / grid.size_m).astype(np.int64)
    inside = ((places >= 0) & (places < np.array(grid.shape))).all(axis=1)
    flat = np.ravel_multi_index(tuple(np.where(inside[:, None], places, 0).T), grid.shape)
    return np.asarray(inside & covered[flat])
