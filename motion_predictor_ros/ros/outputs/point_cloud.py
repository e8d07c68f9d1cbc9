# SPDX-License-Identifier: Apache-2.0
"""Encode structured arrays as PointCloud2, and decode them again."""

from array import array

import numpy as np
from sensor_msgs.msg import PointCloud2, PointField

from motion_predictor_ros.ros.encode import encode_header

XYZ_FIELDS = [('x', '<f4'), ('y', '<f4'), ('z', '<f4')]
_DATATYPES = {'f': PointField.FLOAT32, 'u': PointField.UINT32}
_NUMPY_TYPES = {PointField.FLOAT32: '<f4', PointField.UINT32: '<u4'}


def encode_cloud(points: np.ndarray, stamp_ns: int, frame_id: str) -> PointCloud2:
    """Encode a structured array; without any points, the cloud still has its fields."""
    data = array('B')
    data.frombytes(points.tobytes())
    names, types = points.dtype.names, points.dtype.fields
    assert names is not None and types is not None
    return PointCloud2(
        header=encode_header(stamp_ns, frame_id),
        height=1,
        width=len(points),
        fields=[
            PointField(
                name=name,
                offset=types[name][1],
                datatype=_DATATYPES[types[name][0].kind],
                count=1,
            )
            for name in names
        ],
        is_bigendian=False,
        point_step=points.dtype.itemsize,
        row_step=points.nbytes,
        data=data,
        is_dense=True,
    )


def decode_cloud(cloud: PointCloud2) -> np.ndarray:
    """Decode a cloud that `encode_cloud` made, as a structured array."""
    dtype = np.dtype([(field.name, _NUMPY_TYPES[field.datatype]) for field in cloud.fields])
    return np.frombuffer(bytes(cloud.data), dtype=dtype)
