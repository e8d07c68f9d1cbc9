# SPDX-License-Identifier: Apache-2.0
"""Messages of every source as plain namespaces: valid ones, and ways to corrupt them.

Decoders read messages as objects with fields, so nothing here needs the packages that define
them. A
corrupted field keeps its type: a number stays a number of its kind, a list a list.
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
"""A person's positions by the source's joint names [m]."""

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
"""Layout of each source."""

_FRAME = 'world'
_ZED_SLOTS = 70


class Fixed(list[Any]):
    """An array of fixed length."""


def _header(stamp_ns: int) -> SimpleNamespace:
    return SimpleNamespace(stamp=_stamp(stamp_ns), frame_id=_FRAME)


def _stamp(stamp_ns: int) -> SimpleNamespace:
    return SimpleNamespace(sec=stamp_ns // NS_PER_S, nanosec=stamp_ns % NS_PER_S)


def _point(point: Float64[np.ndarray, 'xyz=3']) -> SimpleNamespace:
    return SimpleNamespace(x=float(point[0]), y=float(point[1]), z=float(point[2]))


def _pose(point: Float64[np.ndarray, 'xyz=3']) -> SimpleNamespace:
    return SimpleNamespace(position=_point(point))


def _native(stamp_ns: int, people: dict[str, Joints], names: list[str]) -> SimpleNamespace:
    persons = [
        SimpleNamespace(
            person_id=person_id,
            tracking_state=1,
            positions=np.array(list(joints.values()), dtype=np.float32).ravel().tolist(),
            confidences=[1.0] * len(joints),
        )
        for person_id, joints in people.items()
    ]
    header, joint_names = _header(stamp_ns), list(names)
    return SimpleNamespace(
        header=header, layout='body18', joint_names=joint_names, persons=persons
    )


def _azure_kinect(stamp_ns: int, people: dict[str, Joints], names: list[str]) -> SimpleNamespace:
    markers = [
        SimpleNamespace(
            header=_header(stamp_ns),
            id=100 * int(person_id) + names.index(joint),
            action=0,
            pose=_pose(point),
        )
        for person_id, joints in people.items()
        for joint, point in joints.items()
    ]
    return SimpleNamespace(markers=markers)


def _zed(stamp_ns: int, people: dict[str, Joints], names: list[str]) -> SimpleNamespace:
    objects = []
    for person_id, joints in people.items():
        slots = [np.zeros(3) for _ in range(_ZED_SLOTS)]
        for joint, point in joints.items():
            slots[names.index(joint)] = point
        keypoints = [SimpleNamespace(kp=Fixed(map(float, point))) for point in slots]
        objects.append(
            SimpleNamespace(
                label='Person',
                label_id=int(person_id),
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
    for person_id, joints in people.items():
        data = [
            SimpleNamespace(id=1 + names.index(joint), point=_point(point), score=0.9)
            for joint, point in joints.items()
        ]
        keypoints = SimpleNamespace(data=data, frame_id=_FRAME)
        detections.append(
            SimpleNamespace(class_name='person', id=person_id, keypoints3d=keypoints)
        )
    return SimpleNamespace(header=_header(stamp_ns), detections=detections)


def _pose_array(stamp_ns: int, people: dict[str, Joints], names: list[str]) -> SimpleNamespace:
    missing = np.full(3, np.nan)
    first = [joints for joints in people.values()][:1]  # the message holds one person
    poses = [_pose(joints.get(name, missing)) for joints in first for name in names]
    return SimpleNamespace(header=_header(stamp_ns), poses=poses)


def _hiros(stamp_ns: int, people: dict[str, Joints], names: list[str]) -> SimpleNamespace:
    skeletons = []
    for person_id, joints in people.items():
        markers = [
            SimpleNamespace(
                id=names.index(joint), confidence=0.9, center=SimpleNamespace(pose=_pose(point))
            )
            for joint, point in joints.items()
        ]
        skeleton = SimpleNamespace(id=int(person_id), src_time=_stamp(stamp_ns), markers=markers)
        skeletons.append(skeleton)
    return SimpleNamespace(header=_header(stamp_ns), skeletons=skeletons)


def _mocap4r2(stamp_ns: int, people: dict[str, Joints], names: list[str]) -> SimpleNamespace:
    markers = [
        SimpleNamespace(marker_name=f'{joint}_{person_id}', translation=_point(point))
        for person_id, joints in people.items()
        for joint, point in joints.items()
    ]
    return SimpleNamespace(header=_header(stamp_ns), markers=markers)


def _tf(stamp_ns: int, people: dict[str, Joints], names: list[str]) -> SimpleNamespace:
    transforms = [
        SimpleNamespace(
            header=_header(stamp_ns),
            child_frame_id=f'{joint}_{person_id}',
            transform=SimpleNamespace(
                translation=_point(point), rotation=SimpleNamespace(x=0.0, y=0.0, z=0.0, w=1.0)
            ),
        )
        for person_id, joints in people.items()
        for joint, point in joints.items()
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


def hide(message: SimpleNamespace, source: str, chance: random.Random) -> SimpleNamespace:
    """Return a copy in which people are listed, but not observed, or have no id."""
    hidden = copy.deepcopy(message)
    for person in _people(hidden, source):
        if source == 'native':
            person.tracking_state = chance.choice((2, 3))
        elif source == 'zed':
            setattr(person, *chance.choice((('tracking_state', 0), ('tracking_state', 2))))
            person.label_id = chance.choice((person.label_id, -1))
        elif source == 'yolo':
            person.id = ''
        elif source == 'hiros':
            person.id = -1
    return hidden


def rename_classes(message: SimpleNamespace, source: str, name: str) -> SimpleNamespace:
    """Return a copy in which every detection is of this class."""
    renamed = copy.deepcopy(message)
    for person in _people(renamed, source):
        if source == 'yolo':
            person.class_name = name
        elif source == 'zed':
            person.label = name
    return renamed


def delay_person(message: SimpleNamespace, source: str, lag_ns: int) -> SimpleNamespace:
    """Return a copy in which the first person lags, where a source stamps people."""
    delayed = copy.deepcopy(message)
    if source == 'hiros' and delayed.skeletons:
        stamp = delayed.skeletons[0].src_time
        stamp_ns = stamp.sec * NS_PER_S + stamp.nanosec - lag_ns
        delayed.skeletons[0].src_time = _stamp(stamp_ns)
    elif source == 'tf' and delayed.transforms:
        first = delayed.transforms[0].child_frame_id.rpartition('_')[2]
        for each in delayed.transforms:
            if each.child_frame_id.endswith(f'_{first}'):
                stamp = each.header.stamp
                each.header.stamp = _stamp(stamp.sec * NS_PER_S + stamp.nanosec - lag_ns)
    return delayed


def doubt(message: SimpleNamespace, source: str, chance: random.Random) -> SimpleNamespace:
    """Return a copy in which one joint of each person has a confidence that is none."""
    doubtful, value = copy.deepcopy(message), chance.choice((math.nan, 1.04, 1.0000001, -0.2))
    for person in _people(doubtful, source):
        if source == 'native' and person.confidences:
            person.confidences[chance.randrange(len(person.confidences))] = value
        elif source == 'yolo' and person.keypoints3d.data:
            chance.choice(person.keypoints3d.data).score = value
        elif source == 'hiros' and person.markers:
            chance.choice(person.markers).confidence = value
    return doubtful


def _people(message: SimpleNamespace, source: str) -> list[SimpleNamespace]:
    """List the entries of a message that are one person each; none for other sources."""
    names = {'native': 'persons', 'zed': 'objects', 'yolo': 'detections', 'hiros': 'skeletons'}
    people: list[SimpleNamespace] = getattr(message, names.get(source, ''), [])
    return people


def corrupt(message: SimpleNamespace, chance: random.Random) -> SimpleNamespace:
    """Return a copy in which a few fields, anywhere, hold extreme or inconsistent values."""
    corrupted = copy.deepcopy(message)
    for _ in range(chance.choice((1, 1, 1, 2, 5))):
        owner, key, value = chance.choice(list(_fields(corrupted)))
        if isinstance(owner, list):
            owner[key] = _wrong(value, chance)
        else:
            setattr(owner, key, _wrong(value, chance))
    return corrupted


def _fields(value: Any) -> Iterator[tuple[Any, Any, Any]]:
    """Yield every field and element below: its owner, its name or index, and its value."""
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
    return [copy.deepcopy(value) for value in values for _ in range(2)]
