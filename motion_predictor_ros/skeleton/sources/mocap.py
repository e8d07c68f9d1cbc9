# SPDX-License-Identifier: Apache-2.0
"""Sources whose messages only number or name the joints: PoseArray, HiROS, mocap4r2.

Stage: skeleton. Which joints they are depends on the set-up of the source, so parameter
`skeleton.source_layout` must say; a default would be silently wrong.
"""

import dataclasses
import re
from collections.abc import Iterable
from typing import Any

import numpy as np

from motion_predictor_ros.config import SOURCES, SkeletonConfig
from motion_predictor_ros.conventions import NS_PER_S
from motion_predictor_ros.errors import ConfigError, SkeletonFormatError
from motion_predictor_ros.skeleton.layout import SkeletonLayout
from motion_predictor_ros.skeleton.sources.base import RawSkeleton, Source, SourceConfig, stamp_of

_AHEAD_NS = NS_PER_S
"""HiROS: input cannot have been taken later than this after it was published."""


@SOURCES.register('pose_array', SourceConfig)
class PoseArray(Source[SourceConfig]):
    """geometry_msgs/PoseArray: one person, joints in the order of the layout; empty: no person."""

    msgtype = 'geometry_msgs/msg/PoseArray'
    has_shared_type = True
    joint_layout = ''

    def people(self, msg: Any) -> Iterable[tuple[str, Any]]:
        """Name the one person by configuration."""
        return [(self.config.person_id, msg.poses)] if len(msg.poses) else []

    def decode_person(self, label: str, person: Any) -> RawSkeleton:
        """Decode the person; NaN is a joint that was not seen."""
        count = len(self.joints.source.joint_names)
        if len(person) != count:
            raise SkeletonFormatError(
                'wrong_length',
                f'{label}: {len(person)} poses, expected the {count} joints of '
                f'{self.joints.source.name!r}, one person per PoseArray; does parameter '
                '"skeleton.source_layout" match the tracker?',
            )
        joints = ((number, pose.position, np.nan) for number, pose in enumerate(person))
        return self.numbered_joints(label, joints)


@SOURCES.register('hiros', SourceConfig)
class Hiros(Source[SourceConfig]):
    """hiros_skeleton_msgs/SkeletonGroup: people of several cameras, with a stamp per person."""

    msgtype = 'hiros_skeleton_msgs/msg/SkeletonGroup'
    joint_layout = ''

    def header(self, msg: Any, received_ns: int) -> tuple[int, str]:
        """Return when the newest input was taken, and the header's frame.

        The header is stamped when published, so it only shows which inputs are of the future.
        """
        taken_ns = [ns for person in msg.skeletons if (ns := _nanoseconds(person.src_time)) > 0]
        published_ns = _nanoseconds(msg.header.stamp)
        past_ns = [stamp for stamp in taken_ns if stamp <= published_ns + _AHEAD_NS]
        newest_ns = max(past_ns or taken_ns, default=0)
        return newest_ns or stamp_of(msg.header.stamp), msg.header.frame_id

    def people(self, msg: Any) -> Iterable[tuple[str, Any]]:
        """List the skeletons; a negative id is none."""
        return [(str(person.id) if person.id >= 0 else '', person) for person in msg.skeletons]

    def decode_person(self, label: str, person: Any) -> RawSkeleton:
        """Decode one person; markers that were not seen are left out or NaN."""
        markers = ((m.id, m.center.pose.position, m.confidence) for m in person.markers)
        skeleton = self.numbered_joints(label, markers)
        return dataclasses.replace(skeleton, stamp_ns=max(_nanoseconds(person.src_time), 0))


def _nanoseconds(stamp: Any) -> int:
    return int(stamp.sec) * NS_PER_S + int(stamp.nanosec)


