# SPDX-License-Identifier: Apache-2.0
"""Volumes become messages and volumes again; none of them is what a reader would choke on."""

from array import array
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Pose
from message_faults import faults
from motion_predictor_ros.msg import ProbabilityVolumeArray
from safety_volumes import STAMP_NS, decode_cloud, volume
from sensor_msgs.msg import PointCloud2
from shape_msgs.msg import SolidPrimitive
from std_msgs.msg import Header
from visualization_msgs.msg import Marker, MarkerArray

from motion_predictor_ros.ros.outputs.base import VolumeScene
from motion_predictor_ros.ros.outputs.collision_objects import CollisionObjects
from motion_predictor_ros.ros.outputs.obstacle_cloud import encode_obstacle_cloud
from motion_predictor_ros.ros.outputs.occupancy_grid import encode_occupancy_grid
from motion_predictor_ros.ros.outputs.probability_cloud import encode_probability_cloud
from motion_predictor_ros.ros.outputs.probability_volumes import encode_volumes
from motion_predictor_ros.ros.outputs.speed_limit import (
    distance_m,
    encode_speed_limit,
    speed_percent,
)
from motion_predictor_ros.ros.outputs.volume_markers import VolumeMarkers
from motion_predictor_ros.skeleton.frame import Validity
from motion_predictor_ros.volume.footprint import Band, Footprint, footprint
from motion_predictor_ros.volume.sparse import sparse
from motion_predictor_ros.volume.types import SafetyVolume
from motion_predictor_ros.volume.wire import decode_windows

NOW_NS = STAMP_NS + 50_000_000
LATER_NS = STAMP_NS + 40_000_000
BAND = Band(2.0, 0.0, 2.0)


@dataclass
class CollisionObject:
    """The fields of moveit_msgs/CollisionObject that are written, for where it is missing."""

    ADD: ClassVar[bytes] = b'\x00'
    REMOVE: ClassVar[bytes] = b'\x01'
    header: Header = field(default_factory=Header)
    pose: Pose = field(default_factory=Pose)
    id: str = ''
    primitives: list[SolidPrimitive] = field(default_factory=list)
    primitive_poses: list[Pose] = field(default_factory=list)
    operation: bytes = ADD


@dataclass
class SpeedLimit:
    """The fields of nav2_msgs/SpeedLimit."""

    header: Header = field(default_factory=Header)
    percentage: bool = False
    speed_limit: float = 0.0


@pytest.fixture(scope='module')
def both() -> list[SafetyVolume]:
    return [volume('anna'), volume('ben', (4.0, 0.0, 0.0), validity=Validity.INCOMPLETE)]


def scene_of(people: list[SafetyVolume], stamp_ns: int = STAMP_NS) -> VolumeScene:
    return VolumeScene(tuple(people), stamp_ns, 'map', 0.05)


def volumes(people: list[SafetyVolume], most: int = 10**7) -> ProbabilityVolumeArray:
    return encode_volumes(scene_of(people), most, 0.01)


def voxels(people: list[SafetyVolume]) -> PointCloud2:
    return encode_probability_cloud(scene_of(people), 10**7, 0.01)


def everything(people: list[SafetyVolume], stamp_ns: int = STAMP_NS) -> list[Any]:
    """Return one of each message."""
    seen = footprint(people, BAND, 0.05)
    return [
        volumes(people, 5000),
        voxels(people),
        encode_obstacle_cloud(seen, 0.25, stamp_ns, 'map'),
        encode_occupancy_grid(seen, stamp_ns, 'map'),
        VolumeMarkers(2000, 0.5).update(scene_of(people, stamp_ns)),
        *CollisionObjects(CollisionObject, 2.0).update(scene_of(people, stamp_ns)),
        encode_speed_limit(SpeedLimit, 20.0, stamp_ns, 'map'),
    ]


def test_nothing_is_wrong_with_any_message(both: list[SafetyVolume]) -> None:
    for people in (both, both[:1], []):
        for message in everything(people):
            assert faults(message, NOW_NS) == [], type(message)


def test_faults_are_seen(both: list[SafetyVolume]) -> None:
    told, cloud, points, grid, markers, thing, *_, limit = everything(both)
    assert 'future' in str(faults(told, STAMP_NS - 1))
    told.persons[0].probabilities[0] = 1.5
    assert 'above 1' in str(faults(told, NOW_NS))
    told.persons[0].covered[0] = 2
    assert 'neither 0 nor 1' in str(faults(told, NOW_NS))
    told.persons[1].voxels[-1] = 2**31
    assert 'outside the grid' in str(faults(told, NOW_NS))
    told.persons[0].level = float('nan')
    assert 'not finite' in str(faults(told, NOW_NS))
    cloud.data = cloud.data[:-4]
    assert 'bytes instead of' in str(faults(cloud, NOW_NS))
    points.fields = []
    assert 'not float32 fields' in str(faults(points, NOW_NS))
    points.header.frame_id = ''
    assert 'no frame_id' in str(faults(points, NOW_NS))
    grid.info.width += 1
    assert 'cells in' in str(faults(grid, NOW_NS))
    grid.info.origin.orientation.w = 0.0
    assert 'quaternion' in str(faults(grid, NOW_NS))
    markers.markers[0].lifetime.sec = markers.markers[0].lifetime.nanosec = 0
    assert 'for ever' in str(faults(markers, NOW_NS))
    markers.markers.append(markers.markers[-1])
    assert 'used 2 times' in str(faults(markers, NOW_NS))
    markers.markers[0].points = []
    assert 'without points' in str(faults(markers, NOW_NS))
    thing.primitives[0].dimensions = [-1.0]
    assert 'dimensions' in str(faults(thing, NOW_NS))
    limit.speed_limit = 0.0
    assert 'no limit' in str(faults(limit, NOW_NS))


