# SPDX-License-Identifier: Apache-2.0
"""Draw observed and predicted skeletons for RViz.

Few LIST markers, made once per person and refilled: to make hundreds anew takes too long. Ghosts
are opaque and go from orange to purple with the horizon, grey if the prediction is not to be used.
"""

import itertools
from collections.abc import Collection

import numpy as np
from builtin_interfaces.msg import Duration
from geometry_msgs.msg import Point
from jaxtyping import Float64
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from motion_predictor_ros.conventions import NS_PER_S
from motion_predictor_ros.pipeline import Scene
from motion_predictor_ros.prediction.types import Prediction, ScenePrediction
from motion_predictor_ros.ros.encode import encode_header
from motion_predictor_ros.skeleton.frame import Validity
from motion_predictor_ros.skeleton.layout import SkeletonLayout

_SEEN = ColorRGBA(r=0.2, g=0.75, b=0.9, a=1.0)
_TEXT = ColorRGBA(r=1.0, g=1.0, b=1.0, a=1.0)
_GREY = ColorRGBA(r=0.5, g=0.5, b=0.5, a=1.0)
_NEAR, _FAR = np.array([1.0, 0.6, 0.1]), np.array([0.45, 0.1, 0.7])
_UNUSABLE = np.full(3, 0.5)
_ABOVE_M = 0.3
"""How far the label stands above the highest joint [m]."""


class MarkerPool:
    """One marker per person and namespace; a known person keeps one id in all namespaces."""

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}
        self._markers: dict[tuple[str, str], Marker] = {}

    def people(self) -> list[str]:
        """List the people who have markers."""
        return list(self._ids)

    def get(
        self, person_id: str, namespace: str, kind: int, size_m: float, colour: ColorRGBA
    ) -> Marker:
        """Return a marker, made when it is first asked for."""
        if person_id not in self._ids:
            used = self._ids.values()
            self._ids[person_id] = next(n for n in itertools.count() if n not in used)
        marker = self._markers.get((person_id, namespace))
        if marker is None:
            marker = Marker(ns=namespace, id=self._ids[person_id], type=kind)
            marker.pose.orientation.w = 1.0
            self._markers[person_id, namespace] = marker
        marker.color = colour
        marker.scale.x = marker.scale.y = marker.scale.z = size_m
        return marker

    def remove(self, person_id: str, header: Header, kept: Collection[str] = ()) -> list[Marker]:
        """Return the deletions of a person's markers, except in the namespaces that are kept."""
        keys = [key for key in self._markers if key[0] == person_id and key[1] not in kept]
        removed = [self._markers.pop(key) for key in keys]
        if not kept:
            self._ids.pop(person_id, None)
        return [
            Marker(header=header, ns=marker.ns, id=marker.id, action=Marker.DELETE)
            for marker in removed
        ]


class FuturesMarkers:
    """Where the weighted futures of people end.

    Args:
        lifetime_s: That of markers which are renewed with every observation; these live as
            much longer as they are rarer.
    """

    def __init__(self, layout: SkeletonLayout, count: int, lifetime_s: float) -> None:
        self._bones, self._count = np.array(layout.bones), count
        self._lifetime_ns = round(lifetime_s * NS_PER_S)
        self._pool = MarkerPool()
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
        gone = set(self._pool.people()) - set(futures.person_ids)
        drawn = [marker for who in sorted(gone) for marker in self._pool.remove(who, header)]
        shown = futures.thinned(self._count, 1)
        for row, person_id in enumerate(shown.person_ids):
            marker = self._pool.get(person_id, 'futures/bones', Marker.LINE_LIST, 0.008, _GREY)
            likeliest_first = np.argsort(-shown.log_density[row])
            ends = shown.positions[row, likeliest_first, -1]
            fill(marker, ends[:, self._bones].reshape(-1, 3), header, lifetime_ns)
            colours = ramp(len(ends), shown.judge(row)[0])
            marker.colors = [colour for colour in colours for _ in range(2 * len(self._bones))]
            drawn.append(marker)
        return drawn

    def clear(self, scene: ScenePrediction) -> list[Marker]:
        """Delete everything."""
        header = encode_header(scene.stamp_ns, scene.frame_id)
        return [marker for who in self._pool.people() for marker in self._pool.remove(who, header)]


