# SPDX-License-Identifier: Apache-2.0
"""A live node whose only person is refused, then leaves: what planners hear."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from motion_predictor_ros.msg import PredictedMotionArray, ProbabilityVolumeArray, Skeleton
from ros.graph import START_NS, Diagnostics, Graph, Process, skeletons, stamp_ns
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import PointCloud2

from motion_predictor_ros.volume.wire import decode_windows

HOLD_S, PERIOD_S = 1.0, 0.1
SETTINGS = {
    'outputs.obstacle_cloud.enabled': 'true',
    'volume.enabled': 'always',
    'volume.horizon_s': '1.0',
    'volume.voxel_m': '0.1',
    'person_hold_s': str(HOLD_S),
    'degradation.enabled': 'false',
    'use_sim_time': 'true',  # it passes as fast as this machine can
}


@dataclass
class Heard:
    """What planners received, by topic, and the diagnostics at the end of each phase.

    Attributes:
        seen_s, listed_s: Stamps of the last observations in which the person was tracked, and
            listed at all.
    """

    motion: list[Any]
    volumes: list[Any]
    clouds: list[Any]
    seen_s: float = 0.0
    listed_s: float = 0.0
    refused: dict[str, str] | None = None
    gone: dict[str, str] | None = None

    def between(self, messages: list[Any], begin_s: float, end_s: float) -> list[Any]:
        """List messages with a stamp after `begin_s`, up to `end_s`."""
        return [m for m in messages if begin_s + 1e-6 < stamp_ns(m) / 1e9 <= end_s + 1e-6]


@pytest.fixture(scope='module')
def heard(launch: Callable[..., Process], graph: Graph) -> Heard:
    options = [word for name, value in SETTINGS.items() for word in ('-p', f'{name}:={value}')]
    process = launch('predictor_node', '--ros-args', *options)
    process.wait_for('predicting from /skeletons')
    graph.wait_for_input()
    heard = Heard(
        graph.collect(PredictedMotionArray, '/predicted_motion'),
        graph.collect(ProbabilityVolumeArray, '/probability_volumes'),
        graph.collect(PointCloud2, '/obstacle_cloud'),
    )
    clock = graph.node.create_publisher(Clock, '/clock', 10)
    graph.match()
    diagnostics, now_ns = Diagnostics(graph), START_NS

    def send(steps: int, *people: str, state: int = Skeleton.TRACKING_TRACKED) -> float:
        nonlocal now_ns
        for _ in range(steps):
            now_ns += round(PERIOD_S * 1e9)
            message = skeletons(now_ns, people)
            for person in message.persons:
                person.tracking_state = state
            clock.publish(Clock(clock=message.header.stamp))
            graph.say(message)
            graph.until(lambda ns=now_ns: heard.motion and stamp_ns(heard.motion[-1]) == ns)
        return now_ns / 1e9

    heard.seen_s = send(20, 'anna')
    heard.listed_s = send(25, 'anna', state=Skeleton.TRACKING_SEARCHING)
    heard.refused = diagnostics.next()
    send(20)
    graph.spin(1.0)
    heard.gone = diagnostics.next()
    return heard


def points(cloud: Any) -> int:
    return int(cloud.width)


def test_a_refused_person_is_held_with_a_growing_reachable_set(heard: Heard) -> None:
    held = heard.between(heard.volumes, heard.seen_s, heard.seen_s + HOLD_S)
    assert len(held) >= 3 and all(len(m.persons) == 1 for m in held)
    covered = [
        float(window.covered.sum()) * window.grid.size_m**3
        for m in held
        for window in decode_windows(m.persons[0])[:1]
    ]
    assert covered[-1] > 1.2 * covered[0]
    clouds = heard.between(heard.clouds, heard.seen_s, heard.seen_s + HOLD_S)
    assert len(clouds) >= 3 and points(clouds[-1]) > points(clouds[0]) > 0


def test_after_the_hold_planners_hear_nothing_while_the_source_lists_the_person(
    heard: Heard,
) -> None:
    silence = heard.seen_s + HOLD_S, heard.listed_s + HOLD_S
    assert not heard.between(heard.volumes, *silence)
    assert not heard.between(heard.clouds, *silence)
    last = [stamp_ns(m) / 1e9 for m in heard.between(heard.clouds, 0.0, silence[0])][-1]
    assert last > heard.seen_s + HOLD_S / 2  # the control: they do during the hold
    assert all(m.persons for m in heard.between(heard.motion, *silence))
    assert heard.refused is not None
    assert (
        'present at an unknown place' in heard.refused['message'] and heard.refused['level'] == '1'
    )
    assert heard.refused['people_unplaced'] == '1' and 'searching' in heard.refused['withheld']


def test_a_person_who_is_not_listed_any_more_is_gone_after_the_hold(heard: Heard) -> None:
    begin_s = heard.listed_s + HOLD_S
    motion = heard.between(heard.motion, begin_s, begin_s + 10.0)
    clouds = heard.between(heard.clouds, begin_s, begin_s + 10.0)
    assert motion and clouds
    assert not any(m.persons for m in motion) and not any(map(points, clouds))
    assert heard.gone is not None
    assert heard.gone['people_unplaced'] == '0' and heard.gone['withheld'] == ''


def test_no_empty_answer_comes_before(heard: Heard) -> None:
    end_s = heard.listed_s + HOLD_S
    for messages in (heard.motion, heard.volumes):
        assert all(m.persons for m in heard.between(messages, 0.0, end_s))
    assert all(points(m) for m in heard.between(heard.clouds, 0.0, end_s))
