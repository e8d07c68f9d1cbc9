# SPDX-License-Identifier: Apache-2.0
"""A bag is played, predicted and recorded: three processes, nothing lost, time kept."""

import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from geometry_msgs.msg import TransformStamped
from motion_predictor_ros.msg import PredictedMotionArray, SkeletonArray
from rcl_interfaces.srv import ListParameters
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.serialization import serialize_message
from ros.graph import PERIOD_NS, START_NS, Diagnostics, Graph, Process, skeletons, stamp_ns
from rosbags.rosbag2 import Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosgraph_msgs.msg import Clock

from motion_predictor_ros.data.bags import BagWriter, read_messages
from motion_predictor_ros.errors import BagError
from motion_predictor_ros.prediction.wire import decode_prediction
from motion_predictor_ros.ros.process import Spinner
from motion_predictor_ros.ros.tools import play_bag
from motion_predictor_ros.skeleton.frame import Validity

Launch = Callable[..., Process]
FRAMES = 40
STAMPS_NS = [START_NS + index * PERIOD_NS for index in range(FRAMES)]
TYPE = 'motion_predictor_ros/msg/SkeletonArray'


@pytest.fixture(scope='module')
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recorded 20 ms after the stamps."""
    path = tmp_path_factory.mktemp('bag') / 'walk.mcap'
    with BagWriter(path) as writer:
        for each in STAMPS_NS:
            raw = serialize_message(skeletons(each))
            writer.write('/skeletons', TYPE, each + 20_000_000, raw)
    return path


@pytest.fixture(scope='module')
def node(launch: Launch, model: Path) -> Process:
    weights = f'prediction.weights:={model}'
    process = launch('predictor_node', '--ros-args', '-p', weights, '-p', 'use_sim_time:=true')
    process.wait_for('predicting from /skeletons')
    return process


def recorded_so_far(path: Path) -> list[tuple[str, int]]:
    """Return topics and stamps in a file that still grows; it is flushed twice a second."""
    found: list[tuple[str, int]] = []
    with suppress(BagError):
        for each in read_messages(path):
            stamped = hasattr(each.message, 'header')
            found.append((each.topic, stamp_ns(each.message) if stamped else 0))
    return found


@pytest.fixture(scope='module')
def recorded(
    launch: Launch, graph: Graph, node: Process, bag: Path, tmp_path_factory: Any
) -> list[Any]:
    """Play the bag into the node, and return what was recorded."""
    path = tmp_path_factory.mktemp('recorded') / 'out.mcap'
    sim_time = ['--ros-args', '-p', 'use_sim_time:=true']
    recorder = launch('record_bag', str(path), '/predicted_motion', '/skeletons', *sim_time)
    recorder.wait_for('recording /predicted_motion')
    recorder.wait_for('recording /skeletons')
    graph.match('/record_bag')
    graph.match()
    answers = graph.collect(PredictedMotionArray, '/predicted_motion')
    player = launch('play_bag', str(bag), '--wait-for-subscribers', '2')
    assert player.wait() == 0
    assert f'played {FRAMES} messages' in player.output and 'fewer than' not in player.output
    last = '/predicted_motion', STAMPS_NS[-1]
    graph.until(lambda: answers and stamp_ns(answers[-1]) == STAMPS_NS[-1], what='the last answer')
    graph.until(lambda: last in recorded_so_far(path), what='the last answer in the file')
    code, _ = recorder.stop()
    assert code == 0 and f'{FRAMES}  /skeletons' in recorder.output
    return list(read_messages(path))


def test_what_was_played_is_recorded_as_it_was(recorded: list[Any], bag: Path) -> None:
    sent = [each.message for each in read_messages(bag)]
    heard = [each.message for each in recorded if each.topic == '/skeletons']
    assert [stamp_ns(each) for each in heard] == STAMPS_NS
    for before, after in zip(sent, heard, strict=True):
        np.testing.assert_array_equal(before.persons[0].positions, after.persons[0].positions)


def test_every_observation_is_answered_or_counted_as_superseded(
    recorded: list[Any], graph: Graph, node: Process
) -> None:
    answered = [stamp_ns(m.message) for m in recorded if m.topic == '/predicted_motion']
    drops = Diagnostics(graph).drops()
    assert set(drops) <= {'superseded'}
    assert len(answered) == FRAMES - drops.get('superseded', 0)
    assert set(answered) <= set(STAMPS_NS)
    assert answered == sorted(answered) and answered[-1] == STAMPS_NS[-1]


def test_ages_and_times_of_recording_are_those_of_the_bag(recorded: list[Any]) -> None:
    predictions = [each for each in recorded if each.topic == '/predicted_motion']
    for each in predictions:
        assert 0.01 < each.message.age_s < 60.0  # by the clock of the wall it is years
        assert 0.01e9 < each.stamp_ns - stamp_ns(each.message) < 60e9
    last = decode_prediction(predictions[-1].message).people[0]
    assert last.validity == Validity.OK and last.solver.warm


def test_played_time_comes_on_the_clock(launch: Launch, graph: Graph, bag: Path) -> None:
    ticks = graph.collect(Clock, '/clock', 500)
    heard = graph.collect(SkeletonArray, '/half', 500)
    player = launch('play_bag', str(bag), '--rate', '2', '--ros-args', '-r', '/skeletons:=/half')
    graph.until(lambda: heard and stamp_ns(heard[-1]) == STAMPS_NS[-1])
    assert player.wait() == 0 and len(heard) == FRAMES

    def times() -> list[int]:
        return [tick.clock.sec * 10**9 + tick.clock.nanosec for tick in ticks]

    graph.until(lambda: times()[-1] == STAMPS_NS[-1] + 20_000_000, what='the last tick')
    assert times() == sorted(times()) and STAMPS_NS[0] + 20_000_000 <= times()[0]


@pytest.mark.parametrize('rate', [0.5, 1.0, 4.0])
def test_played_time_keeps_to_the_rate(rate: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wall time passes here as far as the clock waits for it."""
    now_s, ticks = 100.0, list[tuple[float, int]]()
    node, spinner = Mock(spec=Node), Mock(spec=Spinner)

    def wait(end_s: float) -> None:
        nonlocal now_s
        now_s = max(now_s, end_s)

    def tick(message: Clock) -> None:
        ticks.append((now_s, message.clock.sec * 10**9 + message.clock.nanosec))

    spinner.until.side_effect = wait
    node.create_publisher.return_value.publish.side_effect = tick
    monkeypatch.setattr(play_bag.time, 'monotonic', lambda: now_s)
    monkeypatch.setattr(play_bag.rclpy, 'ok', lambda: True)
    clock = play_bag.BagClock(node, spinner, rate, publish=True)
    clock.start(START_NS)
    for place in (START_NS, START_NS + 1_005_000_000, START_NS + 3_000_000_000):
        assert clock.wait_until(place) and ticks[-1][1] == place
    walls_s, stamps_ns = map(np.array, zip(*ticks, strict=True))
    assert np.diff(stamps_ns).max() <= 10_000_000
    np.testing.assert_allclose(walls_s - 100.0, (stamps_ns - START_NS) / 1e9 / rate, atol=1e-6)


