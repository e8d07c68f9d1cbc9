# SPDX-License-Identifier: Apache-2.0
"""Tables of figures on the console, names of methods, and JSON files of reports."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

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
    heads = list(dict.fromkeys(head for row in rows.values() for head in row))
    table = Table(title=escape(title), title_justify='left', box=None, padding=(0, 1, 0, 0))
    table.add_column(escape(corner), overflow='fold')
    for head in heads:
        table.add_column(escape(head), justify='right')
    numbers = {
        head: [cell for row in rows.values() if isinstance(cell := row.get(head), float | int)]
        for head in heads
    }
    lowest = {head: min(cells) for head, cells in numbers.items() if cells and mark_lowest}
    for name, row in rows.items():
        cells = [_text(row.get(head), form) for head in heads]
        marked = [
            f'[bold]{cell}[/]' if head in lowest and row.get(head) == lowest[head] else cell
            for head, cell in zip(heads, cells, strict=True)
        ]
        table.add_row(escape(name), *marked)
    console.print(table)


def _text(cell: Cell, form: str) -> str:
    if cell is None:
        return ''
    return format(cell, form) if isinstance(cell, float) else escape(str(cell))


def print_errors(errors: Mapping[str, Mapping[str, float]], title: str, console: Console) -> None:
    """Print errors [mm] by method and horizon [ms], the lowest in bold."""
    rows = {METHODS[name]: errors[name] for name in METHODS}
    print_table(rows, title, 'MPJPE [mm] after [ms]', console, mark_lowest=True)


def write_json(report: Mapping[str, Any], path: Path) -> None:
    """Write a report as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=2) + '\n')
