# SPDX-License-Identifier: Apache-2.0
"""The same figures for every kind of motion and for every subject."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool
from rich.console import Console

from motion_predictor_ros.data.recordings import Clip
from motion_predictor_ros.evaluation.tables import print_table

Figures = Callable[[Bool[np.ndarray, ' case']], dict[str, Any]]
"""From the cases of a group to its figures."""


def by_group(clips: Sequence[Clip], figures: Figures) -> dict[str, dict[str, Any]]:
    """Return `by_kind` and `by_subject`: the figures of each group, and how many cases it has.

    Args:
        clips: The clip of each case, in the order of the cases.
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
