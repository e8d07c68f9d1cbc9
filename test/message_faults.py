# SPDX-License-Identifier: Apache-2.0
"""Faults of a message, decoded by rclpy, or by rosbags as ROS 2 or ROS 1."""

import dataclasses
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

from motion_predictor_ros.errors import DataError
from motion_predictor_ros.volume.wire import decode_windows

_ADD = 0
_LISTS = {4: 'LINE_STRIP', 5: 'LINE_LIST', 6: 'CUBE_LIST', 7: 'SPHERE_LIST', 8: 'POINTS'}
_DIMENSIONS = {1: 3, 2: 1, 3: 2, 4: 2}
_MAY_BE_NAN = {'residual', 'predicted_log_density'}
_UNUSED = {'texture'}
_FLOAT32 = 7


def faults(message: Any, now_ns: int) -> list[str]:
    """List the fields that subscribers would reject, display wrongly or misread."""
    faults = [f'{path}: not finite' for path in _not_finite(message, '')]
    for path, part in _parts(message, ''):
        check = _CHECKS.get(_kind(part))
        faults += [f'{path}: {fault}' for fault in check(part)] if check else []
        if hasattr(part, 'header') and hasattr(part.header, 'stamp'):
            faults += [f'{path}: {fault}' for fault in _header(part.header, now_ns)]
    return faults


def _kind(part: Any) -> str:
    return type(part).__name__.rsplit('__', 1)[-1]


def _names(part: Any) -> list[str]:
    if hasattr(part, 'get_fields_and_field_types'):
        return list(part.get_fields_and_field_types())
    if dataclasses.is_dataclass(part) and not isinstance(part, type):
        return [field.name for field in dataclasses.fields(part)]
    return []


def _parts(part: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield a message and every message in it."""
    if not _names(part):
        return
    yield path or _kind(part), part
    for name in set(_names(part)) - _UNUSED:
        value = getattr(part, name)
        if isinstance(value, list):
            for index, item in enumerate(value):
                yield from _parts(item, f'{path}.{name}[{index}]')
        else:
            yield from _parts(value, f'{path}.{name}')


def _not_finite(message: Any, path: str) -> Iterator[str]:
    for where, part in _parts(message, path):
        for name in set(_names(part)) - _MAY_BE_NAN:
            value = getattr(part, name)
            numbers = np.asarray(value) if not hasattr(value, '__slots__') else np.zeros(0)
            if numbers.dtype.kind == 'f' and not np.isfinite(numbers).all():
                yield f'{where}.{name}'


def _header(header: Any, now_ns: int) -> list[str]:
    stamp_ns = header.stamp.sec * 10**9 + header.stamp.nanosec
    faults = ['a stamp of the future'] if stamp_ns > now_ns else []
    faults += ['no stamp'] if stamp_ns <= 0 else []
    return faults + ([] if header.frame_id else ['no frame_id'])


def _quaternion(turn: Any) -> list[str]:
    size = np.linalg.norm([turn.x, turn.y, turn.z, turn.w])
    return [] if abs(size - 1.0) < 1e-3 else [f'quaternion of length {size:.3f}']


def _markers(array: Any) -> list[str]:
    keys = Counter((marker.ns, marker.id) for marker in array.markers)
    return [f'{key} is used {count} times' for key, count in keys.items() if count > 1]


def _marker(marker: Any) -> list[str]:
    if marker.action != _ADD:
        return []
    kind, faults = _LISTS.get(marker.type), []
    if kind and not len(marker.points):
        faults.append('a list without points')
    if kind == 'LINE_LIST' and len(marker.points) % 2:
        faults.append('a line without an end')
    if len(marker.colors) not in (0, len(marker.points)):
        faults.append('colours that are not one per point')
    if not (marker.colors or marker.color.a > 0.0):
        faults.append('invisible')
    if not marker.scale.x > 0.0:
        faults.append('of no size')
    lifetime = marker.lifetime
    if lifetime.sec + getattr(lifetime, 'nanosec', 0) <= 0 and not getattr(lifetime, 'nsec', 0):
        faults.append('lives for ever')
    return faults


def _cloud(cloud: Any) -> list[str]:
    faults = []
    places = {field.name: field for field in cloud.fields}
    if any(name not in places or places[name].datatype != _FLOAT32 for name in 'xyz'):
        faults.append('x, y, z are not float32 fields')
    ends = [item.offset + 4 * item.count for item in cloud.fields]
    starts = [one_field.offset for one_field in cloud.fields]
    if starts != sorted(starts) or any(a > b for a, b in zip(ends, starts[1:], strict=False)):
        faults.append('fields overlap')
    if not cloud.fields or ends[-1] > cloud.point_step:
        faults.append('fields longer than a point')
    if cloud.row_step != cloud.width * cloud.point_step:
        faults.append('rows of another length than their points')
    if len(cloud.data) != cloud.height * cloud.row_step:
        faults.append(f'{len(cloud.data)} bytes instead of {cloud.height * cloud.row_step}')
        return faults
    numbers = np.frombuffer(bytes(cloud.data), dtype='<f4').reshape(-1, cloud.point_step // 4)
    floats = [field_.offset // 4 for field_ in cloud.fields if field_.datatype == _FLOAT32]
    if cloud.is_dense and not np.isfinite(numbers[:, floats]).all():
        faults.append('not finite though dense')
    return faults


def _occupancy(grid: Any) -> list[str]:
    faults = [] if grid.info.resolution > 0.0 else ['cells of no size']
    values = np.asarray(grid.data)
    if len(values) != grid.info.width * grid.info.height or not len(values):
        faults.append(f'{len(values)} cells in {grid.info.width} x {grid.info.height}')
    if len(values) and not -1 <= values.min() <= values.max() <= 100:
        faults.append('values outside -1..100')
    return faults


def _speed_limit(limit: Any) -> list[str]:
    return [] if 0.0 < limit.speed_limit <= 100.0 else ['0.0 would mean: no limit']


def _object(each: Any) -> list[str]:
    faults = [] if each.id else ['no id']
    if len(each.primitives) != len(each.primitive_poses):
        faults.append('not one pose per primitive')
    return faults


def _solid(solid: Any) -> list[str]:
    sizes = np.asarray(solid.dimensions)
    right = len(sizes) == _DIMENSIONS.get(solid.type) and (sizes > 0.0).all()
    return [] if right else [f'dimensions {sizes.tolist()} of type {solid.type}']


def _volume(volume: Any) -> list[str]:
    try:
        windows = decode_windows(volume)
    except DataError as error:
        return [str(error)]
    faults = []
    if max(volume.covered, default=0) > 1:
        faults.append('covered is neither 0 nor 1')
    for window in windows:
        if not window.start_s < window.end_s:
            faults.append('a window of no length')
        if len(window.voxels) and not 0.0 <= window.probability.min() <= 1.0:
            faults.append('a probability below 0')
        if len(window.voxels) and window.probability.max() > 1.0:
            faults.append('a probability above 1')
        if (np.diff(window.voxels) <= 0).any():
            faults.append('a voxel twice')
    if (volume.validity == 0) == bool(volume.reason):
        faults.append('a reason without a fault, or a fault without')
    return faults


_CHECKS = {
    'Quaternion': _quaternion,
    'MarkerArray': _markers,
    'Marker': _marker,
    'PointCloud2': _cloud,
    'OccupancyGrid': _occupancy,
    'SpeedLimit': _speed_limit,
    'CollisionObject': _object,
    'SolidPrimitive': _solid,
    'ProbabilityVolume': _volume,
}
