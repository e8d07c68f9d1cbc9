# SPDX-License-Identifier: Apache-2.0
"""Messages of every source as plain namespaces: good ones, and ways to spoil them.

Stands beside the line, for `fuzz.py`. Decoders look at messages only as objects with fields, so
nothing here needs the packages that define them. What is spoilt stays what the wire could carry:
a number stays a number of its kind, a list a list.
"""

import copy
import math
import random
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
from jaxtyping import Float64

from motion_predictor_ros.conventions import NS_PER_S

Joints = dict[str, Float64[np.ndarray, 'xyz=3']]
"""A person by the names of the source's joints [m]."""

LAYOUTS = {
    'native': 'body18',
    'azure_kinect': 'azure_kinect32',
    'zed': 'zed38',
    'yolo': 'coco17',
    'pose_array': 'xsens23',
    'hiros': 'azure_kinect32',
    'mocap4r2': 'cmu38',
    'tf': 'rep155',
}
"""The layout in which each source is tried."""

_FRAME = 'world'
_ZED_SLOTS = 70


class Fixed(list[Any]):
    """An array whose length belongs to the message's type."""


def _header(stamp_ns: int) -> SimpleNamespace:
    return SimpleNamespace(stamp=_stamp(stamp_ns), frame_id=_FRAME)