@SOURCES.register('mocap4r2', SourceConfig)
class Mocap4r2(Source[SourceConfig]):
    """mocap4r2_msgs/Markers, named after joint and person as `skeleton.name_pattern` says."""

    msgtype = 'mocap4r2_msgs/msg/Markers'
    joint_layout = ''

    def __init__(
        self, layout: SkeletonLayout, config: SkeletonConfig, parameters: SourceConfig
    ) -> None:
        super().__init__(layout, config, parameters)
        self._names = NamePattern(self.joints.source, config)

    def people(self, msg: Any) -> Iterable[tuple[str, Any]]:
        """Group the markers by person; those of robots and tools are left out."""
        people: dict[str, dict[int, Any]] = {}
        for marker in msg.markers:
            person_and_joint = self._names.read(marker.marker_name)
            if person_and_joint is not None:
                person_id, joint = person_and_joint
                people.setdefault(person_id, {})[joint] = marker.translation
        if len(msg.markers) and not people:
            raise SkeletonFormatError(
                'layout_mismatch',
                f'no marker is named after a joint: {[m.marker_name for m in msg.markers]}; '
                f'expected {self._names.example!r}, see parameters "skeleton.name_pattern" and '
                '"skeleton.source_layout"',
            )
        return list(people.items())

    def decode_person(self, label: str, person: dict[int, Any]) -> RawSkeleton:
        """Decode one person; occluded markers are left out or NaN."""
        joints = ((joint, point, np.nan) for joint, point in person.items())
        return self.numbered_joints(label, joints)


_ROBOT_WORDS = frozenset(
    (
        *('link', 'frame', 'joint', 'base', 'footprint', 'mount', 'plate', 'motor', 'fixed'),
        *('camera', 'optical', 'rgb', 'depth', 'color', 'sensor', 'imu', 'laser'),
        *('tool', 'gripper', 'finger', 'palm', 'hand', 'screw', 'column'),
        *('lift', 'pan', 'tilt', 'roll', 'pitch', 'yaw', 'flex'),
    )
)
"""Words in robots' frames, as in `head_1_link`, `torso_lift_link`, `r_wrist_roll_link`."""


_MAX_NAMES = 10_000


class NamePattern:
    """Parses joint and person from one name, such as `l_wrist_anna` for `{joint}_{id}`.

    Attributes:
        robot_names: Names of joints whose ids are words of robots.
    """

    def __init__(self, layout: SkeletonLayout, config: SkeletonConfig) -> None:
        """Compile `skeleton.name_pattern`; without {id} all names are of `skeleton.person_id`.

        Raises:
            ConfigError: The pattern has no {joint}, or `skeleton.id_pattern` is malformed.
        """
        pattern = config.name_pattern
        if '{joint}' not in pattern:
            raise ConfigError(f'skeleton.name_pattern {pattern!r} has no {{joint}}')
        self._place = {name: joint for joint, name in enumerate(layout.joint_names)}
        self._alone, self._any_id = config.person_id, not config.id_pattern
        longest_first = sorted(layout.joint_names, key=len, reverse=True)
        text = re.escape(pattern.lstrip('/')).replace(r'\{', '{').replace(r'\}', '}')
        text = text.replace('{joint}', f'(?P<joint>{"|".join(map(re.escape, longest_first))})')
        try:
            self._regex = re.compile(text.replace('{id}', f'(?P<id>{config.id_pattern or ".+"})'))
        except re.error as error:
            raise ConfigError(
                f'skeleton.id_pattern {config.id_pattern!r} is no regular expression: {error}'
            ) from error
        self.example = pattern.replace('{joint}', layout.joint_names[0])
        self.robot_names: set[str] = set()
        self._known: dict[str, tuple[str, int] | None] = {}

    def read(self, name: str) -> tuple[str, int] | None:
        """Return the person and the joint's place in the layout; None for other names."""
        if name not in self._known:
            if len(self._known) >= _MAX_NAMES:
                self._known.clear()
                self.robot_names.clear()
            self._known[name] = self._parse(name)
        return self._known[name]

    def _parse(self, name: str) -> tuple[str, int] | None:
        match = self._regex.fullmatch(name.lstrip('/'))
        if match is None:
            return None
        person_id = match.groupdict().get('id', self._alone)
        if self._any_id and _ROBOT_WORDS & set(re.split(r'[_/.-]', person_id.casefold())):
            self.robot_names.add(name)
            return None
        return person_id, self._place[match['joint']]
