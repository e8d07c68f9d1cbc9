# SPDX-License-Identifier: Apache-2.0
"""Parameters: one source of defaults, and no change that cannot be followed."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import rclpy
import yaml
from rclpy.parameter import Parameter

from motion_predictor_ros.config import PipelineConfig, iterate_params
from motion_predictor_ros.errors import ConfigError
from motion_predictor_ros.resources import share_file
from motion_predictor_ros.ros.monitor_node import MonitorConfig
from motion_predictor_ros.ros.parameters import NodeConfig, check_changes, declare, describe, read


@pytest.fixture(scope='module')
def context() -> Iterator[rclpy.Context]:
    made = rclpy.Context()
    rclpy.init(context=made)
    yield made
    made.try_shutdown()


CONFIGS = (PipelineConfig(), NodeConfig())


def flat(values: dict[str, Any], prefix: str = '') -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        nested = isinstance(value, dict)
        found |= flat(value, f'{prefix}{key}.') if nested else {f'{prefix}{key}': value}
    return found


def declared() -> dict[str, Any]:
    return {name: value for each in CONFIGS for name, _, value in iterate_params(each)}


def shipped(path: Path) -> dict[str, Any]:
    return flat(yaml.safe_load(path.read_text(encoding='utf-8'))['/**']['ros__parameters'])


def same(left: dict[str, Any], right: dict[str, Any]) -> bool:
    kinds = {key: type(value) for key, value in left.items()}
    return left == right and kinds == {key: type(value) for key, value in right.items()}


def test_the_shipped_file_holds_every_parameter_with_its_default() -> None:
    assert same(shipped(share_file('config', 'predictor.yaml')), declared())


def test_the_monitor_has_its_file_and_takes_the_rest_from_that_one() -> None:
    own = {name: value for name, _, value in iterate_params(MonitorConfig())}
    judged = {name: value for name, value in own.items() if name.startswith('score.')}
    assert judged and same(shipped(share_file('config', 'monitor.yaml')), judged)
    assert own.keys() - judged.keys() <= declared().keys()


def test_a_missing_or_differently_typed_parameter_is_seen() -> None:
    assert not same({**declared(), 'queue': 50.0}, declared())
    assert not same(
        {key: value for key, value in declared().items() if key != 'queue'}, declared()
    )


def test_every_parameter_says_its_unit_and_when_it_may_change() -> None:
    for each in (*CONFIGS, MonitorConfig()):
        for name, item, _ in iterate_params(each):
            descriptor = describe(item)
            assert descriptor.description.endswith(']'), name
            assert descriptor.additional_constraints, name


@pytest.mark.parametrize(
    ('name', 'value', 'running'),
    [('queue', 20, False), ('prediction.max_steps', 5, True), ('markers', False, True)],
)
def test_a_change_that_can_be_followed_is_accepted(name: str, value: Any, running: bool) -> None:
    check_changes([Parameter(name, value=value)], running, *CONFIGS)


@pytest.mark.parametrize(
    ('name', 'value', 'running'),
    [
        ('queue', 20, True),
        ('queue', 0, False),
        ('prediction.max_steps', 5.0, True),
        ('prediction.max_steps', None, True),
        ('prediction.tolerance', float('nan'), True),
    ],
)
def test_a_change_that_cannot_be_followed_is_refused(name: str, value: Any, running: bool) -> None:
    with pytest.raises(ConfigError, match=name):
        check_changes([Parameter(name, value=value)], running, *CONFIGS)


@pytest.mark.parametrize(
    ('name', 'value'),
    [
        ('prediction.max_steps', 1000),
        ('prediction.max_steps', 'many'),
        ('prediction.tolerance', 1),
        ('skeleton.max_gap_s', float('nan')),
        ('auto_activate', 'yes'),
    ],
)
def test_a_start_with_a_value_that_cannot_be_is_refused(
    context: rclpy.Context, name: str, value: Any
) -> None:
    given = [Parameter(name, value=value)]
    node = rclpy.create_node('refusing', context=context, parameter_overrides=given)
    with pytest.raises(ConfigError, match=name):
        for each in CONFIGS:
            declare(node, each)
    node.destroy_node()


def test_what_is_declared_is_read_back(context: rclpy.Context) -> None:
    given = [Parameter('prediction.max_steps', value=7), Parameter('markers', value=False)]
    node = rclpy.create_node('reading', context=context, parameter_overrides=given)
    for each in CONFIGS:
        declare(node, each)
    prediction = replace(PipelineConfig().prediction, max_steps=7)
    assert read(node, PipelineConfig) == replace(PipelineConfig(), prediction=prediction)
    assert read(node, NodeConfig) == NodeConfig(markers=False)
    node.destroy_node()


def test_parameters_of_rclpy_itself_pass() -> None:
    check_changes([Parameter('use_sim_time', value=True)], True, *CONFIGS)
