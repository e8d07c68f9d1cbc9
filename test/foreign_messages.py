# SPDX-License-Identifier: Apache-2.0
"""Messages of other packages, by their documented fields, and people as each source sends them.

The definitions are our own and hold what a decoder reads and what lies before it, or what is
written; real packages have more fields. Types go through rosbags' typestore, so bags hold real
CDR bytes.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

DEFINITIONS = {
    'zed_msgs/msg/Keypoint3D': 'float32[3] kp',
    'zed_msgs/msg/Skeleton3D': 'zed_msgs/Keypoint3D[70] keypoints',
    'zed_msgs/msg/Object': """
        string label
        int16 label_id
        float32 confidence
        bool tracking_available
        int8 tracking_state
        bool skeleton_available
        int8 body_format
        zed_msgs/Skeleton3D skeleton_3d
        float32[70] skeleton_keypoint_confidence
    """,
    'zed_msgs/msg/ObjectsStamped': """
        std_msgs/Header header
        zed_msgs/Object[] objects
    """,
    'yolo_msgs/msg/KeyPoint3D': """
        int32 id
        geometry_msgs/Point point
        float64 score
    """,
    'yolo_msgs/msg/KeyPoint3DArray': """
        yolo_msgs/KeyPoint3D[] data
        string frame_id
    """,
    'yolo_msgs/msg/Detection': """
        int32 class_id
        string class_name
        float64 score
        string id
        yolo_msgs/KeyPoint3DArray keypoints3d
    """,
    'yolo_msgs/msg/DetectionArray': """
        std_msgs/Header header
        yolo_msgs/Detection[] detections
    """,
    'hiros_skeleton_msgs/msg/KinematicState': 'geometry_msgs/Pose pose',
    'hiros_skeleton_msgs/msg/Marker': """
        int32 id
        float64 confidence
        hiros_skeleton_msgs/KinematicState center
    """,
    'hiros_skeleton_msgs/msg/Skeleton': """
        int32 id
        builtin_interfaces/Time src_time
        string src_frame
        uint32 max_markers
        float64 confidence
        hiros_skeleton_msgs/Marker[] markers
    """,
    'hiros_skeleton_msgs/msg/SkeletonGroup': """
        std_msgs/Header header
        hiros_skeleton_msgs/Skeleton[] skeletons
    """,
    'mocap4r2_msgs/msg/Marker': """
        int8 id_type
        int32 marker_index
        string marker_name
        geometry_msgs/Point translation
    """,
    'mocap4r2_msgs/msg/Markers': """
        std_msgs/Header header
        uint32 frame_number
        mocap4r2_msgs/Marker[] markers
    """,
    'object_recognition_msgs/msg/ObjectType': """
        string key
        string db
    """,
    'moveit_msgs/msg/CollisionObject': """
        byte ADD=0
        byte REMOVE=1
        byte APPEND=2
        byte MOVE=3
        std_msgs/Header header
        geometry_msgs/Pose pose
        string id
        object_recognition_msgs/ObjectType type
        shape_msgs/SolidPrimitive[] primitives
        geometry_msgs/Pose[] primitive_poses
        shape_msgs/Mesh[] meshes
        geometry_msgs/Pose[] mesh_poses
        shape_msgs/Plane[] planes
        geometry_msgs/Pose[] plane_poses
        string[] subframe_names
        geometry_msgs/Pose[] subframe_poses
        byte operation
    """,
    'nav2_msgs/msg/SpeedLimit': """
        std_msgs/Header header
        bool percentage
        float64 speed_limit
    """,
    'tf2_msgs/msg/TFMessage': 'geometry_msgs/TransformStamped[] transforms',
}

Joints = dict[str, np.ndarray]
"""A person: positions [m] by the source's joint names; missing joints were not observed."""


@cache
def types() -> Typestore:
    """ROS 2's types and those above."""
    store = get_typestore(Stores.ROS2_JAZZY)
    new = {}
    for name, text in DEFINITIONS.items():
        if name not in store.types:
            new.update(get_types_from_msg(text, name))
    store.register(new)
    return store


def make(kind: str, **fields: Any) -> Any:
    """Build a message; fields not given are empty."""
    package, name = kind.split('/')
    return types().types[f'{package}/msg/{name}'](**fields)


def header(stamp_ns: int, frame: str) -> Any:
    return make('std_msgs/Header', stamp=stamp(stamp_ns), frame_id=frame)


def stamp(stamp_ns: int) -> Any:
    return make('builtin_interfaces/Time', sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)


def point(at: np.ndarray) -> Any:
    return make('geometry_msgs/Point', **dict(zip('xyz', map(float, at), strict=True)))


def _pose(at: np.ndarray) -> Any:
    turn = make('geometry_msgs/Quaternion', x=0.0, y=0.0, z=0.0, w=1.0)
    return make('geometry_msgs/Pose', position=point(at), orientation=turn)


def azure_kinect(stamp_ns: int, frame: str, people: dict[str, Joints], names: Any) -> Any:
    zero = make('builtin_interfaces/Duration', sec=0, nanosec=0)
    markers = [
        make(
            'visualization_msgs/Marker',
            header=header(stamp_ns, frame),
            ns='',
            id=100 * int(who) + names.index(joint),
            type=2,
            action=0,
            pose=_pose(at),
            scale=make('geometry_msgs/Vector3', x=0.05, y=0.05, z=0.05),
            color=make('std_msgs/ColorRGBA', r=1.0, g=0.0, b=0.0, a=1.0),
            lifetime=zero,
            frame_locked=False,
            points=[],
            colors=[],
            texture_resource='',
            texture=make(
                'sensor_msgs/CompressedImage',
                header=header(0, ''),
                format='',
                data=np.zeros(0, np.uint8),
            ),
            uv_coordinates=[],
            text='',
            mesh_resource='',
            mesh_file=make('visualization_msgs/MeshFile', filename='', data=np.zeros(0, np.uint8)),
            mesh_use_embedded_materials=False,
        )
        for who, joints in people.items()
        for joint, at in joints.items()
    ]
    return make('visualization_msgs/MarkerArray', markers=markers)


