# SPDX-License-Identifier: Apache-2.0
"""Publish keep-out volumes as MarkerArray for RViz: the shell of the voxels of each window.

Namespace `volume` is what is promised; the other promise has its own, `risk` or `coverage`.
Colours go from orange (soon) to purple (late); a reachable set is grey.
"""

import math
from dataclasses import dataclass, replace

from std_msgs.msg import Header
from visualization_msgs.msg import Marker, MarkerArray

from motion_predictor_ros.config import param
from motion_predictor_ros.conventions import NS_PER_S
from motion_predictor_ros.ros.encode import encode_header
from motion_predictor_ros.ros.outputs.base import OUTPUTS, Output, OutputConfig, VolumeScene
from motion_predictor_ros.ros.outputs.markers import MarkerPool, fill, ramp
from motion_predictor_ros.volume.sparse import sparse
from motion_predictor_ros.volume.types import SafetyVolume

_ALPHA = {'coverage': 0.06, 'risk': 0.16, '': 0.1}
_LIFETIME_PERIODS = 3.0


@dataclass(frozen=True)
class VolumeMarkersConfig(OutputConfig):
    """Parameters of `volume_markers`."""

    enabled: bool = param(True, 'publish volume_markers while they have subscribers [-]')
    rate_hz: float = param(5.0, 'maximum rate, by stamps [Hz]', 0.1, 100.0)
    max_voxels: int = param(
        4000, 'voxels of all people together; beyond, voxels are merged [-]', 100, 10**6
    )
    min_height_m: float = param(0.0, 'lowest height that is drawn: the floor [m]', -100.0, 100.0)


@OUTPUTS.register('volume_markers', VolumeMarkersConfig)
class VolumeMarkersOutput(Output[VolumeMarkersConfig]):
    """MarkerArray on `volume_markers`."""

    def open(self) -> None:
        """Create the publisher."""
        self._publisher = self.create_publisher(MarkerArray, 'volume_markers')
        config, lifetime_s = self.config, _LIFETIME_PERIODS / self.config.rate_hz
        self._markers = VolumeMarkers(config.max_voxels, lifetime_s, config.min_height_m)

    def publish(self, scene: VolumeScene) -> None:
        """Publish the markers, if there are subscribers."""
        if self._publisher.get_subscription_count():
            self._publisher.publish(self._markers.update(scene))


class VolumeMarkers:
    """Markers of every person's volume; a person keeps the marker id.

    Args:
        max_voxels: Voxels of all people together.
        min_height_m: Voxels whose centres are below are not drawn.
    """

    def __init__(
        self, max_voxels: int, lifetime_s: float, min_height_m: float = -math.inf
    ) -> None:
        self._max_voxels, self._lifetime_ns = max_voxels, round(lifetime_s * NS_PER_S)
        self._min_height_m, self._pool = min_height_m, MarkerPool()

    def update(self, scene: VolumeScene) -> MarkerArray:
        """Return markers of all people, and deletions of people who left."""
        header = encode_header(scene.stamp_ns, scene.frame_id)
        present = {volume.person_id for volume in scene.volumes}
        gone = [person_id for person_id in self._pool.people() if person_id not in present]
        markers = [marker for who in gone for marker in self._pool.remove(who, header)]
        share = self._max_voxels // max(len(scene.volumes), 1)
        for volume in scene.volumes:
            markers += self._draw(volume, share, header)
        return MarkerArray(markers=markers)

    def _draw(self, volume: SafetyVolume, max_voxels: int, header: Header) -> list[Marker]:
        shown = [('volume', volume.promise, volume)]
        if any(window.other is not None for window in volume.windows):
            other = 'coverage' if volume.promise == 'risk' else 'risk'
            shown.append((other, other, _other(volume)))
        markers = []
        for namespace, promise, part in shown:
            windows = sparse(part, max_voxels // len(shown), shell=True)
            colours = ramp(len(windows), volume.validity)
            for window, colour in zip(windows, colours, strict=True):
                colour.a = _ALPHA[promise]
                name = f'{namespace}/{window.start_s:.2f}-{window.end_s:.2f}'
                kind, size_m = Marker.CUBE_LIST, window.grid.size_m
                marker = self._pool.get(volume.person_id, name, kind, size_m, colour)
                centres = window.centres[window.centres[:, 2] >= self._min_height_m]
                fill(marker, centres, header, self._lifetime_ns)
                markers.append(marker)
        names = {marker.ns for marker in markers}
        return markers + self._pool.remove(volume.person_id, header, names)


def _other(volume: SafetyVolume) -> SafetyVolume:
    """Return the volumes of the promise that is not made."""
    windows = tuple(
        replace(window, covered=window.other)
        for window in volume.windows
        if window.other is not None
    )
    return replace(volume, windows=windows)
