# SPDX-License-Identifier: Apache-2.0
"""What planners in another process receive, over Fast DDS."""

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from message_faults import faults
from motion_predictor_ros.msg import ProbabilityVolumeArray
from motion_predictor_ros.srv import CollisionProbability
from nav_msgs.msg import OccupancyGrid
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.serialization import serialize_message
from ros.graph import Graph, Process, stamp_ns
from rosbags.convert.converter import migrate_bytes
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from safety_volumes import decode_cloud, volume
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import Empty, Header
from visualization_msgs.msg import Marker, MarkerArray

from motion_predictor_ros.resources import share_file
from motion_predictor_ros.volume.collision import robot_collision_probability
from motion_predictor_ros.volume.wire import decode_windows

Start = Callable[[Sequence[str]], Process]
SCRIPT = str(Path(__file__).parents[1].joinpath('planner_node.py'))
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
TOPICS = {
    '/probability_volumes': ProbabilityVolumeArray,
    '/probability_cloud': PointCloud2,
    '/obstacle_cloud': PointCloud2,
    '/occupancy_grid': OccupancyGrid,
    '/volume_markers': MarkerArray,
}


@pytest.fixture(scope='module')
def node(processes: Start, graph: Graph) -> Process:
    process = processes([sys.executable, SCRIPT, 'people'])
    process.wait_for('ready')
    return process


@pytest.fixture(scope='module')
def answered() -> list[CollisionProbability.Response]:
    return []


@pytest.fixture(scope='module')
def received(
    graph: Graph, node: Process, answered: list[CollisionProbability.Response]
) -> dict[str, list[Any]]:
    """Everything on each topic, and one answer given while people were there."""
    found = {topic: graph.collect(kind, topic) for topic, kind in TOPICS.items()}
    graph.match('/planner_node')
    graph.collect(Empty, '/go')
    graph.until(lambda: found['/probability_volumes'], what='volumes')
    answered.append(ask(graph))
    graph.collect(Empty, '/leave')
    graph.until(lambda: 'done' in node.output or not node.alive, what=node.output)
    last = found['/probability_volumes']
    graph.until(lambda: last[-1].persons and last[-1].age_s == 5.5, what='the last volumes')
    graph.spin(0.5)
    return found


def motions() -> tuple[np.ndarray, np.ndarray]:
    """A thousand ways of a link past the people, from nearer and from farther."""
    places = np.zeros((1000, 2, 1, 3))
    places[:, 0, 0] = np.stack([np.linspace(-3, 8, 1000), np.full(1000, -2.0), np.ones(1000)], 1)
    places[:, 1, 0] = places[:, 0, 0] + [0.0, 1.6, 0.0]
    return places, np.array([0.0, 0.8])


def ask(graph: Graph, frame_id: str = 'map', **changes: Any) -> CollisionProbability.Response:
    places, times_s = motions()
    values: dict[str, Any] = {
        'configurations': len(places),
        'times': times_s.tolist(),
        'starts': places.ravel().tolist(),
        'radii': [0.1],
    }
    request = CollisionProbability.Request(header=Header(frame_id=frame_id), **values | changes)
    return graph.call(CollisionProbability, '/collision_probability', request)


def test_nothing_that_is_published_has_a_fault(received: dict[str, list[Any]]) -> None:
    for topic, messages in received.items():
        assert len(messages) >= 10, topic
        for message in messages:
            assert faults(message, time.time_ns()) == [], topic


def test_nothing_has_a_fault_as_ros_1_either(received: dict[str, list[Any]]) -> None:
    two, one = get_typestore(Stores.ROS2_JAZZY), get_typestore(Stores.ROS1_NOETIC)
    for name in ('ProbabilityVolume', 'ProbabilityVolumeArray'):
        text = share_file('msg', f'{name}.msg').read_text()
        for store in (two, one):
            store.register(get_types_from_msg(text, f'motion_predictor_ros/msg/{name}'))
    for topic, messages in received.items():
        package, kind = TOPICS[topic].__module__.split('.')[0], TOPICS[topic].__name__
        name = f'{package}/msg/{kind}'
        for message in messages[::5]:
            raw = migrate_bytes(
                two, one, name, name, {}, serialize_message(message), src_is2=True, dst_is2=False
            )
            back = one.deserialize_ros1(raw, name)
            assert faults(back, time.time_ns()) == [], topic
            assert back.header.seq == 0 if hasattr(back, 'header') else True


