# SPDX-License-Identifier: Apache-2.0
"""kill -9: what was recorded can be read, and a node that is started anew predicts again."""

import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from motion_predictor_ros.msg import PredictedMotion, PredictedMotionArray
from ros.graph import PERIOD_NS, START_NS, Graph, Process, stamp_ns

from motion_predictor_ros.data.bags import read_messages
from motion_predictor_ros.errors import BagError

Launch = Callable[..., Process]


def stamps_in(path: Path) -> list[int]:
    """Return the stamps that can be read now; it is flushed twice a second."""
    stamps: list[int] = []
    with suppress(BagError):
        stamps += (stamp_ns(each.message) for each in read_messages(path))
    return stamps


def test_what_a_killed_recorder_wrote_can_be_read(
    launch: Launch, graph: Graph, tmp_path: Path
) -> None:
    path = tmp_path / 'walk.mcap'
    recorder = launch('record_bag', str(path), '/skeletons')
    recorder.wait_for('recording /skeletons')
    graph.wait_for_input('/record_bag')
    last_ns = graph.walk(START_NS, count=40)
    graph.until(lambda: last_ns in stamps_in(path), what='the last message in the file')
    code, _ = recorder.stop(signal.SIGKILL)
    assert code == -signal.SIGKILL
    stamps = stamps_in(path)
    assert stamps == [START_NS + index * PERIOD_NS for index in range(40)]
    assert stamps[-1] == last_ns
    assert [each.name for each in tmp_path.iterdir() if each.is_file()] == [path.name]
    torn = tmp_path / 'torn.mcap'
    torn.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(BagError, match='cut off'):  # the control: not every file is whole
        list(read_messages(torn))


def test_a_killed_node_that_is_started_again_predicts_again(
    launch: Launch, graph: Graph, model: Path
) -> None:
    predicted = graph.collect(PredictedMotionArray, '/predicted_motion')
    asked: set[int] = set()

    def is_answered() -> bool:
        # What a new node has not found yet, it does not hear; the old one seems to be there.
        asked.add(graph.walk(START_NS + len(asked) * 10**10))
        graph.spin(1.5)
        return any(is_answer(message, asked) for message in predicted)

    for _ in range(2):
        node = launch('predictor_node', '--ros-args', '-p', f'prediction.weights:={model}')
        node.wait_for('predicting from /skeletons')
        predicted.clear()
        graph.until(is_answered, what='a prediction')
        node.stop(signal.SIGKILL)


def is_answer(message: PredictedMotionArray, asked: set[int]) -> bool:
    """Return whether all that was walked until one of these stamps became a prediction."""
    return stamp_ns(message) in asked and message.persons[0].validity == PredictedMotion.OK
