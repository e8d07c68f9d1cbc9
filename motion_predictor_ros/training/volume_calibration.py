# SPDX-License-Identifier: Apache-2.0
"""Calibrate coverage volumes: g on people who trained, radii on people whom no model has seen.

Split conformal prediction: g is fixed before the held-out people are looked at, each of whose
clips gives one score. Radii then cover a new person's future with the level's probability if that
person is exchangeable with the held-out ones. Scores of one clip, though taken far apart, are not
independent; with `several` windows per clip the guarantee is approximate.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from rich.console import Console
from rich.table import Table
from torch import Tensor

from motion_predictor_ros.config import VolumeConfig
from motion_predictor_ros.data.recordings import Recordings
from motion_predictor_ros.errors import ConfigError, DataError
from motion_predictor_ros.training.volume_windows import Case, Models, cases_of, fit_for_use
from motion_predictor_ros.volume.calibration import (
    LEVELS,
    Calibration,
    HorizonCalibration,
    certified,
    least_scores,
)
from motion_predictor_ros.volume.coverage import (
    FEATURES,
    ScenarioSelection,
    Spread,
    features,
    kept_futures,
    score,
)
from motion_predictor_ros.volume.reachable import needed_factor

CHOICE = ScenarioSelection(0.3, 8)
"""Which futures stand for all: chosen on the validation subjects."""

HORIZONS_S = (0.5, 1.0, 2.0)
"""Joint coverage is calibrated until each of these."""

_FITTED, _STEPS, _RATE = 250, 150, 0.05
RIDGE = 3e-2
"""How small slopes of g are held."""

_TIMELY = sum(name.startswith('log time') for name in FEATURES)
_SOFTNESS = 20.0
_UPPER = (0.90, 0.93, 0.95, 0.97)
_BODY_M = 0.3


@dataclass(frozen=True)
class CalibrationRecipe:
    """What is asked for.

    Attributes:
        choice: Which futures are kept.
        several: Whether clips may give several windows.
        ridge: How small slopes of g are held.
    """

    horizons_s: tuple[float, ...] = HORIZONS_S
    levels: tuple[float, ...] = LEVELS
    choice: ScenarioSelection = CHOICE
    several: bool = False
    ridge: float = RIDGE


def calibrate(
    models: Models,
    recordings: Recordings,
    recipe: CalibrationRecipe,
    *,
    progress: bool = False,
) -> Calibration:
    """Fit g on split `train` and take scores on split `val`, of other people.

    Raises:
        ConfigError: No level can be certified, or a horizon is beyond the futures'.
        DataError: The recordings do not fit the models, or have subjects in both splits.
    """
    train = recordings.select(lambda clip: clip.split == 'train' and not clip.retargeted)
    held_out = recordings.select(lambda clip: clip.split == 'val')
    shared = {clip.subject for clip in train.clips} & {clip.subject for clip in held_out.clips}
    if shared:
        raise DataError(f'subjects {sorted(shared)} are in train and val: none may be in both')
    return calibrate_on(models, train, held_out, recipe, progress=progress)


def calibrate_on(
    models: Models,
    train: Recordings,
    held_out: Recordings,
    recipe: CalibrationRecipe,
    *,
    progress: bool = False,
) -> Calibration:
    """Fit g on some recordings and take scores on others, whoever is in them.

    Where the same people are in both, coverage is that of these people at other times.

    Raises:
        ConfigError: No level can be certified, or a horizon is beyond the futures'.
        DataError: The recordings do not fit the models.
    """
    longest = float(models.futures.horizons_s[-1])
    if max(recipe.horizons_s) > longest + 1e-6:
        raise ConfigError(f'horizons {recipe.horizons_s}: the futures end at {longest:.2f} s')
    fitted = cases_of(models, thinned(train), longest, several=True, progress=progress)
    horizons = tuple(
        _calibrate_until(models, fitted, held_out, horizon_s, recipe, progress)
        for horizon_s in recipe.horizons_s
    )
    figures = {
        'held_out_subjects': len({clip.subject for clip in held_out.clips}),
        'scores': {f'{each.horizon_s}': len(each.factors) for each in horizons},
        'attribution': list(held_out.attribution),
    }
    return Calibration('', models.bound, recipe.several, horizons, figures)


def thinned(train: Recordings) -> Recordings:
    """Return about `_FITTED` windows' worth of clips, spread evenly."""
    seconds = sum(clip.length for clip in train.clips) / train.fps
    every = max(1, round(seconds / 4.0 / _FITTED))
    kept = {clip.key for clip in train.clips[::every]}
    return train.select(lambda clip: clip.key in kept)


