# SPDX-License-Identifier: Apache-2.0
"""Turn the frozen configs into ROS parameters and back.

Default, unit and range are stated once, in the config; a parameter that a running node may change
is marked `dynamic` there, all others are fixed from configure to cleanup.
"""

from collections.abc import Callable, Iterable
from dataclasses import Field, dataclass, field
from typing import Any, TypeVar

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy.exceptions import ParameterException
from rclpy.node import Node
from rclpy.parameter import Parameter

from motion_predictor_ros.config import (
    DegradationConfig,
    PipelineConfig,
    ScoreConfig,
    check_param,
    choices_of,
    from_mapping,
    iterate_params,
    param,
    unknown_parameter,
)
from motion_predictor_ros.density.types import SENT_FUTURES, SENT_STRIDE
from motion_predictor_ros.errors import ConfigError
from motion_predictor_ros.registry import ParameterGroups
from motion_predictor_ros.ros.outputs.base import OUTPUTS

T = TypeVar('T')


@dataclass(frozen=True)
class NodeConfig:
    """How the node behaves in the ROS graph."""

    auto_activate: bool = param(
        True, 'configure and activate at start; false waits for a lifecycle manager [-]'
    )
    input_topic: str = param('skeletons', "topic of the observations; source 'tf' reads /tf [-]")
    queue: int = param(50, 'observations that may wait; beyond it the oldest is lost [-]', 1, 1000)
    stale_after_s: float = param(
        0.3,
        'all people are STALE, then silence, when nothing new came for this long [s]',
        0.05,
        10.0,
    )
    stale_volumes_s: float = param(
        1.0, 'how long reachable sets of STALE people go on growing, before silence [s]', 0.0, 10.0
    )
    markers: bool = param(True, 'publish markers while they have subscribers [-]', dynamic=True)
    marker_ghosts: int = param(
        5, 'predicted poses drawn per person, evenly up to the last horizon [-]', 0, 50
    )
    marker_futures: int = param(
        10, 'weighted futures drawn per person, where they end [-]', 0, 100
    )
    published_futures: int = param(
        SENT_FUTURES,
        'weighted futures published per person, of those drawn [-]',
        1,
        10_000,
        dynamic=True,
    )
    futures_stride: int = param(
        SENT_STRIDE,
        'every how many horizons of weighted futures are published [-]',
        1,
        400,
        dynamic=True,
    )
    marker_lifetime_s: float = param(
        0.3, 'markers vanish when not renewed for this long [s]', 0.05, 10.0
    )
    degradation: DegradationConfig = field(default_factory=DegradationConfig)
    outputs: ParameterGroups = field(default_factory=OUTPUTS.default_config)


def declare(node: Node, defaults: Any) -> None:
    """Declare every leaf of a config.

    Raises:
        ConfigError: The value given at start has the wrong type or is out of range.
    """
    for name, item, value in iterate_params(defaults):
        try:
            node.declare_parameter(name, value, describe(item))
        except ParameterException as error:
            raise ConfigError(str(error)) from error


def warn_of_unknown(node: Node) -> None:
    """Log parameters given at start that neither node of this package declares.

    A file may hold the parameters of both nodes. rclpy has no public list of what was given:
    `automatically_declare_parameters_from_overrides` would declare unknown names too.
    """
    configs = (PipelineConfig(), ''), (NodeConfig(), ''), (ScoreConfig(), 'score.')
    known = {name for config, prefix in configs for name, _, _ in iterate_params(config, prefix)}
    for name in node._parameter_overrides:
        if not (name in known or node.has_parameter(name) or name.startswith('qos_overrides.')):
            node.get_logger().warning(f'{unknown_parameter(name, known)} It is ignored.')


def describe(item: Field[Any]) -> ParameterDescriptor:
    """Say what a parameter is, what it may be, and when it may change."""
    info = item.metadata
    choices = choices_of(item)
    constraints = [f'one of {list(choices)}'] if choices else []
    constraints.append('any time' if info['dynamic'] else 'only while unconfigured')
    descriptor = ParameterDescriptor(
        description=info['description'], additional_constraints='; '.join(constraints)
    )
    if info['low'] is None or info['high'] is None:
        return descriptor
    if isinstance(item.default, int):
        bounds = IntegerRange(from_value=int(info['low']), to_value=int(info['high']), step=1)
        descriptor.integer_range = [bounds]
    else:
        limits = FloatingPointRange(from_value=float(info['low']), to_value=float(info['high']))
        descriptor.floating_point_range = [limits]
    return descriptor


def read(node: Node, kind: type[T]) -> T:
    """Build a config from the node's present parameters.

    Raises:
        ConfigError: A value that no descriptor can refuse, such as one that is not a choice.
    """
    values: dict[str, Any] = {}
    for name, _, _ in iterate_params(kind()):
        *parents, leaf = name.split('.')
        inner = values
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[leaf] = node.get_parameter(name).value
    return from_mapping(kind, values)


def refuse_changes(node: Node, check: Callable[[list[Parameter]], None]) -> None:
    """Have changes of a node's parameters refused for which `check` raises `ConfigError`."""

    def on_changes(changes: list[Parameter]) -> SetParametersResult:
        try:
            check(changes)
        except ConfigError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    node.add_on_set_parameters_callback(on_changes)


def check_changes(changes: Iterable[Parameter], running: bool, *configs: Any) -> None:
    """Refuse changes that are malformed, or that a running node cannot follow.

    Parameters that are in none of the configs belong to rclpy and pass.

    Raises:
        ConfigError: The first change that is refused.
    """
    known = {name: item for config in configs for name, item, _ in iterate_params(config)}
    for change in changes:
        item = known.get(change.name)
        if item is None:
            continue
        check_param(item, change.value, change.name)
        if running and not item.metadata['dynamic']:
            raise ConfigError(
                f'{change.name} can change only while the node is unconfigured: '
                'deactivate and clean up first'
            )
