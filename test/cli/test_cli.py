# SPDX-License-Identifier: Apache-2.0
"""The command line: JSON alone on stdout, one clear line on stderr, exit codes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from models import write_weights
from scenes import stream, write_bag

from motion_predictor_ros.cli.main import main


@pytest.fixture(scope='module')
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_weights(tmp_path_factory.mktemp('weights') / 'tiny.safetensors')


@pytest.fixture(scope='module')
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp('bag') / 'walk.mcap'
    return write_bag(path, stream(0.0, 3.0, 'ann'))


def test_json_of_a_bag_is_alone_on_stdout_and_repeatable(
    bag: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reports = []
    for _ in range(2):
        assert main(['evaluate', 'bag', str(bag), '--weights', str(weights), '--json']) == 0
        report = json.loads(capsys.readouterr().out)
        report.pop('latency_ms')
        reports.append(report)
    assert reports[0] == reports[1]
    assert reports[0]['frames'] == 90


def closed_pipe() -> int:
    """Return the writing end of a pipe whose reader is gone, as after `| head`."""
    reader, writer = os.pipe()
    os.close(reader)
    return writer


@pytest.mark.parametrize('form', [['--json'], []])
def test_a_report_into_a_closed_pipe_ends_without_a_traceback(
    bag: Path, weights: Path, form: list[str]
) -> None:
    """As `| head` does. Control: Python's own way to end after a print into a closed pipe."""
    words = ['evaluate', 'bag', str(bag), *form, '--weights', str(weights)]
    evaluates = [sys.executable, '-m', 'motion_predictor_ros.cli', *words]
    for command, quiet in ((evaluates, True), ([sys.executable, '-c', 'print(1)'], False)):
        writer = closed_pipe()
        ended = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True)
        os.close(writer)
        assert (ended.stderr == '') == quiet
        assert ended.returncode == 1 if quiet else ended.returncode


