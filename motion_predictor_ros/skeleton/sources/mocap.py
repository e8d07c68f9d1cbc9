# SPDX-License-Identifier: Apache-2.0
"""Read skeletons whose joints the message only numbers or names: PoseArray, HiROS, mocap4r2.

Stage: skeleton. Which joints they are is up to whoever set the source up, so parameter
`skeleton.source_layout` must say; a default would be silently wrong.
"""

import re
from collections.abc import Iterable
from typing import Any

import numpy as np

from motion_predictor_ros.config import SkeletonConfig
from motion_predictor_ros.conventions import NS_PER_S
from motion_predictor_ros.errors import ConfigError, SkeletonFormatError
from motion_predictor_ros.skeleton.joint_map import JointMap, load_joint_map
from motion_predictor_ros.skeleton.layout import SkeletonLayout
from motion_predictor_ros.skeleton.sources.base import (
    RawSkeleton,
    Source,
    SourceConfig,
    register_source,
    stamp_of,
    sure_of,
)

_SAME_FRAME_NS = NS_PER_S // 50
"""HiROS: people whose input was taken further apart were not seen at the same time."""


def stated_joints(source: str, layout: SkeletonLayout, config: SkeletonConfig) -> JointMap:
    """Return the layout that the user named.

    Raises:
        ConfigError: They named none, or one that cannot be used.
    """
    if not config.source_layout:
        raise ConfigError(
            f'source {source!r} does not say which joints it publishes; set parameter '
            '"skeleton.source_layout" to a layout of config/skeletons or to a YAML file of yours'
        )
    return load_joint_map(config.source_layout, layout)


@register_source('pose_array', 'geometry_msgs/msg/PoseArray')
class PoseArray(Source[SourceConfig]):
    """geometry_msgs/PoseArray: one person, joints in the order of the layout; empty is nobody."""

    has_shared_type = True

    def __init__(self, layout: SkeletonLayout, config: SkeletonConfig, own: SourceConfig) -> None:
        super().__init__(layout, config, own)
        self._joints = stated_joints('pose_array', layout, config)

    def header(self, msg: Any, received_ns: int) -> tuple[int, str]:
        """Return stamp and frame of the header."""
        return stamp_of(msg.header.stamp), msg.header.frame_id

    def people(self, msg: Any) -> Iterable[tuple[str, Any]]:
        """Name the one person by configuration."""
        return [(self.config.person_id, msg.poses)] if len(msg.poses) else []

    def see(self, who: str, person: Any) -> RawSkeleton:
        """Read the person; NaN is a joint that was not seen."""
        count = len(self._joints.source.joint_names)
        if len(person) != count:
            raise SkeletonFormatError(
                'wrong_length',
                f'{who}: {len(person)} poses, expected the {count} joints of '
                f'{self._joints.source.name!r}, one person per PoseArray; does parameter '
                '"skeleton.source_layout" match the tracker?',
            )
        at = [pose.position for pose in person]
        positions = np.array([(each.x, each.y, each.z) for each in at], dtype=np.float64)
        return RawSkeleton(self._joints, positions, sure_of(positions))


@register_source('hiros', 'hiros_skeleton_msgs/msg/SkeletonGroup')
class Hiros(Source[SourceConfig]):
    """hiros_skeleton_msgs/SkeletonGroup; the header is stamped when published, not when seen."""

    def __init__(self, layout: SkeletonLayout, config: SkeletonConfig, own: SourceConfig) -> None:
        super().__init__(layout, config, own)
        self._joints = stated_joints('hiros', layout, config)
        self._stamp_ns = 0

    def header(self, msg: Any, received_ns: int) -> tuple[int, str]:
        """Return when the newest input was taken, and the header's frame."""
        taken = [_nanoseconds(each.src_time) for each in msg.skeletons]
        self._stamp_ns = max(taken, default=0) or stamp_of(msg.header.stamp)
        return self._stamp_ns, msg.header.frame_id

    def people(self, msg: Any) -> Iterable[tuple[str, Any]]:
        """List everybody."""
        return [(str(each.id), each) for each in msg.skeletons]

    def see(self, who: str, person: Any) -> RawSkeleton:
        """Read one person; markers that were not seen are left out or NaN."""
        late_ns = self._stamp_ns - (_nanoseconds(person.src_time) or self._stamp_ns)
        if late_ns > _SAME_FRAME_NS:
            raise SkeletonFormatError(
                'old_track', f'{who}: src_time is {late_ns / NS_PER_S:.3f} s behind the newest'
            )
        count = len(self._joints.source.joint_names)
        positions = np.full((count, 3), np.nan)
        confidences = np.zeros(count, dtype=np.float32)
        for marker in person.markers:
            if not 0 <= marker.id < count:
                raise SkeletonFormatError(
                    'layout_mismatch',
                    f'{who}: marker {marker.id}, expected 0..{count - 1}; does parameter '
                    f'"skeleton.source_layout" ({self._joints.source.name!r}) match the tracker?',
                )
            at = marker.center.pose.position
            positions[marker.id] = at.x, at.y, at.z
            confidences[marker.id] = marker.confidence
        return RawSkeleton(self._joints, positions, confidences)