def test_volumes_come_back_as_they_were(both: list[SafetyVolume]) -> None:
    message = volumes(both)
    assert (message.header.frame_id, message.age_s) == ('map', pytest.approx(0.05))
    for person, one in zip(message.persons, both, strict=True):
        for back, sent in zip(decode_windows(person), sparse(one, 10**7), strict=True):
            assert back.grid == sent.grid
            assert back.threshold == pytest.approx(sent.threshold, nan_ok=True)
            np.testing.assert_array_equal(back.voxels, sent.voxels)
            np.testing.assert_array_equal(back.covered, sent.covered)
            np.testing.assert_allclose(back.probability, np.minimum(sent.probability, 1.0))
            assert (back.start_s, back.end_s) == (sent.start_s, sent.end_s)
    anna, ben = message.persons
    assert (anna.promise, ben.promise) == ('coverage', '')
    assert (anna.validity, anna.level, anna.calibration) == (0, pytest.approx(0.95), 'made_up@0')
    assert (ben.validity, ben.level, ben.calibration) == (ben.INCOMPLETE, 0.0, '')
    assert (ben.cause, ben.reason) == ('incomplete', 'because')


def test_a_cloud_holds_each_voxel_once_per_window(both: list[SafetyVolume]) -> None:
    points, few = decode_cloud(voxels(both[:1])), sparse(both[0], 10**7)
    assert len(points) == sum(len(each.voxels) for each in few)
    for window in few:
        own = points[np.isclose(points['time'], window.start_s)]
        places = np.stack([own['x'], own['y'], own['z']], axis=-1)
        np.testing.assert_allclose(places, window.centres, atol=1e-6)
        np.testing.assert_allclose(own['probability'], np.minimum(window.probability, 1.0))
    opaque = points['rgba'] >> 24
    assert opaque[points['probability'].argmax()] > opaque[points['probability'].argmin()]
    red, blue = points['rgba'] >> 16 & 255, points['rgba'] & 255
    assert red[0] > red[-1] and blue[0] < blue[-1]  # from orange to purple
    grey = decode_cloud(voxels(both[1:]))['rgba']
    assert {(each >> 16 & 255) - (each & 255) for each in grey.tolist()} == {0}


