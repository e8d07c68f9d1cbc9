# SPDX-License-Identifier: Apache-2.0
"""Lay the results of several evaluations side by side."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from motion_predictor_ros.conventions import REPORT_HORIZONS_MS
from motion_predictor_ros.errors import DataError
from motion_predictor_ros.evaluation.archive import Archive

STATISTICS = ('rmse', 'mean', 'median', 'std', 'min', 'max')

Comparison = dict[str, dict[str, dict[str, dict[str, Any]]]]
"""By archive, method and measure: 'unit', 'cases' and each statistic. Errors by horizon bear the
horizon [ms]; those that are reported elsewhere too are shown, the archive holds all."""


def compare(archives: Mapping[str, Archive]) -> Comparison:
    """Summarise each archive over its cases.

    Raises:
        DataError: They are of different evaluations.
    """
    kinds = {archive.kind for archive in archives.values()}
    if len(kinds) > 1:
        told = ', '.join(f'{name}: evaluate {own.kind}' for name, own in archives.items())
        raise DataError(f'archives of different evaluations do not compare ({told})')
    return {name: _summary(archive) for name, archive in archives.items()}


def _summary(archive: Archive) -> dict[str, dict[str, dict[str, Any]]]:
    return {
        method: {
            measure: {'unit': unit, **statistics(some[np.isfinite(some)])}
            for measure, unit, some in zip(archive.measures, archive.units, values.T, strict=True)
            if _is_shown(measure) and np.isfinite(some).any()
        }
        for method, values in archive.values.items()
    }


def _is_shown(measure: str) -> bool:
    return not measure.isdecimal() or int(measure) in REPORT_HORIZONS_MS


def statistics(values: Float64[np.ndarray, ' case']) -> dict[str, float]:
    """Return how many values there are, and what they are like, in their own unit."""
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
    """Tell whether all archives judge the same observations of the same people."""
    judged = [sorted(archive.cases) for archive in archives.values()]
    return all(each == judged[0] for each in judged)


def choose_method(found: Comparison, asked: str = '') -> str:
    """Return the method asked for, or the first one.

    Raises:
        DataError: No archive has it.
    """
    known = list(dict.fromkeys(method for own in found.values() for method in own))
    if asked and asked not in known:
        raise DataError(f'no archive has method {asked!r}; they have {known}')
    return asked or known[0]


def print_comparison(found: Comparison, method: str, console: Console) -> None:
    """Print one method's figures, archives below each other for every measure."""
    table = Table(title=method, title_justify='left')
    for head in ('measure', 'archive', 'cases', *STATISTICS):
        left = head in ('measure', 'archive')
        table.add_column(head, justify='left' if left else 'right', overflow='fold')
    measures = dict.fromkeys(each for own in found.values() for each in own.get(method, {}))
    for measure in measures:
        for name, own in found.items():
            row = own.get(method, {}).get(measure)
            if row is not None:
                figures = [_text(row[each], row['unit']) for each in STATISTICS]
                head = escape(_head(measure, row['unit']))
                table.add_row(head, escape(name), str(row['cases']), *figures)
        table.add_section()
    console.print(table)


def _head(measure: str, unit: str) -> str:
    head = f'{measure} ms' if measure.isdecimal() else measure
    return f'{head} [{unit}]' if unit else head


def _text(value: float, unit: str) -> str:
    return f'{value:.1f}' if unit == 'mm' else f'{value:.3f}'


def write_csv(found: Comparison, path: Path) -> None:
    """Write every archive, method and measure as one line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open('w', newline='', encoding='utf-8') as file:
        writer = csv.writer(file)
        writer.writerow(['archive', 'method', 'measure', 'unit', 'cases', *STATISTICS])
        for name, methods in found.items():
            for method, measures in methods.items():
                for measure, row in measures.items():
                    values = [row[each] for each in ('unit', 'cases', *STATISTICS)]
                    writer.writerow([name, method, measure, *values])
