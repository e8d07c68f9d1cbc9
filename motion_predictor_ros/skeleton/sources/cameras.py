# SPDX-License-Identifier: Apache-2.0
"""Sources of body-tracking cameras: Azure Kinect, ZED, yolo_ros.

Stage: skeleton. Each class knows the traps of its messages; see docs/sources.md.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from jaxtyping import Float32

from motion_predictor_ros.config import SOURCES
from motion_predictor_ros.errors import SkeletonFormatError
from motion_predictor_ros.skeleton.frame import TrackingState
from motion_predictor_ros.skeleton.layout import load_joint_map
from motion_predictor_ros.skeleton.sources.base import (
    DetectedClass,
    RawSkeleton,
    Source,
    SourceConfig,
    stamp_of,
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


@SOURCES.register('azure_kinect', SourceConfig)
class AzureKinect(Source[SourceConfig]):
    """MarkerArray of azure_kinect_ros_driver: marker id = 100 x body + joint; no confidences."""

    msgtype = 'visualization_msgs/msg/MarkerArray'
    has_shared_type = True
    joint_layout = 'azure_kinect32'
    _latency_ns = 0

    def header(self, msg: Any, received_ns: int) -> tuple[int, str]:
        """Return stamp and frame of the first marker.

        An empty array has neither: it is taken to be as old as the last array that had a stamp.
        """
        markers = _shown(msg)
        if not markers:
            return max(received_ns - self._latency_ns, 1), ''
        frame_id = _common_frame(marker.header.frame_id for marker in markers)
        stamp_ns = stamp_of(markers[0].header.stamp)
        self._latency_ns = received_ns - stamp_ns if received_ns else 0
        return stamp_ns, frame_id

    def is_estimated(self, msg: Any) -> bool:
        """Whether the array is empty."""
        return not _shown(msg)

    def people(self, msg: Any) -> Iterable[tuple[str, Any]]:
        """Group the markers by body."""
        bodies: dict[int, list[Any]] = {}
        for marker in _shown(msg):
            bodies.setdefault(marker.id // _PER_BODY, []).append(marker)
        return [(str(body), markers) for body, markers in bodies.items()]

    def decode_person(self, label: str, person: list[Any]) -> RawSkeleton:
        """Decode one body."""
        joints = ((marker.id % _PER_BODY, marker.pose.position, np.nan) for marker in person)
        return self.numbered_joints(label, joints)


def _shown(msg: Any) -> list[Any]:
    return [marker for marker in msg.markers if marker.action not in _DELETE]


def _common_frame(frame_ids: Iterable[str]) -> str:
    """Return the one frame of all joints; '' if there are none."""
    frames = {frame_id.lstrip('/') for frame_id in frame_ids}
    if len(frames) > 1:
        raise SkeletonFormatError('unknown_frame', f'joints in several frames {frames}')
    return frames.pop() if frames else ''


@SOURCES.register('zed', SourceConfig)
class Zed(Source[SourceConfig]):
    """zed_msgs/ObjectsStamped; the body format of each object says which joints it has."""

    msgtype = 'zed_msgs/msg/ObjectsStamped'

    def people(self, msg: Any) -> Iterable[tuple[str, Any]]:
        """List the objects; a negative id is none."""
        return [(str(o.label_id) if o.label_id >= 0 else '', o) for o in msg.objects]

    def detected_class(self, person: Any) -> DetectedClass:
        """Return the object's label."""
        return DetectedClass(person.label, bool(person.skeleton_available))

    def decode_person(self, label: str, person: Any) -> RawSkeleton:
        """Decode one object; a joint that was not seen is NaN, one that is not used is zero."""
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
        layout = self.config.source_layout or _ZED_LAYOUTS.get(person.body_format)
        if layout is None:
            raise SkeletonFormatError(
                'layout_mismatch',
                f'{label}: body_format {person.body_format}; expected 0 (BODY_18), 1 (BODY_34) or '
                '2 (BODY_38); see "body_format" of the camera',
            )
        joints = load_joint_map(layout, self.layout)
        keypoints = person.skeleton_3d.keypoints[: joints.weights.shape[1]]
        positions = np.array([keypoint.kp for keypoint in keypoints], np.float64)
        positions[(positions == 0).all(axis=1)] = np.nan
        return RawSkeleton(joints, positions, _zed_confidences(person, len(positions)), state)


def _zed_confidences(person: Any, joints: int) -> Float32[np.ndarray, ' seen'] | None:
    """Return confidences 0..1; None: older messages have none, newer ones may leave them zero."""
    percent = np.array(getattr(person, 'skeleton_keypoint_confidence', ()), dtype=np.float32)
    percent = np.nan_to_num(percent[:joints], nan=0.0)
    return np.clip(percent / 100, 0, 1) if percent.any() else None


@SOURCES.register('yolo', SourceConfig)
class Yolo(Source[SourceConfig]):
    """yolo_msgs/DetectionArray with 3-D keypoints, in a frame of their own."""

    msgtype = 'yolo_msgs/msg/DetectionArray'
    joint_layout = 'coco17'

    def header(self, msg: Any, received_ns: int) -> tuple[int, str]:
        """Return the header's stamp and the keypoints' frame, which is not the header's."""
        frame_id = _common_frame(
            detection.keypoints3d.frame_id
            for detection in msg.detections
            if len(detection.keypoints3d.data) and self._other_class(detection) is None
            if detection.keypoints3d.frame_id.lstrip('/')
        )
        return stamp_of(msg.header.stamp), frame_id

    def people(self, msg: Any) -> Iterable[tuple[str, Any]]:
        """List the detections."""
        return [(detection.id, detection) for detection in msg.detections]

    def detected_class(self, person: Any) -> DetectedClass:
        """Return the detection's class."""
        return DetectedClass(person.class_name, bool(len(person.keypoints3d.data)))

    def decode_person(self, label: str, person: Any) -> RawSkeleton:
        """Decode one detection; ids count from 1, joints below the threshold are left out."""
        keypoints = person.keypoints3d.data
        joints = ((keypoint.id, keypoint.point, keypoint.score) for keypoint in keypoints)
        return self.numbered_joints(label, joints, first=1)
