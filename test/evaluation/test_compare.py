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

from motion_predictor_ros.cli import main
from motion_predictor_ros.errors import DataError
from motion_predictor_ros.evaluation.archive import Archive
from motion_predictor_ros.evaluation.compare import compare, print_comparison, statistics

HORIZONS_S = 0.04 * np.arange(1, 26)


def archive(scale: float, cases: int = 7) -> Archive:
    errors = scale * np.random.default_rng(0).uniform(size=(cases, 25))
    stamps_ns = np.arange(cases, dtype=np.int64)
    return Archive({'frames': 9}, HORIZONS_S, stamps_ns, ('ann',) * cases, {'motion_deq': errors})


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


def test_an_archive_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    kept = archive(0.1)
    read = Archive.load(Path(save(tmp_path / 'deep' / 'a.zip', kept)))
    assert (read.report, read.people) == (kept.report, kept.people)
    np.testing.assert_array_equal(read.stamps_ns, kept.stamps_ns)
    np.testing.assert_array_equal(read.errors['motion_deq'], kept.errors['motion_deq'])


def test_errors_are_compared_in_millimetres_at_the_reported_horizons() -> None:
    kept = archive(0.1)
    row = compare({'a': kept})['a']['motion_deq']
    assert list(row) == ['80', '160', '320', '400', '560', '1000']
    assert row['400']['mean'] == pytest.approx(1000 * kept.errors['motion_deq'][:, 9].mean())


def test_the_table_shows_each_archive_at_each_horizon() -> None:
    said = io.StringIO()
    found = compare({'a[b]': archive(0.1), 'c': archive(0.2)})
    print_comparison(found, 'motion_deq', Console(file=said, width=120))
    assert said.getvalue().count('a[b]') == 6
    assert f'{found["c"]["motion_deq"]["1000"]["rmse"]:.1f}' in said.getvalue()


@pytest.mark.parametrize('content', [b'', b'no zip', None])
def test_what_is_no_archive_is_said(content: bytes | None, tmp_path: Path) -> None:
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
    options = ['--weights', str(weights), '--archive', first, '--json']
    assert main(['evaluate', 'bag', str(bag), *options]) == 0
    report = json.loads(capsys.readouterr().out)
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
    assert float(rows[0]['max']) >= float(rows[0]['rmse']) >= float(rows[0]['mean'])
    assert main(['evaluate', 'compare', first, first, '--json']) == 0
    assert json.loads(capsys.readouterr().out)['same_cases'] is True


def test_a_missing_archive_ends_in_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['evaluate', 'compare', 'gone.zip']) == 2
    assert 'gone.zip' in capsys.readouterr().err