def test_a_loop_begins_again_until_it_is_stopped(launch: Launch, graph: Graph, bag: Path) -> None:
    heard = graph.collect(SkeletonArray, '/again', 1000)
    player = launch(
        'play_bag', str(bag), '--loop', '--rate', '4', '--no-clock',
        '--ros-args', '-r', '/skeletons:=/again',
    )  # fmt: skip
    graph.until(lambda: len(heard) > 2 * FRAMES)
    assert [stamp_ns(each) for each in heard[: 2 * FRAMES]] == 2 * STAMPS_NS
    code, seconds = player.stop()
    assert code == 0 and seconds < 0.6 and 'Traceback' not in player.output


def test_the_player_answers_services_while_it_waits_and_while_it_plays(
    launch: Launch, graph: Graph, bag: Path
) -> None:
    """`ros2 param list` asks every node, and hangs on one that does not spin."""
    waits = launch('play_bag', str(bag), '--delay', '60', '--ros-args', '-r', '__node:=waiting')
    plays = launch(
        'play_bag', str(bag), '--loop', '--no-clock',
        '--ros-args', '-r', '__node:=playing', '-r', '/skeletons:=/unheard',
    )  # fmt: skip
    names = {'waiting', 'playing'}
    graph.until(lambda: names <= set(graph.node.get_node_names()))
    for name in names:
        answer = graph.call(ListParameters, f'/{name}/list_parameters', ListParameters.Request())
        assert 'use_sim_time' in answer.result.names
    waits.stop()
    plays.stop()


def test_the_player_waits_for_a_node_to_be_active_however_long_that_takes(
    launch: Launch, graph: Graph, bag: Path, model: Path
) -> None:
    """A subscriber alone does not start it; control: the same player without the wait."""
    heard = graph.collect(SkeletonArray, '/late')
    plays = 'play_bag', str(bag), '--rate', '8', '--no-clock'
    late = '--ros-args', '-r', '/skeletons:=/late'
    hasty = launch(*plays, *late)
    graph.until(lambda: len(heard) == FRAMES)
    hasty.wait()
    patient = launch(*plays, '--wait-for-active', '/late_predictor', *late)
    graph.until(lambda: graph.node.count_publishers('/late'), what='the player')
    graph.spin(3.0)
    assert len(heard) == FRAMES and patient.alive
    weights = f'prediction.weights:={model}'
    renamed = '-r', '__node:=late_predictor', '-r', 'skeletons:=/late'
    node = launch('predictor_node', '--ros-args', *renamed, '-p', weights)
    graph.until(lambda: len(heard) == 2 * FRAMES, what='the second time')
    assert patient.wait() == 0 and 'predicting from' in node.output
    node.stop()


@pytest.mark.parametrize('fault', ['missing', 'not a bag', 'no such topic'])
def test_a_bag_that_cannot_be_played_is_one_clear_error(
    launch: Launch, bag: Path, tmp_path: Path, fault: str
) -> None:
    path, topics = tmp_path / 'other.mcap', ['--topics', '/nothing']
    if fault == 'not a bag':
        path.write_bytes(b'nonsense')
    if fault == 'no such topic':
        path = bag
    player = launch('play_bag', str(path), *topics)
    assert player.wait() == 2
    assert path.name in player.output and 'Traceback' not in player.output