def test_an_empty_obstacle_cloud_still_has_fields() -> None:
    cloud = encode_obstacle_cloud(footprint([], BAND, 0.05), 0.25, STAMP_NS, 'map')
    assert [each.name for each in cloud.fields] == ['x', 'y', 'z']
    assert (cloud.width, cloud.height, cloud.point_step, len(cloud.data)) == (0, 1, 12, 0)
    assert cloud.header.stamp == Time(sec=STAMP_NS // 10**9, nanosec=STAMP_NS % 10**9)


def test_obstacles_stand_on_covered_cells_at_one_height(both: list[SafetyVolume]) -> None:
    seen = footprint(both, BAND, 0.05)
    points = decode_cloud(encode_obstacle_cloud(seen, 0.3, STAMP_NS, 'map'))
    np.testing.assert_allclose(np.stack([points['x'], points['y']], 1), seen.centres(), atol=1e-5)
    assert len(points) and set(points['z'].tolist()) == {np.float32(0.3)}


def test_occupancy_is_100_where_to_keep_free_and_a_percentage_elsewhere() -> None:
    covered = np.array([[True, False, False], [False, False, False]])
    probability = np.array([[0.1, 0.001, 0.0], [1.0, 0.5, 0.985]], dtype=np.float32)
    grid = encode_occupancy_grid(
        Footprint((1.0, -2.0), 0.5, covered, probability), STAMP_NS, 'map'
    )
    assert (grid.info.width, grid.info.height) == (2, 3)  # x is the width, rows follow it
    assert list(grid.data) == [100, 98, 1, 50, 0, 98]
    position = grid.info.origin.position
    assert (position.x, position.y, position.z) == (1.0, -2.0, 0.0)


def test_markers_keep_their_ids_and_are_deleted(both: list[SafetyVolume]) -> None:
    drawing = VolumeMarkers(2000, 0.5)
    first = drawing.update(scene_of(both, STAMP_NS))
    spaces = {'volume/0.00-0.25', 'volume/0.25-0.50', 'volume/0.50-1.00'}
    assert {(each.ns, each.id) for each in first.markers} == {
        (space, number) for space in spaces for number in (0, 1)
    }
    assert sum(len(each.points) for each in first.markers) <= 2000
    grey = next(each.color for each in first.markers if each.id == 1)
    assert grey.r == grey.g == grey.b
    second = drawing.update(scene_of(both[1:], LATER_NS))
    by_action = {
        action: {(each.ns, each.id) for each in second.markers if each.action == action}
        for action in (Marker.ADD, Marker.DELETE)
    }
    assert by_action == {
        Marker.DELETE: {(space, 0) for space in spaces},
        Marker.ADD: {(space, 1) for space in spaces},
    }
    nobody = scene_of([], LATER_NS)
    assert drawing.update(nobody).markers and drawing.update(nobody) == MarkerArray(markers=[])
    third = drawing.update(scene_of([volume('cleo')], LATER_NS))
    assert {each.id for each in third.markers} == {0}


def test_volumes_are_not_drawn_under_the_floor(both: list[SafetyVolume]) -> None:
    """Control: without a floor, voxels of the same volumes lie under it."""

    def heights_m(drawing: VolumeMarkers) -> list[float]:
        markers = drawing.update(scene_of(both, STAMP_NS)).markers
        return [point.z for marker in markers for point in marker.points]

    low, floor_m = heights_m(VolumeMarkers(2000, 0.5)), 0.5
    assert min(low) < floor_m < max(low)
    drawn = heights_m(VolumeMarkers(2000, 0.5, floor_m))
    assert sorted(drawn) == sorted(height for height in low if height >= floor_m)
    assert not heights_m(VolumeMarkers(2000, 0.5, 100.0))  # deletions, no empty lists


def test_objects_are_added_until_a_time_and_removed(both: list[SafetyVolume]) -> None:
    objects = CollisionObjects(CollisionObject, until_s=0.5)
    added = objects.update(scene_of(both, STAMP_NS))
    assert [(each.id, each.operation) for each in added] == [
        (f'person/{name}/{span}', b'\x00')
        for name in ('anna', 'ben')
        for span in ('0.00-0.25', '0.25-0.50')
    ]
    later = objects.update(scene_of(both[:1], LATER_NS))
    assert {each.id for each in later if each.operation == b'\x01'} == {
        'person/ben/0.00-0.25',
        'person/ben/0.25-0.50',
    }
    cleared = objects.clear(LATER_NS)
    assert {each.id for each in cleared} == {'person/anna/0.00-0.25', 'person/anna/0.25-0.50'}
    assert {each.header.frame_id for each in cleared} == {'map'} and not objects.clear(LATER_NS)


def test_cylinders_run_from_sphere_to_sphere(both: list[SafetyVolume]) -> None:
    (thing, *_) = CollisionObjects(CollisionObject, 0.1).update(scene_of(both[:1], STAMP_NS))
    found = list(zip(thing.primitives, thing.primitive_poses, strict=True))
    cylinders = [index for index, (each, _) in enumerate(found) if each.type == each.CYLINDER]
    assert len(cylinders) > 10
    for index in cylinders:
        (_, low), (_, high), (solid, pose) = found[index - 2 : index + 1]
        height, _ = solid.dimensions
        q = pose.orientation
        axis = np.array(
            [2 * (q.x * q.z + q.w * q.y), 2 * (q.y * q.z - q.w * q.x), 1 - 2 * (q.x**2 + q.y**2)]
        )
        middle = np.array([pose.position.x, pose.position.y, pose.position.z])
        for end, sign in ((low, -0.5), (high, 0.5)):
            place = np.array([end.position.x, end.position.y, end.position.z])
            np.testing.assert_allclose(middle + sign * height * axis, place, atol=1e-9)


def test_speed_falls_with_the_distance_and_is_never_zero(both: list[SafetyVolume]) -> None:
    seen = footprint(both[:1], BAND, 0.05)
    edge = seen.centres()[:, 0].max() + 0.025
    row = seen.centres()[seen.centres()[:, 0].argmax(), 1]
    assert distance_m(seen, np.array([edge + 1.5, row])) == pytest.approx(1.5)
    assert distance_m(footprint([], BAND, 0.05), np.zeros(2)) == np.inf
    given = {0.0: 20.0, 0.5: 20.0, 1.25: 60.0, 2.0: 100.0, np.inf: 100.0, np.nan: 20.0}
    for distance, percent in given.items():
        assert speed_percent(distance, 0.5, 2.0, 20.0) == pytest.approx(percent)
    assert speed_percent(0.0, 0.5, 2.0, 0.0) == 1.0
    limit = encode_speed_limit(SpeedLimit, 100.0, STAMP_NS, 'map')
    assert limit.percentage and limit.speed_limit == 100.0
    with pytest.raises(AssertionError):
        encode_speed_limit(SpeedLimit, 0.0, STAMP_NS, 'map')


def test_arrays_are_flat(both: list[SafetyVolume]) -> None:
    person = volumes(both).persons[0]
    for name in ('voxels', 'probabilities', 'window_voxels', 'window_starts'):
        assert isinstance(getattr(person, name), array)
