# SPDX-License-Identifier: Apache-2.0
"""Publish volumes as moveit_msgs/CollisionObject: one object of capsules per person and window.

A capsule is a cylinder and two spheres. ADD replaces the object of the same id; REMOVE takes it
away when the person is gone. moveit_msgs is imported only if the output is enabled.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from geometry_msgs.msg import Point, Pose, Quaternion
from jaxtyping import Float64
from shape_msgs.msg import SolidPrimitive
from std_msgs.msg import Header

from motion_predictor_ros.config import param
from motion_predictor_ros.ros.encode import encode_header
from motion_predictor_ros.ros.outputs.base import OUTPUTS, Output, OutputConfig, VolumeScene
from motion_predictor_ros.ros.topics import message_class
from motion_predictor_ros.volume.capsules import swept_capsules
from motion_predictor_ros.volume.types import WindowVolume

_MIN_LENGTH_M = 1e-4


@dataclass(frozen=True)
class CollisionObjectsConfig(OutputConfig):
    """Parameters of `collision_object`."""

    enabled: bool = param(False, 'publish collision_object, for MoveIt 2; needs moveit_msgs [-]')
    rate_hz: float = param(5.0, 'maximum rate, by stamps [Hz]', 0.1, 100.0)
    until_s: float = param(1.0, 'windows that begin before then become objects [s]', 0.0, 10.0)


@OUTPUTS.register('collision_objects', CollisionObjectsConfig)
class CollisionObjectsOutput(Output[CollisionObjectsConfig]):
    """moveit_msgs/CollisionObject on `collision_object`."""

    def open(self) -> None:
        """Create the publisher."""
        message_type = message_class(
            'moveit_msgs/msg/CollisionObject', 'parameter "outputs.collision_objects.enabled"'
        )
        self._publisher = self.create_publisher(message_type, 'collision_object', depth=100)
        self._objects = CollisionObjects(message_type, self.config.until_s)
        self._stamp_ns = 0

    def publish(self, scene: VolumeScene) -> None:
        """Publish an object per person and window, and removals of those that are gone."""
        self._stamp_ns = scene.stamp_ns
        for message in self._objects.update(scene):
            self._publisher.publish(message)

    def withdraw(self) -> None:
        """Remove every object from MoveIt's scene."""
        for message in self._objects.clear(self._stamp_ns):
            self._publisher.publish(message)


class CollisionObjects:
    """The objects that a planning scene holds now.

    Args:
        message_type: moveit_msgs.msg.CollisionObject.
        until_s: Windows that begin before then become objects; the first one always does.
    """

    def __init__(self, message_type: type[Any], until_s: float) -> None:
        self._message_type, self._until_s = message_type, until_s
        self._frames: dict[str, str] = {}

    def update(self, scene: VolumeScene) -> list[Any]:
        """Return messages that add every present object and remove the others."""
        header = encode_header(scene.stamp_ns, scene.frame_id)
        objects = {}
        for volume in scene.volumes:
            for index, window in enumerate(volume.windows):
                if not index or window.start_s < self._until_s - 1e-6:
                    name = f'person/{volume.person_id}/{window.start_s:.2f}-{window.end_s:.2f}'
                    objects[name] = self._object(name, window, header)
        removals = [self._removal(name, header) for name in self._frames if name not in objects]
        self._frames = dict.fromkeys(objects, scene.frame_id)
        return [*removals, *objects.values()]

    def clear(self, stamp_ns: int) -> list[Any]:
        """Return messages that remove every object."""
        removals = [
            self._removal(name, encode_header(stamp_ns, frame_id))
            for name, frame_id in self._frames.items()
        ]
        self._frames = {}
        return removals

    def _object(self, name: str, window: WindowVolume, header: Header) -> Any:
        shapes = list(_shapes(window))
        message = self._message_type(
            header=header,
            id=name,
            pose=_pose(np.zeros(3)),
            primitives=[shape for shape, _ in shapes],
            primitive_poses=[pose for _, pose in shapes],
        )
        message.operation = self._message_type.ADD
        return message

    def _removal(self, name: str, header: Header) -> Any:
        message = self._message_type(header=header, id=name, pose=_pose(np.zeros(3)))
        message.operation = self._message_type.REMOVE
        return message


def _shapes(window: WindowVolume) -> Iterator[tuple[SolidPrimitive, Pose]]:
    for start, end, radius in zip(*swept_capsules(window.bodies), strict=True):
        yield _solid(SolidPrimitive.SPHERE, radius), _pose(start)
        length = float(np.linalg.norm(end - start))
        if length > _MIN_LENGTH_M:
            yield _solid(SolidPrimitive.SPHERE, radius), _pose(end)
            rotation = _rotation_from_z((end - start) / length)
            yield (
                _solid(SolidPrimitive.CYLINDER, length, radius),
                _pose(0.5 * (start + end), rotation),
            )


def _solid(shape: int, *dimensions: float) -> SolidPrimitive:
    return SolidPrimitive(type=shape, dimensions=[float(size) for size in dimensions])


def _pose(position: Float64[np.ndarray, 'xyz=3'], rotation: Quaternion | None = None) -> Pose:
    x, y, z = position.tolist()
    return Pose(position=Point(x=x, y=y, z=z), orientation=rotation or Quaternion(w=1.0))


def _rotation_from_z(direction: Float64[np.ndarray, 'xyz=3']) -> Quaternion:
    """Return the shortest rotation of the z axis, along which cylinders lie, to `direction`."""
    x, y, z = direction.tolist()
    w = 1.0 + z
    if w < 1e-9:
        return Quaternion(x=1.0, y=0.0, z=0.0, w=0.0)
    size = float(np.sqrt(w * w + x * x + y * y))
    return Quaternion(x=-y / size, y=x / size, z=0.0, w=w / size)