def test_nothing_to_score_names_the_reasons_in_words(
    bag: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    params = tmp_path / 'map.yaml'
    params.write_text('/**:\n  ros__parameters:\n    fixed_frame: map\n')
    words = ['--weights', str(weights), '--params', str(params)]
    assert main(['evaluate', 'bag', str(bag), *words]) == 2
    error = capsys.readouterr().err
    assert 'nothing to score in 90 messages' in error
    assert '90 x dropped as no_transform, first: ' in error and "'map'" in error
    short = write_bag(tmp_path / 'short.mcap', stream(0.0, 1.5, 'ann'))
    assert main(['evaluate', 'bag', str(short), '--weights', str(weights)]) == 2
    assert 'x WARMING_UP, first: ' in capsys.readouterr().err


def test_a_damaged_bag_is_scored_as_far_as_it_can_be_read(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = write_bag(tmp_path / 'whole.mcap', stream(0.0, 4.0, 'ann'))
    damaged = tmp_path / 'damaged.mcap'
    damaged.write_bytes(whole.read_bytes()[:-1])
    words = ['--weights', str(weights), '--json']
    frames, not_read = [], []
    for path in (whole, damaged):
        assert main(['evaluate', 'bag', str(path), *words]) == 0
        report = json.loads(capsys.readouterr().out)
        frames.append(report['frames'])
        not_read.append(report.get('not_read'))
    assert frames[0] == frames[1] == 120
    assert not_read[0] is None and 'cut off inside the record' in not_read[1][0]


def test_out_holds_report_and_picture_and_the_page_has_its_path(
    bag: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / 'pages' / 'report.html'
    options = ['--weights', str(weights), '--out', str(tmp_path), '--report-html', str(page)]
    assert main(['evaluate', 'bag', str(bag), *options]) == 0
    assert 'constant velocity' in capsys.readouterr().out
    assert json.loads((tmp_path / 'report.json').read_text())['frames'] == 90
    assert (tmp_path / 'scene.png').is_file()
    assert '<title>Motion prediction: walk.mcap</title>' in page.read_text()


@pytest.mark.parametrize(
    ('arguments', 'said'),
    [
        (['evaluate', 'bag', 'gone.mcap'], 'gone.mcap'),
        (['evaluate', 'mocap', '--data', 'gone.npz'], 'gone.npz'),
        (['evaluate', 'bag', 'BAG', '--weights', 'gone'], 'gone'),
        (['evaluate', 'bag', 'BAG', '--device', 'tpu'], 'tpu'),
        (['train', 'motion-deq', '--recipe', 'no', '--data', 'x', '--out', 'y'], "'no'"),
    ],
)
def test_a_user_error_is_one_line_and_exit_code_2(
    arguments: list[str],
    said: str,
    bag: Path,
    weights: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = [str(bag) if each == 'BAG' else each for each in arguments]
    if 'bag' in arguments and '--weights' not in arguments:
        arguments += ['--weights', str(weights)]
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ''
    assert said in captured.err and 'Traceback' not in captured.err
    assert captured.err.count('\n') == 1


def test_a_cut_bag_is_an_error(
    bag: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / 'cut.mcap'
    path.write_bytes(bag.read_bytes()[:9000])
    assert main(['evaluate', 'bag', str(path), '--weights', str(weights)]) == 2
    assert 'cut.mcap' in capsys.readouterr().err


def test_the_demo_without_ros_names_the_alternative(
    bag: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, 'rclpy', None)
    monkeypatch.delitem(sys.modules, 'motion_predictor_ros.ros.tools.demo', raising=False)
    assert main(['demo', '--bag', str(bag), '--out', str(tmp_path)]) == 2
    assert '`evaluate bag` works without' in capsys.readouterr().err


@pytest.mark.parametrize('command', [[], ['evaluate', 'bag'], ['evaluate', 'cmu']])
def test_help_lists_exit_codes(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*command, '--help'])
    assert ended.value.code == 0
    assert 'exit codes: 0 done; 1 interrupted, or stdout closed; 2' in ' '.join(
        capsys.readouterr().out.split()
    )


def test_a_wrong_option_is_exit_code_2_and_an_interrupt_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(['evaluate', 'bag', '--no-such-option'])
    assert ended.value.code == 2

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr('motion_predictor_ros.evaluation.report.bag.evaluate_bag', interrupted)
    assert main(['evaluate', 'bag', 'a.mcap', '--no-volumes']) == 1


@pytest.mark.slow
def test_warm_up_compiles_once_per_cache(tmp_path: Path) -> None:
    environment = {**os.environ, 'NUMBA_CACHE_DIR': str(tmp_path)}
    command = [sys.executable, '-m', 'motion_predictor_ros.cli', 'warm-up']
    said = [
        subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    ]
    assert said[0].startswith('compiled') and 'kernels in' in said[0]
    assert said[1] == 'compiled already\n'
    # One file a kernel: what is compiled ahead has the types that the pipeline calls.
    indices, machine_code = (len(list(tmp_path.rglob(name))) for name in ('*.nbi', '*.nbc'))
    assert indices == machine_code > 10
    walk = [sys.executable, '-c', _WALK]
    first = subprocess.run(walk, env=environment, capture_output=True, text=True, check=True)
    assert first.stdout == '2 volumes\n'  # nothing compiles when people come


_WALK = """
from motion_predictor_ros.bench.crowd import Crowd
from motion_predictor_ros.config import PipelineConfig
from motion_predictor_ros.pipeline import Pipeline
from motion_predictor_ros.resources import share_file
from motion_predictor_ros.runtime.jit import log_compilation

pipeline = Pipeline.load(PipelineConfig())
with log_compilation(print):
    messages = Crowd(share_file('demo', 'demo.mcap')).messages(2, 60)
    volumes = [scene.volumes for message in messages if (scene := pipeline.step(message))]
print(len(next(filter(None, reversed(volumes)))), 'volumes')
"""
