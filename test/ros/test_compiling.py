# SPDX-License-Identifier: Apache-2.0
"""A node that compiles its kernels says so in /diagnostics, before it is active."""

import sys
from collections.abc import Callable
from pathlib import Path

from diagnostic_msgs.msg import DiagnosticArray
from ros.graph import Graph, Process

PREDICTOR = [sys.executable, '-m', 'motion_predictor_ros.ros.predictor_node', '--ros-args']


def states(processes: Callable[..., Process], graph: Graph, model: Path, cache: Path) -> list[str]:
    """Start a node until it is active; return its states in /diagnostics, and end it."""
    received = graph.collect(DiagnosticArray, '/diagnostics')
    options = ['-p', f'prediction.weights:={model}', '-p', 'density.enabled:=never']
    node = processes([*PREDICTOR, *options], {'NUMBA_CACHE_DIR': str(cache)})
    said: list[str] = []

    def is_active() -> bool:
        assert node.alive, node.output
        for status in (status for message in received for status in message.status):
            state = next(pair.value for pair in status.values if pair.key == 'state')
            assert (state == 'compiling') == (status.message == 'not active: compiling')
            said.append(state)
        received.clear()
        return 'active' in said

    graph.until(is_active, timeout_s=300.0, what='an active node')
    node.stop()
    return said


def test_a_first_start_says_that_it_compiles_and_a_second_one_does_not(
    processes: Callable[..., Process], graph: Graph, model: Path, tmp_path: Path
) -> None:
    first = states(processes, graph, model, tmp_path)
    assert 'compiling' in first and first.index('compiling') < first.index('active')
    assert 'compiling' not in states(processes, graph, model, tmp_path)
