# SPDX-License-Identifier: Apache-2.0
"""One live node, fed over DDS with everything good and bad; it must answer and live on."""

import signal
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from motion_predictor_ros.msg import PredictedMotion, PredictedMotionArray
from ros.graph import (
    LAYOUT,
    PERIOD_NS,
    START_NS,
    WINDOW,
    Diagnostics,
    Graph,
    Process,
    skeletons,
    stamp_ns,
)
from visualization_msgs.msg import Marker, MarkerArray

from motion_predictor_ros.prediction.wire import decode_prediction

_hours = count()


@pytest.fixture(scope='module')
def node(launch: Callable[..., Process], model: Path, graph: Graph) -> Process:
    options = ['-p', f'prediction.weights:={model}', '-p', 'density.enabled:=never']
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
def diagnostics(graph: Graph, node: Process) -> Diagnostics:
    return Diagnostics(graph)


@pytest.fixture
def begin_ns() -> Iterator[int]:
    """An hour of its own for every test, each later than the last."""
    yield START_NS + next(_hours) * 3600 * 10**9


def answer_to(graph: Graph, predicted: list[PredictedMotionArray], at_ns: int) -> Any:
    def found() -> Any:
        return next((each for each in reversed(predicted) if stamp_ns(each) == at_ns), None)

    return graph.until(found, what=f'prediction for {at_ns}')


def test_everybody_is_predicted_with_the_observations_stamp_and_frame(
    graph: Graph, predicted: list[PredictedMotionArray], begin_ns: int
) -> None:
    last_ns = graph.walk(begin_ns, people=('anna', 'ben'))
    message = answer_to(graph, predicted, last_ns)
    assert message.header.frame_id == 'world'
    assert message.model.startswith('tiny@')
    assert tuple(message.joint_names) == LAYOUT.joint_names
    np.testing.assert_allclose(message.horizons, 0.04 * np.arange(1, 26), rtol=1e-6)
    scene = decode_prediction(message)
    assert [person.person_id for person in scene.people] == ['anna', 'ben']
    for person in scene.people:
        assert person.validity == PredictedMotion.OK and person.reason == ''
        assert person.positions is not None and np.isfinite(person.positions).all()
        assert person.covariances is not None
        np.testing.assert_allclose(person.covariances, np.full((25, 18, 1, 1), 0.01) * np.eye(3))
        assert 0 < person.solver.steps <= 30 and person.solver.residual < 5e-2
    sent = np.asarray(skeletons(last_ns).persons[0].positions).reshape(18, 3)
    np.testing.assert_allclose(np.reshape(message.persons[0].observed, (-1, 3)), sent, atol=1e-5)


def test_an_unfinished_history_says_so_and_has_no_positions(
    graph: Graph, predicted: list[PredictedMotionArray], begin_ns: int
) -> None:
    message = answer_to(graph, predicted, graph.walk(begin_ns, count=3))
    # Stamps jumped by an hour, which shows nobody's absence: ben of the test before is held.
    (person,) = (person for person in message.persons if person.person_id == 'anna')
    assert person.validity == PredictedMotion.WARMING_UP and 'observed' in person.reason
    assert len(person.positions) == len(person.observed) == len(person.covariances) == 0
    assert np.isnan(person.residual)


def test_age_is_counted_from_the_observation(
    graph: Graph, predicted: list[PredictedMotionArray], diagnostics: Diagnostics
) -> None:
    made_ns = time.time_ns() - 150_000_000
    graph.say(skeletons(made_ns))
    age_s = answer_to(graph, predicted, made_ns).age_s
    assert 0.15 <= age_s < (time.time_ns() - made_ns) / 1e9
    graph.say(skeletons(START_NS))  # back to the time of the other tests
    assert answer_to(graph, predicted, START_NS).age_s > 1e6


