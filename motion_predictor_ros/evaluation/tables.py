# SPDX-License-Identifier: Apache-2.0
"""Tables of figures on the console, by method and by group of cases, and JSON files of reports."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from motion_predictor_ros.data.recordings import Clip

Cell = float | int | str | None

METHODS = {
    'motion_deq': 'MotionDEQ',
    'constant_velocity': 'constant velocity',
    'repeat_last': 'repeat last frame',
}
"""Names of methods: in reports, and for display."""


def print_table(
    rows: Mapping[str, Mapping[str, Cell]],
    title: str,
    corner: str,
    console: Console,
    *,
    form: str = '.1f',
    mark_lowest: bool = False,
) -> None:
    """Print one row per entry, with the columns of all rows.

    Args:
        corner: Head of the first column, the names of the rows.
        form: Format of floats; integers and text are printed as they are, None as nothing.
        mark_lowest: Whether the lowest value of each column is bold.
    """
    table = Table(title=escape(title), title_justify='left', box=None, padding=(0, 1, 0, 0))
    table.add_column(escape(corner), overflow='fold')
    bold = '[bold]{}[/]' if mark_lowest else '{}'
    heads, lines = format_cells(rows, form, escape, bold)
    for head in heads:
        table.add_column(head, justify='right')
    for line in lines:
        table.add_row(*line)
    console.print(table)


def format_cells(
    rows: Mapping[str, Mapping[str, Cell]], form: str, escape: Callable[[str], str], bold: str
) -> tuple[list[str], list[list[str]]]:
    """Return the heads of all columns, and each row's name and cells as text.

    Args:
        escape: Of the markup that the text is for.
        bold: Template for the lowest value of each column.
    """
    heads = list(dict.fromkeys(head for row in rows.values() for head in row))
    lowest = {
        head: min(
            (cell for row in rows.values() if isinstance(cell := row.get(head), float | int)),
            default=None,
        )
        for head in heads
    }

    def text(cell: Cell, head: str) -> str:
        if cell is None:
            return ''
        shown = format(cell, form) if isinstance(cell, float) else escape(str(cell))
        return bold.format(shown) if cell == lowest[head] else shown

    lines = [
        [escape(name), *(text(row.get(head), head) for head in heads)]
        for name, row in rows.items()
    ]
    return [escape(head) for head in heads], lines


def spread(values: Sequence[float] | Float64[np.ndarray, ' value']) -> dict[str, float]:
    """Return median and 99th percentile."""
    p50, p99 = np.percentile(np.asarray(values), (50, 99))
    return {'p50': float(p50), 'p99': float(p99)}


def print_errors(errors: Mapping[str, Mapping[str, float]], title: str, console: Console) -> None:
    """Print errors [mm] by method and horizon [ms], the lowest in bold."""
    rows = {METHODS[name]: errors[name] for name in METHODS}
    print_table(rows, title, 'MPJPE [mm] after [ms]', console, mark_lowest=True)


def by_group(
    clips: Sequence[Clip], figures: Callable[[Bool[np.ndarray, ' case']], dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Return `by_kind` and `by_subject`: the figures of each group, and how many cases it has.

    Args:
        clips: The clip of each case, in the order of the cases.
        figures: Returns the figures of the cases of a group.
    """
    names = {
        'by_kind': np.array([clip.kind for clip in clips]),
        'by_subject': np.array([clip.subject for clip in clips]),
    }
    return {
        title: {
            str(name): {'windows': int((group == name).sum()), **figures(group == name)}
            for name in np.unique(group)
        }
        for title, group in names.items()
    }


def print_groups(
    groups: Mapping[str, Mapping[str, Any]],
    columns: Mapping[str, Callable[[Mapping[str, Any]], float]],
    title: str,
    console: Console,
) -> None:
    """Print one row per group, ordered by the last column, the lowest first.

    Args:
        columns: How each column's value follows from the figures of a group.
    """
    values = {
        name: {column: value(figures) for column, value in columns.items()}
        for name, figures in groups.items()
    }
    last = list(columns)[-1]
    rows = {
        name: {'windows': groups[name]['windows'], **values[name]}
        for name in sorted(values, key=lambda name: values[name][last])
    }
    print_table(rows, title, title, console, form='.3g')


def to_json(report: Any, indent: int | None = None) -> str:
    """Return a report as JSON, where numbers that are not finite are null."""
    return json.dumps(_finite(report), indent=indent, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(report: Mapping[str, Any], path: Path) -> None:
    """Write a report as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(to_json(report, indent=2) + '\n')
