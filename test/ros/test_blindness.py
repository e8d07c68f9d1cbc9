# SPDX-License-Identifier: Apache-2.0
"""A live node whose input stops: everybody STALE once, under the old stamp, then silence."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from motion_predictor_ros.msg import PredictedMotion, PredictedMotionArray
from ros.graph import PERIOD_NS, START_NS, Diagnostics, Graph, Process, skeletons, stamp_ns
from visualization_msgs.msg import Marker, MarkerArray


@pytest.fixture(scope='module')
def node(launch: Callable[..., Process], model: Path, graph: Graph) -> Process:
    """Silence is a second, so that a pause of a busy machine while people walk is none."""
    given = f'prediction.weights:={model}', 'stale_after_s:=1.0'
    options = [word for each in given for word in ('-p', each)]
    process = launch('predictor_node', '--ros-args', *options)
    process.wait_for('predicting from /skeletons')
    graph.wait_for_input()
    return process


@pytest.fixture(scope='module')
def predicted(graph: Graph, node: Process) -> list[PredictedMotionArray]:
    received = graph.collect(PredictedMotionArray, '/predicted_motion')
    graph.match()
    return received


@pytest.fixture(scope='module')
def markers(graph: Graph, predicted: Any) -> list[MarkerArray]:
    received = graph.collect(MarkerArray, '/markers')
    graph.match()
    return received


def stale(messages: list[PredictedMotionArray]) -> list[PredictedMotionArray]:
    """Those of a blind node: all people are; a person who left is held as STALE beside others."""
    return [
        message
        for message in messages
        if {person.validity for person in message.persons} == {PredictedMotion.STALE}
    ]


def test_silence_is_said_once_under_the_old_stamp_and_nothing_is_left_in_view(
    graph: Graph, predicted: list[PredictedMotionArray], markers: list[MarkerArray]
) -> None:
    last_ns = graph.walk(START_NS, people=('anna', 'ben'))
    graph.until(lambda: stale(predicted), what='STALE')
    graph.spin(1.5)
    assert len(stale(predicted)) == 1 and predicted[-1] is stale(predicted)[0]
    message = predicted[-1]
    assert stamp_ns(message) == last_ns and message.header.frame_id == 'world'
    assert message.age_s > 1.0
    for person, name in zip(message.persons, ('anna', 'ben'), strict=True):
        assert person.person_id == name and 'nothing new' in person.reason
        assert len(person.positions) == len(person.observed) == 0

    def drawn() -> set[int]:
        markers_by_id = {(m.ns, m.id): m.action for array in markers for m in array.markers}
        return set(markers_by_id.values())

    graph.until(lambda: drawn() == {Marker.DELETE}, what='deleted markers')


def test_a_tracker_that_repeats_itself_says_nothing_new(
    graph: Graph, predicted: list[PredictedMotionArray]
) -> None:
    last_ns = graph.walk(START_NS + 60 * 10**9)
    graph.until(lambda: stamp_ns(predicted[-1]) == last_ns, what='the last answer')
    predicted.clear()

    def repeat() -> bool:
        graph.say(skeletons(last_ns), pause_s=0.02)
        return bool(stale(predicted))

    graph.until(repeat, what='STALE')
    graph.say(*[skeletons(last_ns)] * 40, pause_s=0.02)
    assert len(stale(predicted)) == 1
    fresh = [each for each in predicted if each not in stale(predicted)]
    assert {stamp_ns(each) for each in fresh} <= {last_ns}


def test_new_input_is_answered_at_once_and_people_are_predicted_again(
    graph: Graph, predicted: list[PredictedMotionArray], node: Process
) -> None:
    begin_ns = START_NS + 120 * 10**9
    graph.say(skeletons(begin_ns))
    graph.until(lambda: stamp_ns(predicted[-1]) == begin_ns, what='an answer')
    assert predicted[-1].persons[0].validity == PredictedMotion.WARMING_UP
    last_ns = graph.walk(begin_ns + PERIOD_NS)

    def answered() -> bool:
        return any(
            stamp_ns(each) == last_ns and each.persons[0].validity == PredictedMotion.OK
            for each in predicted
        )

    graph.until(answered, what='a prediction')
    assert int(Diagnostics(graph).next()['stale_times']) >= 2
    assert 'stale: nothing new for' in node.output
