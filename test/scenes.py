# SPDX-License-Identifier: Apache-2.0
"""Skeleton messages of synthetic people who walk and swing their arms."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np

from motion_predictor_ros.config import SkeletonConfig
from motion_predictor_ros.data.bags import BagWriter, typestore
from motion_predictor_ros.data.synthetic import Walker
from motion_predictor_ros.skeleton.frame import Observation
from motion_predictor_ros.skeleton.layout import SkeletonLayout
from motion_predictor_ros.skeleton.sources.base import make_source

NAMES = SkeletonLayout.load('body18').joint_names
START_NS = 1_700_000_000 * 10**9


def decode(msg: object, layout: SkeletonLayout, config: SkeletonConfig) -> Observation:
    """Decode a SkeletonArray-like message."""
    observation = make_source('native', layout, config).decode(msg)
    assert observation is not None
    return observation


def pose(time_s: float, person: str = 'ann') -> np.ndarray:
    """Return [joint, xyz] of a person who walks along x, at a time [m]."""
    walker = Walker(0)
    place = np.array([0.8 * time_s, 2.0 * (sum(map(ord, person)) % 5) + 0.2 * time_s, 0.0])
    body = walker.pose(time_s)
    return body - [*body[0, :2], 0.0] + place


def message(
    time_s: float, *people: str, frame: str = 'world', **changes: object
) -> SimpleNamespace:
    """Return a SkeletonArray-like message; `changes` replace fields of every person."""
    stamp_ns = START_NS + round(time_s * 1e9)
    persons = [
        SimpleNamespace(
            **{
                'person_id': person,
                'tracking_state': 1,
                'positions': pose(time_s, person).astype(np.float32).ravel(),
                'confidences': np.ones(18, np.float32),
            }
            | changes
        )
        for person in people
    ]
    stamp = SimpleNamespace(sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
    header = SimpleNamespace(stamp=stamp, frame_id=frame)
    return SimpleNamespace(
        header=header, layout='body18', joint_names=list(NAMES), persons=persons
    )


def stream(
    start_s: float, end_s: float, *people: str, rate_hz: float = 30.0
) -> list[SimpleNamespace]:
    """Return messages from `start_s` to before `end_s`."""
    count = round((end_s - start_s) * rate_hz)
    return [message(start_s + index / rate_hz, *people) for index in range(count)]


def write_bag(path: Path, messages: list[SimpleNamespace]) -> Path:
    """Write messages to a bare mcap, on /skeletons."""
    kind, types = 'motion_predictor_ros/msg/SkeletonArray', typestore().types
    header, stamp = types['std_msgs/msg/Header'], types['builtin_interfaces/msg/Time']
    skeleton = types['motion_predictor_ros/msg/Skeleton']
    with BagWriter(path) as writer:
        for item in messages:
            people = [skeleton(**vars(person)) for person in item.persons]
            at = stamp(item.header.stamp.sec, item.header.stamp.nanosec)
            array = types[kind](header(at, 'world'), item.layout, item.joint_names, people)
            writer.write('/skeletons', kind, at.sec * 10**9 + at.nanosec, array)
    return path
