# SPDX-License-Identifier: Apache-2.0
"""Markers that RViz shows without complaint: unique, finite, and gone when the person is."""

import numpy as np
from ros.graph import LAYOUT
from ros.scenes import HORIZONS_S, STAMP_NS, scene, seen, unseen
from visualization_msgs.msg import Marker, MarkerArray

from motion_predictor_ros.ros.outputs.markers import SceneMarkers
from motion_predictor_ros.skeleton.frame import Validity

NAMESPACES = {'person/joints', 'person/bones', 'person/label', 'prediction/bones'}
LATER_NS = STAMP_NS + 400_000_000


def drawer(ghosts: int = 5) -> SceneMarkers:
    return SceneMarkers(LAYOUT, HORIZONS_S, ghosts, lifetime_s=0.3)


def faults(array: MarkerArray) -> list[str]:
    """List what RViz would reject, or show wrongly."""
    found = []
    keys = [(marker.ns, marker.id) for marker in array.markers]
    if len(set(keys)) < len(keys):
        found.append('an id is used twice')
    for marker in array.markers:
        if marker.action != Marker.ADD:
            continue
        points = np.array([(each.x, each.y, each.z) for each in marker.points])
        if not np.isfinite(points).all():
            found.append(f'{marker.ns}: points that are not finite')
        if marker.type in (Marker.LINE_LIST, Marker.SPHERE_LIST) and not len(points):
            found.append(f'{marker.ns}: no points')
        if marker.type == Marker.LINE_LIST and len(points) % 2:
            found.append(f'{marker.ns}: half a line')
        if len(marker.colors) not in (0, len(points)):
            found.append(f'{marker.ns}: colours for some points only')
        if marker.pose.orientation.w != 1.0 or not marker.scale.x > 0:
            found.append(f'{marker.ns}: turned, or without size')
        if marker.lifetime.sec + marker.lifetime.nanosec <= 0:
            found.append(f'{marker.ns}: stays for ever')
    return found


def ids(array: MarkerArray, action: int = Marker.ADD) -> set[int]:
    return {marker.id for marker in array.markers if marker.action == action}


def ghosts_of(array: MarkerArray) -> Marker:
    return next(marker for marker in array.markers if marker.ns == 'prediction/bones')


def test_everybody_is_drawn_without_fault() -> None:
    array = drawer().update(scene(seen('anna'), seen('ben'), unseen('cleo')))
    assert faults(array) == []
    assert {(marker.ns, marker.id) for marker in array.markers} == {
        (namespace, number) for namespace in NAMESPACES for number in (0, 1)
    }
    assert {marker.header.frame_id for marker in array.markers} == {'world'}


def test_faults_are_seen() -> None:
    array = drawer().update(scene(seen('anna')))
    bones = next(marker for marker in array.markers if marker.ns == 'person/bones')
    bones.points.pop()
    bones.points[0].x = np.nan
    bones.pose.orientation.w = 0.0
    bones.lifetime.nanosec = 0
    array.markers.append(bones)
    assert len(set(faults(array))) == 5


def test_ghosts_stand_at_five_horizons_up_to_one_second() -> None:
    person = seen('anna')
    points = ghosts_of(drawer().update(scene(person))).points
    drawn = np.array([(each.x, each.y, each.z) for each in points]).reshape(5, -1, 2, 3)
    assert person.positions is not None
    for ghost, horizon in zip(drawn, (4, 9, 14, 19, 24), strict=True):
        np.testing.assert_allclose(ghost, person.positions[horizon][np.array(LAYOUT.bones)])


def test_an_unusable_prediction_is_grey_and_says_why() -> None:
    array = drawer().update(scene(seen('anna', validity=Validity.NOT_CONVERGED)))
    assert {(each.r, each.g, each.b) for each in ghosts_of(array).colors} == {(0.5, 0.5, 0.5)}
    (label,) = [marker.text for marker in array.markers if marker.ns == 'person/label']
    assert label == 'anna: NOT_CONVERGED'
    usable = drawer().update(scene(seen('anna')))
    assert len({(each.r, each.g, each.b) for each in ghosts_of(usable).colors}) == 5


def test_ids_stay_while_a_person_is_known_and_are_free_afterwards() -> None:
    markers = drawer()
    markers.update(scene(seen('anna'), seen('ben')))
    alone = markers.update(scene(seen('ben', STAMP_NS + 1), stamp_ns=STAMP_NS + 1))
    assert ids(alone) == {1} and ids(alone, Marker.DELETE) == set()
    later = markers.update(scene(seen('ben', LATER_NS), stamp_ns=LATER_NS))
    assert ids(later, Marker.DELETE) >= {0}
    assert faults(markers.update(scene(seen('cleo', LATER_NS), stamp_ns=LATER_NS))) == []


def test_who_leaves_is_deleted_once() -> None:
    markers = drawer()
    markers.update(scene(seen('anna')))
    deleted = markers.update(scene(stamp_ns=LATER_NS)).markers
    assert {marker.ns for marker in deleted} == NAMESPACES
    assert {marker.action for marker in deleted} == {Marker.DELETE}
    assert markers.update(scene(stamp_ns=LATER_NS + 1)).markers == []


def test_time_that_jumps_back_deletes_everybody() -> None:
    markers = drawer()
    markers.update(scene(seen('anna', LATER_NS), stamp_ns=LATER_NS))
    assert len(markers.update(scene()).markers) == len(NAMESPACES)


def test_no_ghosts_can_be_asked_for() -> None:
    array = drawer(ghosts=0).update(scene(seen('anna')))
    assert faults(array) == [] and ghosts_of(array).action == Marker.DELETE
