# SPDX-License-Identifier: Apache-2.0
"""Wrong options, files and data: one clear reason before the work begins."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest

from motion_predictor_ros.cli.main import main
from motion_predictor_ros.config import read_parameter_file
from motion_predictor_ros.data.recordings import load_recordings
from motion_predictor_ros.errors import ConfigError, DataError
from motion_predictor_ros.evaluation.tables import to_json

_EVALUATE = {
    name: ['evaluate', name, '--data', 'no.npz'] for name in ('mocap', 'separation', 'stochastic')
}
_WRONG = [
    (_EVALUATE['stochastic'], '--similar', 'nan', '0.5'),
    (_EVALUATE['stochastic'], '--samples', '0', '5'),
    (_EVALUATE['stochastic'], '--samples', '-5', '5'),
    (_EVALUATE['mocap'], '--threads', '-1', '1'),
    (['evaluate', 'bag', 'no.mcap'], '--report-html', 'FOLDER', 'FILE'),
    (['evaluate', 'bag', 'no.mcap'], '--out', 'FILE', 'FOLDER'),
    (_EVALUATE['separation'], '--plot', 'p.xyz', 'p.png'),
    (_EVALUATE['separation'], '--decisions', '0', '10'),
    (['adapt', '--bag', 'no', '--out', 'y', '--recipe', 'no'], '--minutes', 'nan', '1'),
    (['bench', 'capacity', '--bag', 'no.mcap', '--params', 'no'], '--seconds', 'inf', '1'),
    (['bench', 'pipeline', '--bag', 'no.mcap', '--params', 'no'], '--threads', '0', '1'),
]


@pytest.mark.parametrize(('command', 'option', 'wrong', 'right'), _WRONG)
def test_a_wrong_value_of_an_option_is_refused_by_the_parser(
    command: list[str],
    option: str,
    wrong: str,
    right: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Control: with a right value the missing input is the error."""
    (tmp_path / 'a').write_text('')
    places = {'FOLDER': str(tmp_path), 'FILE': str(tmp_path / 'a')}
    with pytest.raises(SystemExit) as ended:
        main([*command, option, places.get(wrong, wrong)])
    assert ended.value.code == 2
    assert f'argument {option}: ' in capsys.readouterr().err
    assert main([*command, option, places.get(right, right)]) == 2
    error = capsys.readouterr().err
    assert 'no' in error and option not in error and error.count('\n') == 1


def test_cuda_graphs_on_a_cpu_are_refused_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    command = ['bench', 'pipeline', '--bag', 'no.mcap', '--params', 'no', '--device', 'cpu']
    said = []
    for words in (['--cuda-graph'], []):
        assert main([*command, *words]) == 2
        said.append(capsys.readouterr().err)
    assert '--cuda-graph needs a GPU' in said[0]
    assert '--cuda-graph' not in said[1] and 'parameter file no' in said[1]  # control