def _calibrate_until(
    models: Models,
    fitted: Sequence[Case],
    held_out: Recordings,
    horizon_s: float,
    recipe: CalibrationRecipe,
    progress: bool,
) -> HorizonCalibration:
    times = round(horizon_s / models.period_s)
    spread = fit_spread(fit_for_use(fitted, times), recipe.ridge)
    cases = cases_of(models, held_out, horizon_s, several=recipe.several, progress=progress)
    cases = fit_for_use(cases, times)
    levels = certified(len(cases), recipe.levels)
    if not levels:
        raise ConfigError(
            f'{len(cases)} clips until {horizon_s} s certify none of the levels {recipe.levels}'
        )
    scores = [scores_of(cases, spread, level, recipe.choice) for level in levels]
    config = VolumeConfig()
    factors = [
        needed_factor(models.shape, case.look.now, case.truth, case.look.times_s, config)
        for case in cases
    ]
    return HorizonCalibration(
        horizon_s, levels, recipe.choice, spread, np.sort(scores, axis=1), np.sort(factors)
    )


def scores_of(
    cases: Sequence[Case], spread: Spread, level: float, choice: ScenarioSelection
) -> list[float]:
    """Return s of every case."""
    return [
        score(
            kept_futures(case.look, level, choice, len(case.truth)),
            case.truth,
            spread.of(case.look)[: len(case.truth)],
        )
        for case in cases
    ]


def fit_spread(cases: Sequence[Case], ridge: float = RIDGE) -> Spread:
    """Fit g so that the volume at high coverage is small.

    The cost is the mean squared thickness of a limb with its inflation, half of it as a logarithm
    so that people who stand still count as well, at the radius that the same cases need. Slopes
    but those in time are held small (ridge): a few subjects cannot tell many apart.
    """
    errors = torch.from_numpy(
        np.stack([np.linalg.norm(case.look.mean - case.truth, axis=-1) for case in cases])
    )
    raw = torch.from_numpy(np.stack([features(case.look) for case in cases]))
    rows = raw.flatten(0, 2)
    rows = rows[:: max(1, len(rows) // 100_000)]
    means, scales = rows.mean(0), rows.std(0).clamp_min(1e-6)
    lows, highs = rows.quantile(0.005, dim=0), rows.quantile(0.995, dim=0)
    seen = (raw.clamp(lows, highs) - means) / scales
    slopes = torch.zeros(len(FEATURES), dtype=raw.dtype, requires_grad=True)
    offsets = torch.zeros(errors.shape[2], dtype=raw.dtype, requires_grad=True)
    optimiser = torch.optim.Adam([slopes, offsets], lr=_RATE)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.05, _STEPS)
    for _ in range(_STEPS):
        optimiser.zero_grad()
        cost = _cost(errors, seen @ slopes + offsets)
        held = ridge * slopes[_TIMELY:].square().sum() + RIDGE * offsets.square().sum()
        (cost + held).backward()
        optimiser.step()
        schedule.step()
    found = (offsets, slopes, means, scales, lows, highs)
    return Spread(*(each.detach().numpy() for each in found))


def _cost(
    errors: Float[Tensor, 'case time point'], log_spread: Float[Tensor, 'case time point']
) -> Float[Tensor, '']:
    off = _SOFTNESS * ((errors + 1e-3).log() - log_spread).flatten(1)
    scores = torch.logsumexp(off, dim=1) / _SOFTNESS
    upper = torch.tensor(_UPPER, dtype=errors.dtype)
    radius = torch.quantile(scores, upper).mean()
    thickness = (_BODY_M + (radius + log_spread).exp()).square()
    return 0.5 * (thickness.mean((1, 2)).log().mean() + thickness.mean().log())


def summary(calibration: Calibration, asked: tuple[float, ...] = LEVELS) -> dict[str, Any]:
    """Return what was found, for people and for --json."""
    rows = {}
    for each in calibration.horizons:
        refused = {
            f'{level:.2f}': f'needs {least_scores(level)} scores, there are {len(each.factors)}'
            for level in asked
            if level not in each.levels
        }
        rows[f'{each.horizon_s}'] = {
            'scores': len(each.factors),
            'radius': {f'{level:.2f}': each.radius(level) for level in each.levels},
            'reachable_factor': {f'{level:.2f}': each.factor(level) for level in each.levels},
            'refused': refused,
        }
    return {
        'calibration': calibration.name,
        'approximate': calibration.approximate,
        'horizons': rows,
    }


def print_calibration(report: dict[str, Any], console: Console) -> None:
    """Print radii by horizon and level, and what was refused and why."""
    table = Table(title=report['calibration'], title_justify='left')
    for head in ('until, s', 'scores', 'level', 'radius / g', 'reachable set: speeds times'):
        table.add_column(head, justify='right')
    for horizon, row in report['horizons'].items():
        for level, radius in row['radius'].items():
            factor = row['reachable_factor'][level]
            table.add_row(horizon, str(row['scores']), level, f'{radius:.3f}', f'{factor:.2f}')
        for level, reason in row['refused'].items():
            table.add_row(horizon, str(row['scores']), level, 'refused', reason)
    console.print(table)
    if report['approximate']:
        console.print('approximate: several scores per clip')
