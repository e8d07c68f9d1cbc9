# SPDX-License-Identifier: Apache-2.0
"""Write what is generated from the declarations of parameters: `make params`.

`config/predictor.yaml`, `docs/parameters.md`, and the launch arguments in
`launch/predictor.launch.py`. A test holds the files to the declarations.
"""

import dataclasses
import re
import sys
from collections.abc import Iterator
from dataclasses import Field
from pathlib import Path
from typing import Any

import yaml

from motion_predictor_ros.config import PipelineConfig, choices_of, iterate_params
from motion_predictor_ros.resources import share_file
from motion_predictor_ros.ros.monitor_node import MonitorConfig
from motion_predictor_ros.ros.parameters import NodeConfig

LAUNCH_ARGUMENTS = {
    'source': 'source',
    'layout': 'skeleton.source_layout',
    'name_pattern': 'skeleton.name_pattern',
    'associate': 'associate',
    'fixed_frame': 'fixed_frame',
    'extrinsic': 'extrinsic',
}
"""Arguments of `predictor.launch.py` that set a parameter."""

_YAML_HEAD = """\
# Every parameter of the node with its default: written by `make params`, see docs/parameters.md.
# Those marked * may change while the node runs, the others only while it is unconfigured.
/**:
  ros__parameters:
"""
_DOCS_HEAD = """\
# Parameters

Written by `make params` from the declarations in `config.py`, `ros/parameters.py`, `ros/outputs/`
and `skeleton/sources/`. A parameter marked * may change while the node runs, the others only while
it is unconfigured. `config/predictor.yaml` holds every default.
"""
_COMMENT_COLUMN = 31
_BEGIN, _END = '# Written by `make params`.\n', '# End of what `make params` writes.\n'


def render_yaml() -> str:
    """Return `config/predictor.yaml`."""
    lines: list[str] = []
    for config in (PipelineConfig(), NodeConfig()):
        lines += _yaml_leaves(config, 4)
    for config in (PipelineConfig(), NodeConfig()):
        lines += _yaml_groups(config, 4)
    return _YAML_HEAD + '\n'.join(lines) + '\n'


def render_docs() -> str:
    """Return `docs/parameters.md`."""
    groups: dict[str, list[str]] = {}
    monitor = [param for param in iterate_params(MonitorConfig()) if param[0].startswith('score.')]
    for name, item, value in (
        *iterate_params(PipelineConfig()),
        *iterate_params(NodeConfig()),
        *monitor,
    ):
        description, unit = _description(item)
        star = ' *' if item.metadata['dynamic'] else ''
        default = f'`{_scalar(value)}`' + (f' {unit}' if unit != '-' else '')
        row = f'| `{name}`{star} | {default} | {_domain(item)} | {description} |'
        groups.setdefault(name.rpartition('.')[0], []).append(row)
    sections = []
    for group, rows in groups.items():
        title = f'## `{group}`' if group else '## The node and the whole line'
        of = ' (of `monitor_node`)' if group == 'score' else ''
        head = '| parameter | default | accepts | meaning |\n|---|---|---|---|'
        sections.append(f'{title}{of}\n\n{head}\n' + '\n'.join(rows))
    return _DOCS_HEAD + '\n' + '\n\n'.join(sections) + '\n'


def render_launch(text: str) -> str:
    """Return a launch file with its arguments written anew."""
    items = {name: item for name, item, _ in iterate_params(PipelineConfig())}
    lines = ['PARAMETERS = {']
    for argument, parameter in LAUNCH_ARGUMENTS.items():
        item = items[parameter]
        description = _description(item)[0]
        if choices_of(item):
            description = f'{description}: {", ".join(choices_of(item))}'
        lines += [
            f'    {argument!r}: (',
            f'        {parameter!r},',
            f'        {type(item.default).__name__},',
            *(f'        {part}' for part in _string_parts(description)),
            '    ),',
        ]
    before, rest = text.split(_BEGIN)
    return before + _BEGIN + '\n'.join([*lines, '}', '']) + _END + rest.split(_END)[1]


def files() -> dict[Path, str]:
    """Return what each generated file has to hold."""
    launch = share_file('launch', 'predictor.launch.py')
    return {
        share_file('config', 'predictor.yaml'): render_yaml(),
        launch.parent.parent / 'docs' / 'parameters.md': render_docs(),
        launch: render_launch(launch.read_text(encoding='utf-8')),
    }


def _yaml_leaves(config: Any, indent: int) -> Iterator[str]:
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        if not dataclasses.is_dataclass(value):
            entry = f'{" " * indent}{item.name}: {_scalar(value)}'
            yield f'{entry:<{_COMMENT_COLUMN}}  # {_comment(item)}'


def _yaml_groups(config: Any, indent: int) -> Iterator[str]:
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        if dataclasses.is_dataclass(value) and any(iterate_params(value)):
            yield f'{" " * indent}{item.name}:'
            yield from _yaml_leaves(value, indent + 2)
            yield from _yaml_groups(value, indent + 2)


def _comment(item: Field[Any]) -> str:
    description, unit = _description(item)
    parts = [f'[{unit}]' if unit != '-' else '', '*' if item.metadata['dynamic'] else '']
    domain = _domain(item)
    return ' '.join([*filter(None, parts), description + (f'; {domain}' if domain else '')])


def _description(item: Field[Any]) -> tuple[str, str]:
    """Return what a parameter is, and its unit."""
    match = re.fullmatch(r'(.*) \[([^]]+)\]', item.metadata['description'])
    assert match is not None, item.name
    return match[1], match[2]


def _domain(item: Field[Any]) -> str:
    low, high, choices = item.metadata['low'], item.metadata['high'], choices_of(item)
    if choices:
        return ', '.join(choices)
    return '' if low is None or high is None else f'{_number(low)}..{_number(high)}'


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f'{value:g}'


def _scalar(value: Any) -> str:
    return yaml.safe_dump([value], default_flow_style=True, width=1000).strip()[1:-1]


def _string_parts(text: str, width: int = 84) -> list[str]:
    """Return a text as Python string literals of at most this width, which join to it."""
    words, lines = text.split(' '), ['']
    for word in words:
        if len(lines[-1]) + len(word) > width:
            lines.append('')
        lines[-1] += f'{word} '
    lines[-1] = lines[-1].rstrip()
    return [repr(line) for line in lines[:-1]] + [f'{lines[-1]!r},']


def main() -> int:
    """Write the files that differ; say which."""
    for path, text in files().items():
        if not path.is_file() or path.read_text(encoding='utf-8') != text:
            path.write_text(text, encoding='utf-8')
            sys.stdout.write(f'wrote {path}\n')
    return 0


if __name__ == '__main__':
    sys.exit(main())
