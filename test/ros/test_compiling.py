# SPDX-License-Identifier: Apache-2.0
"""A node that compiles its kernels says so in /diagnostics, before it is configured."""

import sys
from collections.abc import Callable
from pathlib import Path

from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from ros.graph import NODE, Graph, Process

PREDICTOR = [sys.executable, '-m', 'motion_predictor_ros.ros.predictor_node', '--ros-args']


def states(processes: Callable[..., Process], graph: Graph, model: Path, cache: Path) -> list[str]:
    """Configure a node that is heard already; return its states in /diagnostics, and end it."""
    received = graph.collect(DiagnosticArray, '/diagnostics')
    options = ['-p', f'prediction.weights:={model}', '-p', 'density.enabled:=never']
    options += ['-p', 'auto_activate:=false']
    node = processes([*PREDICTOR, *options], {'NUMBA_CACHE_DIR': str(cache)})
    said: list[str] = []

    def is_in(wanted: str) -> bool:
        assert node.alive, node.output
        for status in (status for message in received for status in message.status):
            state = next(pair.value for pair in status.values if pair.key == 'state')
            assert (state == 'compiling') == (status.message == 'not active: compiling')
            said.append(state)
        received.clear()
        return wanted in said

    # what is published before the subscription is matched is lost: configure only afterwards
    graph.until(lambda: is_in('unconfigured'), timeout_s=120.0, what='a node that is heard')
    client = graph.node.create_client(ChangeState, f'{NODE}/change_state')
    graph.until(client.service_is_ready, timeout_s=60.0, what='the service of transitions')
    configure = Transition(id=Transition.TRANSITION_CONFIGURE)
    client.call_async(ChangeState.Request(transition=configure))
    graph.until(lambda: is_in('inactive'), timeout_s=300.0, what='a configured node')
    node.stop()
    return said


def test_a_first_start_says_that_it_compiles_and_a_second_one_does_not(
    processes: Callable[..., Process], graph: Graph, model: Path, tmp_path: Path
) -> None:
    first = states(processes, graph, model, tmp_path)
    assert 'compiling' in first and first.index('compiling') < first.index('inactive')
    assert 'compiling' not in states(processes, graph, model, tmp_path)
