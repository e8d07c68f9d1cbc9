# SPDX-License-Identifier: Apache-2.0
"""A source, a predictor and an output of one's own run in the node."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rclpy
from geometry_msgs.msg import Point32, PointStamped, PolygonStamped
from motion_predictor_ros.msg import PredictedMotionArray
from prediction.test_predictor_contract import ConstantVelocity, ConstantVelocityConfig
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from ros.graph import tiny_model
from ros.outputs.test_output_contract import PeopleCount, PeopleCountConfig
from scenes import START_NS, pose
from skeleton.sources.test_source_contract import Outline, OutlineConfig

from motion_predictor_ros.config import PREDICTORS, SOURCES, PipelineConfig, from_mapping
from motion_predictor_ros.pipeline import Pipeline
from motion_predictor_ros.prediction.predictor import register_predictor
from motion_predictor_ros.ros.encode import encode_header
from motion_predictor_ros.ros.outputs.base import OUTPUTS
from motion_predictor_ros.ros.predictor_node import PredictorNode
from motion_predictor_ros.runtime.process_memory import resident_mb
from motion_predictor_ros.runtime.threads import WorkerPool

WITHOUT_DENSITY = Parameter('density.enabled', value='never')


@pytest.fixture
def context() -> Iterator[rclpy.Context]:
    made = rclpy.Context()
    rclpy.init(context=made)
    yield made
    made.try_shutdown()


@pytest.fixture
def toys() -> Iterator[None]:
    SOURCES.register('outline', OutlineConfig)(Outline)
    register_predictor('constant_velocity', ConstantVelocityConfig)(ConstantVelocity)
    OUTPUTS.register('people_count', PeopleCountConfig)(PeopleCount)
    yield
    OUTPUTS.unregister('people_count')
    SOURCES.unregister('outline')
    PREDICTORS.unregister('constant_velocity')


def polygon(time_s: float, start_ns: int = START_NS) -> PolygonStamped:
    header = encode_header(start_ns + round(time_s * 1e9), 'world')
    message = PolygonStamped(header=header)
    message.polygon.points = [Point32(x=x, y=y, z=z) for x, y, z in pose(time_s).tolist()]
    return message


def spin_a_frame(executor: SingleThreadedExecutor) -> None:
    """Let nodes work for the time of a camera's frame, so that no queue overflows."""
    end_s = time.monotonic() + 1.0 / 30.0
    while (left_s := end_s - time.monotonic()) > 0.0:
        executor.spin_once(timeout_sec=left_s)


def test_a_source_and_a_predictor_of_ones_own_run_in_the_node(
    toys: None, context: rclpy.Context
) -> None:
    given = {
        'source': 'outline',
        'sources.outline.person_id': 'eve',
        'predictor': 'constant_velocity',
        'predictors.constant_velocity.frames': 3,
        'input_topic': 'outlines',
    }
    node = PredictorNode(
        context=context,
        parameter_overrides=[
            WITHOUT_DENSITY, *(Parameter(name, value=value) for name, value in given.items())
        ],
    )  # fmt: skip
    node.start()
    other = rclpy.create_node('tracker', context=context)
    received: list[PredictedMotionArray] = []
    other.create_subscription(PredictedMotionArray, 'predicted_motion', received.append, 100)
    publisher = other.create_publisher(PolygonStamped, 'outlines', 100)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    executor.add_node(other)
    frame = 0
    while not (received and received[-1].persons and len(received[-1].persons[0].positions)):
        if publisher.get_subscription_count():
            publisher.publish(polygon(frame / 30))
            frame += 1
        spin_a_frame(executor)
        assert frame < 3000
    (person,) = received[-1].persons
    assert received[-1].model == 'constant_velocity' and len(received[-1].horizons) == 3
    assert person.person_id == 'eve' and person.solver_steps == 0 and np.isnan(person.residual)
    future = np.array(person.positions).reshape(3, 18, 3)
    np.testing.assert_allclose(future[2] - future[1], future[1] - future[0], atol=1e-5)
    node.close()
    other.destroy_node()


def test_an_output_of_ones_own_publishes_what_the_pipeline_computes_in_the_node(
    toys: None, context: rclpy.Context
) -> None:
    given = {
        'source': 'outline',
        'input_topic': 'outlines',
        'outputs.people_count.scale': 2.0,
        'volume.enabled': 'always',
        'volume.voxel_m': 0.1,
        'volume.stale_after_s': 10.0,
        'degradation.enabled': False,
    }
    overrides = [Parameter(name, value=value) for name, value in given.items()]
    node = PredictorNode(context=context, parameter_overrides=overrides)
    node.start()
    other = rclpy.create_node('planner', context=context)
    received: list[PointStamped] = []
    other.create_subscription(PointStamped, 'people_count', received.append, 100)
    publisher = other.create_publisher(PolygonStamped, 'outlines', 100)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    executor.add_node(other)
    start_ns, messages = time.time_ns(), []
    while len(received) < 3:
        if publisher.get_subscription_count():
            messages.append(polygon(len(messages) / 30, start_ns))
            publisher.publish(messages[-1])
        spin_a_frame(executor)
        assert len(messages) < 3000
    node.close()
    volume = {'enabled': 'always', 'voxel_m': 0.1}
    config = from_mapping(PipelineConfig, {'source': 'outline', 'volume': volume})
    pipeline = Pipeline.load(config)
    scenes = [scene for message in messages if (scene := pipeline.step(message))]
    pipeline.close()
    people = {len(scene.volumes) for scene in scenes if scene.volumes is not None}
    assert {message.point.x for message in received} == {2.0 * count for count in people} == {2.0}
    stamps = [message.header.stamp for message in received]
    assert all(stamp in [message.header.stamp for message in messages] for stamp in stamps)
    other.destroy_node()


def cycles(node: PredictorNode, count: int) -> tuple[int, float]:
    """Configure and clean up so often; return threads and memory [MiB] afterwards."""
    for _ in range(count):
        node.trigger_configure()
        assert node._pipeline is not None
        node._pipeline._pool.run([lambda: None] * 2)  # starts its thread
        node.trigger_cleanup()
    resident = resident_mb()
    assert resident is not None
    return threading.active_count(), resident


def test_twenty_configurations_add_no_threads_and_no_memory(
    context: rclpy.Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = str(tiny_model(tmp_path / 'tiny.safetensors'))
    given = [WITHOUT_DENSITY, Parameter('prediction.weights', value=weights)]
    node = PredictorNode(context=context, parameter_overrides=given)
    threads, memory_mb = cycles(node, 5)
    more_threads, more_mb = cycles(node, 20)
    assert more_threads == threads
    assert more_mb - memory_mb < 10.0
    with monkeypatch.context() as patch:
        patch.setattr(WorkerPool, 'close', lambda pool: None)  # control
        leaky = [WorkerPool(2) for _ in range(3)]
        for pool in leaky:
            pool.run([threading.Barrier(2, timeout=20.0).wait] * 2)
            pool.close()
        assert threading.active_count() == threads + 3
    for pool in leaky:
        pool.close()
    node.close()
