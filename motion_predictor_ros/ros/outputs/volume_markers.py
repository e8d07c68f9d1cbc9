# SPDX-License-Identifier: Apache-2.0
"""Draw the space to keep free for RViz: the shell of its voxels, one CUBE_LIST per window.

Orange is soon, purple late; grey is a reachable set: nothing is known but how fast people are.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from builtin_interfaces.msg import Duration
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from motion_predictor_ros.conventions import NS_PER_S
from motion_predictor_ros.ros.encode import encode_header
from motion_predictor_ros.ros.outputs.markers import fill, ramp
from motion_predictor_ros.volume.sparse import SparseVolume, SparseWindow, sparse
from motion_predictor_ros.volume.types import SafetyVolume

_ALPHA = 0.1


@dataclass
class _Drawn:
    """Who was drawn when, and in which namespaces."""

    number: int
    stamp_ns: int
    namespaces: tuple[str, ...]


class VolumeMarkers:
    """Markers of everybody's volume, with an id each as long as they are known."""

    def __init__(self, most: int, lifetime_s: float) -> None:
        """Begin with nobody.

        Args:
            most: Voxels drawn of all people together.
        """
        self._most, self._lifetime_ns = most, round(lifetime_s * NS_PER_S)
        self._people: dict[str, _Drawn] = {}

    def update(self, volumes: Sequence[SafetyVolume], stamp_ns: int, frame_id: str) -> MarkerArray:
        """Draw everybody, and delete who left."""
        header = encode_header(stamp_ns, frame_id)
        present = {volume.person_id for volume in volumes}
        markers: list[Marker] = []
        for person_id in [each for each in self._people if each not in present]:
            gone = self._people.pop(person_id)
            markers += [_deleted(header, name, gone.number) for name in gone.namespaces]
        share = self._most // max(len(volumes), 1)
        for volume in volumes:
            markers += self._draw(volume, sparse(volume, share, shell=True), header, stamp_ns)
        return MarkerArray(markers=markers)

    def _draw(
        self, volume: SafetyVolume, few: SparseVolume, header: Header, stamp_ns: int
    ) -> list[Marker]:
        namespaces = tuple(_namespace(window) for window in few.windows)
        known = self._people.get(volume.person_id)
        if known is None:
            used = {each.number for each in self._people.values()}
            known = _Drawn(min(set(range(len(used) + 1)) - used), stamp_ns, namespaces)
            self._people[volume.person_id] = known
        known.stamp_ns, known.namespaces = stamp_ns, namespaces
        colours = ramp(len(few.windows), volume.validity)
        return [
            self._marker(few, window, known.number, colour, header)
            for window, colour in zip(few.windows, colours, strict=True)
        ]

    def _marker(
        self,
        few: SparseVolume,
        window: SparseWindow,
        number: int,
        colour: ColorRGBA,
        header: Header,
    ) -> Marker:
        if not len(window.voxels):  # RViz rejects lists without points
            return _deleted(header, _namespace(window), number)
        marker = Marker(
            header=header, ns=_namespace(window), id=number, type=Marker.CUBE_LIST, color=colour
        )
        marker.color.a = _ALPHA
        marker.pose.orientation.w = 1.0
        marker.scale.x = marker.scale.y = marker.scale.z = few.grid.size_m
        sec, nanosec = divmod(self._lifetime_ns, NS_PER_S)
        marker.lifetime = Duration(sec=sec, nanosec=nanosec)
        fill(marker, window.centres(few.grid))
        return marker


def _namespace(window: SparseWindow) -> str:
    return f'volume/{window.start_s:.2f}-{window.end_s:.2f}'


def _deleted(header: Header, namespace: str, number: int) -> Marker:
    marker = Marker(header=header, ns=namespace, id=number, action=Marker.DELETE)
    marker.pose.orientation.w = 1.0
    return marker