def bad_messages(at_ns: int) -> dict[str, Any]:
    """One message for each way to be wrong, by the reason it must be dropped for."""
    bad = {
        reason: skeletons(at_ns + place)
        for place, reason in enumerate(
            [
                *('wrong_length', 'non_finite', 'layout_mismatch', 'no_joints'),
                *('implausible_size', 'joint_non_finite'),
            ]
        )
    }
    bad['wrong_length'].persons[0].positions = [1.0, 2.0]
    bad['non_finite'].persons[0].positions = [np.inf] * 54
    bad['joint_non_finite'].persons[0].positions[5] = np.inf  # the person stays without it
    bad['layout_mismatch'].joint_names[3] = 'tail'
    bad['no_joints'].persons[0].positions = [np.nan] * 54
    positions = bad['implausible_size'].persons[0].positions
    bad['implausible_size'].persons[0].positions = [1000 * value for value in positions]
    bad['unknown_frame'] = skeletons(at_ns + 10, frame_id='camera')
    bad['bad_stamp'] = skeletons(0)
    bad['duplicate_id'] = skeletons(at_ns + 11, people=('anna', 'anna'))
    bad['empty_id'] = skeletons(at_ns + 12, people=('',))
    bad['stamp_backwards'] = skeletons(at_ns - PERIOD_NS)
    return bad


def test_bad_input_is_counted_by_reason_and_good_input_is_answered_again(
    graph: Graph,
    node: Process,
    predicted: list[PredictedMotionArray],
    diagnostics: Diagnostics,
    begin_ns: int,
) -> None:
    last_ns = graph.walk(begin_ns)
    before = diagnostics.drops()
    bad = bad_messages(last_ns + PERIOD_NS)
    graph.say(*bad.values(), pause_s=0.05)
    after: dict[str, int] = {}

    def all_counted() -> bool:
        after.update(diagnostics.drops())
        return all(after.get(reason, 0) > before.get(reason, 0) for reason in bad)

    graph.until(all_counted, what='all drops')
    gained = {reason: after[reason] - before.get(reason, 0) for reason in bad}
    assert gained == dict.fromkeys(bad, 1)
    assert 'internal_error' not in after
    message = answer_to(graph, predicted, graph.walk(last_ns + 2 * PERIOD_NS, count=5))
    assert message.persons[0].validity == PredictedMotion.OK
    for reason in bad:
        assert f'{reason}: ' in node.output


def test_good_input_is_not_dropped(
    graph: Graph,
    predicted: list[PredictedMotionArray],
    diagnostics: Diagnostics,
    begin_ns: int,
) -> None:
    before = diagnostics.drops()
    answer_to(graph, predicted, graph.walk(begin_ns))
    new = {k: v - before.get(k, 0) for k, v in diagnostics.drops().items() if k != 'superseded'}
    assert set(new.values()) <= {0}


def test_what_came_while_the_node_stood_still_is_answered_or_counted(
    graph: Graph,
    node: Process,
    predicted: list[PredictedMotionArray],
    diagnostics: Diagnostics,
    begin_ns: int,
) -> None:
    before = diagnostics.drops()
    stamps = [begin_ns + index * PERIOD_NS for index in range(120)]
    node.tell(signal.SIGSTOP)
    graph.say(*map(skeletons, stamps), pause_s=0.005)
    node.tell(signal.SIGCONT)
    answer_to(graph, predicted, stamps[-1])
    counted = sum(diagnostics.drops().values()) - sum(before.values())
    answered = {stamp_ns(each) for each in predicted} & set(stamps)
    assert len(answered) + counted == len(stamps)
    assert counted > 0


def test_a_bag_that_loops_resets_once_and_is_predicted_again(
    graph: Graph,
    node: Process,
    predicted: list[PredictedMotionArray],
    diagnostics: Diagnostics,
    begin_ns: int,
) -> None:
    resets = int(diagnostics.next()['resets'])
    for _ in range(2):
        last_ns = graph.walk(begin_ns, count=WINDOW + 5)
        message = answer_to(graph, predicted, last_ns)
        assert message.persons[0].validity == PredictedMotion.OK
        predicted.clear()
    assert int(diagnostics.next()['resets']) == resets + 1
    assert 'time went back' in node.output


