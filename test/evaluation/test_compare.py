# SPDX-License-Identifier: Apache-2.0
"""Results survive an archive and are summarised as numpy would."""

import csv
import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from models import write_weights
from rich.console import Console
from scenes import stream, write_bag
from walkers import walkers

from motion_predictor_ros.cli.main import main
from motion_predictor_ros.errors import DataError
from motion_predictor_ros.evaluation.archive import (
    Archive,
    Figures,
    add_horizons,
    name_cases,
)
from motion_predictor_ros.evaluation.compare import (
    choose_method,
    compare,
    print_comparison,
    statistics,
)

HORIZONS_S = 0.04 * np.arange(1, 26)


def archive(scale: float, cases: int = 7, kind: str = 'bag') -> Archive:
    figures = Figures()
    errors_mm = 1000.0 * scale * np.random.default_rng(0).uniform(size=(cases, 25))
    add_horizons(figures, 'motion_deq', [f'ann@{n}' for n in range(cases)], errors_mm, HORIZONS_S)
    return figures.archive(kind, {'frames': 9})


def save(path: Path, kept: Archive) -> str:
    kept.save(path)
    return str(path)


def test_statistics_are_those_of_the_errors() -> None:
    found = statistics(np.array([1.0, 2.0, 6.0]))
    assert found == pytest.approx(
        {
            'cases': 3,
            'rmse': np.sqrt(41 / 3),
            'mean': 3.0,
            'median': 2.0,
            'std': np.sqrt(14 / 3),
            'min': 1.0,
            'max': 6.0,
        }
    )


def test_an_archive_survives_a_round_trip(tmp_path: Path) -> None:
    kept = archive(0.1)
    read = Archive.load(Path(save(tmp_path / 'deep' / 'a.zip', kept)))
    assert (read.kind, read.report, read.cases) == ('bag', kept.report, kept.cases)
    assert (read.measures, read.units) == (kept.measures, kept.units)
    np.testing.assert_array_equal(read.values['motion_deq'], kept.values['motion_deq'])


def test_missing_values_of_a_case_do_not_count() -> None:
    figures = Figures()
    figures.add('ours', 'volume', 'm^3', ['a', 'c'], [2.0, 4.0])
    figures.add('ours', 'covered', '', ['a', 'b', 'c'], [1.0, 0.0, 1.0])
    figures.add('reachable', 'volume', 'm^3', ['c'], [9.0])
    kept = figures.archive('volume', {})
    assert kept.cases == ('a', 'c', 'b') and np.isnan(kept.values['ours'][2, 0])
    found = compare({'x': kept})['x']
    assert (found['ours']['volume']['cases'], found['ours']['volume']['mean']) == (2, 3.0)
    assert found['ours']['covered']['mean'] == pytest.approx(2 / 3)
    assert found['ours']['volume']['unit'] == 'm^3' and 'covered' not in found['reachable']


def test_cases_are_named_by_their_observation() -> None:
    windows = np.random.default_rng(0).normal(size=(3, 4, 2, 3))
    names = name_cases([*windows, windows[0]])
    assert len(set(names)) == 4 and names[3].startswith(names[0])
    assert name_cases(windows[::-1]) == names[2::-1]


def test_different_evaluations_and_unknown_methods_are_refused() -> None:
    with pytest.raises(DataError, match='a: evaluate bag, b: evaluate cmu'):
        compare({'a': archive(0.1), 'b': archive(0.1, kind='cmu')})
    found = compare({'a': archive(0.1)})
    assert choose_method(found) == choose_method(found, 'motion_deq') == 'motion_deq'
    with pytest.raises(DataError, match=r"'nobody'.*motion_deq"):
        choose_method(found, 'nobody')


def test_errors_are_compared_in_millimetres_at_the_reported_horizons() -> None:
    kept = archive(0.1)
    row = compare({'a': kept})['a']['motion_deq']
    assert list(row) == ['80', '160', '320', '400', '560', '1000']
    assert row['400']['mean'] == pytest.approx(kept.values['motion_deq'][:, 9].mean())
    assert row['400']['unit'] == 'mm'


