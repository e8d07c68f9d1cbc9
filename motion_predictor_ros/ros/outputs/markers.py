# SPDX-License-Identifier: Apache-2.0
"""Draw observed and predicted skeletons for RViz.

Few LIST markers, made once per person and refilled: to make hundreds anew takes too long. Ghosts
are opaque and go from orange to purple with the horizon, grey if the prediction is not to be used.
"""

from dataclasses import dataclass, field

import numpy as np
from builtin_interfaces.msg import Duration
from geometry_msgs.msg import Point
from jaxtyping import Float64
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from motion_predictor_ros.conventions import NS_PER_S
from motion_predictor_ros.density.types import Futures
from motion_predictor_ros.pipeline import Scene
from motion_predictor_ros.prediction.types import Prediction, ScenePrediction
from motion_predictor_ros.ros.encode import encode_header
from motion_predictor_ros.skeleton.frame import Validity
from motion_predictor_ros.skeleton.layout import SkeletonLayout

_WIDTH_M = 0.008


class FuturesMarkers:
    """Markers of all people's futures, with an id each as long as they are known."""

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


_SEEN = ColorRGBA(r=0.2, g=0.75, b=0.9, a=1.0)
_TEXT = ColorRGBA(r=1.0, g=1.0, b=1.0, a=1.0)
UNUSABLE = ColorRGBA(r=0.5, g=0.5, b=0.5, a=1.0)
_NEAR, _FAR = np.array([1.0, 0.6, 0.1]), np.array([0.45, 0.1, 0.7])
_ABOVE_M = 0.3
"""How far the label stands above the highest joint [m]."""


class SceneMarkers:
    """Markers of all people in the scene, with an id each as long as they are known."""

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
        self._people: dict[str, _PersonMarkers] = {}

    def update(self, scene: ScenePrediction) -> MarkerArray:
        """Draw all people with a pose, and delete those not drawn for a lifetime."""
        header = encode_header(scene.stamp_ns, scene.frame_id)
        gone = self._gone(scene.stamp_ns)
        markers = [each for person in gone for each in person.deleted(header)]
        for person in scene.people:
            markers += self._draw(person, header)
        return MarkerArray(markers=markers)

    def clear(self, scene: ScenePrediction) -> MarkerArray:
        """Delete all people, under the scene's stamp."""
        header = encode_header(scene.stamp_ns, scene.frame_id)
        markers = [each for person in self._people.values() for each in person.deleted(header)]
        self._people.clear()
        return MarkerArray(markers=markers)

    def _gone(self, now_ns: int) -> list['_PersonMarkers']:
        late = [
            person_id
            for person_id, person in self._people.items()
            if not 0 <= now_ns - person.drawn_ns <= self._lifetime_ns
        ]
        return [self._people.pop(person_id) for person_id in late]

    def _draw(self, person: Prediction, header: Header) -> list[Marker]:
        if person.window is None:
            return []
        markers = self._people.get(person.person_id)
        if markers is None:
            used = {known.number for known in self._people.values()}
            number = min(set(range(len(used) + 1)) - used)
            markers = _PersonMarkers(number, self._lifetime_ns)
            self._people[person.person_id] = markers
        markers.drawn_ns = person.stamp_ns
        pose = person.window.positions[-1]
        fill(markers.joints, pose)
        fill(markers.bones, pose[self._bones].reshape(-1, 3))
        self._fill_ghosts(markers.ghosts, person)
        _label(markers.label, person, pose)
        return markers.shown(header)

    def _fill_ghosts(self, marker: Marker, person: Prediction) -> None:
        if person.positions is None:
            fill(marker, np.zeros((0, 3)))
            marker.colors = []
            return
        ghosts = person.positions[self._ghosts]
        fill(marker, ghosts[:, self._bones].reshape(-1, 3))
        colours = ramp(len(ghosts), person.validity)
        marker.colors = [each for each in colours for _ in range(2 * len(self._bones))]


@dataclass
class _PersonMarkers:
    """One person's markers, all with the id `number`, each in its own namespace."""

    number: int
    lifetime_ns: int
    drawn_ns: int = 0
    joints: Marker = field(init=False)
    bones: Marker = field(init=False)
    ghosts: Marker = field(init=False)
    label: Marker = field(init=False)

    def __post_init__(self) -> None:
        self.joints = self._marker('person/joints', Marker.SPHERE_LIST, 0.06, _SEEN)
        self.bones = self._marker('person/bones', Marker.LINE_LIST, 0.03, _SEEN)
        self.ghosts = self._marker('prediction/bones', Marker.LINE_LIST, 0.02, UNUSABLE)
        self.label = self._marker('person/label', Marker.TEXT_VIEW_FACING, 0.12, _TEXT)

    def shown(self, header: Header) -> list[Marker]:
        """Return the markers to publish; RViz rejects lists without points."""
        drawn = [self.joints, self.bones, self.ghosts, self.label]
        for marker in drawn:
            marker.header = header
            empty = marker.type != Marker.TEXT_VIEW_FACING and not marker.points
            marker.action = Marker.DELETE if empty else Marker.ADD
        return drawn

    def deleted(self, header: Header) -> list[Marker]:
        """Return what takes the markers away."""
        drawn = [self.joints, self.bones, self.ghosts, self.label]
        return [
            Marker(header=header, ns=each.ns, id=each.id, action=Marker.DELETE) for each in drawn
        ]

    def _marker(self, namespace: str, kind: int, size_m: float, colour: ColorRGBA) -> Marker:
        marker = Marker(ns=namespace, id=self.number, type=kind, color=colour)
        marker.pose.orientation.w = 1.0
        marker.scale.x = marker.scale.y = marker.scale.z = size_m
        sec, nanosec = divmod(self.lifetime_ns, NS_PER_S)
        marker.lifetime = Duration(sec=sec, nanosec=nanosec)
        return marker


def fill(marker: Marker, positions: Float64[np.ndarray, 'point xyz=3']) -> None:
    """Put a marker's points where the positions are, reusing the points there are."""
    assert np.isfinite(positions).all()
    if len(marker.points) != len(positions):
        marker.points = [Point() for _ in positions]
    for point, (x, y, z) in zip(marker.points, positions.tolist(), strict=True):
        point.x, point.y, point.z = x, y, z


def _label(marker: Marker, person: Prediction, pose: Float64[np.ndarray, 'joint xyz=3']) -> None:
    usable = person.validity == Validity.OK
    marker.text = person.person_id if usable else f'{person.person_id}: {person.validity.name}'
    position = marker.pose.position
    position.x, position.y = float(pose[:, 0].mean()), float(pose[:, 1].mean())
    position.z = float(pose[:, 2].max()) + _ABOVE_M


def ramp(count: int, validity: Validity) -> list[ColorRGBA]:
    """Return colours from orange to purple; all grey if not to be used."""
    if validity != Validity.OK:
        return [UNUSABLE] * count
    parts = np.linspace(0, 1, count)[:, None]
    colours = ((1 - parts) * _NEAR + parts * _FAR).tolist()
    return [ColorRGBA(r=r, g=g, b=b, a=1.0) for r, g, b in colours]
