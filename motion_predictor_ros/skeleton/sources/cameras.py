# SPDX-License-Identifier: Apache-2.0
"""Read what body-tracking cameras publish: Azure Kinect, ZED, yolo_ros.

Stage: skeleton. Each reader knows the traps of its source; see docs/sources.md.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from jaxtyping import Float32

from motion_predictor_ros.config import SkeletonConfig
from motion_predictor_ros.errors import SkeletonFormatError
from motion_predictor_ros.skeleton.frame import TrackingState
from motion_predictor_ros.skeleton.joint_map import JointMap, load_joint_map
from motion_predictor_ros.skeleton.layout import SkeletonLayout
from motion_predictor_ros.skeleton.sources.base import (
    DetectedClass,
    RawSkeleton,
    Source,
    SourceConfig,
    register_source,
    stamp_of,
    sure_of,
)

_PER_BODY = 100
_DELETE = (2, 3)  # visualization_msgs/Marker: DELETE, DELETEALL
_ZED_LAYOUTS = {0: 'zed18', 1: 'zed34', 2: 'zed38'}
_ZED_STATES = {
    0: TrackingState.LOST,  # OFF: not valid
    1: TrackingState.TRACKED,
    2: TrackingState.SEARCHING,
    3: TrackingState.LOST,  # TERMINATE: last seen in the frame before
}


@register_source('azure_kinect', 'visualization_msgs/msg/MarkerArray')
class AzureKinect(Source[SourceConfig]):
    """MarkerArray of azure_kinect_ros_driver: marker id = 100 x body + joint; no confidences."""

    has_shared_type = True

    def __init__(self, layout: SkeletonLayout, config: SkeletonConfig, own: SourceConfig) -> None:
        super().__init__(layout, config, own)
        self._joints = load_joint_map(config.source_layout or 'azure_kinect32', layout)
        self._latency_ns = 0

    def header(self, msg: Any, received_ns: int) -> tuple[int, str]:
        """Return stamp and frame of the first marker.

        An empty array has neither: it is taken to be as old as the last array that had a stamp.
        """
        markers = _shown(msg)
        if not markers:
            return max(received_ns - self._latency_ns, 1), ''
        frames = {marker.header.frame_id.lstrip('/') for marker in markers}
        if len(frames) > 1:
            raise SkeletonFormatError('unknown_frame', f'markers in several frames {frames}')
        stamp_ns = stamp_of(markers[0].header.stamp)
        self._latency_ns = received_ns - stamp_ns if received_ns else 0
        return stamp_ns, frames.pop()

    def is_estimated(self, msg: Any) -> bool:
        """Whether the array is empty."""
        return not _shown(msg)

    def people(self, msg: Any) -> Iterable[tuple[str, Any]]:
        """Group the markers by body."""
        bodies: dict[int, list[Any]] = {}
        for marker in _shown(msg):
            bodies.setdefault(marker.id // _PER_BODY, []).append(marker)
        return [(str(body), markers) for body, markers in bodies.items()]

    def see(self, label: str, person: list[Any]) -> RawSkeleton:
        """Read one body."""
        count = len(self._joints.source.joint_names)
        positions = np.full((count, 3), np.nan)
        for marker in person:
            joint = marker.id % _PER_BODY
            if joint >= count:
                raise SkeletonFormatError(
                    'layout_mismatch',
                    f'{label}: marker id {marker.id}, expected 100 x body + joint below {count}; '
                    'are these markers of body_tracking_data?',
                )
            at = marker.pose.position
            positions[joint] = at.x, at.y, at.z
        return RawSkeleton(self._joints, positions, sure_of(positions))


def _shown(msg: Any) -> list[Any]:
    return [marker for marker in msg.markers if marker.action not in _DELETE]


@register_source('zed', 'zed_msgs/msg/ObjectsStamped')
class Zed(Source[SourceConfig]):
    """zed_msgs/ObjectsStamped; the body format of each object says which joints it has."""

    def header(self, msg: Any, received_ns: int) -> tuple[int, str]:
        """Return stamp and frame of the header."""
        return stamp_of(msg.header.stamp), msg.header.frame_id

    def people(self, msg: Any) -> Iterable[tuple[str, Any]]:
        """List the objects; a negative id is none."""
        return [(str(o.label_id) if o.label_id >= 0 else '', o) for o in msg.objects]

    def detected_class(self, person: Any) -> DetectedClass:
        """Return the object's label."""
        return DetectedClass(person.label, bool(person.skeleton_available))

    def see(self, label: str, person: Any) -> RawSkeleton:
        """Read one object; a joint that was not seen is NaN, one that is not used is zero."""
        if not person.skeleton_available:
            raise SkeletonFormatError(
                'no_skeleton', f'{label}: has no skeleton; is body tracking enabled in the camera?'
            )
        state = _ZED_STATES.get(person.tracking_state)
        if state is None:
            raise SkeletonFormatError(
                'bad_tracking_state',
                f'{label}: tracking_state {person.tracking_state} is none of 0..3',
            )
        joints = self._joints(person.body_format, label)
        count = joints.weights.shape[1]
        positions = np.array(
            [keypoint.kp for keypoint in person.skeleton_3d.keypoints[:count]], np.float64
        )
        positions[(positions == 0).all(axis=1)] = np.nan
        return RawSkeleton(joints, positions, _zed_confidences(person, positions), state)

    def _joints(self, body_format: int, label: str) -> JointMap:
        if self.config.source_layout:
            return load_joint_map(self.config.source_layout, self.layout)
        if body_format not in _ZED_LAYOUTS:
            raise SkeletonFormatError(
                'layout_mismatch',
                f'{label}: body_format {body_format}; expected 0 (BODY_18), 1 (BODY_34) or 2 '
                '(BODY_38); see "body_format" of the camera',
            )
        return load_joint_map(_ZED_LAYOUTS[body_format], self.layout)


