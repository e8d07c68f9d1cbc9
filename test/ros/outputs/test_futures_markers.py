# SPDX-License-Identifier: Apache-2.0
"""Markers of weighed futures: one list per person, likeliest first, gone with the person."""

import numpy as np
from ros.graph import LAYOUT
from ros.outputs.test_markers import faults
from ros.scenes import STAMP_NS, futures, scene, seen
from visualization_msgs.msg import Marker, MarkerArray

from motion_predictor_ros.density.types import Futures
from motion_predictor_ros.pipeline import Scene
from motion_predictor_ros.ros.outputs.markers import FuturesMarkers

LATER_NS = STAMP_NS + 200_000_000


def drawn(
    markers: FuturesMarkers, found: Futures | None, stamp_ns: int = STAMP_NS
) -> list[Marker]:
    return markers.update(Scene(scene(seen('anna'), stamp_ns=stamp_ns), found))


def drawer(count: int = 4) -> FuturesMarkers:
    return FuturesMarkers(LAYOUT, count, lifetime_s=0.3)


def test_one_sound_marker_per_person_shows_where_futures_end() -> None:
    found = futures('anna', 'ben', 'cleo')
    array = drawn(drawer(6), found)
    assert faults(MarkerArray(markers=array)) == []
    assert [(marker.ns, marker.id) for marker in array] == [('futures/bones', n) for n in range(3)]
    points = np.array([(each.x, each.y, each.z) for each in array[0].points])
    likeliest = found.positions[0, found.log_density[0].argmax(), -1]
    bones = np.array(LAYOUT.bones)
    np.testing.assert_allclose(points.reshape(6, -1, 2, 3)[0], likeliest[bones])
    first, last = array[0].colors[0], array[0].colors[-1]
    assert first.r > last.r  # from orange to purple


def test_what_is_not_to_be_used_is_grey() -> None:
    array = drawn(drawer(), futures('anna', 'ben', 'cleo'))
    colours = [{(each.r, each.g, each.b) for each in marker.colors} for marker in array]
    assert len(colours[0]) == 4
    assert colours[1] == colours[2] == {(0.5, 0.5, 0.5)}  # unlike anything recorded, not whole


def test_markers_outlive_the_pause_until_the_next_futures() -> None:
    markers = drawer()
    drawn(markers, futures('anna'))
    assert drawn(markers, None) == []
    (second,) = drawn(markers, futures('anna', stamp_ns=LATER_NS), LATER_NS)
    assert second.lifetime.sec + second.lifetime.nanosec / 1e9 > 0.2 + 0.2


def test_who_has_no_futures_any_more_is_deleted() -> None:
    markers = drawer()
    drawn(markers, futures('anna', 'ben'))
    array = drawn(markers, futures('ben', stamp_ns=LATER_NS), LATER_NS)
    assert [(marker.id, marker.action) for marker in array] == [
        (0, Marker.DELETE),
        (1, Marker.ADD),
    ]


def test_everything_can_be_taken_away() -> None:
    markers = drawer()
    drawn(markers, futures('anna', 'ben'))
    array = markers.clear(scene())
    assert [(marker.id, marker.action) for marker in array] == [(n, Marker.DELETE) for n in (0, 1)]
    assert markers.clear(scene()) == []


def test_none_can_be_asked_for() -> None:
    assert drawn(drawer(count=0), futures('anna')) == []
