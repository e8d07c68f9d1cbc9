# SPDX-License-Identifier: Apache-2.0
"""Parameters: one source of defaults, and no change that cannot be followed."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from rclpy.parameter import Parameter

from motion_predictor_ros.config import PipelineConfig, iterate_params
from motion_predictor_ros.errors import ConfigError
from motion_predictor_ros.ros.parameters import NodeConfig, check_changes, describe
from motion_predictor_ros.share import share_file

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


def test_a_missing_or_differently_typed_parameter_is_seen() -> None:
    assert not same({**declared(), 'queue': 50.0}, declared())
    assert not same(
        {key: value for key, value in declared().items() if key != 'queue'}, declared()
    )


def test_every_parameter_says_its_unit_and_when_it_may_change() -> None:
    for each in CONFIGS:
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


def test_parameters_of_rclpy_itself_pass() -> None:
    check_changes([Parameter('use_sim_time', value=True)], True, *CONFIGS)
