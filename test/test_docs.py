# SPDX-License-Identifier: Apache-2.0
"""The documents' commands parse, and their targets and files exist.

Every line of a fenced block in README.md and docs/ must be of a kind known here. Checks:
    motion-predictor ...   parsed by the real parser; `RUN` lists commands that a test also runs
    make TARGET [VAR=...]  target and variables are in the Makefile
    ros2 launch ...        the launch file exists and declares the arguments; running needs ROS 2
    parameter files        every name is the node's, every value within its range
    ros2 run ...           the executable is in setup.py; running needs ROS 2
    others                 listed in `NOT_RUN` with the reason
"""

import argparse
import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from motion_predictor_ros.cli.main import _parser
from motion_predictor_ros.config import read_parameter_file

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted([*ROOT.glob('*.md'), *ROOT.glob('docs/**/*.md'), *ROOT.glob('weights/*.md')])
FENCED = [ROOT / 'README.md', *sorted(ROOT.glob('docs/**/*.md'))]

NOT_RUN = {
    'sudo apt': 'changes the machine',
    'git clone': 'needs the network',
    'python3 -m venv': 'needs ROS 2 installed beside it',
    'touch ': 'needs a ROS 2 workspace',
    'pip install': 'changes the environment; the file it names must exist',
    'cd ': 'needs a ROS 2 workspace',
    'source ': 'needs ROS 2',
    'ros2 topic': 'needs ROS 2 and a running node',
    'ros2 param': 'needs ROS 2 and a running node',
    'ros2 lifecycle': 'needs ROS 2 and a running node',
    'ros2 service': 'needs ROS 2 and a running node',
    'ros2 bag': 'needs ROS 2',
    'colcon ': 'needs ROS 2',
    'rosdep ': 'needs ROS 2',
    'chromium ': 'needs Chromium',
}
"""How commands begin that no test can run, and why."""

RUN = {
    'demo': 'cli/test_cli.py',
    'adapt': 'adapt/test_adapt.py',
    'calibrate': 'evaluation/volumes/test_volume.py',
    'build-cache': 'evaluation/futures/test_stochastic.py',
    'bench capacity': 'bench/test_capacity.py',
    'bench pipeline': 'bench/test_pipeline.py',
    'bench persons': 'bench/test_pipeline.py',
    'bench motion-deq': 'bench/test_pipeline.py',
    'bench cache': 'bench/test_pipeline.py',
    'evaluate bag': 'cli/test_cli.py',
    'evaluate mocap': 'evaluation/motion/test_mocap.py',
    'evaluate cmu': 'evaluation/motion/test_cmu.py',
    'evaluate stochastic': 'evaluation/futures/test_stochastic.py',
    'evaluate volume': 'evaluation/volumes/test_volume.py',
    'train motion-deq': 'evaluation/motion/test_cmu.py',
    'train cache-flow': 'evaluation/futures/test_stochastic.py',
    'train conditional-vae': 'evaluation/futures/test_stochastic.py',
    'train latent-mixture': 'evaluation/futures/test_stochastic.py',
    'bench memory': 'bench/test_memory.py',
    'bench density': 'bench/test_density.py',
    'bench volume': 'evaluation/volumes/test_volume.py',
}
"""Which test runs a command, on small data; the arguments of the others are parsed, no more."""

_SPAN = re.compile(r'`([^`\n]+)`')
_FENCE = re.compile(r'^ *```(\w*)\n(.*?)^ *```', re.MULTILINE | re.DOTALL)
_LINK = re.compile(r'\]\(([^)\s]+)\)')
_FILE = re.compile(r'^[\w./-]+/[\w.-]+\.(?:md|py|yaml|png|mcap|msg|srv|npz|safetensors|html|js)$')
_MADE_BY_COMMANDS = tuple(
    f'demo/{name}' for name in ('report.html', 'report.json', 'scene.png', 'live.mcap')
)
_PLACES = ('', 'motion_predictor_ros', 'docs', 'weights', 'test')


def fenced_lines(path: Path) -> list[str]:
    """Return the commands of shell blocks, continued lines joined, comments left out."""
    lines: list[str] = []
    for kind, block in _FENCE.findall(path.read_text(encoding='utf-8')):
        if kind == 'bash':
            lines += block.replace('\\\n', ' ').splitlines()
    return [line.strip() for line in lines if line.strip() and not line.strip().startswith('#')]


