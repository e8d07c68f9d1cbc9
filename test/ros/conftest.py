# SPDX-License-Identifier: Apache-2.0
"""Real rclpy and Fast DDS, real processes; left out as a whole where rclpy is not installed."""

import itertools
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

try:
    import rclpy  # noqa: F401

    _MISSING = ''
except ImportError as error:
    _MISSING = f'rclpy cannot be imported: {error}'

if TYPE_CHECKING:
    from ros.graph import Graph, Process

# Up to 100, whose ports are safe on Linux; away from the one that the session has.
_domains = itertools.cycle((os.getpid() + turn) % 100 + 1 for turn in range(7, 97))


class _NoRos(pytest.Module):
    """Stands for a module that cannot even be imported without ROS."""

    def collect(self) -> Any:
        pytest.skip(_MISSING, allow_module_level=True)


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> Any:
    return _NoRos.from_parent(parent, path=module_path) if _MISSING else None


@pytest.fixture(scope='session')
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from ros.graph import tiny_model

    return tiny_model(tmp_path_factory.mktemp('model') / 'tiny.safetensors')


@pytest.fixture(scope='session')
def foreign(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """The environment with the message packages that no wheel holds; kept if pytest caches."""
    from ros import foreign_packages

    cache = getattr(pytestconfig, 'cache', None)  # there is none with -p no:cacheprovider
    make = cache.mkdir if cache else tmp_path_factory.mktemp
    return foreign_packages.build(make('foreign_messages'))


@pytest.fixture(scope='module')
def graph() -> 'Iterator[Graph]':
    """A domain for one module, and a node of the test's in it."""
    from ros.graph import Graph

    made = Graph(next(_domains))
    yield made
    made.close()


@pytest.fixture(scope='module')
def processes(
    graph: 'Graph', tmp_path_factory: pytest.TempPathFactory
) -> 'Iterator[Callable[..., Process]]':
    """Start commands in the module's domain; they end with the module."""
    from ros.graph import Process

    folder = tmp_path_factory.mktemp('processes')
    started: list[Process] = []

    def start(command: Sequence[str], changes: Mapping[str, str] = {}) -> Process:
        log = folder / f'{len(started)}.log'
        started.append(Process(command, log, graph.domain, changes))
        return started[-1]

    yield start
    for process in started:
        process.stop()


@pytest.fixture(scope='module')
def launch(processes: 'Callable[..., Process]') -> 'Callable[..., Process]':
    """Start one of our executables, as the module that it is."""

    def start(name: str, *args: str) -> 'Process':
        folder = 'ros.tools' if name in ('play_bag', 'record_bag') else 'ros'
        module = f'motion_predictor_ros.{folder}.{name}'
        return processes([sys.executable, '-m', module, *args])

    return start
