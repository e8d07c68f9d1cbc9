# SPDX-License-Identifier: Apache-2.0
"""A live node with the shipped models tells planners, and everything it says can be read."""

import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from message_faults import faults
from motion_predictor_ros.msg import ProbabilityVolumeArray
from nav_msgs.msg import OccupancyGrid
from ros.graph import Graph, Process, skeletons, stamp_ns
from sensor_msgs.msg import PointCloud2

from motion_predictor_ros.skeleton.frame import Validity
from motion_predictor_ros.volume.wire import decode_windows

PERIOD_S = 0.04
OUTPUTS = ('probability_cloud', 'obstacle_cloud', 'occupancy_grid')


@pytest.fixture(scope='module')
def node(launch: Callable[..., Process], graph: Graph) -> Process:
    given = {f'outputs.{name}.enabled': 'true' for name in OUTPUTS}
    given |= {'volume.enabled': 'always', 'volume.horizon_s': '1.0', 'volume.voxel_m': '0.1'}
    given |= {'stale_after_s': '2.0', 'volume.stale_after_s': '1.9', 'stale_volumes_s': '2.5'}
    given |= {'degradation.enabled': 'false'}  # however slow this machine is now
    options = [word for name, value in given.items() for word in ('-p', f'{name}:={value}')]
    process = launch('predictor_node', '--ros-args', *options)
    process.wait_for('predicting from /skeletons')
    graph.wait_for_input()
    return process


@pytest.fixture(scope='module')
def received(graph: Graph, node: Process) -> dict[str, list[Any]]:
    """Everything that planners were told of one person's walk, and then of silence."""
    found = {
        '/probability_volumes': graph.collect(ProbabilityVolumeArray, '/probability_volumes'),
        '/probability_cloud': graph.collect(PointCloud2, '/probability_cloud'),
        '/obstacle_cloud': graph.collect(PointCloud2, '/obstacle_cloud'),
        '/occupancy_grid': graph.collect(OccupancyGrid, '/occupancy_grid'),
    }
    graph.match()
    volumes = found['/probability_volumes']

    def walk() -> bool:
        graph.say(skeletons(time.time_ns(), ('anna',)), pause_s=PERIOD_S)
        return int(Validity.OK) in _validities(volumes)

    graph.until(walk, what='a calibrated volume')
    graph.until(lambda: _validities(volumes) & {int(Validity.STALE)}, what='STALE volumes')
    until_silent(graph, found)
    return found


def until_silent(graph: Graph, found: dict[str, list[Any]]) -> None:
    """Spin until nothing more comes for a while: a node that never ends runs into the limit."""
    for _ in range(8):
        before = sum(map(len, found.values()))
        graph.spin(1.5)
        if sum(map(len, found.values())) == before:
            return
    raise AssertionError('never silent')


def _validities(messages: list[Any]) -> set[int]:
    return {int(each.validity) for message in messages for each in message.persons}


def test_a_walk_gives_a_calibrated_volume_and_silence_what_can_be_reached(
    received: dict[str, list[Any]],
) -> None:
    said = [each for message in received['/probability_volumes'] for each in message.persons]
    good = [each for each in said if each.validity == Validity.OK]
    assert good and all(each.level == pytest.approx(0.95) for each in good)
    assert all(each.calibration.startswith('body_2s_calibration@') for each in good)
    others = [each for each in said if each.validity != Validity.OK]
    assert {Validity.STALE, Validity.WARMING_UP} <= {each.validity for each in others}
    assert all(each.level == 0.0 and each.reason for each in others)


def test_silence_has_no_fresh_stamp_and_no_obstacles(received: dict[str, list[Any]]) -> None:
    last = max(stamp_ns(each) for each in received['/probability_volumes'])
    stale = [
        stamp_ns(message)
        for message in received['/probability_volumes']
        if any(each.validity == Validity.STALE for each in message.persons)
    ]
    assert stale and max(stale) == last
    assert stamp_ns(received['/obstacle_cloud'][-1]) <= last


def test_while_blind_the_reachable_set_grows_under_the_old_stamp(
    received: dict[str, list[Any]],
) -> None:
    told = received['/probability_volumes']
    stale = [each for each in told if each.persons[0].validity == Validity.STALE]
    assert len(stale) >= 2 and told[-len(stale) :] == stale
    assert {stamp_ns(each) for each in stale} == {max(map(stamp_ns, told))}
    ages_s = [each.age_s for each in stale]
    assert ages_s == sorted(ages_s) and 2.0 < ages_s[0] < ages_s[-1] < ages_s[0] + 2.5
    for window in range(3):
        sizes = [covered_m3(each.persons[0], window) for each in stale]
        assert sizes[0] < sizes[-1] and all(b > 0.8 * a for a, b in pairwise(sizes))


def covered_m3(volume: Any, window: int) -> float:
    voxels = decode_windows(volume)[window]
    return float(voxels.covered.sum()) * voxels.grid.size_m**3


def test_after_silence_new_input_is_answered_and_nothing_is_stale(
    graph: Graph, received: dict[str, list[Any]]
) -> None:
    told = received['/probability_volumes']
    before = len(told)
    graph.say(skeletons(time.time_ns(), ('anna',)))
    graph.until(lambda: len(told) > before, what='an answer')
    assert told[before].persons[0].validity == Validity.WARMING_UP
    assert stamp_ns(told[before]) > stamp_ns(told[before - 1])


def test_nothing_that_planners_are_told_chokes_a_reader(received: dict[str, list[Any]]) -> None:
    now_ns = time.time_ns()
    for topic, messages in received.items():
        assert messages, topic
        for message in messages:
            assert not list(faults(message, now_ns)), topic