def spans(path: Path) -> list[str]:
    """Return code within the text."""
    return _SPAN.findall(_FENCE.sub('', path.read_text(encoding='utf-8')))


def parts(line: str) -> list[str]:
    """Return the commands joined by && or |, without comments and environment."""
    bare = re.sub(r'\s#\s.*$', '', line)
    return [re.sub(r'^(?:\w+=\S+ )+', '', part.strip()) for part in re.split(r'&&|\|', bare)]


def words_of(command: str) -> list[str]:
    """Return the arguments of a documented motion-predictor command, optional ones included."""
    after = command.split('motion-predictor ', 1)[1]
    after = re.sub(r'\[([^\]]*)\]', r'\1', after).replace('...', '')
    return shlex.split(after)


def leaves(
    parser: argparse.ArgumentParser, name: str = ''
) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Yield every command and its parser."""
    inner = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    if not inner:
        yield name, parser
    for action in inner:
        for word, item in action.choices.items():
            yield from leaves(item, f'{name} {word}'.strip())


def misread(command: str, *, whole: bool) -> str:
    """Return why a documented command would not be understood; '' if it would.

    Args:
        whole: Whether required arguments must be there.
    """
    words = words_of(command)
    known = dict(leaves(_parser()))
    name = next((n for n in (' '.join(words[:2]), words[0]) if n in known), '')
    if not name:
        group = any(item.startswith(f'{words[0]} ') for item in known)
        return '' if group and len(words) == 1 and not whole else f'no command {command!r}'
    given = words[len(name.split()) :]
    options = {flag: action for action in known[name]._actions for flag in action.option_strings}
    for place, word in enumerate(given[1:], start=1):
        action = options.get(given[place - 1])
        if action is not None and re.fullmatch(r'[A-Z]+', word):
            given[place] = _example(action, word)
    try:
        known[name].exit_on_error = False
        _, unknown = known[name].parse_known_args(given)
    except argparse.ArgumentError as error:
        return str(error)
    except SystemExit:
        return f'required arguments are missing in {command!r}' if whole else ''
    return f'{unknown} unknown to {name!r}' if unknown else ''


def _example(action: argparse.Action, placeholder: str) -> str:
    if action.choices:
        return str(next(iter(action.choices)))
    return '1' if action.type in (int, float) else placeholder


def makefile_misses(command: str) -> list[str]:
    """Return targets and variables of a `make ...` that are not in the Makefile."""
    makefile = (ROOT / 'Makefile').read_text(encoding='utf-8')
    targets = set(re.findall(r'^([a-z0-9-]+):', makefile, re.MULTILINE))
    variables = set(re.findall(r'\$[({](?:or \$[({])?(\w+)', makefile))
    variables |= set(re.findall(r'^(\w+) \?=', makefile, re.MULTILINE))
    words = shlex.split(re.sub(r'[\[\]]', '', command))[1:]
    named = [word.split('=')[0] for word in words if '=' in word]
    return [word for word in words if '=' not in word and word not in targets] + [
        name for name in named if name not in variables
    ]


def launch_misses(command: str) -> list[str]:
    """Return missing files and arguments of a `ros2 launch` or `ros2 run`."""
    words = shlex.split(command)
    if words[1] == 'run':
        setup = (ROOT / 'setup.py').read_text(encoding='utf-8')
        return [] if f"'{words[3]} = " in setup else [words[3]]
    path = ROOT / 'launch' / words[3]
    if not path.is_file():
        return [words[3]]
    text = path.read_text(encoding='utf-8')
    given = [word.split(':=')[0] for word in words[4:]]
    sides = re.sub(r'\{side\}', 'left', text) + re.sub(r'\{side\}', 'right', text)
    return [name for name in given if not re.search(rf"'{name}'", sides)]


def check(part: str) -> str:
    """Return the fault of one command in a fenced block; '' if there is none."""
    if 'motion-predictor ' in part:
        return misread(part, whole=True)
    if 'motion_predictor_ros.cli ' in part:
        return misread(part.replace('motion_predictor_ros.cli ', 'motion-predictor '), whole=True)
    if part.startswith('make '):
        return ', '.join(makefile_misses(part))
    if part.startswith(('ros2 launch ', 'ros2 run ')):
        return ', '.join(launch_misses(part))
    if part.startswith(tuple(NOT_RUN)):
        file = re.search(r'-r \S*motion_predictor_ros/(\S+)', part)
        return f'no {file[1]}' if file and not (ROOT / file[1]).is_file() else ''
    return f'unknown kind of command: {part!r}'


def file_misses(path: Path) -> list[str]:
    """Return linked and named files of a document that do not exist."""
    text = path.read_text(encoding='utf-8')
    linked = [item for item in _LINK.findall(text) if not item.startswith(('http', '#'))]
    gone = [one_item for one_item in linked if not (path.parent / one_item.split('#')[0]).exists()]
    named = [span for span in spans(path) if _FILE.match(span) and 'runs/' not in span]
    return gone + [item_ for item_ in named if not _is_there(item_)]


def _is_there(name: str) -> bool:
    if name in _MADE_BY_COMMANDS or re.search(r'[A-Z]{4}', name):
        return True
    return any((ROOT / place / name).exists() for place in _PLACES)


@pytest.mark.parametrize('path', FENCED, ids=lambda path: path.name)
def test_every_command_in_a_block_is_one_that_exists(path: Path) -> None:
    wrong = [
        f'{line}: {fault}'
        for line in fenced_lines(path)
        for part in parts(line)
        if (fault := check(part))
    ]
    assert wrong == []


@pytest.mark.parametrize('path', DOCUMENTS, ids=lambda path: path.name)
def test_every_command_named_in_the_text_exists(path: Path) -> None:
    wrong = []
    for span in spans(path):
        if re.match(r'(\S*/)?motion-predictor \w', span):
            wrong.append(misread(span, whole=False))
        if re.match(r'make [a-z]', span):
            wrong += makefile_misses(span)
        if span.startswith('ros2 launch '):
            wrong += launch_misses(span)
    assert [item for item in wrong if item] == []


@pytest.mark.parametrize(
    'path',
    [path for path in DOCUMENTS if path.name != 'CHANGELOG.md'],  # which names former files too
    ids=lambda path: path.name,
)
def test_every_file_that_is_linked_or_named_exists(path: Path) -> None:
    assert file_misses(path) == []


def parameter_blocks(path: Path) -> list[str]:
    """Return blocks that are ROS parameter files."""
    blocks = [block for kind, block in _FENCE.findall(path.read_text('utf-8')) if kind == 'yaml']
    return [block for block in blocks if 'ros__parameters' in block]


def dotted(values: dict[str, Any], prefix: str = '') -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from dotted(value, f'{prefix}{name}.')
        else:
            yield f'{prefix}{name}'


def unknown_parameters(block: str) -> set[str]:
    """Return parameters that the node does not have."""
    shipped = yaml.safe_load((ROOT / 'config' / 'predictor.yaml').read_text('utf-8'))
    known = set(dotted(shipped['/**']['ros__parameters']))
    return set(dotted(yaml.safe_load(block)['/**']['ros__parameters'])) - known


@pytest.mark.parametrize('path', FENCED, ids=lambda path: path.name)
def test_parameter_files_in_the_text_load(path: Path, tmp_path: Path) -> None:
    for block in parameter_blocks(path):
        file = tmp_path / 'people.yaml'
        file.write_text(block)
        assert not unknown_parameters(block)
        read_parameter_file(file)


def pip_before_rosdep(text: str) -> bool:
    """Whether a document has pip install into a workspace that rosdep has not seen."""
    return 'rosdep install' in text and 'pip install' in text.partition('rosdep install')[0]


@pytest.mark.parametrize('path', FENCED, ids=lambda path: path.name)
def test_rosdep_comes_before_pip_which_would_break_ubuntus_matplotlib(path: Path) -> None:
    assert not pip_before_rosdep(path.read_text('utf-8'))


def test_pip_before_rosdep_is_found_and_keys_that_exist_are_in_the_manifest() -> None:
    assert pip_before_rosdep('pip install -r requirements.txt\nrosdep install --from-paths src')
    manifest = (ROOT / 'package.xml').read_text('utf-8')
    keys = ('python3-torch', 'python3-rich', 'python3-numba')
    assert all(f'<exec_depend>{key}</exec_depend>' in manifest for key in keys)


def test_an_unknown_parameter_is_found() -> None:
    assert sum(len(parameter_blocks(path)) for path in FENCED) >= 1
    assert unknown_parameters('/**: {ros__parameters: {volume: {enable: true}}}')
    assert not unknown_parameters('/**: {ros__parameters: {volume.enabled: always}}')


def test_commands_and_files_that_do_not_exist_are_found(tmp_path: Path) -> None:
    assert check('.venv/bin/motion-predictor evaluate bag BAG [--source NAME] [--json]') == ''
    assert "['--colour'] unknown" in check('motion-predictor evaluate bag BAG --colour')
    assert 'required' in check('motion-predictor evaluate mocap --json')
    assert 'invalid choice' in check('motion-predictor evaluate bag BAG --source kinect')
    assert 'must be a whole number' in check('motion-predictor adapt --bag A --out B --steps many')
    assert 'no command' in check('motion-predictor evaluate bags BAG')
    assert misread('motion-predictor evaluate mocap', whole=False) == ''
    assert misread('motion-predictor evaluate mokap', whole=False)
    assert check('make golden') == '' and check('make gold') == 'gold'
    assert check('make soak MINUTES=3') == '' and check('make soak HOURS=3') == 'HOURS'
    launch = 'ros2 launch motion_predictor_ros'
    assert check(f'{launch} two_cameras.launch.py left_input:=/a fixed_frame:=b') == ''
    assert check(f'{launch} two_cameras.launch.py middle_input:=/a') == 'middle_input'
    assert check(f'{launch} three_cameras.launch.py') == 'three_cameras.launch.py'
    assert check('ros2 run motion_predictor_ros play_bags') == 'play_bags'
    assert check('rm -rf /').startswith('unknown kind of command')
    document = tmp_path / 'x.md'
    document.write_text('[a](gone.png) `docs/gone.md` `docs/data.md` [b](x.md)')
    assert file_misses(document) == ['gone.png', 'docs/gone.md']


def test_listed_commands_are_run_by_their_tests() -> None:
    assert {name for name, _ in leaves(_parser())} >= set(RUN)
    for name, file in RUN.items():
        text = (ROOT / 'test' / file).read_text(encoding='utf-8')
        missing = [word for word in name.split() if f"'{word}'" not in text]
        assert re.search(r'(main|cli)\(\[', text) and not missing, name


_REFUSES = {'SkeletonFormatError': 0, 'Rejection': 1, '_drop': 0}
"""Which argument is the reason."""


def drop_reasons(source: str) -> set[str]:
    """Return the reasons for which a module drops messages or people."""
    calls = [item for item in ast.walk(ast.parse(source)) if isinstance(item, ast.Call)]
    found: set[str] = set()
    for call in calls:
        place = _REFUSES.get(getattr(call.func, 'id', getattr(call.func, 'attr', '')))
        if place is not None and len(call.args) > place:
            inner = [
                one_item
                for one_item in ast.walk(call.args[place])
                if isinstance(one_item, ast.Constant)
            ]
            found |= {part.value for part in inner if re.fullmatch('[a-z_]+', str(part.value))}
    return found


def test_every_reason_to_drop_something_is_in_the_table_of_faults() -> None:
    table = (ROOT / 'docs' / 'faults.md').read_text(encoding='utf-8')
    line = ('skeleton', 'pipeline.py', 'ros/predictor_node.py')
    package = [ROOT / 'motion_predictor_ros' / item for item in line]
    files = [
        one_path
        for path in package
        for one_path in ([path] if path.suffix else path.rglob('*.py'))
    ]
    reasons = set().union(*(drop_reasons(file.read_text(encoding='utf-8')) for file in files))
    assert len(reasons) > 15
    assert [reason for reason in sorted(reasons) if f'`drops.{reason}`' not in table] == []


def test_drop_reasons_are_found_in_source_code() -> None:
    assert drop_reasons("raise SkeletonFormatError('a' if x else 'b', 'said')") == {'a', 'b'}
    assert drop_reasons("self._drop(Rejection(who, 'c', said)); other('d')") == {'c'}
