# SPDX-License-Identifier: Apache-2.0
"""In the live node motion does not wait for the volumes of all people."""

import time
from collections.abc import Iterator

import pytest
import rclpy
from motion_predictor_ros.msg import SkeletonArray
from rclpy.parameter import Parameter
from ros.graph import skeletons
from scenes import START_NS

from motion_predictor_ros.pipeline import Scene
from motion_predictor_ros.prediction.types import ScenePrediction
from motion_predictor_ros.ros.predictor_node import PredictorNode
from motion_predictor_ros.ros.worker import Worker

PERIOD_NS = 40_000_000
PEOPLE = ('ann', 'bob', 'eve')


class Recorder:
    """In place of the publishers: keeps what is published, by stamp."""

    def __init__(self) -> None:
        self.published: list[tuple[str, int]] = []

    def publish_prediction(self, prediction: ScenePrediction, age_s: float) -> None:
        self.published.append(('motion', prediction.stamp_ns))

    def publish(self, scene: Scene, age_s: float) -> None:
        if scene.volumes is not None:
            self.published.append(('volumes', scene.prediction.stamp_ns))


@pytest.fixture
def node() -> Iterator[PredictorNode]:
    """A node whose work is done by the test's thread, one person at a time."""
    context = rclpy.Context()
    rclpy.init(context=context)
    given = {
        'threads': 1,
        'density.rate_hz': 25.0,
        'volume.enabled': 'always',
        'volume.voxel_m': 0.1,
        'degradation.enabled': False,
        'markers': False,
    }
    overrides = [Parameter(name, value=value) for name, value in given.items()]
    made = PredictorNode(context=context, parameter_overrides=overrides)
    made.start()
    assert made._worker is not None and made._outputs is not None
    made._worker.stop()
    made._worker = Worker(10, made._work, lambda: None)
    outputs, made._outputs = made._outputs, Recorder()  # type: ignore[assignment]
    yield made
    made._worker, made._outputs = None, outputs
    made.close()
    context.try_shutdown()


def put(node: PredictorNode, message: SkeletonArray) -> None:
    decoded = node._pipeline.skeleton.decode(message, 0)
    node._put(decoded, time.monotonic())


def fill(node: PredictorNode, *people: str) -> int:
    """Answer messages until all people are predicted; return the next stamp."""
    stamp_ns = START_NS
    for _ in range(30):
        put(node, skeletons(stamp_ns, people))
        node._work(node._worker.take_waiting())
        stamp_ns += PERIOD_NS
    node._outputs.published.clear()
    return stamp_ns


def answer(node: PredictorNode, older: SkeletonArray, newer: SkeletonArray) -> list[str]:
    """Answer a message while a newer one waits; return what is published, and of which."""
    names = {older.header.stamp.nanosec: 'older', newer.header.stamp.nanosec: 'newer'}
    put(node, older)
    waiting = node._worker.take_waiting()
    put(node, newer)
    node._work(waiting)
    return [
        f'{what} {names[stamp_ns % 1_000_000_000]}' for what, stamp_ns in node._outputs.published
    ]


def test_motion_of_a_newer_observation_comes_before_the_volumes_of_an_older_one(
    node: PredictorNode,
) -> None:
    stamp_ns = fill(node, *PEOPLE)
    older, newer = (skeletons(stamp_ns + ahead, PEOPLE) for ahead in (0, PERIOD_NS))
    published = answer(node, older, newer)
    assert published == ['motion older', 'motion newer', 'volumes older']
    assert not node._worker.take_waiting()


def test_one_persons_volumes_are_not_interrupted(node: PredictorNode) -> None:
    stamp_ns = fill(node, 'ann')
    older, newer = (skeletons(stamp_ns + ahead, ('ann',)) for ahead in (0, PERIOD_NS))
    assert answer(node, older, newer) == ['motion older', 'volumes older']
    assert len(node._worker.take_waiting()) == 1


def test_older_volumes_are_withheld_when_a_newer_observation_has_a_person_at_an_unknown_place(
    node: PredictorNode,
) -> None:
    stamp_ns = fill(node, *PEOPLE)
    older, newer = (skeletons(stamp_ns + ahead, PEOPLE) for ahead in (0, PERIOD_NS))
    ghost = skeletons(stamp_ns, ('ghost',)).persons[0]
    ghost.positions = [float('nan')] * len(ghost.positions)
    newer.persons.append(ghost)
    assert answer(node, older, newer) == ['motion older', 'motion newer']
