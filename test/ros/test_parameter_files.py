# SPDX-License-Identifier: Apache-2.0
"""What `make params` writes is what the declarations say now."""

import ast
from pathlib import Path

import parameter_files
import pytest
import yaml

from motion_predictor_ros.config import PipelineConfig, iterate_params
from motion_predictor_ros.resources import share_file
from motion_predictor_ros.ros.parameters import NodeConfig


@pytest.mark.parametrize('path', parameter_files.files(), ids=lambda path: path.name)
def test_a_generated_file_is_as_the_declarations_are(path: Path) -> None:
    assert path.read_text(encoding='utf-8') == parameter_files.files()[path], 'run `make params`'


def test_a_changed_declaration_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    now = parameter_files.files()
    monkeypatch.setattr(parameter_files, 'NodeConfig', lambda: NodeConfig(queue=7))
    changed = [path.name for path, text in parameter_files.files().items() if text != now[path]]
    assert changed == ['predictor.yaml', 'parameters.md']
    monkeypatch.setitem(parameter_files.LAUNCH_ARGUMENTS, 'up', 'skeleton.up')
    launch = share_file('launch', 'predictor.launch.py').read_text(encoding='utf-8')
    assert parameter_files.render_launch(launch) != launch


def test_every_parameter_is_in_the_table_and_in_the_file() -> None:
    names = {
        name for each in (PipelineConfig(), NodeConfig()) for name, *_ in iterate_params(each)
    }
    table = parameter_files.render_docs()
    assert [name for name in names if f'| `{name}`' not in table] == []
    assert yaml.safe_load(parameter_files.render_yaml())['/**']['ros__parameters']['queue'] == 50


def test_launch_arguments_have_the_type_of_their_parameter() -> None:
    text = share_file('launch', 'predictor.launch.py').read_text(encoding='utf-8')
    (node,) = [
        each.value
        for each in ast.parse(text).body
        if isinstance(each, ast.Assign) and ast.unparse(each.targets[0]) == 'PARAMETERS'
    ]
    types = {
        ast.unparse(key): ast.unparse(value.elts[1])
        for key, value in zip(node.keys, node.values, strict=True)
    }  # type: ignore[attr-defined]
    assert types["'associate'"] == 'bool' and types["'source'"] == 'str'