def _zed_confidences(person: Any, positions: Any) -> Float32[np.ndarray, ' seen']:
    """Return confidences 0..1; older messages have none, and newer ones may leave them zero."""
    sure = sure_of(positions)
    percent = np.array(getattr(person, 'skeleton_keypoint_confidence', ()), dtype=np.float32)
    percent = np.nan_to_num(percent[: len(positions)], nan=0.0)
    return sure * np.clip(percent / 100, 0, 1) if percent.any() else sure


@register_source('yolo', 'yolo_msgs/msg/DetectionArray')
class Yolo(Source[SourceConfig]):
    """yolo_msgs/DetectionArray with 3-D keypoints, in a frame of their own."""

    def __init__(self, layout: SkeletonLayout, config: SkeletonConfig, own: SourceConfig) -> None:
        super().__init__(layout, config, own)
        self._joints = load_joint_map(config.source_layout or 'coco17', layout)

    def header(self, msg: Any, received_ns: int) -> tuple[int, str]:
        """Return the header's stamp and the keypoints' frame, which is not the header's."""
        frames = {
            detection.keypoints3d.frame_id.lstrip('/')
            for detection in msg.detections
            if len(detection.keypoints3d.data) and self._other_class(detection) is None
        } - {''}
        if len(frames) > 1:
            raise SkeletonFormatError('unknown_frame', f'keypoints in several frames {frames}')
        return stamp_of(msg.header.stamp), frames.pop() if frames else ''

    def people(self, msg: Any) -> Iterable[tuple[str, Any]]:
        """List the detections."""
        return [(detection.id, detection) for detection in msg.detections]

    def detected_class(self, person: Any) -> DetectedClass:
        """Return the detection's class."""
        return DetectedClass(person.class_name, bool(len(person.keypoints3d.data)))

    def see(self, label: str, person: Any) -> RawSkeleton:
        """Read one detection; ids count from 1, joints below the threshold are left out."""
        count = len(self._joints.source.joint_names)
        positions = np.full((count, 3), np.nan)
        confidences = np.zeros(count, dtype=np.float32)
        for keypoint in person.keypoints3d.data:
            if not 1 <= keypoint.id <= count:
                raise SkeletonFormatError(
                    'layout_mismatch',
                    f'{label}: keypoint id {keypoint.id}, expected 1..{count}; does parameter '
                    f'"skeleton.source_layout" ({self._joints.source.name!r}) match the network?',
                )
            at = keypoint.point
            positions[keypoint.id - 1] = at.x, at.y, at.z
            confidences[keypoint.id - 1] = keypoint.score
        return RawSkeleton(self._joints, positions, confidences)
