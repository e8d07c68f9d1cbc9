# SPDX-License-Identifier: Apache-2.0
"""Publish keep-out volumes as MarkerArray for RViz: the shell of the voxels of each window.

Namespace `volume` is what is promised; the other promise has its own, `risk` or `coverage`.
Colours go from orange (soon) to purple (late); a reachable set is grey.
"""

import math
from dataclasses import dataclass, replace

from builtin_interfaces.msg import Duration
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from motion_predictor_ros.config import param
from motion_predictor_ros.conventions import NS_PER_S
from motion_predictor_ros.ros.encode import encode_header
from motion_predictor_ros.ros.outputs.base import (
    Output,
    OutputConfig,
    OutputContext,
    VolumeScene,
    register_output,
)
from motion_predictor_ros.ros.outputs.markers import fill, ramp
from motion_predictor_ros.volume.sparse import SparseWindow, sparse
from motion_predictor_ros.volume.types import SafetyVolume

_ALPHA = {'coverage': 0.06, 'risk': 0.16, '': 0.1}
_LIFETIME_PERIODS = 3.0


@dataclass(frozen=True)
class VolumeMarkersConfig(OutputConfig):
    """Parameters of `volume_markers`."""

    enabled: bool = param(True, 'publish volume_markers while they have subscribers [-]')
    rate_hz: float = param(5.0, 'maximum rate, by stamps [Hz]', low=0.1, high=100.0)
    max_voxels: int = param(
        4000, 'voxels of all people together; beyond, voxels are merged [-]', low=100, high=10**6
    )
    min_height_m: float = param(
        0.0, 'lowest height that is drawn: the floor [m]', low=-100.0, high=100.0
    )


@register_output('volume_markers', VolumeMarkersConfig)
class VolumeMarkersOutput(Output[VolumeMarkersConfig]):
    """MarkerArray on `volume_markers`."""

    def __init__(self, config: VolumeMarkersConfig, context: OutputContext) -> None:
        super().__init__(config, context)
        self._publisher = self.create_publisher(MarkerArray, 'volume_markers')
        lifetime_s = _LIFETIME_PERIODS / config.rate_hz
        self._markers = VolumeMarkers(config.max_voxels, lifetime_s, config.min_height_m)

    def publish(self, scene: VolumeScene) -> None:
        """Publish the markers, if there are subscribers."""
        if self._publisher.get_subscription_count():
            self._publisher.publish(self._markers.update(scene))


@dataclass
class _PersonMarkers:
    """Marker id and namespaces of one person."""

    number: int
    namespaces: tuple[str, ...]


class VolumeMarkers:
    """Markers of every person's volume; a person keeps the marker id."""

    def __init__(
        self, max_voxels: int, lifetime_s: float, min_height_m: float = -math.inf
    ) -> None:
        """Begin without people.

        Args:
            max_voxels: Voxels of all people together.
            min_height_m: Voxels whose centres are below are not drawn.
        """
        self._max_voxels, self._lifetime_ns = max_voxels, round(lifetime_s * NS_PER_S)
        self._min_height_m = min_height_m
        self._people: dict[str, _PersonMarkers] = {}

    def update(self, scene: VolumeScene) -> MarkerArray:
        """Return markers of all people, and deletions of people who left."""
        header = encode_header(scene.stamp_ns, scene.frame_id)
        present = {volume.person_id for volume in scene.volumes}
        markers: list[Marker] = []
        for person_id in [known for known in self._people if known not in present]:
            gone = self._people.pop(person_id)
            markers += [_deletion(header, name, gone.number) for name in gone.namespaces]
        share = self._max_voxels // max(len(scene.volumes), 1)
        for volume in scene.volumes:
            markers += self._draw(volume, share, header)
        return MarkerArray(markers=markers)

    def _draw(self, volume: SafetyVolume, max_voxels: int, header: Header) -> list[Marker]:
        shown = [('volume', volume.promise, volume)]
        if any(window.other is not None for window in volume.windows):
            other = 'coverage' if volume.promise == 'risk' else 'risk'
            shown.append((other, other, _other(volume)))
        person = self._people.get(volume.person_id)
        if person is None:
            used = {known.number for known in self._people.values()}
            person = _PersonMarkers(min(set(range(len(used) + 1)) - used), ())
            self._people[volume.person_id] = person
        markers = []
        for namespace, promise, part in shown:
            windows = sparse(part, max_voxels // len(shown), shell=True)
            colours = ramp(len(windows), volume.validity)
            for window, colour in zip(windows, colours, strict=True):
                colour.a = _ALPHA[promise]
                name = f'{namespace}/{window.start_s:.2f}-{window.end_s:.2f}'
                markers.append(self._marker(window, name, person.number, colour, header))
        names = tuple(marker.ns for marker in markers)
        gone = [name for name in person.namespaces if name not in names]
        person.namespaces = names
        return markers + [_deletion(header, name, person.number) for name in gone]

    def _marker(
        self, window: SparseWindow, name: str, number: int, colour: ColorRGBA, header: Header
    ) -> Marker:
        centres = window.centres
        centres = centres[centres[:, 2] >= self._min_height_m]
        if not len(centres):  # RViz rejects lists without points
            return _deletion(header, name, number)
        marker = Marker(header=header, ns=name, id=number, type=Marker.CUBE_LIST, color=colour)
        marker.pose.orientation.w = 1.0
        marker.scale.x = marker.scale.y = marker.scale.z = window.grid.size_m
        sec, nanosec = divmod(self._lifetime_ns, NS_PER_S)
        marker.lifetime = Duration(sec=sec, nanosec=nanosec)
        fill(marker, centres)
        return marker


def _other(volume: SafetyVolume) -> SafetyVolume:
    """Return the volumes of the promise that is not made."""
    windows = tuple(
        replace(window, covered=window.other)
        for window in volume.windows
        if window.other is not None
    )
    return replace(volume, windows=windows)


def _deletion(header: Header, namespace: str, number: int) -> Marker:
    marker = Marker(header=header, ns=namespace, id=number, action=Marker.DELETE)
    marker.pose.orientation.w = 1.0
    return marker