def test_the_table_shows_each_archive_at_each_horizon() -> None:
    said = io.StringIO()
    found = compare({'a[b]': archive(0.1), 'c': archive(0.2)})
    print_comparison(found, 'motion_deq', Console(file=said, width=120))
    assert said.getvalue().count('a[b]') == 6
    assert f'{found["c"]["motion_deq"]["1000"]["rmse"]:.1f}' in said.getvalue()


@pytest.mark.parametrize('content', [b'', b'no zip', None])
def test_a_file_that_is_no_archive_is_an_error(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / 'a.zip'
    if content is None:
        with zipfile.ZipFile(path, 'w') as wrong:
            wrong.writestr('other.json', '{}')
    else:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r'a\.zip.*--archive'):
        Archive.load(path)


def test_bags_are_compared_from_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = write_bag(tmp_path / 'walk.mcap', stream(0.0, 2.5, 'ann', rate_hz=20.0))
    weights = write_weights(tmp_path / 'tiny.safetensors')
    first = str(tmp_path / 'a.zip')
    own = tmp_path / 'own.csv'
    options = ['--weights', str(weights), '--archive', first, '--csv', str(own), '--json']
    assert main(['evaluate', 'bag', str(bag), *options]) == 0
    report = json.loads(capsys.readouterr().out)
    assert len(list(csv.DictReader(own.open()))) == 3 * 6
    second = save(tmp_path / 'b.zip', archive(0.1))
    table = tmp_path / 'out' / 'table.csv'
    assert main(['evaluate', 'compare', first, second, '--csv', str(table), '--json']) == 0
    found = json.loads(capsys.readouterr().out)
    assert found['same_cases'] is False
    for method, errors in report['mpjpe_mm'].items():
        for ms, error in errors.items():
            assert found['archives'][first][method][ms]['mean'] == pytest.approx(error)
    rows = list(csv.DictReader(table.open()))
    assert len(rows) == 3 * 6 + 6
    assert rows[0]['measure'] == '80' and rows[0]['unit'] == 'mm'
    assert float(rows[0]['max']) >= float(rows[0]['rmse']) >= float(rows[0]['mean'])
    assert main(['evaluate', 'compare', first, first, '--json']) == 0
    assert json.loads(capsys.readouterr().out)['same_cases'] is True


def test_a_missing_archive_ends_in_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['evaluate', 'compare', 'gone.zip']) == 2
    assert 'gone.zip' in capsys.readouterr().err


def test_a_missing_method_ends_in_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = save(tmp_path / 'a.zip', archive(0.1))
    assert main(['evaluate', 'compare', first, '--method', 'nobody']) == 2
    assert capsys.readouterr().err.count('\n') == 1
    assert main(['evaluate', 'compare', first]) == 0
    assert '400 ms' in capsys.readouterr().out


def write_clips(path: Path) -> Path:
    people = walkers()
    clips = {f'{at}': people.positions[200 * at : 200 * (at + 1)] for at in range(2)}
    meta = {
        'joint_names': people.joint_names,
        'fps': 50.0,
        'attribution': [],
        'clips': {name: {'subject': name, 'split': 'test'} for name in clips},
    }
    np.savez(path, __meta__=np.array(json.dumps(meta)), **clips)
    return path


def test_mocap_keeps_every_window(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_clips(tmp_path / 'clips.npz')
    weights = write_weights(tmp_path / 'tiny.safetensors')
    kept = tmp_path / 'a.zip'
    options = ['--data', str(data), '--checkpoint', str(weights)]
    command = ['evaluate', 'mocap', *options, '--archive', str(kept), '--json']
    assert main(command) == 0
    report = json.loads(capsys.readouterr().out)
    archived = Archive.load(kept)
    assert len(archived.cases) == report['windows'] and archived.report == report
    found = compare({'a': archived})['a']
    for method in ('motion_deq', 'constant_velocity', 'repeat_last'):
        for ms, error in report[method]['mpjpe_mm'].items():
            assert found[method][ms]['mean'] == pytest.approx(error)
