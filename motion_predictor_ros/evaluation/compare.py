# SPDX-License-Identifier: Apache-2.0
"""Compare the results of several evaluations."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64
from rich.console import Console

from motion_predictor_ros.conventions import REPORT_HORIZONS_MS
from motion_predictor_ros.errors import DataError
from motion_predictor_ros.evaluation.archive import Archive
from motion_predictor_ros.evaluation.tables import print_table

STATISTICS = ('rmse', 'mean', 'median', 'std', 'min', 'max')

Comparison = dict[str, dict[str, dict[str, dict[str, Any]]]]
"""By archive, method and measure: 'unit', 'cases' and the statistics. Errors by horizon bear the
horizon [ms], and only the reported ones are included; the archive holds all."""


def compare(archives: Mapping[str, Archive]) -> Comparison:
    """Summarise each archive over its cases.

    Raises:
        DataError: They are of different evaluations.
    """
    kinds = {archive.kind for archive in archives.values()}
    if len(kinds) > 1:
        listed = ', '.join(f'{name}: evaluate {item.kind}' for name, item in archives.items())
        raise DataError(f'archives of different evaluations cannot be compared ({listed})')
    return {name: _summary(archive) for name, archive in archives.items()}


def _summary(archive: Archive) -> dict[str, dict[str, dict[str, Any]]]:
    return {
        method: {
            measure: {'unit': unit, **statistics(column[np.isfinite(column)])}
            for measure, unit, column in zip(
                archive.measures, archive.units, values.T, strict=True
            )
            if _is_reported(measure) and np.isfinite(column).any()
        }
        for method, values in archive.values.items()
    }


def _is_reported(measure: str) -> bool:
    return not measure.isdecimal() or int(measure) in REPORT_HORIZONS_MS


def statistics(values: Float64[np.ndarray, ' case']) -> dict[str, float]:
    """Return the number of values and their statistics, in their own unit."""
    return {
        'cases': len(values),
        'rmse': float(np.sqrt(np.mean(values**2))),
        'mean': float(values.mean()),
        'median': float(np.median(values)),
        'std': float(values.std()),
        'min': float(values.min()),
        'max': float(values.max()),
    }


def same_cases(archives: Mapping[str, Archive]) -> bool:
    """Check that all archives judge the same observations of the same people."""
    cases = [sorted(archive.cases) for archive in archives.values()]
    return all(names == cases[0] for names in cases)


def choose_method(comparison: Comparison, requested: str = '') -> str:
    """Return the requested method, or the first one.

    Raises:
        DataError: No archive has it.
    """
    known = list(dict.fromkeys(name for methods in comparison.values() for name in methods))
    if requested and requested not in known:
        raise DataError(f'no archive has method {requested!r}; they have {known}')
    return requested or known[0]


def print_comparison(comparison: Comparison, method: str, console: Console) -> None:
    """Print one method's statistics, by measure and archive."""
    rows: dict[str, dict[str, str]] = {}
    measures = dict.fromkeys(
        measure for methods in comparison.values() for measure in methods.get(method, {})
    )
    for measure in measures:
        for name, methods in comparison.items():
            row = methods.get(method, {}).get(measure)
            if row is not None:
                head = f'{measure} ms' if measure.isdecimal() else measure
                unit = f' [{row["unit"]}]' if row['unit'] else ''
                form = '.1f' if row['unit'] == 'mm' else '.3f'
                rows[f'{head}{unit}, {name}'] = {
                    'cases': str(row['cases']),
                    **{key: format(row[key], form) for key in STATISTICS},
                }
    print_table(rows, method, 'measure, archive', console)


def write_csv(comparison: Comparison, path: Path) -> None:
    """Write one line per archive, method and measure."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open('w', newline='', encoding='utf-8') as file:
        writer = csv.writer(file)
        writer.writerow(['archive', 'method', 'measure', 'unit', 'cases', *STATISTICS])
        for name, methods in comparison.items():
            for method, measures in methods.items():
                for measure, row in measures.items():
                    values = [row[key] for key in ('unit', 'cases', *STATISTICS)]
                    writer.writerow([name, method, measure, *values])
