# SPDX-License-Identifier: Apache-2.0
"""A planner output is one class: one that is defined in this file alone is configured and runs."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import rclpy
from geometry_msgs.msg import PointStamped
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from safety_volumes import STAMP_NS, volume

from motion_predictor_ros.config import iterate_params, param
from motion_predictor_ros.errors import ConfigError
from motion_predictor_ros.ros.encode import encode_header
from motion_predictor_ros.ros.outputs.base import (
    OUTPUTS,
    Output,
    OutputConfig,
    OutputContext,
    PlannerOutputs,
    VolumeScene,
)
from motion_predictor_ros.ros.parameters import NodeConfig, declare, read
from motion_predictor_ros.ros.topics import QosWatch
from motion_predictor_ros.skeleton.frame import Validity

SHIPPED = {
    'probability_volumes',
    'probability_cloud',
    'occupancy_grid',
    'obstacle_cloud',
    'volume_markers',
    'collision_objects',
    'speed_limit',
    'collision_service',
}


@dataclass(frozen=True)
class PeopleCountConfig(OutputConfig):
    enabled: bool = param(True, 'publish people_count [-]')
    rate_hz: float = param(10.0, 'maximum rate, by stamps [Hz]', low=0.1, high=100.0)
    scale: float = param(1.0, 'factor [-]', low=0.0, high=9.0)


class PeopleCount(Output[PeopleCountConfig]):
    """Publishes how many people there are as x, and removes nothing."""

    def open(self) -> None:
        self.reasons: list[str] = []
        self._publisher = self.create_publisher(PointStamped, 'people_count')

    def publish(self, scene: VolumeScene) -> None:
        message = PointStamped(header=encode_header(scene.stamp_ns, scene.frame_id))
        message.point.x = self.config.scale * len(scene.volumes)
        self._publisher.publish(message)

    def withhold(self, reason: str) -> None:
        self.reasons.append(reason)


@pytest.fixture
def toy() -> Iterator[None]:
    OUTPUTS.register('people_count', PeopleCountConfig)(PeopleCount)
    yield
    OUTPUTS.unregister('people_count')


@pytest.fixture
def node() -> Iterator[Node]:
    context = rclpy.Context()
    rclpy.init(context=context)
    given = [Parameter('outputs.people_count.scale', value=2.0)]
    made = rclpy.create_node('planner', context=context, parameter_overrides=given)
    yield made
    made.destroy_node()
    context.try_shutdown()


def outputs_of(node: Node) -> PlannerOutputs:
    declare(node, NodeConfig())
    context = OutputContext(node, 1.0, None, QosWatch(node))
    return PlannerOutputs(read(node, NodeConfig).outputs, context)


def spin(node: Node, received: list[Any], count: int) -> None:
    executor = SingleThreadedExecutor(context=node.context)
    executor.add_node(node)
    for _ in range(20):
        if len(received) >= count:
            break
        executor.spin_once(timeout_sec=0.05)
    executor.remove_node(node)


def test_every_shipped_output_is_found_without_a_list_of_them() -> None:
    names = {name.split('.')[0] for name, _, _ in iterate_params(OUTPUTS.default_config())}
    assert names == SHIPPED


def test_an_output_that_is_registered_is_declared_configured_and_published(
    toy: None, node: Node
) -> None:
    outputs = outputs_of(node)
    assert node.get_parameter('outputs.people_count.rate_hz').value == 10.0
    received: list[PointStamped] = []
    node.create_subscription(PointStamped, 'people_count', received.append, 10)
    spin(node, received, 1)  # lets the two find each other
    for number, people in enumerate(([volume('anna'), volume('ben')], [volume('anna')], [])):
        outputs.publish(people, STAMP_NS + number * 100_000_000, 'map', 0.0)
        outputs.publish(people, STAMP_NS + number * 100_000_000 + 1, 'map', 0.0)  # not due
    spin(node, received, 3)
    assert [message.point.x for message in received] == [4.0, 2.0, 0.0]
    assert {message.header.frame_id for message in received} == {'map'}
    outputs.close()
    assert node.count_publishers('people_count') == 0


def test_a_scene_without_a_frame_is_withheld_from_every_output(toy: None, node: Node) -> None:
    outputs = outputs_of(node)
    received: list[PointStamped] = []
    node.create_subscription(PointStamped, 'people_count', received.append, 10)
    spin(node, received, 1)
    outputs.publish([], STAMP_NS, '', 0.0)
    outputs.publish([volume()], STAMP_NS, 'map', 0.0)
    spin(node, received, 1)
    assert [message.point.x for message in received] == [2.0]
    (count,) = [each for each in outputs._outputs if isinstance(each, PeopleCount)]
    assert len(count.reasons) == 1 and 'frame' in count.reasons[0]
    outputs.close()


def test_a_repeated_stale_scene_is_published_as_its_age_grows(toy: None, node: Node) -> None:
    outputs = outputs_of(node)
    received: list[PointStamped] = []
    node.create_subscription(PointStamped, 'people_count', received.append, 10)
    spin(node, received, 1)
    stale = [volume(validity=Validity.STALE)]
    for age_s in (2.0, 2.01, 2.5):
        outputs.publish(stale, STAMP_NS // 10**9 * 10**9, 'map', age_s)
    spin(node, received, 2)
    spin(node, received, 3)
    assert len(received) == 2
    outputs.close()


def test_a_parameter_out_of_its_range_is_refused_by_name(toy: None, node: Node) -> None:
    given = [Parameter('outputs.people_count.scale', value=10.0)]
    other = rclpy.create_node('other', context=node.context, parameter_overrides=given)
    with pytest.raises(ConfigError, match=r'people_count\.scale'):
        declare(other, NodeConfig())
    other.destroy_node()


def test_two_outputs_cannot_have_one_name(toy: None) -> None:
    with pytest.raises(AssertionError, match='people_count'):
        OUTPUTS.register('people_count', PeopleCountConfig)(PeopleCount)
