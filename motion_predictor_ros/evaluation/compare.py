# SPDX-License-Identifier: Apache-2.0
"""Lay the results of several evaluations side by side."""

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float64
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from motion_predictor_ros.evaluation.archive import Archive
from motion_predictor_ros.evaluation.metrics import report_frames

STATISTICS = ('rmse', 'mean', 'median', 'std', 'min', 'max')

Comparison = dict[str, dict[str, dict[str, dict[str, float]]]]
"""By archive, method and horizon [ms]: 'cases' and each statistic of the errors [mm]."""


def compare(archives: Mapping[str, Archive]) -> Comparison:
    """Summarise the mean joint errors of each archive over its cases."""
    return {
        name: {
            method: {
                str(ms): statistics(1000.0 * errors[:, frame])
                for ms, frame in report_frames(archive.horizons_s).items()
            }
            for method, errors in archive.errors.items()
        }
        for name, archive in archives.items()
    }


def statistics(errors: Float64[np.ndarray, ' case']) -> dict[str, float]:
    """Return how many errors there are, and what they are like, in their own unit."""
    return {
        'cases': len(errors),
        'rmse': float(np.sqrt(np.mean(errors**2))),
        'mean': float(errors.mean()),
        'median': float(np.median(errors)),
        'std': float(errors.std()),
        'min': float(errors.min()),
        'max': float(errors.max()),
    }


def same_cases(archives: Mapping[str, Archive]) -> bool:
    """Tell whether all archives answer the same observations of the same people."""
    answered = [
        sorted(zip(archive.stamps_ns.tolist(), archive.people, strict=True))
        for archive in archives.values()
    ]
    return all(each == answered[0] for each in answered)


def print_comparison(found: Comparison, method: str, console: Console) -> None:
    """Print one method's errors, archives below each other at every horizon."""
    table = Table(title=f'{method}: mean joint error \\[mm]', title_justify='left')
    for head in ('after \\[ms]', 'archive', 'cases', *STATISTICS):
        table.add_column(head, justify='left' if head == 'archive' else 'right')
    horizons = dict.fromkeys(ms for own in found.values() for ms in own.get(method, {}))
    for ms in horizons:
        for name, own in found.items():
            if ms in own.get(method, {}):
                row = own[method][ms]
                cells = [f'{row[each]:.1f}' for each in STATISTICS]
                table.add_row(ms, escape(name), str(row['cases']), *cells)
        table.add_section()
    console.print(table)


def write_csv(found: Comparison, path: Path) -> None:
    """Write every archive, method and horizon as one line [mm]."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open('w', newline='', encoding='utf-8') as file:
        writer = csv.writer(file)
        writer.writerow(['archive', 'method', 'horizon_ms', 'cases', *STATISTICS])
        for name, methods in found.items():
            for method, horizons in methods.items():
                for ms, row in horizons.items():
                    values = [row[each] for each in STATISTICS]
                    writer.writerow([name, method, ms, row['cases'], *values])
