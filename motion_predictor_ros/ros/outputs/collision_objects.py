# SPDX-License-Identifier: Apache-2.0
"""Write volumes as moveit_msgs/CollisionObject: one object per person and window, of capsules.

A capsule is a cylinder and two spheres. ADD replaces the object of the same id; REMOVE takes it
away when the person is gone. moveit_msgs is imported only by who asks for it.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from geometry_msgs.msg import Point, Pose, Quaternion
from jaxtyping import Float64
from shape_msgs.msg import SolidPrimitive
from std_msgs.msg import Header

from motion_predictor_ros.ros.encode import encode_header
from motion_predictor_ros.volume.capsules import swept_capsules
from motion_predictor_ros.volume.types import SafetyVolume, WindowVolume

_SHORTEST_M = 1e-4


class CollisionObjects:
    """Objects of everybody, remembered until they are removed."""

    def __init__(self, kind: type[Any], until_s: float) -> None:
        """Begin without any.

        Args:
            kind: moveit_msgs.msg.CollisionObject.
            until_s: Windows that begin before then are written; the first one always is.
        """
        self._kind, self._until_s = kind, until_s
        self._added: dict[str, str] = {}

    def update(self, volumes: Sequence[SafetyVolume], stamp_ns: int, frame_id: str) -> list[Any]:
        """Return what adds everybody present and removes what is not there any more."""
        header = encode_header(stamp_ns, frame_id)
        objects = {}
        for volume in volumes:
            for index, window in enumerate(volume.windows):
                if not index or window.start_s < self._until_s - 1e-6:
                    name = f'person/{volume.person_id}/{window.start_s:.2f}-{window.end_s:.2f}'
                    objects[name] = self._object(name, window, header)
        removed = [self._removal(name, header) for name in self._added if name not in objects]
        self._added = dict.fromkeys(objects, frame_id)
        return [*removed, *objects.values()]

    def clear(self, stamp_ns: int) -> list[Any]:
        """Return what removes everything."""
        removed = [
            self._removal(name, encode_header(stamp_ns, frame_id))
            for name, frame_id in self._added.items()
        ]
        self._added = {}
        return removed

    def _object(self, name: str, window: WindowVolume, header: Header) -> Any:
        shapes = list(_shapes(window))
        made = self._kind(
            header=header,
            id=name,
            pose=_pose(np.zeros(3)),
            primitives=[shape for shape, _ in shapes],
            primitive_poses=[pose for _, pose in shapes],
        )
        made.operation = self._kind.ADD
        return made

    def _removal(self, name: str, header: Header) -> Any:
        made = self._kind(header=header, id=name, pose=_pose(np.zeros(3)))
        made.operation = self._kind.REMOVE
        return made


def _shapes(window: WindowVolume) -> Iterator[tuple[SolidPrimitive, Pose]]:
    for start, end, radius in zip(*swept_capsules(window.bodies), strict=True):
        yield _solid(SolidPrimitive.SPHERE, radius), _pose(start)
        length = float(np.linalg.norm(end - start))
        if length > _SHORTEST_M:
            yield _solid(SolidPrimitive.SPHERE, radius), _pose(end)
            turn = _turn_from_z((end - start) / length)
            yield _solid(SolidPrimitive.CYLINDER, length, radius), _pose(0.5 * (start + end), turn)


def _solid(kind: int, *dimensions: float) -> SolidPrimitive:
    return SolidPrimitive(type=kind, dimensions=[float(each) for each in dimensions])


def _pose(place: Float64[np.ndarray, 'xyz=3'], turn: Quaternion | None = None) -> Pose:
    x, y, z = place.tolist()
    return Pose(position=Point(x=x, y=y, z=z), orientation=turn or Quaternion(w=1.0))


def _turn_from_z(direction: Float64[np.ndarray, 'xyz=3']) -> Quaternion:
    """Return the shortest turn from the z axis, along which cylinders lie."""
    x, y, z = direction.tolist()
    w = 1.0 + z
    if w < 1e-9:
        return Quaternion(x=1.0, y=0.0, z=0.0, w=0.0)
    size = float(np.sqrt(w * w + x * x + y * y))
    return Quaternion(x=-y / size, y=x / size, z=0.0, w=w / size)
