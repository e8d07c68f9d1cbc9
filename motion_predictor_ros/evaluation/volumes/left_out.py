# SPDX-License-Identifier: Apache-2.0
"""How well radii of some people cover another one: each calibration subject left out in turn.

What may be chosen about g is chosen by this, never by the test subjects. Radii are of one window
per clip of the other subjects, as in `calibrate`; the one left out is judged on windows 4 s apart.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from motion_predictor_ros.data.recordings import Recordings
from motion_predictor_ros.training.volume_calibration import (
    CalibrationRecipe,
    fit_spread,
    scores_of,
    thinned,
)
from motion_predictor_ros.training.volume_windows import Case, Models, cases_of, fit_for_use
from motion_predictor_ros.volume.calibration import needed_rank


def evaluate_left_out(
    models: Models, recordings: Recordings, recipe: CalibrationRecipe, *, progress: bool = False
) -> dict[str, Any]:
    """Return, by horizon and level, each subject's coverage by the others' radius.

    `off` is the mean distance of these from the level; a level that the others cannot certify for
    somebody is left out.

    Raises:
        DataError: The recordings do not fit the models.
    """
    train = recordings.select(lambda clip: clip.split == 'train' and not clip.retargeted)
    held_out = recordings.select(lambda clip: clip.split == 'val')
    longest = float(models.futures.horizons_s[-1])
    fitted = cases_of(models, thinned(train), longest, several=True, progress=progress)
    report: dict[str, Any] = {}
    for horizon_s in recipe.horizons_s:
        times = round(horizon_s / models.period_s)
        spread = fit_spread(fit_for_use(fitted, times), recipe.ridge)
        one, all_windows = (
            fit_for_use(cases_of(models, held_out, horizon_s, several=several), times)
            for several in (False, True)
        )
        report[f'{horizon_s}'] = {}
        for level in recipe.levels:
            scores = by_subject(one, scores_of(one, spread, level, recipe.choice))
            judged = by_subject(all_windows, scores_of(all_windows, spread, level, recipe.choice))
            found = left_out(scores, judged, level)
            if found:
                off = float(np.mean([abs(each - level) for each in found.values()]))
                report[f'{horizon_s}'][f'{level:.2f}'] = {'off': off, 'subjects': found}
    return report


def by_subject(cases: Sequence[Case], scores: Sequence[float]) -> dict[str, list[float]]:
    """Return each subject's scores."""
    found: dict[str, list[float]] = defaultdict(list)
    for case, score in zip(cases, scores, strict=True):
        found[case.clip.subject].append(score)
    return dict(found)


def left_out(
    scores: dict[str, list[float]], judged: dict[str, list[float]], level: float
) -> dict[str, float]:
    """Return the share of each subject's windows within the others' radius; empty: refused."""
    found = {}
    for subject, own in sorted(judged.items()):
        others = np.sort([s for other, all_s in scores.items() if other != subject for s in all_s])
        rank = needed_rank(len(others), level)
        if rank > len(others):
            return {}
        found[subject] = float(np.mean(np.array(own) <= others[rank - 1]))
    return found


def print_left_out(report: dict[str, Any], console: Console) -> None:
    """Print a table of coverage by horizon, level and subject."""
    table = Table(title='each subject covered by the others', title_justify='left')
    for head in ('until, s', 'level', 'mean distance', 'subjects'):
        table.add_column(head, justify='right')
    for horizon, levels in report.items():
        for level, row in levels.items():
            each = ', '.join(f'{name} {share:.2f}' for name, share in row['subjects'].items())
            table.add_row(horizon, level, f'{row["off"]:.3f}', each)
    console.print(table)