def zed(stamp_ns: int, frame: str, people: dict[str, Joints], names: Any) -> Any:
    body_format = {18: 0, 34: 1, 38: 2}[len(names)]
    objects = []
    for who, joints in people.items():
        kp = np.zeros((70, 3), np.float32)
        kp[: len(names)] = np.nan
        for joint, at in joints.items():
            kp[names.index(joint)] = at
        keypoints = [make('zed_msgs/Keypoint3D', kp=item) for item in kp]
        skeleton = make('zed_msgs/Skeleton3D', keypoints=keypoints)
        objects.append(
            make(
                'zed_msgs/Object',
                label='Person',
                label_id=int(who),
                confidence=90.0,
                tracking_available=True,
                tracking_state=1,
                skeleton_available=True,
                body_format=body_format,
                skeleton_3d=skeleton,
                skeleton_keypoint_confidence=np.zeros(70, np.float32),
            )
        )
    return make('zed_msgs/ObjectsStamped', header=header(stamp_ns, frame), objects=objects)


def yolo(stamp_ns: int, frame: str, people: dict[str, Joints], names: Any) -> Any:
    detections = []
    for who, joints in people.items():
        data = [
            make('yolo_msgs/KeyPoint3D', id=1 + names.index(joint), point=point(at), score=0.9)
            for joint, at in joints.items()
        ]
        keypoints = make('yolo_msgs/KeyPoint3DArray', data=data, frame_id=frame)
        detections.append(
            make(
                'yolo_msgs/Detection',
                class_id=0,
                class_name='person',
                score=0.9,
                id=who,
                keypoints3d=keypoints,
            )
        )
    image = header(stamp_ns, 'camera_color_optical_frame')
    return make('yolo_msgs/DetectionArray', header=image, detections=detections)


def pose_array(stamp_ns: int, frame: str, people: dict[str, Joints], names: Any) -> Any:
    poses = [
        _pose(joints.get(name, np.full(3, np.nan))) for joints in people.values() for name in names
    ]
    return make('geometry_msgs/PoseArray', header=header(stamp_ns, frame), poses=poses)


def hiros(stamp_ns: int, frame: str, people: dict[str, Joints], names: Any) -> Any:
    skeletons = []
    for who, joints in people.items():
        markers = [
            make(
                'hiros_skeleton_msgs/Marker',
                id=names.index(joint),
                confidence=0.9,
                center=make('hiros_skeleton_msgs/KinematicState', pose=_pose(at)),
            )
            for joint, at in joints.items()
        ]
        skeletons.append(
            make(
                'hiros_skeleton_msgs/Skeleton',
                id=int(who),
                src_time=stamp(stamp_ns),
                src_frame='camera',
                max_markers=len(names),
                confidence=0.9,
                markers=markers,
            )
        )
    published = header(stamp_ns + 40_000_000, frame)
    return make('hiros_skeleton_msgs/SkeletonGroup', header=published, skeletons=skeletons)


def mocap4r2(stamp_ns: int, frame: str, people: dict[str, Joints], names: Any) -> Any:
    markers = [
        make(
            'mocap4r2_msgs/Marker',
            id_type=0,
            marker_index=0,
            marker_name=f'{joint}_{who}',
            translation=point(at),
        )
        for who, joints in people.items()
        for joint, at in joints.items()
    ]
    tool = make(
        'mocap4r2_msgs/Marker',
        id_type=0,
        marker_index=9,
        marker_name='drill',
        translation=point(np.zeros(3)),
    )
    fields = {'header': header(stamp_ns, frame), 'frame_number': 1, 'markers': [tool, *markers]}
    return make('mocap4r2_msgs/Markers', **fields)


def transform(
    stamp_ns: int, parent: str, child: str, shift: Any, quat_xyzw: Any = (0, 0, 0, 1)
) -> Any:
    turn = dict(zip('xyzw', map(float, quat_xyzw), strict=True))
    moved = dict(zip('xyz', map(float, shift), strict=True))
    return make(
        'geometry_msgs/TransformStamped',
        header=header(stamp_ns, parent),
        child_frame_id=child,
        transform=make(
            'geometry_msgs/Transform',
            translation=make('geometry_msgs/Vector3', **moved),
            rotation=make('geometry_msgs/Quaternion', **turn),
        ),
    )


def tf(stamp_ns: int, frame: str, people: dict[str, Joints], names: Any) -> Any:
    transforms = [
        transform(stamp_ns, frame, f'{joint}_{who}', at)
        for who, joints in people.items()
        for joint, at in joints.items()
    ]
    return make('tf2_msgs/TFMessage', transforms=transforms)


Maker = Callable[[int, str, dict[str, Joints], Any], Any]
MAKERS: dict[str, Maker] = {
    'azure_kinect': azure_kinect,
    'zed': zed,
    'yolo': yolo,
    'pose_array': pose_array,
    'hiros': hiros,
    'mocap4r2': mocap4r2,
    'tf': tf,
}
LAYOUTS = {
    'azure_kinect': ('azure_kinect32',),
    'zed': ('zed18', 'zed34', 'zed38'),
    'yolo': ('coco17',),
    'pose_array': ('coco17', 'xsens23', 'body18'),
    'hiros': ('azure_kinect32',),
    'mocap4r2': ('cmu38', 'cmu_asf31'),
    'tf': ('rep155', 'xsens23'),
}
"""The layouts that each source is tested with."""
