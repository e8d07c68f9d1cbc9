# SPDX-License-Identifier: Apache-2.0
"""Calibrate keep-out volumes: the ranking on split `val`, thresholds on split `cal`.

Split conformal prediction: the ranking is fixed before the people of the calibration are looked
at. Thresholds then keep their promise for new people who are exchangeable with those people.
Windows of one clip, though far apart, are not independent: their number is divided by the design
effect (Kish, 1965).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from motion_predictor_ros.data.recordings import Recordings
from motion_predictor_ros.errors import ConfigError, DataError
from motion_predictor_ros.training.robot_lines import calibrate_collisions
from motion_predictor_ros.training.volume_windows import (
    HORIZONS_S,
    Case,
    Models,
    cases_of,
    rank_truth,
)
from motion_predictor_ros.volume.calibration import (
    LEVELS,
    RISKS,
    Calibration,
    HorizonCalibration,
    Promise,
    check_enough,
    profile,
)
from motion_predictor_ros.volume.level_sets import WINDOWS_S, Ranking

RANKING = Ranking(
    beta_m=0.25, widths_m=(0.0, 0.15, 0.3, 0.6), shares=(0.5, 0.25, 0.15, 0.1), rise=1.0
)
"""Chosen on split `val`."""

VOXELS_M = (0.05, 0.1, 0.1, 0.1)
"""Edges of voxels by window."""

CLIP_CORRELATION = 0.25
"""rho: correlation of the ranks of two windows of one clip on split `cal`."""


@dataclass(frozen=True)
class CalibrationRecipe:
    """How to calibrate.

    Attributes:
        approximate: Whether the models know some of the people, and windows count as clips.
    """

    horizons_s: tuple[float, ...] = HORIZONS_S
    ranking: Ranking = RANKING
    approximate: bool = False


def calibrate(
    models: Models, recordings: Recordings, recipe: CalibrationRecipe, split: str = 'cal'
) -> Calibration:
    """Calibrate on the people of one split.

    Raises:
        ConfigError: No promise can be certified, or a horizon is beyond the futures'.
        DataError: The recordings do not fit the models, or have subjects in several splits.
    """
    held_out = recordings.of_split(split)
    others = {clip.subject for clip in recordings.clips if clip.split != split}
    shared = others & {clip.subject for clip in held_out.clips}
    if shared:
        raise DataError(f'subjects {sorted(shared)} are in {split} and elsewhere: none may be')
    return calibrate_on(models, held_out, recipe)


def calibrate_on(models: Models, held_out: Recordings, recipe: CalibrationRecipe) -> Calibration:
    """Calibrate on all people of recordings.

    Raises:
        ConfigError: No promise can be certified, or a horizon is beyond the futures'.
        DataError: The recordings do not fit the models.
    """
    longest = float(models.futures.horizons_s[-1])
    if max(recipe.horizons_s) > longest + 1e-6:
        raise ConfigError(f'horizons {recipe.horizons_s}: the futures end at {longest:.2f} s')
    cases = cases_of(models, held_out, min(recipe.horizons_s))
    cases = [case for case in cases if case.novelty <= 1.0]
    ranked = rank_all(models, cases, recipe.ranking, max(recipe.horizons_s))
    horizons = tuple(
        _until(models, cases, ranked, horizon_s, recipe) for horizon_s in recipe.horizons_s
    )
    figures = {
        'people': len({case.clip.subject for case in cases}),
        'windows': {f'{until.horizon_s}': len(until.speeds) for until in horizons},
        'clips': {f'{until.horizon_s}': until.clips for until in horizons},
        'attribution': list(held_out.attribution),
    }
    collision = calibrate_collisions(models.shape, cases, models.period_s)
    return Calibration('', models.digests, recipe.approximate, horizons, figures, collision)


def rank_all(
    models: Models, cases: Sequence[Case], ranking: Ranking, until_s: float
) -> list[list[np.ndarray]]:
    """Return the profile of each window that each case lasts for."""
    windows_s = windows_until(until_s)
    return [
        [
            profile(rank_truth(models.shape, case, ranking, window_s, size_m))
            for window_s, size_m in zip(windows_s, VOXELS_M, strict=False)
            if case.lasts(window_s[1])
        ]
        for case in tqdm(cases, leave=False, disable=None)
    ]


def windows_until(horizon_s: float) -> tuple[tuple[float, float], ...]:
    """Return the windows that end by then."""
    return tuple(window_s for window_s in WINDOWS_S if window_s[1] <= horizon_s + 1e-9)


def _until(
    models: Models,
    cases: Sequence[Case],
    ranked: Sequence[list[np.ndarray]],
    horizon_s: float,
    recipe: CalibrationRecipe,
) -> HorizonCalibration:
    windows_s = windows_until(horizon_s)
    if not windows_s:
        raise ConfigError(f'horizon {horizon_s} s: the first window ends at {WINDOWS_S[0][1]} s')
    lasting = [
        (case, values)
        for case, values in zip(cases, ranked, strict=True)
        if case.lasts(windows_s[-1][1])
    ]
    keys = [case.clip.key for case, _ in lasting]
    clips = len(lasting) if recipe.approximate else len(set(keys))
    check_enough(clips, 1.0 - min(LEVELS), f'coverage {min(LEVELS)} until {horizon_s} s')
    return HorizonCalibration(
        horizon_s,
        windows_s,
        VOXELS_M[: len(windows_s)],
        recipe.ranking,
        np.array([values[: len(windows_s)] for _, values in lasting]),
        np.array([case.forecast.speeds.mean() for case, _ in lasting]),
        np.array([case.needed_factor(models.shape, windows_s[-1][1]) for case, _ in lasting]),
        np.ones(clips) if recipe.approximate else window_weights(keys),
    )


def window_weights(keys: Sequence[str]) -> Float64[np.ndarray, ' window']:
    """Return the weight of each window by the clip it is of; they sum to the number of clips.

    A clip of m windows whose ranks correlate by rho is worth m / (1 + (m - 1) rho) independent
    windows.
    """
    windows = Counter(keys)
    weights = np.array([1.0 / (1.0 + (windows[key] - 1) * CLIP_CORRELATION) for key in keys])
    return weights * (len(windows) / weights.sum())


def summary(calibration: Calibration) -> dict[str, Any]:
    """Return thresholds by horizon, promise, level and speed group, for people and --json."""
    horizons: dict[str, Any] = {}
    for until in calibration.horizons:
        horizons[f'{until.horizon_s}'] = {
            'clips': until.clips,
            'windows': len(until.speeds),
            'coverage': {f'{level:g}': _thresholds(until, 'coverage', level) for level in LEVELS},
            'risk': {f'{share:g}': _thresholds(until, 'risk', share) for share in RISKS},
        }
    return {
        'calibration': calibration.name,
        'approximate': calibration.approximate,
        'horizons': horizons,
    }


def _thresholds(until: HorizonCalibration, promise: Promise, value: float) -> Any:
    try:
        groups = until.group_thresholds(promise, value)
    except ConfigError as error:
        return f'refused: {error}'
    return [{'below_m_s': speed, 'tau': list(taus)} for speed, taus in groups]


def _line(group: dict[str, Any]) -> str:
    taus = ', '.join(f'{tau:.2f}' for tau in group['tau'])
    return f'below {group["below_m_s"]:.2f} m/s: {taus}'


def print_calibration(report: dict[str, Any], console: Console) -> None:
    """Print thresholds by horizon and promise, and what was refused and why."""
    table = Table(title=report['calibration'], title_justify='left')
    for head in ('until, s', 'clips', 'promise', 'tau by window'):
        table.add_column(head)
    for horizon, row in report['horizons'].items():
        for promise in ('coverage', 'risk'):
            for value, groups in row[promise].items():
                text = groups if isinstance(groups, str) else '\n'.join(map(_line, groups))
                table.add_row(horizon, str(row['clips']), f'{promise} {value}', text)
    console.print(table)
    if report['approximate']:
        console.print('approximate: the models know some of the people')
    console.print(report['file'], markup=False, highlight=False, soft_wrap=True)