class SceneMarkers:
    """Observed people, their labels and the predicted poses."""

    def __init__(
        self,
        layout: SkeletonLayout,
        horizons_s: Float64[np.ndarray, ' horizon'],
        ghosts: int,
        lifetime_s: float,
    ) -> None:
        shown_s = horizons_s[-1] * np.arange(1, ghosts + 1) / max(ghosts, 1)
        self._ghosts = np.abs(horizons_s[:, None] - shown_s).argmin(axis=0)
        self._bones = np.array(layout.bones)
        self._lifetime_ns = round(lifetime_s * NS_PER_S)
        self._pool = MarkerPool()
        self._drawn_ns: dict[str, int] = {}

    def update(self, scene: ScenePrediction) -> MarkerArray:
        """Draw all people with a pose, and delete those not drawn for a lifetime."""
        header = encode_header(scene.stamp_ns, scene.frame_id)
        late = [
            person_id
            for person_id, drawn_ns in self._drawn_ns.items()
            if not 0 <= scene.stamp_ns - drawn_ns <= self._lifetime_ns
        ]
        markers = [marker for person_id in late for marker in self._remove(person_id, header)]
        for person in scene.people:
            if person.window is not None:
                markers += self._draw(person, person.window.positions[-1], header)
        return MarkerArray(markers=markers)

    def clear(self, scene: ScenePrediction) -> MarkerArray:
        """Delete all people, under the scene's stamp."""
        header = encode_header(scene.stamp_ns, scene.frame_id)
        markers = [marker for who in self._pool.people() for marker in self._remove(who, header)]
        return MarkerArray(markers=markers)

    def _remove(self, person_id: str, header: Header) -> list[Marker]:
        del self._drawn_ns[person_id]
        return self._pool.remove(person_id, header)

    def _draw(
        self, person: Prediction, pose: Float64[np.ndarray, 'joint xyz=3'], header: Header
    ) -> list[Marker]:
        who, lifetime_ns = person.person_id, self._lifetime_ns
        self._drawn_ns[who] = person.stamp_ns
        joints = self._pool.get(who, 'person/joints', Marker.SPHERE_LIST, 0.06, _SEEN)
        bones = self._pool.get(who, 'person/bones', Marker.LINE_LIST, 0.03, _SEEN)
        predicted = self._pool.get(who, 'prediction/bones', Marker.LINE_LIST, 0.02, _GREY)
        label = self._pool.get(who, 'person/label', Marker.TEXT_VIEW_FACING, 0.12, _TEXT)
        ghosts = np.zeros((0, *pose.shape))
        if person.positions is not None:
            ghosts = person.positions[self._ghosts]
        fill(joints, pose, header, lifetime_ns)
        fill(bones, pose[self._bones].reshape(-1, 3), header, lifetime_ns)
        fill(predicted, ghosts[:, self._bones].reshape(-1, 3), header, lifetime_ns)
        colours = ramp(len(ghosts), person.validity)
        predicted.colors = [colour for colour in colours for _ in range(2 * len(self._bones))]
        usable = person.validity == Validity.OK
        label.header, label.lifetime = header, joints.lifetime
        label.text = who if usable else f'{who}: {person.validity.name}'
        at = label.pose.position
        at.x, at.y = float(pose[:, 0].mean()), float(pose[:, 1].mean())
        at.z = float(pose[:, 2].max()) + _ABOVE_M
        return [joints, bones, predicted, label]


def fill(
    marker: Marker, positions: Float64[np.ndarray, 'point xyz=3'], header: Header, lifetime_ns: int
) -> None:
    """Put a marker's points where the positions are, reusing the points there are.

    Without points it becomes a deletion: RViz rejects empty lists.
    """
    assert np.isfinite(positions).all()
    sec, nanosec = divmod(lifetime_ns, NS_PER_S)
    marker.header, marker.lifetime = header, Duration(sec=sec, nanosec=nanosec)
    marker.action = Marker.ADD if len(positions) else Marker.DELETE
    if len(marker.points) != len(positions):
        marker.points = [Point() for _ in positions]
    for point, (x, y, z) in zip(marker.points, positions.tolist(), strict=True):
        point.x, point.y, point.z = x, y, z


def ramp(count: int, validity: Validity) -> list[ColorRGBA]:
    """Return colours from orange to purple; all grey if not to be used."""
    parts = np.linspace(0, 1, count)[:, None]
    near, far = (_NEAR, _FAR) if validity == Validity.OK else (_UNUSABLE, _UNUSABLE)
    colours = (1 - parts) * near + parts * far
    return [ColorRGBA(r=r, g=g, b=b, a=1.0) for r, g, b in colours.tolist()]