def _nanoseconds(stamp: Any) -> int:
    return int(stamp.sec) * NS_PER_S + int(stamp.nanosec)


@register_source('mocap4r2', 'mocap4r2_msgs/msg/Markers')
class Mocap4r2(Source[SourceConfig]):
    """mocap4r2_msgs/Markers, named after joint and person as `skeleton.name_pattern` says."""

    def __init__(self, layout: SkeletonLayout, config: SkeletonConfig, own: SourceConfig) -> None:
        super().__init__(layout, config, own)
        self._joints = stated_joints('mocap4r2', layout, config)
        self._names = NamePattern(self._joints.source, config)

    def header(self, msg: Any, received_ns: int) -> tuple[int, str]:
        """Return stamp and frame of the header."""
        return stamp_of(msg.header.stamp), msg.header.frame_id

    def people(self, msg: Any) -> Iterable[tuple[str, Any]]:
        """Group the markers by person; those of robots and tools are passed over."""
        found: dict[str, dict[int, Any]] = {}
        for marker in msg.markers:
            told = self._names.read(marker.marker_name)
            if told is not None:
                person_id, joint = told
                found.setdefault(person_id, {})[joint] = marker.translation
        if len(msg.markers) and not found:
            raise SkeletonFormatError(
                'layout_mismatch',
                f'no marker is named after a joint: {[each.marker_name for each in msg.markers]}; '
                f'expected {self._names.example!r}, see parameters "skeleton.name_pattern" and '
                '"skeleton.source_layout"',
            )
        return list(found.items())

    def see(self, who: str, person: dict[int, Any]) -> RawSkeleton:
        """Read one person; occluded markers are left out or NaN."""
        positions = np.full((len(self._joints.source.joint_names), 3), np.nan)
        for joint, at in person.items():
            positions[joint] = at.x, at.y, at.z
        return RawSkeleton(self._joints, positions, sure_of(positions))


class NamePattern:
    """Parses joint and person from one name, such as `l_wrist_anna` for `{joint}_{id}`."""

    def __init__(self, layout: SkeletonLayout, config: SkeletonConfig) -> None:
        """Compile `skeleton.name_pattern`; without {id} all names are of `skeleton.person_id`.

        Raises:
            ConfigError: The pattern has no {joint}.
        """
        pattern = config.name_pattern
        if '{joint}' not in pattern:
            raise ConfigError(f'skeleton.name_pattern {pattern!r} has no {{joint}}')
        self._place = {name: joint for joint, name in enumerate(layout.joint_names)}
        self._alone = config.person_id
        longest_first = sorted(layout.joint_names, key=len, reverse=True)
        text = re.escape(pattern).replace(r'\{', '{').replace(r'\}', '}')
        text = text.replace('{joint}', f'(?P<joint>{"|".join(map(re.escape, longest_first))})')
        self._regex = re.compile(text.replace('{id}', '(?P<id>.+)'))
        self.example = pattern.replace('{joint}', layout.joint_names[0])

    def read(self, name: str) -> tuple[str, int] | None:
        """Return the person and the joint's place in the layout; None for other names."""
        found = self._regex.fullmatch(name)
        if found is None:
            return None
        return found.groupdict().get('id', self._alone), self._place[found['joint']]
