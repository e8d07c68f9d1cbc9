# SPDX-License-Identifier: Apache-2.0
"""A small stand-in for the parts of launch and launch_ros that our launch files use.

It resolves a Python launch file to the commands that would be run. Anything it does not know
raises, so that a launch file cannot quietly outgrow it.
"""

import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import yaml
from ament_index_python.packages import get_package_prefix, get_package_share_directory


@dataclass(frozen=True)
class Command:
    """One process that the launch file would start."""

    package: str
    executable: str
    arguments: list[str]
    parameters: list[Any]
    remappings: list[tuple[str, str]]
    name: str = ''
    namespace: str = ''

    def line(self, folder: Path) -> list[str]:
        """Write parameters to files in `folder` and return what to run."""
        program = Path(get_package_prefix(self.package), 'lib', self.package, self.executable)
        line = [str(program), *self.arguments, '--ros-args']
        line += ['-r', f'__node:={self.name}'] if self.name else []
        line += ['-r', f'__ns:=/{self.namespace}'] if self.namespace else []
        for each in self.parameters:
            line += ['--params-file', each if isinstance(each, str) else _file(each, folder)]
        return line + [word for a, b in self.remappings for word in ('-r', f'{a}:={b}')]


def _file(parameters: dict[str, Any], folder: Path) -> str:
    path = Path(tempfile.mkstemp(dir=folder, suffix='.yaml')[1])
    path.write_text(yaml.safe_dump({'/**': {'ros__parameters': parameters}}), encoding='utf-8')
    return str(path)


@dataclass
class Context:
    values: dict[str, str]
    declared: list[str] = field(default_factory=list)
    described: dict[str, str] = field(default_factory=dict)
    commands: list[Command] = field(default_factory=list)


class Substitution:
    def perform(self, context: Context) -> str:
        raise NotImplementedError


def text(value: Any, context: Context) -> str:
    if isinstance(value, Substitution):
        return value.perform(context)
    assert isinstance(value, str), f'neither text nor a substitution: {value!r}'
    return value


@dataclass
class LaunchConfiguration(Substitution):
    name: str

    def perform(self, context: Context) -> str:
        return context.values[self.name]


@dataclass
class PathJoinSubstitution(Substitution):
    parts: Sequence[Any]

    def perform(self, context: Context) -> str:
        return os.path.join(*[text(part, context) for part in self.parts])


@dataclass
class FindPackageShare(Substitution):
    package: str

    def perform(self, context: Context) -> str:
        return get_package_share_directory(self.package)


@dataclass
class IfCondition:
    value: Any

    def holds(self, context: Context) -> bool:
        return {'true': True, '1': True, 'false': False, '0': False}[text(self.value, context)]


class UnlessCondition(IfCondition):
    def holds(self, context: Context) -> bool:
        return not super().holds(context)


@dataclass
class LaunchDescription:
    actions: Sequence[Any]

    def execute(self, context: Context) -> None:
        for action in self.actions:
            action.execute(context)


@dataclass
class DeclareLaunchArgument:
    name: str
    default_value: Any = None
    description: str = ''

    def execute(self, context: Context) -> None:
        context.declared.append(self.name)
        context.described[self.name] = self.description
        if self.name not in context.values:
            if self.default_value is None:
                raise RuntimeError(f'required launch argument {self.name!r} was not given')
            context.values[self.name] = text(self.default_value, context)


@dataclass
class OpaqueFunction:
    function: Callable[[Context], Iterable[Any] | None]

    def execute(self, context: Context) -> None:
        for action in self.function(context) or ():
            action.execute(context)


@dataclass
class PythonLaunchDescriptionSource:
    location: Any


@dataclass
class IncludeLaunchDescription:
    source: PythonLaunchDescriptionSource
    launch_arguments: Iterable[tuple[str, Any]] = ()

    def execute(self, context: Context) -> None:
        context.values.update({k: text(v, context) for k, v in self.launch_arguments})
        load(Path(text(self.source.location, context))).execute(context)


@dataclass
class Node:
    package: str
    executable: str
    name: str = ''
    namespace: Any = ''
    output: str = 'log'
    arguments: Sequence[Any] = ()
    parameters: Sequence[Any] = ()
    remappings: Sequence[tuple[str, Any]] = ()
    condition: IfCondition | None = None

    def execute(self, context: Context) -> None:
        if self.condition is not None and not self.condition.holds(context):
            return
        command = Command(
            self.package,
            self.executable,
            [text(each, context) for each in self.arguments],
            [self._parameters(each, context) for each in self.parameters],
            [(source, text(target, context)) for source, target in self.remappings],
            self.name,
            text(self.namespace, context),
        )
        context.commands.append(command)

    def _parameters(self, given: Any, context: Context) -> Any:
        if not isinstance(given, dict):
            return text(given, context)
        return {key: yaml.safe_load(text(value, context)) for key, value in given.items()}


_MODULES = {
    'launch': [LaunchDescription],
    'launch.actions': [DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction],
    'launch.conditions': [IfCondition, UnlessCondition],
    'launch.launch_description_sources': [PythonLaunchDescriptionSource],
    'launch.substitutions': [LaunchConfiguration, PathJoinSubstitution],
    'launch_ros': [],
    'launch_ros.actions': [Node],
    'launch_ros.substitutions': [FindPackageShare],
}


@contextmanager
def standing_in() -> Iterator[None]:
    """Be launch and launch_ros for whoever imports them meanwhile."""
    modules = {name: ModuleType(name) for name in _MODULES}
    for name, members in _MODULES.items():
        modules[name].__dict__.update({member.__name__: member for member in members})
    modules['launch'].__dict__['LaunchContext'] = Context
    with patch.dict(sys.modules, modules):
        yield


def load(path: Path) -> LaunchDescription:
    spec = importlib.util.spec_from_file_location(path.name.replace('.', '_'), path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.generate_launch_description()


def resolve(path: Path, **arguments: str) -> Context:
    """Return what launching the file with these arguments would do."""
    context = Context(dict(arguments))
    with standing_in():
        load(path).execute(context)
    return context
