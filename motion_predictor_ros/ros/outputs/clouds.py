# SPDX-License-Identifier: Apache-2.0
"""Write volumes as PointCloud2: voxels with probability and time, or what is in a robot's way."""

from array import array
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64
from sensor_msgs.msg import PointCloud2, PointField

from motion_predictor_ros.ros.encode import encode_header
from motion_predictor_ros.ros.outputs.markers import ramp
from motion_predictor_ros.skeleton.frame import Validity
from motion_predictor_ros.volume.footprint import Footprint
from motion_predictor_ros.volume.sparse import SparseWindow, sparse
from motion_predictor_ros.volume.types import SafetyVolume

_PLACE = [('x', '<f4'), ('y', '<f4'), ('z', '<f4')]
VOXEL = np.dtype([*_PLACE, ('probability', '<f4'), ('time', '<f4'), ('rgba', '<u4')])
POINT = np.dtype(_PLACE)
_FAINTEST, _STRONGEST = 25, 230
_KINDS = {'f': PointField.FLOAT32, 'u': PointField.UINT32}


def probability_cloud_to_ros(
    volumes: Sequence[SafetyVolume], stamp_ns: int, frame_id: str, most: int, least: float
) -> PointCloud2:
    """Write a point at the centre of each voxel, once for each window.

    `time` is the window's start after the stamp [s]; `rgba` goes from orange to purple with it,
    grey in a reachable set, and is as opaque as the voxel is likely.

    Args:
        most: Points of all people together, beyond which voxels are joined to larger ones.
        least: Probability below which voxels that are not covered are left out.
    """
    share = most // max(len(volumes), 1)
    parts = [np.zeros(0, dtype=VOXEL)]
    for volume in volumes:
        few = sparse(volume, share, least)
        colours = ramp(len(few.windows), volume.validity)
        for window, colour in zip(few.windows, colours, strict=True):
            rgb = [round(255 * each) for each in (colour.r, colour.g, colour.b)]
            parts.append(_points(window, window.centres(few.grid), rgb))
    return _cloud(np.concatenate(parts), stamp_ns, frame_id)


def obstacle_cloud_to_ros(
    seen: Footprint, height_m: float, stamp_ns: int, frame_id: str
) -> PointCloud2:
    """Write a point on each covered cell of the plane; without any, the cloud still has fields.

    Args:
        height_m: Where points are put; the reader's height band has to hold it.
    """
    centres = seen.centres()
    points = np.zeros(len(centres), dtype=POINT)
    points['x'], points['y'] = centres.T
    points['z'] = height_m
    return _cloud(points, stamp_ns, frame_id)


def cloud_points(cloud: PointCloud2) -> np.ndarray:
    """Read a cloud of ours back, as a structured array."""
    names = tuple(field.name for field in cloud.fields)
    kind = VOXEL if names == VOXEL.names else POINT
    assert names == kind.names, names
    return np.frombuffer(bytes(cloud.data), dtype=kind)


def _points(
    window: SparseWindow, centres: Float64[np.ndarray, 'voxel xyz=3'], rgb: Sequence[int]
) -> np.ndarray:
    points = np.zeros(len(centres), dtype=VOXEL)
    points['x'], points['y'], points['z'] = centres.T
    points['probability'] = np.minimum(window.probability, 1.0)
    points['time'] = window.start_s
    red, green, blue = rgb
    faint = _FAINTEST + (_STRONGEST - _FAINTEST) * points['probability']
    points['rgba'] = (faint.astype(np.uint32) << 24) | (red << 16) | (green << 8) | blue
    return points


def _cloud(points: np.ndarray, stamp_ns: int, frame_id: str) -> PointCloud2:
    data = array('B')
    data.frombytes(points.tobytes())
    names, kinds = points.dtype.names, points.dtype.fields
    assert names is not None and kinds is not None
    return PointCloud2(
        header=encode_header(stamp_ns, frame_id),
        height=1,
        width=len(points),
        fields=[
            PointField(
                name=name, offset=kinds[name][1], datatype=_KINDS[kinds[name][0].kind], count=1
            )
            for name in names
        ],
        is_bigendian=False,
        point_step=points.dtype.itemsize,
        row_step=points.nbytes,
        data=data,
        is_dense=True,
    )


def is_stale(volumes: Sequence[SafetyVolume]) -> bool:
    """Whether somebody's observation is too old to be passed on as if it were seen now."""
    return any(volume.validity == Validity.STALE for volume in volumes)
