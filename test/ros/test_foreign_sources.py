# SPDX-License-Identifier: Apache-2.0
"""Every source over Fast DDS: a real node reads what another process says, and predicts."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from motion_predictor_ros.msg import PredictedMotion, PredictedMotionArray
from ros.foreign_cases import CASES, FIXED, FRAME, LISTENERS, MOUNT, MOUNTED, ROBOT, base_at
from ros.graph import LAYOUT, Graph, Process, stamp_ns
from skeleton.sources.test_sources import INDEX, POSE
from std_msgs.msg import Empty

from motion_predictor_ros.skeleton.layout import load_joint_map

NAMESPACES = [*CASES, *LISTENERS]
EXACT_M = 1e-4  # float32 on the wire
NEAR_M = 2e-3  # where a transform was lost, TF goes straight between its neighbours


@pytest.fixture(scope='module')
def heard(
    foreign: dict[str, str], graph: Graph, processes: Callable[..., Process], model: Path
) -> dict[str, Any]:
    """A prediction of each node, of somebody who stands still for a while."""
    found = {
        source: graph.collect(PredictedMotionArray, f'/{source}/predicted_motion')
        for source in NAMESPACES
    }
    statuses = graph.collect(DiagnosticArray, '/diagnostics', 1000)
    nodes = processes([sys.executable, '-m', 'ros.foreign_nodes', str(model)], foreign)
    processes([sys.executable, '-m', 'ros.foreign_publisher'], foreign)

    def robot_waits() -> dict[str, str]:
        assert nodes.alive, nodes.output
        for status in (status for message in statuses for status in message.status):
            values = {pair.key: pair.value for pair in status.values}
            if ROBOT in status.name and int(values.get('drops.no_transform', 0)) > 20:
                return {**values, 'message': status.message}
        return {}

    waiting = graph.until(robot_waits, what='people without a transform')
    early = list(found[ROBOT])
    graph.collect(Empty, MOUNT)

    def predicted() -> dict[str, Any]:
        assert nodes.alive, nodes.output
        good = {
            source: message
            for source, messages in found.items()
            for message in messages
            if any(each.positions for each in message.persons)
        }
        return good if len(good) == len(NAMESPACES) else {}

    try:
        good = graph.until(predicted)
        return {**good, 'waiting': waiting, 'early': early, 'of_robot': list(found[ROBOT])}
    except AssertionError as error:
        heard = {source: len(messages) for source, messages in found.items()}
        raise AssertionError(f'{error}; messages: {heard}; {nodes.output[-4000:]}') from error


@pytest.mark.parametrize('source', CASES)
def test_what_another_process_says_is_seen_and_predicted(
    source: str, heard: dict[str, Any]
) -> None:
    message = heard[source]
    (person,) = message.persons
    assert message.header.frame_id == FRAME
    assert person.person_id == ('person' if source == 'pose_array' else '7')
    assert person.validity == PredictedMotion.OK, person.reason
    observed = np.array(person.observed).reshape(-1, 3)
    given = load_joint_map(CASES[source], LAYOUT).given
    assert given.sum() >= 12
    np.testing.assert_allclose(observed[given], POSE[given], atol=EXACT_M)
    assert np.isfinite(np.array(person.positions)).all()


@pytest.mark.parametrize('source', CASES)
def test_left_is_left(source: str, heard: dict[str, Any]) -> None:
    observed = np.array(heard[source].persons[0].observed).reshape(-1, 3)
    left, right = observed[INDEX['l_wrist']], observed[INDEX['r_wrist']]
    assert left[2] - right[2] > 0.8 and left[1] > 0 > right[1]  # only the left arm is raised
    mirrored = POSE[list(LAYOUT.mirror)]
    assert np.abs(observed - mirrored).max() > 0.8


def test_until_a_static_frame_appears_nothing_is_published_and_then_people_are_predicted(
    heard: dict[str, Any],
) -> None:
    assert heard['early'] == [] and 'no_transform' in heard['waiting']['message']
    assert all(message.persons for message in heard['of_robot'])  # never an empty scene
    assert heard[ROBOT].persons[0].validity == PredictedMotion.OK


@pytest.mark.parametrize('namespace', LISTENERS)
def test_people_are_put_where_the_moving_base_was_when_they_were_seen(
    namespace: str, heard: dict[str, Any]
) -> None:
    message = heard[namespace]
    assert message.header.frame_id == FIXED
    observed = np.array(message.persons[0].observed).reshape(-1, 3)
    given = load_joint_map(CASES['zed'], LAYOUT).given
    then = stamp_ns(message)
    where = base_at(then) @ MOUNTED
    np.testing.assert_allclose(observed[given], where.apply(POSE)[given], atol=NEAR_M)
    apart = [(base_at(then + round(1e9 * s)) @ MOUNTED).apply(POSE) - observed for s in (1, 2, 3)]
    assert max(np.abs(each[given]).max() for each in apart) > 0.1  # the base did move