@pytest.mark.parametrize(
    ('command', 'description'),
    [
        ('mocap', 'score a model on motion capture clips'),
        ('robustness', 'synthetic cameras: rates, noise, hidden joints'),
        ('streaming', 'solver iterations on streams, warm and cold'),
    ],
)
def test_help_describes_the_command_and_its_defaults(
    command: str, description: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Control: the help of another command, without a split."""
    texts = []
    for name in (command, 'cmu'):
        with pytest.raises(SystemExit):
            main(['evaluate', name, '--help'])
        texts.append(' '.join(capsys.readouterr().out.split()))
    for part in (description, "only clips of this split; '': all; default: test"):
        assert part in texts[0] and part not in texts[1]


def test_a_file_that_cannot_be_written_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, 'No space left on device', 'report.json')

    monkeypatch.setattr('motion_predictor_ros.evaluation.report.bag.evaluate_bag', full)
    assert main(['evaluate', 'bag', 'x.mcap']) == 2
    assert capsys.readouterr().err.count('\n') == 1

    def wrong(*_: object) -> None:
        raise LookupError

    monkeypatch.setattr('motion_predictor_ros.evaluation.report.bag.evaluate_bag', wrong)
    with pytest.raises(LookupError):  # control: errors of the program are not hidden
        main(['evaluate', 'bag', 'x.mcap'])


def test_reports_hold_null_where_a_figure_is_not_finite() -> None:
    report = {'a': float('nan'), 'b': [float('inf'), 1.5], 'c': {'d': (2, 'x')}}
    assert json.loads(to_json(report)) == {'a': None, 'b': [None, 1.5], 'c': {'d': [2, 'x']}}
    assert 'NaN' in json.dumps(report)  # control: not JSON


def clips(path: Path, scale: float = 1.0, fps: float | None = 25.0, holes: int = 0) -> Path:
    """Write clips of a stick of 1.5 m, the first `holes` of them with a joint missing."""
    poses = np.zeros((50, 2, 3), np.float32)
    poses[:, 1, 2] = 1.5 * scale
    arrays = {name: poses.copy() for name in ('ann', 'bob', 'cid')}
    for array in list(arrays.values())[:holes]:
        array[3, 1] = np.nan
    infos = {name: {'subject': name, 'split': 'test'} for name in arrays}
    meta = {'joint_names': ['hip', 'head'], 'clips': infos}
    if fps is not None:
        meta['fps'] = fps
    np.savez(path, __meta__=json.dumps(meta), **arrays)
    return path


@pytest.mark.parametrize(
    ('changes', 'said'),
    [
        ({'scale': 1000.0}, 'is the file in millimetres?'),
        ({'fps': -25.0}, 'no rate above 0'),
        ({'fps': None}, 'give fps, or knot_fps of each clip'),
    ],
)
def test_clips_in_another_unit_or_without_a_rate_are_refused(
    changes: dict[str, float], said: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=said.replace('?', r'\?')):
        load_recordings(clips(tmp_path / 'wrong.npz', **changes))
    assert len(load_recordings(clips(tmp_path / 'right.npz')).clips) == 3  # control


def test_a_text_file_named_npz_is_refused_without_words_of_pickle(tmp_path: Path) -> None:
    text = tmp_path / 'text.npz'
    text.write_text('joint x y z')
    with pytest.raises(DataError, match='not a zip of arrays') as refused:
        load_recordings(text)
    assert 'pickle' not in str(refused.value)
    with pytest.raises(ValueError, match='pickle'):  # control: numpy's words
        np.load(text, allow_pickle=False)


@pytest.mark.parametrize('holes', [0, 2])
def test_clips_left_out_are_counted(
    holes: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Control: of whole clips nothing is logged."""
    with caplog.at_level(logging.WARNING):
        read = load_recordings(clips(tmp_path / 'clips.npz', holes=holes))
    assert len(read.clips) == 3 - holes
    assert [text.split(',')[0] for text in caplog.messages] == (
        ['2 of 3 clips are left out'] if holes else []
    )


def test_a_split_that_no_clip_has_is_refused_with_those_there_are(tmp_path: Path) -> None:
    read = load_recordings(clips(tmp_path / 'clips.npz'))
    with pytest.raises(DataError, match=r"no clip of split 'tset'; the file has \['test'\]"):
        read.of_split('tset')
    assert len(read.of_split('test').clips) == len(read.of_split('').clips) == 3  # control


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        (None, 'No such file'),
        ('a: [1\nb: {', 'cannot be read as YAML'),
        ('/**:\n  ros__parameters:\n    volume: {promis: risk}\n', 'promis'),
    ],
)
def test_a_wrong_parameter_file_is_one_line_with_its_name(
    text: str | None, said: str, tmp_path: Path
) -> None:
    path = tmp_path / 'params.yaml'
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=said) as refused:
        read_parameter_file(path)
    message = str(refused.value)
    assert str(path) in message and '\n' not in message and 'Errno' not in message
    path.write_text('/**:\n  ros__parameters:\n    volume: {promise: risk}\n')  # control
    assert read_parameter_file(path).volume.promise == 'risk'