def test_people_are_told_then_nobody(received: dict[str, list[Any]]) -> None:
    told = received['/probability_volumes']
    assert [person.person_id for person in told[0].persons] == ['anna', 'ben']
    assert told[0].persons[0].validity == 0 and told[0].persons[1].reason == 'because'
    windows = decode_windows(told[0].persons[0])
    assert [len(each.voxels) > 50 for each in windows] == [True] * 3
    nobody = [each for each in told if not each.persons]
    assert len(nobody) > 10 and all(each.header.frame_id == 'map' for each in nobody)


def test_the_obstacle_cloud_lives_on_empty_and_falls_silent_when_stale(
    received: dict[str, list[Any]],
) -> None:
    clouds = received['/obstacle_cloud']
    assert len(decode_cloud(clouds[0])) > 100
    empty = [each for each in clouds if each.width == 0]
    assert len(empty) > 10 and all(len(each.fields) == 3 for each in empty)
    first, second = received['/probability_volumes'][-2:]  # others say that it is, at their rate
    assert stamp_ns(clouds[-1]) > stamp_ns(first) == stamp_ns(second)
    assert first.persons[0].validity == second.persons[0].validity == 5
    assert (first.age_s, second.age_s) == (5.0, 5.5)


def test_each_output_has_its_own_rate(received: dict[str, list[Any]]) -> None:
    for topic, rate_hz in (('/probability_volumes', 10), ('/occupancy_grid', 5)):
        stamps = np.array([stamp_ns(each) for each in received[topic]][:-2]) / 1e9
        slots = np.floor(stamps * rate_hz + 1e-6)
        assert len(np.unique(slots)) == len(slots), topic


def test_markers_go_with_the_people(received: dict[str, list[Any]]) -> None:
    arrays = received['/volume_markers']
    shown = {(each.ns, each.id) for each in arrays[0].markers if each.action == Marker.ADD}
    gone = [each for array in arrays for each in array.markers if each.action == Marker.DELETE]
    assert len(shown) == 6 and shown <= {(each.ns, each.id) for each in gone}


def test_who_comes_late_still_gets_the_grid(graph: Graph, received: dict[str, list[Any]]) -> None:
    grids = graph.collect(OccupancyGrid, '/occupancy_grid', LATCHED)
    graph.until(lambda: grids, what='the latched grid')
    assert stamp_ns(grids[0]) == stamp_ns(received['/occupancy_grid'][-1])


def test_collisions_are_those_of_the_volumes(
    received: dict[str, list[Any]], answered: list[CollisionProbability.Response]
) -> None:
    (found,) = answered
    assert found.success and found.person_ids == ['anna', 'ben'] and found.horizon == 1.0
    assert list(found.validities) == [0, 2] and found.header.frame_id == 'map'
    each = np.array(found.probabilities).reshape(1000, 2)
    places, times_s = motions()
    wanted = robot_collision_probability(volume(), places, places, np.array([0.1]), times_s)
    np.testing.assert_allclose(each[:, 0], wanted, atol=1e-6)
    assert each[:, 0].max() > 0.0 and ((each > 0.01) & (each < 0.99)).any()
    assert each[:, 1].max() == 1.0 and each[:, 1].min() == 0.0
    np.testing.assert_allclose(found.any, 1.0 - np.prod(1.0 - each, axis=1))


def test_what_is_old_or_malformed_is_refused_with_a_reason(
    graph: Graph, received: dict[str, list[Any]], node: Process
) -> None:
    found = ask(graph)
    assert not found.success and 's old' in found.message and not found.probabilities


def test_a_package_that_is_missing_is_named(processes: Start) -> None:
    pytest.importorskip('rclpy')
    try:
        import moveit_msgs.msg  # noqa: F401
    except ImportError:
        process = processes([sys.executable, SCRIPT, 'missing'])
        process.wait_for('refused:')
        assert 'outputs.collision_objects.enabled' in process.output
        assert 'apt install ros-jazzy-moveit-msgs' in process.output
    else:
        pytest.skip('moveit_msgs is installed')