def test_diagnostics_hold_the_figures_of_the_input_and_of_the_solver(
    graph: Graph, predicted: list[PredictedMotionArray], diagnostics: Diagnostics, begin_ns: int
) -> None:
    answer_to(graph, predicted, graph.walk(begin_ns, count=60))
    figures = diagnostics.next()
    assert figures['state'] == 'active' and figures['model'].startswith('tiny@')
    assert float(figures['input_rate_hz']) > 0
    assert figures['persons'] == '1'
    assert int(figures['solver_steps']) > 0 and float(figures['residual']) < 5e-2
    for kind in ('warm', 'cold'):
        assert float(figures[f'solver_steps_{kind}']) > 0
        assert float(figures[f'residual_{kind}']) < 5e-2
    assert figures['validity.OK'] == '1' and float(figures['memory_mb']) > 50
    assert 0 < float(figures['step_ms_p50']) <= float(figures['step_ms_p99'])
    graph.until(lambda: 'no input for' in diagnostics.next()['message'])


def test_a_dynamic_parameter_changes_the_next_prediction(
    graph: Graph, predicted: list[PredictedMotionArray], begin_ns: int
) -> None:
    assert graph.set('prediction.warm_start', False).successful
    assert graph.set('prediction.tolerance', 1e-8).successful
    many = answer_to(graph, predicted, graph.walk(begin_ns)).persons[0].solver_steps
    assert graph.set('prediction.max_steps', 2).successful
    few = answer_to(graph, predicted, graph.walk(begin_ns + WINDOW * PERIOD_NS, 1)).persons[0]
    assert few.solver_steps == 2 < many
    assert graph.set('prediction.max_steps', 30).successful
    assert graph.set('prediction.tolerance', 1e-3).successful
    assert graph.set('prediction.warm_start', True).successful


@pytest.mark.parametrize(
    ('name', 'value', 'reason'),
    [
        ('prediction.max_steps', 0, 'out of range'),
        ('prediction.tolerance', float('nan'), 'out of range'),
        ('prediction.max_steps', 'many', 'type'),
        ('prediction.weights', 'other', 'only while the node is unconfigured'),
        ('input_topic', 'other', 'only while the node is unconfigured'),
        ('no_such_parameter', 1, 'undeclared'),
    ],
)
def test_a_change_that_cannot_be_followed_is_refused_with_a_reason(
    graph: Graph, node: Process, name: str, value: Any, reason: str
) -> None:
    result = graph.set(name, value)
    assert not result.successful and reason in result.reason


def test_parameters_say_what_they_are_and_what_they_may_be(graph: Graph, node: Process) -> None:
    steps, gap, topic = graph.describe(
        ['prediction.max_steps', 'skeleton.max_gap_s', 'input_topic']
    )
    assert 'solver iterations' in steps.description
    assert (steps.integer_range[0].from_value, steps.integer_range[0].to_value) == (1, 200)
    assert steps.additional_constraints == 'any time'
    assert '[s]' in gap.description
    assert (gap.floating_point_range[0].from_value, gap.floating_point_range[0].to_value) == (
        0.02,
        1.0,
    )
    assert topic.additional_constraints == 'only while unconfigured'


def test_markers_are_sound_and_taken_away_when_a_person_leaves(
    graph: Graph, predicted: list[PredictedMotionArray], begin_ns: int
) -> None:
    arrays = graph.collect(MarkerArray, '/markers')
    graph.match()
    last_ns = graph.walk(begin_ns, people=('anna', 'ben'))
    answer_to(graph, predicted, last_ns)
    graph.until(lambda: arrays and stamp_of(arrays[-1]) == last_ns)
    added = [each for each in arrays[-1].markers if each.action == Marker.ADD]
    assert len(added) == 8
    assert len({(each.ns, each.id) for each in added}) == 8
    for marker in added:
        assert marker.pose.orientation.w == 1.0
        assert marker.lifetime.nanosec == 300_000_000
        assert np.isfinite([(point.x, point.y, point.z) for point in marker.points]).all()
    last_ns = graph.walk(last_ns + PERIOD_NS, count=9, people=('anna',))
    graph.until(lambda: stamp_of(arrays[-1]) == last_ns)
    bens = {(each.ns, each.id) for each in added if each.id == 1}
    deleted = {(m.ns, m.id) for a in arrays for m in a.markers if m.action == Marker.DELETE}
    assert bens <= deleted


def stamp_of(array: MarkerArray) -> int:
    return stamp_ns(array.markers[0]) if array.markers else 0


def test_the_node_ends_at_once_and_cleanly_on_sigint(node: Process) -> None:
    code, seconds = node.stop()
    assert code == 0 and seconds < 0.6
    assert 'Traceback' not in node.output
