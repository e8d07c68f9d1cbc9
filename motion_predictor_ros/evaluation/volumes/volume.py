# SPDX-License-Identifier: Apache-2.0
"""Judge volumes on people no model has seen: do they cover what they say, and how large are they?

Coverage is joint: a window counts as covered if every point of the body stays inside at every time
until the horizon. All contenders are calibrated on the same held-out windows, to the same level:
    ours                         kept futures and g (`volume/region.py`)
    reachable                    the speeds of ISO 13855, by the factor that the level needs
    constant_velocity_gaussian   constant velocity, isotropic errors by point and time
    motion_deq_gaussian          MotionDEQ with the covariances in its weight file
Volumes are those of the sets, by voxels whose centre is inside; published masks are a little
larger.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from motion_predictor_ros.config import VolumeConfig
from motion_predictor_ros.data.recordings import Recordings
from motion_predictor_ros.evaluation.archive import Figures, name_cases
from motion_predictor_ros.scoring.baselines import constant_velocity
from motion_predictor_ros.training.volume_calibration import scores_of
from motion_predictor_ros.training.volume_windows import Case, Models, cases_of, fit_for_use
from motion_predictor_ros.volume.calibration import Calibration, HorizonCalibration, quantile
from motion_predictor_ros.volume.capsules import Bodies, bodies
from motion_predictor_ros.volume.coverage import kept_futures, region, with_now
from motion_predictor_ros.volume.grid import VoxelGrid
from motion_predictor_ros.volume.reachable import needed_factor, reachable_bodies
from motion_predictor_ros.volume.voxels import covered, voxel_probability

VOLUME_LEVEL = 0.95
VOLUME_HORIZONS_S = (0.5, 1.0)
REPORTED_LEVELS = (0.8, 0.9, 0.95, 0.99)

_BY_HORIZON = (
    'volume_m3',
    'coverage_by_horizon',
    'coverage_by_action',
    'coverage_by_subject',
    'reachable_iso',
)
_CELL_M, _EVERY = 0.1, 3
_MEASURED, _RELIABILITY = 60, 60
_BINS = 10
_WINDOW_S = (0.5, 1.0)


@dataclass(frozen=True)
class Rival:
    """A prediction with isotropic errors.

    Attributes:
        guess: [m] of a case.
        spread: [m] of a case, up to a factor.
    """

    guess: Callable[[Case], Float64[np.ndarray, 'time point xyz=3']]
    spread: Callable[[Case], Float64[np.ndarray, 'time point']]

    def score(self, case: Case) -> float:
        """Return by how much the spread had to be multiplied to cover what came true."""
        off = np.linalg.norm(self.guess(case) - case.truth, axis=-1)
        return float((off / self.spread(case)).max())


def evaluate_volume(
    models: Models,
    recordings: Recordings,
    calibration: Calibration,
    split: str = 'test',
    *,
    progress: bool = False,
    figures: Figures | None = None,
) -> dict[str, Any]:
    """Return coverage, volumes, reliability and fall-backs.

    Args:
        figures: Gets what is known of every window.

    Raises:
        DataError: The recordings do not fit the models.
    """
    judged = recordings.select(lambda clip: clip.split == split)
    held_out = recordings.select(lambda clip: clip.split == 'val')
    report: dict[str, Any] = {name: {} for name in _BY_HORIZON}
    for until in sorted(calibration.horizons, key=lambda each: each.horizon_s):
        cases = cases_of(models, judged, until.horizon_s, several=True, progress=progress)
        used = fit_for_use(cases, round(until.horizon_s / models.period_s))
        against = cases_of(
            models, held_out, until.horizon_s, several=calibration.approximate, progress=progress
        )
        found_here = _judge(models, used, against, until, progress, figures)
        for name, found in found_here.items():
            report[name][f'{until.horizon_s}'] = found
    # Of the longest horizon from here on.
    report['coverage'] = {
        f'{level:.2f}': report['coverage_by_horizon'][f'{until.horizon_s}'].get(f'{level:.2f}')
        for level in REPORTED_LEVELS
    }
    report |= reliability(models, used, progress=progress) | _counts(cases)
    report['calibration'] = calibration.name
    report['futures'] = models.futures.config.futures
    report['certified'] = {f'{each.horizon_s}': list(each.levels) for each in calibration.horizons}
    return report


def _counts(cases: Sequence[Case]) -> dict[str, Any]:
    return {
        'ess_median': float(np.median([case.effective for case in cases])),
        'fallback_share': _fallbacks(cases),
        'clips': len({case.clip.key for case in cases}),
        'windows': len(cases),
        'subjects': len({case.clip.subject for case in cases}),
    }


def _judge(
    models: Models,
    cases: Sequence[Case],
    held_out: Sequence[Case],
    until: HorizonCalibration,
    progress: bool,
    figures: Figures | None,
) -> dict[str, Any]:
    """Return what is known of one horizon."""
    if figures is not None:
        _keep(figures, cases, until)
    found: dict[str, Any] = {
        'coverage_by_horizon': coverage(cases, until),
        'coverage_by_action': by_group(cases, until, _action),
        'coverage_by_subject': by_group(cases, until, _subject),
        'reachable_iso': _iso(models, cases),
    }
    if until.horizon_s in VOLUME_HORIZONS_S and VOLUME_LEVEL in until.levels:
        against = fit_for_use(held_out, round(until.horizon_s / models.period_s))
        found['volume_m3'] = volumes(
            models, cases, against, until, progress=progress, figures=figures
        )
    return found


def _keep(figures: Figures, cases: Sequence[Case], until: HorizonCalibration) -> None:
    """Hand on, of every window, whether it was covered and what it would have needed."""
    names = name_cases(case.observed for case in cases)
    for level in until.levels:
        scores = np.array(scores_of(cases, until.spread, level, until.choice))
        parts = scores / until.radius(level)
        at = f'{100 * level:.0f} % until {until.horizon_s:g} s'
        figures.add('ours', f'covered, {at}', '', names, (parts <= 1.0).astype(np.float64))
        figures.add('ours', f'needed part of the radius, {at}', '', names, parts)


def coverage(cases: Sequence[Case], until: HorizonCalibration) -> dict[str, float]:
    """Return the share of windows covered, by level; levels not certified are left out."""
    found = {}
    for level in until.levels:
        scores = scores_of(cases, until.spread, level, until.choice)
        found[f'{level:.2f}'] = float(np.mean(np.array(scores) <= until.radius(level)))
    return found


def by_group(
    cases: Sequence[Case], until: HorizonCalibration, name: Callable[[Case], str]
) -> dict[str, dict[str, Any]]:
    """Return the same for each group of windows, with how many it has."""
    groups = defaultdict(list)
    for case in cases:
        groups[name(case)].append(case)
    return {
        group: {'windows': len(some), **coverage(some, until)}
        for group, some in sorted(groups.items())
    }


def _action(case: Case) -> str:
    return case.clip.action or 'unnamed'


def _subject(case: Case) -> str:
    return f'{case.clip.subject}{" (retargeted)" if case.clip.retargeted else ""}'


def _iso(models: Models, cases: Sequence[Case]) -> dict[str, float]:
    """Return how often the reachable set holds with the speeds of ISO 13855 as they are."""
    config = VolumeConfig()
    needed = [
        needed_factor(models.shape, case.look.now, case.truth, case.look.times_s, config)
        for case in cases
    ]
    inside = np.array(needed) <= 1.0
    sizes = [volume_m3(_reach(models, case, 1.0)) for case in _some(cases, _MEASURED)]
    return {'coverage': float(inside.mean()), 'volume_m3': float(np.mean(sizes))}


def rivals(models: Models, fitted: Sequence[Case]) -> dict[str, Rival]:
    """Return the Gaussian baselines.

    Args:
        fitted: Windows on which constant velocity's errors are measured.
    """
    shape, residuals = models.shape, models.likeliest.residuals

    def ahead(case: Case) -> Float64[np.ndarray, 'time point xyz=3']:
        times = len(case.truth)
        return shape.points(constant_velocity(case.observed, times), case.look.scale)

    squares = np.mean([((ahead(case) - case.truth) ** 2).sum(-1) for case in fitted], axis=0)
    deviation = np.sqrt(squares / 3.0) + 1e-3

    def spread(case: Case) -> Float64[np.ndarray, 'time point']:
        past = case.observed[-models.likeliest.module.config.past :]
        assert residuals is not None
        variance = residuals.covariances(past, models.period_s)[: len(case.truth), :, 0, 0]
        return shape.of_points(np.sqrt(variance)) + 1e-3

    found = {'constant_velocity_gaussian': Rival(ahead, lambda case: deviation)}
    if residuals is not None:
        found['motion_deq_gaussian'] = Rival(lambda case: case.look.mean, spread)
    return found


def volumes(
    models: Models,
    cases: Sequence[Case],
    held_out: Sequence[Case],
    until: HorizonCalibration,
    *,
    progress: bool = False,
    figures: Figures | None = None,
) -> dict[str, float]:
    """Return mean volumes until the horizon at `VOLUME_LEVEL` [m^3]."""
    radius, factor = until.radius(VOLUME_LEVEL), until.factor(VOLUME_LEVEL)
    contenders = rivals(models, held_out)
    needed = {
        name: quantile(np.array([rival.score(case) for case in held_out]), VOLUME_LEVEL)
        for name, rival in contenders.items()
    }
    found: dict[str, list[float]] = defaultdict(list)
    some = _some(cases, _MEASURED)
    for case in tqdm(some, leave=False, disable=None if progress else True):
        kept = kept_futures(case.look, VOLUME_LEVEL, until.choice, len(case.truth))
        spread = until.spread.of(case.look)
        window = (0.0, until.horizon_s)
        ours = region(models.shape, case.look, kept, spread, radius, window, _EVERY)
        found['ours'].append(volume_m3(ours))
        found['reachable'].append(volume_m3(_reach(models, case, factor)))
        for name, rival in contenders.items():
            around = _around(models, case, rival, needed[name])
            found[name].append(volume_m3(around))
    measure, named = f'volume until {until.horizon_s:g} s', name_cases(c.observed for c in some)
    told = Figures() if figures is None else figures
    for name, sizes in found.items():
        told.add(name, measure, 'm^3', named, sizes)
    return {name: float(np.mean(sizes)) for name, sizes in found.items()}


def _around(models: Models, case: Case, rival: Rival, radius: float) -> Bodies:
    points, times_s = with_now(case.look, rival.guess(case)[None])
    spread = rival.spread(case)
    inflation = radius * np.concatenate([spread[:1], spread])
    return bodies(models.shape, points, np.ones(1), times_s, case.look.scale, inflation, _EVERY)


def _reach(models: Models, case: Case, factor: float) -> Bodies:
    joints = len(models.shape.layout.joint_names)
    end = case.look.times_s[-1:]
    return reachable_bodies(
        models.shape, case.look.now[:joints], end, VolumeConfig(), factor=factor
    )


def volume_m3(kept: Bodies) -> float:
    """Return the volume of the union of capsules [m^3]; large ones by coarser voxels."""
    low, high = kept.bounds
    cell = _CELL_M
    while np.prod((high - low) / cell + 3) > 500_000:
        cell *= 1.25
    grid = VoxelGrid.around(low, high, cell)
    return float(covered(kept, grid, padding_m=0.0).sum()) * cell**3


def _some(cases: Sequence[Case], most: int) -> list[Case]:
    """Return at most so many cases, evenly spread."""
    index = np.unique(np.linspace(0, len(cases) - 1, min(most, len(cases))).astype(int))
    return [cases[each] for each in index]


def reliability(
    models: Models, cases: Sequence[Case], *, progress: bool = False
) -> dict[str, Any]:
    """Return Brier score and reliability of voxel probabilities between 0.5 and 1 s.

    Of voxels where somebody may be or was; all others are trivially right.
    """
    last = round(_WINDOW_S[1] / models.period_s)
    some = _some([case for case in cases if len(case.truth) >= last], _RELIABILITY)
    bar = tqdm(some, leave=False, disable=None if progress else True)
    found = [_voxels(models, case) for case in bar]
    predicted, came = zip(*found, strict=True)
    chance, inside = np.concatenate(predicted).astype(np.float64), np.concatenate(came)
    bins = np.minimum((chance * _BINS).astype(int), _BINS - 1)
    curve = [
        {
            'predicted': float(chance[bins == index].mean()),
            'observed': float(inside[bins == index].mean()),
            'voxels': int((bins == index).sum()),
        }
        for index in range(_BINS)
        if (bins == index).any()
    ]
    rate = inside.mean()
    return {
        'brier': float(((chance - inside) ** 2).mean()),
        'brier_of_constant_rate': float(rate * (1.0 - rate)),
        'reliability': curve,
    }


def _voxels(
    models: Models, case: Case
) -> tuple[Float32[np.ndarray, ' voxel'], Bool[np.ndarray, ' voxel']]:
    """Return the probability of voxels where somebody may be or was, and whether one was."""
    first = round(_WINDOW_S[0] / models.period_s) - 1
    last = round(_WINDOW_S[1] / models.period_s)
    look, shape = case.look, models.shape
    times_s = look.times_s[first:last]
    ahead = bodies(
        shape, look.futures[:, first:last], look.weights, times_s, look.scale, every=_EVERY
    )
    true = bodies(
        shape, case.truth[None, first:last], np.ones(1), times_s, look.scale, every=_EVERY
    )
    corners = [ahead.bounds, true.bounds]
    low, high = np.min(corners, axis=0)[0], np.max(corners, axis=0)[1]
    grid = VoxelGrid.around(low, high, _CELL_M)
    chance = voxel_probability(ahead, grid, padding_m=0.0)
    inside = covered(true, grid, padding_m=0.0)
    asked = (chance > 0.0) | inside
    return chance[asked], inside[asked]


def _fallbacks(cases: Sequence[Case]) -> dict[str, float]:
    """Return the share of windows in fall-back by reason; recordings are never stale."""
    causes = Counter('out_of_distribution' for case in cases if not case.novelty <= 1.0)
    known = ('stale', 'incomplete', 'out_of_distribution')
    return {cause: causes[cause] / len(cases) for cause in known}


def print_volume(report: dict[str, Any], console: Console) -> None:
    """Print coverage by horizon, and volumes."""
    title = f'{report["calibration"]}: {report["windows"]} windows of {report["clips"]} clips'
    table = Table(title=title, title_justify='left')
    levels = sorted({key for row in report['coverage_by_horizon'].values() for key in row})
    for head in ('covered until, s', *levels):
        table.add_column(head, justify='right')
    for horizon, row in report['coverage_by_horizon'].items():
        table.add_row(horizon, *(f'{row[key]:.3f}' if key in row else '' for key in levels))
    console.print(table)
    for horizon, row in report['volume_m3'].items():
        sizes = ', '.join(f'{name} {size:.2f}' for name, size in row.items())
        console.print(f'm^3 until {horizon} s at {VOLUME_LEVEL:.0%}: {sizes}')
    for horizon, iso in report['reachable_iso'].items():
        console.print(
            f'ISO 13855 speeds as they are, until {horizon} s: {iso["volume_m3"]:.2f} m^3, '
            f'hold for {iso["coverage"]:.1%} of the windows'
        )
    console.print(
        f'Brier {report["brier"]:.4f} (constant rate {report["brier_of_constant_rate"]:.4f}), '
        f'effective sample size {report["ess_median"]:.0f}, fall-back {report["fallback_share"]}'
    )
    console.print('coverage holds for people exchangeable with those of the calibration only')
