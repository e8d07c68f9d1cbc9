# SPDX-License-Identifier: Apache-2.0
"""A small stand-in for the parts of launch and launch_ros that our launch files use.

It resolves a Python launch file to the commands that would be run, and is stricter than the real
ones: a str stays a str, a parameter made of a launch argument has to state its type, and a
parameter file that does not exist raises. Anything it does not know raises too.
"""

import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass, field
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
    ends_launch: bool = False

    def line(self, folder: Path) -> list[str]:
        """Write parameters to files in `folder` and return what to run."""
        program = Path(get_package_prefix(self.package), 'lib', self.package, self.executable)
        line = [str(program), *self.arguments, '--ros-args']
        line += ['-r', f'__node:={self.name}'] if self.name else []
        line += ['-r', f'__ns:=/{self.namespace}'] if self.namespace else []
        for entry in self.parameters:
            line += ['--params-file', entry if isinstance(entry, str) else _file(entry, folder)]
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

    def evaluate(self, context: Context) -> bool:
        word = text(self.value, context).strip().lower()
        return {'true': True, '1': True, 'false': False, '0': False}[word]


@dataclass
class ParameterValue:
    """Text of a launch argument, read as the type of its parameter."""

    value: Substitution
    _: KW_ONLY
    value_type: type

    def evaluate(self, context: Context) -> Any:
        word = self.value.perform(context)
        value = word if self.value_type is str else yaml.safe_load(word)
        if type(value) is not self.value_type:
            raise ValueError(f'cannot convert {word!r} to {self.value_type.__name__}')
        return value


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
class Shutdown:
    _: KW_ONLY
    reason: str


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
    on_exit: Shutdown | None = None

    def execute(self, context: Context) -> None:
        if self.condition is not None and not self.condition.evaluate(context):
            return
        command = Command(
            self.package,
            self.executable,
            [text(argument, context) for argument in self.arguments],
            [self._parameters(entry, context) for entry in self.parameters],
            [(source, text(target, context)) for source, target in self.remappings],
            self.name,
            text(self.namespace, context),
            ends_launch=self.on_exit is not None,
        )
        context.commands.append(command)

    def _parameters(self, given: Any, context: Context) -> Any:
        if isinstance(given, dict):
            return {name: self._value(value, context) for name, value in given.items()}
        path = text(given, context)
        if not Path(path).is_file():
            raise FileNotFoundError(
                f'parameter file {path!r}: the real launch_ros starts without it'
            )
        return path

    @staticmethod
    def _value(value: Any, context: Context) -> Any:
        assert isinstance(value, (str, bool, int, float, ParameterValue)), f'of no type: {value!r}'
        return value.evaluate(context) if isinstance(value, ParameterValue) else value


_MODULES = {
    'launch': [LaunchDescription],
    'launch.actions': [
        DeclareLaunchArgument,
        IncludeLaunchDescription,
        OpaqueFunction,
        Shutdown,
    ],
    'launch.conditions': [IfCondition],
    'launch.launch_description_sources': [PythonLaunchDescriptionSource],
    'launch.substitutions': [LaunchConfiguration, PathJoinSubstitution],
    'launch_ros': [],
    'launch_ros.actions': [Node],
    'launch_ros.parameter_descriptions': [ParameterValue],
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


def failure(path: Path, **arguments: str) -> tuple[str, list[Command]]:
    """Return why launching fails, and what had been started by then and would go on running."""
    context = Context(dict(arguments))
    try:
        with standing_in():
            load(path).execute(context)
    except Exception as error:
        return f'{type(error).__name__}: {error}', context.commands
    return '', context.commands