def test_types_that_are_not_installed_are_named(launch: Launch, tmp_path: Path) -> None:
    store, path = get_typestore(Stores.EMPTY), tmp_path / 'radar'
    store.register(get_types_from_msg('uint8 echo', 'radar_msgs/msg/Echo'))
    with Writer(path, version=9) as writer:
        connection = writer.add_connection('/radar', 'radar_msgs/msg/Echo', typestore=store)
        writer.write(connection, START_NS, bytes([0, 1, 0, 0, 7]))
    player = launch('play_bag', str(path))
    assert player.wait() == 2
    assert player.output.count('radar_msgs/msg/Echo is not installed') == 1


def transform(child: str) -> TransformStamped:
    """Return what /tf is made of; the wheels hold no tf2_msgs, and the recorder reads no type."""
    stamped = TransformStamped(child_frame_id=child)
    stamped.header.frame_id = 'map'
    return stamped


def test_static_transforms_sent_before_the_recording_began_are_recorded(
    launch: Launch, graph: Graph, tmp_path: Path
) -> None:
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    static = graph.node.create_publisher(TransformStamped, '/tf_static', latched)
    moving = graph.node.create_publisher(TransformStamped, '/tf', 10)
    static.publish(transform('camera'))
    moving.publish(transform('base'))  # control: not latched, so lost
    path = tmp_path / 'tf.mcap'
    recorder = launch('record_bag', str(path), '/tf', '/tf_static')
    recorder.wait_for('recording /tf [')
    recorder.wait_for('recording /tf_static [')
    graph.until(lambda: recorded_so_far(path), what='a static transform in the file')
    graph.match('/record_bag')  # by now it would have heard the other
    assert recorder.stop()[0] == 0
    assert [message.topic for message in read_messages(path)] == ['/tf_static']


def test_what_comes_before_simulated_time_is_recorded_at_its_beginning(
    launch: Launch, graph: Graph, tmp_path: Path
) -> None:
    """At stamp zero a player would wait for half a century."""
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    static = graph.node.create_publisher(TransformStamped, '/early/tf_static', latched)
    moving = graph.node.create_publisher(TransformStamped, '/early/tf', 10)
    static.publish(transform('camera'))
    path, sim_time = tmp_path / 'early.mcap', ['--ros-args', '-p', 'use_sim_time:=true']
    recorder = launch('record_bag', str(path), '/early/tf', '/early/tf_static', *sim_time)
    recorder.wait_for('recording /early/tf_static [')
    recorder.wait_for('recording /early/tf [')
    clock = graph.node.create_publisher(Clock, '/clock', 10)
    graph.match('/record_bag')

    def both_recorded() -> bool:
        clock.publish(Clock(clock=Time(sec=1000)))
        moving.publish(transform('base'))
        graph.spin(0.1)
        return len({topic for topic, _ in recorded_so_far(path)}) == 2

    graph.until(both_recorded, what='both topics in the file')
    recorder.stop()
    stamps = {(message.topic, message.stamp_ns) for message in read_messages(path)}
    assert stamps == {('/early/tf_static', 1000 * 10**9), ('/early/tf', 1000 * 10**9)}


@pytest.mark.parametrize(
    ('name', 'module', 'library'),
    [
        ('play_bag', 'ros.tools.play_bag', '_rclpy_pybind11'),
        ('predictor_node', 'ros.predictor_node', 'libtorch'),
    ],
)
def test_a_signal_while_libraries_are_imported_ends_a_program_without_a_traceback(
    processes: Callable[..., Process], name: str, module: str, library: str
) -> None:
    """Control: the same imports without the entry point that expects signals."""
    usual = 'import signal; signal.signal(signal.SIGINT, signal.default_int_handler)'
    imports = f'{usual}; import motion_predictor_ros.{module}'
    for command, quiet in (
        ([sys.executable, '-c', imports], False),
        ([str(Path(sys.prefix, 'lib', 'motion_predictor_ros', name)), 'x.mcap'], True),
    ):
        process = processes(command)
        maps = Path(f'/proc/{process.pid}/maps')
        while library not in maps.read_text(encoding='utf-8'):
            assert process.alive
        code, _ = process.stop()
        assert ('Traceback' not in process.output) == quiet and (code == 0) == quiet


def test_an_existing_file_is_not_recorded_over(launch: Launch, bag: Path) -> None:
    before = bag.read_bytes()
    recorder = launch('record_bag', str(bag), '/skeletons')
    assert recorder.wait() == 2
    assert 'exists already' in recorder.output and bag.read_bytes() == before


def test_recording_ends_by_itself_after_the_given_time(launch: Launch, tmp_path: Path) -> None:
    path = tmp_path / 'empty.mcap'
    recorder = launch('record_bag', str(path), '/silence', '--seconds', '0.5')
    assert recorder.wait() == 0
    assert '0  /silence' in recorder.output
    assert list(read_messages(path)) == []
