# SPDX-License-Identifier: Apache-2.0
"""A bag is played, predicted and recorded: three processes, nothing lost, time kept."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from motion_predictor_ros.msg import SkeletonArray
from rclpy.serialization import serialize_message
from ros.graph import PERIOD_NS, START_NS, Diagnostics, Graph, Process, skeletons, stamp_ns
from rosbags.rosbag2 import Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosgraph_msgs.msg import Clock

from motion_predictor_ros.data.bags import BagWriter, read_messages
from motion_predictor_ros.prediction.wire import decode_prediction
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
    player = launch('play_bag', str(bag), '--wait-for-subscribers', '2')
    assert player.wait() == 0
    assert f'played {FRAMES} messages' in player.output and 'fewer than' not in player.output
    graph.spin(0.5)
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
        assert 0.01 < each.message.age_s < 1.0
        assert 0.01e9 < each.stamp_ns - stamp_ns(each.message) < 1e9
    last = decode_prediction(predictions[-1].message).people[0]
    assert last.validity == Validity.OK and last.solver.warm


def test_played_time_keeps_to_the_rate_and_comes_on_the_clock(
    launch: Launch, graph: Graph, bag: Path
) -> None:
    ticks = graph.collect(Clock, '/clock', 500)
    heard: list[tuple[int, int]] = []

    def on_skeletons(message: SkeletonArray) -> None:
        heard.append((graph.node.get_clock().now().nanoseconds, stamp_ns(message)))

    graph.node.create_subscription(SkeletonArray, '/half', on_skeletons, 50)
    player = launch('play_bag', str(bag), '--rate', '2', '--ros-args', '-r', '/skeletons:=/half')
    graph.until(lambda: heard and heard[-1][1] == STAMPS_NS[-1])
    assert player.wait() == 0 and len(heard) == FRAMES
    took_s = (heard[-1][0] - heard[0][0]) / 1e9
    assert took_s == pytest.approx((FRAMES - 1) * 0.04 / 2, rel=0.3)
    times_ns = [each.clock.sec * 10**9 + each.clock.nanosec for each in ticks]
    assert times_ns[-1] == STAMPS_NS[-1] + 20_000_000
    assert np.diff(times_ns).max() <= 10_000_000


def test_a_loop_begins_again_until_it_is_stopped(launch: Launch, graph: Graph, bag: Path) -> None:
    heard = graph.collect(SkeletonArray, '/again')
    player = launch(
        'play_bag', str(bag), '--loop', '--rate', '8', '--no-clock',
        '--ros-args', '-r', '/skeletons:=/again',
    )  # fmt: skip
    graph.until(lambda: len(heard) > 2 * FRAMES)
    assert [stamp_ns(each) for each in heard[: 2 * FRAMES]] == 2 * STAMPS_NS
    code, seconds = player.stop()
    assert code == 0 and seconds < 0.6 and 'Traceback' not in player.output


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
