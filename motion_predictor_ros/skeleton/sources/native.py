# SPDX-License-Identifier: Apache-2.0
"""The source of the package's own message, SkeletonArray.

Stage: skeleton. A pure function of one message: `Intake` checks its frame and stamp against those
before. A fault of the message raises; a fault of one person drops that person only, so that one
broken track does not hide the others.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import numpy as np

from motion_predictor_ros.config import SOURCES
from motion_predictor_ros.conventions import NS_PER_S
from motion_predictor_ros.errors import ConfigError, SkeletonFormatError
from motion_predictor_ros.skeleton.frame import Observation, TrackingState
from motion_predictor_ros.skeleton.layout import JointMap, SkeletonLayout, load_joint_map
from motion_predictor_ros.skeleton.sources.base import RawSkeleton, Source, SourceConfig


@SOURCES.register('native', SourceConfig)
class Native(Source[SourceConfig]):
    """SkeletonArray: joints by name, or in the order of the layout it names."""

    msgtype = 'motion_predictor_ros/msg/SkeletonArray'

    def people(self, msg: Any) -> Iterable[tuple[str, Any]]:
        """List all people, with how the message's joints become the model's."""
        if not re.fullmatch(r'[\w-]{0,64}', msg.layout):  # a message cannot make us open files
            text = f'layout {msg.layout[:80]!r} is no name'
            raise SkeletonFormatError('layout_mismatch', text)
        layout = msg.layout or self.config.source_layout
        joints = _joints(tuple(msg.joint_names), layout, self.layout)
        return [(person.person_id, (person, joints)) for person in msg.persons]

    def decode_person(self, label: str, person: tuple[Any, JointMap]) -> RawSkeleton:
        """Decode one person; joints with NaN or confidence 0 count as not observed."""
        fields, joints = person
        state = _tracking(fields.tracking_state, label)
        received = joints.weights.shape[1]
        _check_lengths(fields, received, label)
        positions = np.array(fields.positions, dtype=np.float64).reshape(-1, 3)
        confidences = np.array(fields.confidences, dtype=np.float32)
        confidences = confidences if len(confidences) else np.ones(received, dtype=np.float32)
        return RawSkeleton(joints, positions, confidences, state)


def skeleton_array(observation: Observation) -> SimpleNamespace:
    """Return an observation of `Observation.from_arrays` as a SkeletonArray-like message."""
    sec, nanosec = divmod(observation.stamp_ns, NS_PER_S)
    stamp = SimpleNamespace(sec=sec, nanosec=nanosec)
    persons = [
        SimpleNamespace(
            person_id=frame.person_id,
            tracking_state=frame.tracking,
            positions=frame.positions.ravel(),
            confidences=frame.confidences,
        )
        for frame in observation.people
    ]
    return SimpleNamespace(
        header=SimpleNamespace(stamp=stamp, frame_id=observation.frame_id),
        layout='',
        joint_names=list(observation.joint_names),
        persons=persons,
    )


@lru_cache(maxsize=64)
def _joints(names: tuple[str, ...], layout: str, target: SkeletonLayout) -> JointMap:
    """Find each joint of the model by name, or as the message's layout says."""
    if set(target.joint_names) <= set(names) or (names and layout in ('', target.name)):
        known, one_each = target, np.eye(len(target.joint_names))
    else:
        described = _described(layout or target.name, target)
        known, one_each = described.source, described.weights
    order = known.order_from(names or known.joint_names)
    weights = np.zeros((len(target.joint_names), len(names or known.joint_names)))
    weights[:, order] = one_each
    return JointMap(known, weights)


def _described(layout: str, target: SkeletonLayout) -> JointMap:
    try:
        return load_joint_map(layout, target)
    except ConfigError as error:
        raise SkeletonFormatError(
            'layout_mismatch',
            f'the message has layout {layout!r} and no joint_names of {target.name!r}; expected '
            f'parameter "skeleton.layout" ({target.name!r}), joint_names to match by, or a layout '
            f'of config/skeletons that says how it becomes that one: {error}',
        ) from error


def _tracking(value: Any, label: str) -> TrackingState:
    try:
        return TrackingState(value)
    except ValueError:
        raise SkeletonFormatError(
            'bad_tracking_state',
            f'{label}: tracking_state {value}; expected one '
            f'of {[f"{known.value} {known.name}" for known in TrackingState]}',
        ) from None


def _check_lengths(person: Any, received: int, label: str) -> None:
    if len(person.positions) != 3 * received:
        raise SkeletonFormatError(
            'wrong_length',
            f'{label}: {len(person.positions)} position values, expected 3 x {received} joints; '
            'does parameter "skeleton.layout" match the tracker?',
        )
    if len(person.confidences) not in (0, received):
        raise SkeletonFormatError(
            'wrong_length',
            f'{label}: {len(person.confidences)} confidences, expected none or {received}',
        )