def _stamp(stamp_ns: int) -> SimpleNamespace:
    return SimpleNamespace(sec=stamp_ns // NS_PER_S, nanosec=stamp_ns % NS_PER_S)


def _point(at: Float64[np.ndarray, 'xyz=3']) -> SimpleNamespace:
    return SimpleNamespace(x=float(at[0]), y=float(at[1]), z=float(at[2]))


def _pose(at: Float64[np.ndarray, 'xyz=3']) -> SimpleNamespace:
    return SimpleNamespace(position=_point(at))


def _native(stamp_ns: int, people: dict[str, Joints], names: list[str]) -> SimpleNamespace:
    persons = [
        SimpleNamespace(
            person_id=who,
            tracking_state=1,
            positions=np.array(list(joints.values()), dtype=np.float32).ravel().tolist(),
            confidences=[1.0] * len(joints),
        )
        for who, joints in people.items()
    ]
    header, known = _header(stamp_ns), list(names)
    return SimpleNamespace(header=header, layout='body18', joint_names=known, persons=persons)


def _azure_kinect(stamp_ns: int, people: dict[str, Joints], names: list[str]) -> SimpleNamespace:
    markers = [
        SimpleNamespace(
            header=_header(stamp_ns),
            id=100 * int(who) + names.index(joint),
            action=0,
            pose=_pose(at),
        )
        for who, joints in people.items()
        for joint, at in joints.items()
    ]
    return SimpleNamespace(markers=markers)


def _zed(stamp_ns: int, people: dict[str, Joints], names: list[str]) -> SimpleNamespace:
    objects = []
    for who, joints in people.items():
        slots = [np.zeros(3) for _ in range(_ZED_SLOTS)]
        for joint, at in joints.items():
            slots[names.index(joint)] = at
        keypoints = [SimpleNamespace(kp=Fixed(map(float, at))) for at in slots]
        objects.append(
            SimpleNamespace(
                label_id=int(who),
                tracking_state=1,
                skeleton_available=True,
                body_format=2,
                skeleton_3d=SimpleNamespace(keypoints=Fixed(keypoints)),
                skeleton_keypoint_confidence=Fixed([90.0] * _ZED_SLOTS),
            )
        )
    return SimpleNamespace(header=_header(stamp_ns), objects=objects)


def _yolo(stamp_ns: int, people: dict[str, Joints], names: list[str]) -> SimpleNamespace:
    detections = []
    for who, joints in people.items():
        data = [
            SimpleNamespace(id=1 + names.index(joint), point=_point(at), score=0.9)
            for joint, at in joints.items()
        ]
        keypoints = SimpleNamespace(data=data, frame_id=_FRAME)
        detections.append(SimpleNamespace(class_name='person', id=who, keypoints3d=keypoints))
    return SimpleNamespace(header=_header(stamp_ns), detections=detections)


def _pose_array(stamp_ns: int, people: dict[str, Joints], names: list[str]) -> SimpleNamespace:
    unseen = np.full(3, np.nan)
    first = [joints for joints in people.values()][:1]  # it knows one person only
    poses = [_pose(joints.get(name, unseen)) for joints in first for name in names]
    return SimpleNamespace(header=_header(stamp_ns), poses=poses)


def _hiros(stamp_ns: int, people: dict[str, Joints], names: list[str]) -> SimpleNamespace:
    skeletons = []
    for who, joints in people.items():
        markers = [
            SimpleNamespace(
                id=names.index(joint), confidence=0.9, center=SimpleNamespace(pose=_pose(at))
            )
            for joint, at in joints.items()
        ]
        skeleton = SimpleNamespace(id=int(who), src_time=_stamp(stamp_ns), markers=markers)
        skeletons.append(skeleton)
    return SimpleNamespace(header=_header(stamp_ns), skeletons=skeletons)


def _mocap4r2(stamp_ns: int, people: dict[str, Joints], names: list[str]) -> SimpleNamespace:
    markers = [
        SimpleNamespace(marker_name=f'{joint}_{who}', translation=_point(at))
        for who, joints in people.items()
        for joint, at in joints.items()
    ]
    return SimpleNamespace(header=_header(stamp_ns), markers=markers)


def _tf(stamp_ns: int, people: dict[str, Joints], names: list[str]) -> SimpleNamespace:
    transforms = [
        SimpleNamespace(
            header=_header(stamp_ns),
            child_frame_id=f'{joint}_{who}',
            transform=SimpleNamespace(
                translation=_point(at), rotation=SimpleNamespace(x=0.0, y=0.0, z=0.0, w=1.0)
            ),
        )
        for who, joints in people.items()
        for joint, at in joints.items()
    ]
    return SimpleNamespace(transforms=transforms)


MAKERS: dict[str, Callable[[int, dict[str, Joints], list[str]], SimpleNamespace]] = {
    'native': _native,
    'azure_kinect': _azure_kinect,
    'zed': _zed,
    'yolo': _yolo,
    'pose_array': _pose_array,
    'hiros': _hiros,
    'mocap4r2': _mocap4r2,
    'tf': _tf,
}


def spoil(message: SimpleNamespace, chance: random.Random) -> SimpleNamespace:
    """Return a copy in which a few fields, anywhere, hold what they may hold but should not."""
    spoilt = copy.deepcopy(message)
    for _ in range(chance.choice((1, 1, 1, 2, 5))):
        owner, key, value = chance.choice(list(_fields(spoilt)))
        if isinstance(owner, list):
            owner[key] = _wrong(value, chance)
        else:
            setattr(owner, key, _wrong(value, chance))
    return spoilt


def _fields(value: Any) -> Iterator[tuple[Any, Any, Any]]:
    """Yield every field and element below: its owner, its name or place, and its value."""
    items: Any = ()
    if isinstance(value, SimpleNamespace):
        items = list(vars(value).items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    for key, inner in items:
        if not isinstance(inner, SimpleNamespace):
            yield value, key, inner
        yield from _fields(inner)


def _wrong(value: Any, chance: random.Random) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return chance.choice((0, 1, -1, 2, 3, 99, 2**31 - 1, -(2**31), chance.randrange(2**31)))
    if isinstance(value, float):
        tiny_or_huge = (5e-324, 1e-30, 1e9, 1e30, -1e30, 1e38, -3.4e38, 1000.0 * value, -value)
        return chance.choice((math.nan, math.inf, -math.inf, 0.0, *tiny_or_huge))
    if isinstance(value, str):
        return chance.choice(('', 'x' * 10_000, '../../etc', 'camera', '\x00', 'é' * 3, '0', '7'))
    return Fixed(value[::-1]) if isinstance(value, Fixed) else _wrong_list(value, chance)


def _wrong_list(values: list[Any], chance: random.Random) -> list[Any]:
    kind = chance.randrange(5)
    if kind == 0 or not values:
        return []
    if kind == 1:
        return values[: chance.randrange(len(values))]
    if kind == 2:
        return [*values, copy.deepcopy(chance.choice(values))]
    if kind == 3:
        return values[::-1]
    return [copy.deepcopy(each) for each in values for _ in range(2)]
