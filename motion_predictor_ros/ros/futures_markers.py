# SPDX-License-Identifier: Apache-2.0
"""Draw where weighed futures end, for RViz: thin opaque skeletons, one LINE_LIST per person.

Orange is the most likely of those drawn, purple the least; grey is not to be used.
"""

import numpy as np
from builtin_interfaces.msg import Duration
from std_msgs.msg import Header
from visualization_msgs.msg import Marker

from motion_predictor_ros.conventions import NS_PER_S
from motion_predictor_ros.density.futures import Futures
from motion_predictor_ros.pipeline import Scene
from motion_predictor_ros.prediction.prediction import ScenePrediction
from motion_predictor_ros.ros.encode import encode_header
from motion_predictor_ros.ros.markers import UNUSABLE, fill, ramp
from motion_predictor_ros.skeleton.frame import Validity
from motion_predictor_ros.skeleton.layout import SkeletonLayout

_WIDTH_M = 0.008


class FuturesMarkers:
    """Markers of everybody's futures, with an id each as long as they are known."""

    def __init__(self, layout: SkeletonLayout, count: int, lifetime_s: float) -> None:
        """Set up.

        Args:
            lifetime_s: That of markers which are renewed with every observation; these live as
                much longer as they are rarer.
        """
        self._bones, self._count = np.array(layout.bones), count
        self._lifetime_ns = round(lifetime_s * NS_PER_S)
        self._markers: dict[str, Marker] = {}
        self._drawn_ns: int | None = None

    def update(self, scene: Scene) -> list[Marker]:
        """Return markers to publish: new futures, and deletions of those who have none now."""
        stamp_ns, futures = scene.prediction.stamp_ns, scene.futures
        if futures is None or not self._count:
            return []
        since_ns = 0 if self._drawn_ns is None else stamp_ns - self._drawn_ns
        lifetime_ns = self._lifetime_ns + 2 * since_ns if since_ns > 0 else 2 * self._lifetime_ns
        self._drawn_ns = stamp_ns
        header = encode_header(stamp_ns, scene.prediction.frame_id)
        gone = self._markers.keys() - set(futures.person_ids)
        drawn = [_deleted(self._markers.pop(person_id), header) for person_id in sorted(gone)]
        shown = futures.thinned(self._count, 1)
        for row in range(len(shown.person_ids)):
            drawn.append(self._draw(shown, row, header, lifetime_ns))
        return drawn

    def clear(self, scene: ScenePrediction) -> list[Marker]:
        """Delete everything."""
        header = encode_header(scene.stamp_ns, scene.frame_id)
        gone, self._markers = list(self._markers.values()), {}
        return [_deleted(marker, header) for marker in gone]

    def _draw(self, futures: Futures, row: int, header: Header, lifetime_ns: int) -> Marker:
        person_id = futures.person_ids[row]
        if person_id not in self._markers:
            used = {marker.id for marker in self._markers.values()}
            self._markers[person_id] = _marker(min(set(range(len(used) + 1)) - used))
        marker = self._markers[person_id]
        marker.header = header
        sec, nanosec = divmod(lifetime_ns, NS_PER_S)
        marker.lifetime = Duration(sec=sec, nanosec=nanosec)
        likeliest_first = np.argsort(-futures.log_density[row])
        ends = futures.positions[row, likeliest_first, -1]
        fill(marker, ends[:, self._bones].reshape(-1, 3))
        usable = futures.judge(row)[0] == Validity.OK
        colours = ramp(len(ends), Validity.OK) if usable else [UNUSABLE] * len(ends)
        marker.colors = [each for each in colours for _ in range(2 * len(self._bones))]
        return marker


def _marker(number: int) -> Marker:
    marker = Marker(ns='futures/bones', id=number, type=Marker.LINE_LIST, color=UNUSABLE)
    marker.pose.orientation.w = 1.0
    marker.scale.x = marker.scale.y = marker.scale.z = _WIDTH_M
    return marker


def _deleted(marker: Marker, header: Header) -> Marker:
    return Marker(header=header, ns=marker.ns, id=marker.id, action=Marker.DELETE)
