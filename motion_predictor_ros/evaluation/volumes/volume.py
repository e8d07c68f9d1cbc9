# SPDX-License-Identifier: Apache-2.0
"""Evaluate volumes on people no model has seen: do they keep their promises, how large are they?

Coverage is joint: a window counts if the whole body stays inside in all windows of time until the
horizon. The missed share is that of the voxels that the body touched in a window. A volume is that
of the published voxels above the floor; `until 1 s` means that of the last window that ends by
then. Rivals are
calibrated to the same level on the same people:
    reachable                    the speeds of ISO 13855, by the factor that the level needs
    constant_velocity_gaussian   constant velocity, isotropic errors by point and time
    motion_deq_gaussian          MotionDEQ with the covariances in its weight file
"""

import contextlib
import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64
from rich.console import Console
from tqdm import tqdm

from motion_predictor_ros.config import VolumeConfig
from motion_predictor_ros.data.recordings import Recordings
from motion_predictor_ros.errors import ConfigError
from motion_predictor_ros.evaluation.reliability import Reliability
from motion_predictor_ros.evaluation.tables import Cell, print_table
from motion_predictor_ros.scoring.metrics import constant_velocity
from motion_predictor_ros.training.volume_windows import (
    EVERY,
    Case,
    Models,
    above_floor,
    cases_of,
    rank_truth,
)
from motion_predictor_ros.volume.body import BodyShape
from motion_predictor_ros.volume.calibration import (
    LEVELS,
    RISKS,
    Calibration,
    HorizonCalibration,
    Promise,
    needed_clips,
    quantile,
)
from motion_predictor_ros.volume.capsules import Bodies, bodies
from motion_predictor_ros.volume.grid import VoxelGrid
from motion_predictor_ros.volume.level_sets import window_field
from motion_predictor_ros.volume.reachable import reachable_bodies
from motion_predictor_ros.volume.voxels import covered, touched, voxel_probability

_LOG = logging.getLogger(__name__)

VOLUME_LEVEL = 0.95
SLOW_M_S = 0.3
"""Mean speed of joints below which a person is slow."""

_PROMISES: tuple[tuple[Promise, float], ...] = (
    *(('coverage', level) for level in LEVELS),
    *(('risk', share) for share in RISKS),
)
_VOLUME_HORIZONS_S = (0.5, 1.0)
_RIVAL_CASES = 40
_RELIABILITY_CASES = 60
_PROBABILITY_WINDOW_S = (0.5, 1.0)
_CELL_M = 0.1


@dataclass(frozen=True)
class Promised:
    """What was promised of a case until one horizon, and what happened.

    Attributes:
        missed: Share of the body's space outside, by window; zero: the body stayed inside.
        volume_m3: By window; only of windows until 1 s, of risks and of coverage at 95 %.
    """

    missed: list[float] = field(default_factory=list)
    volume_m3: list[float] = field(default_factory=list)

    @property
    def held(self) -> bool:
        """Whether the whole body stayed inside in all windows."""
        return max(self.missed) == 0.0


Points = Float64[np.ndarray, 'time point xyz=3']
Key = tuple[float, Promise, float]
"""Horizon [s], promise, and its level or share."""

Results = dict[Key, Promised]


def evaluate_volume(
    models: Models, recordings: Recordings, calibration: Calibration, split: str = 'test'
) -> dict[str, Any]:
    """Return coverage, missed shares, volumes, reliability and fall-backs.

    Rivals are left out where split `cal` has too few windows to calibrate them.

    Args:
        split: Of the clips to judge on; '': all.

    Raises:
        DataError: The recordings do not fit the models, or have no such split.
    """
    selected = recordings.of_split(split)
    held_out = _rival_cases(models, recordings)
    cases = cases_of(models, selected)
    known = [case for case in cases if case.novelty <= 1.0]
    bar = tqdm(known, leave=False, disable=None)
    results = [promised(models, case, calibration) for case in bar]
    report: dict[str, Any] = defaultdict(dict)
    for until in calibration.horizons:
        _report_horizon(report, until, models, known, results)
    for horizon_s, against in held_out.items():
        sizes = rival_volumes(models, known, against, horizon_s)
        report['volume_m3'].setdefault(f'{horizon_s}', {}).update(sizes)
    return {
        **report,
        **reliability(models, known),
        **_counts(cases),
        'calibration': calibration.name,
        'futures': models.futures.config.futures,
    }


def _rival_cases(models: Models, recordings: Recordings) -> dict[float, list[Case]]:
    """Return windows of split `cal` by horizon, where they suffice to calibrate rivals."""
    clips = recordings.select(lambda clip: clip.split == 'cal')
    cases = cases_of(models, clips) if clips.clips else []
    needed, enough = needed_clips(1.0 - VOLUME_LEVEL), {}
    for horizon_s in _VOLUME_HORIZONS_S:
        known = [case for case in cases if case.novelty <= 1.0 and case.lasts(horizon_s)]
        if len(known) >= needed:
            enough[horizon_s] = known
        else:
            _LOG.warning(
                f'rivals until {horizon_s:g} s are left out: they need {needed} windows of split '
                f'cal, there are {len(known)}'
            )
    return enough


def promised(models: Models, case: Case, calibration: Calibration) -> Results:
    """Return the result of each certified promise, for all horizons that the case lasts for."""
    lasting = [until for until in calibration.horizons if case.lasts(until.windows_s[-1][1])]
    thresholds: dict[Key, tuple[float, ...]] = {}
    for until in lasting:
        for promise, value in _PROMISES:
            with contextlib.suppress(ConfigError):
                taus = until.thresholds(promise, value, case.forecast)
                thresholds[until.horizon_s, promise, value] = taus
    results = {key: Promised() for key in thresholds}
    if not thresholds:
        return results
    longest = max(lasting, key=lambda until: until.horizon_s)
    for index, (window_s, size_m) in enumerate(
        zip(longest.windows_s, longest.voxels_m, strict=True)
    ):
        taus_here = {key: taus[index] for key, taus in thresholds.items() if index < len(taus)}
        inside = rank_truth(models.shape, case, longest.ranking, window_s, size_m)
        for key, tau in taus_here.items():
            results[key].missed.append(
                float(np.searchsorted(inside, np.float32(tau)) / len(inside))
            )
        sized = {key: tau for key, tau in taus_here.items() if _is_sized(*key)}
        if not sized:
            continue
        lowest = min(sized.values())
        field = window_field(
            models.shape, case.forecast, longest.ranking, window_s, lowest, size_m
        )
        ranked = np.sort(field.values[:, :, above_floor(field.grid)], axis=None)
        for key, tau in sized.items():
            kept = len(ranked) - np.searchsorted(ranked, np.float32(tau))
            results[key].volume_m3.append(float(kept * field.grid.size_m**3))
    return results


def _is_sized(horizon_s: float, promise: Promise, value: float) -> bool:
    is_reported = promise == 'risk' or value == VOLUME_LEVEL
    return horizon_s in _VOLUME_HORIZONS_S and is_reported


def _report_horizon(
    report: dict[str, Any],
    until: HorizonCalibration,
    models: Models,
    cases: Sequence[Case],
    results: Sequence[Results],
) -> None:
    """Add what is known of one horizon."""
    horizon_s, horizon = until.horizon_s, f'{until.horizon_s}'
    pairs = list(zip(cases, results, strict=True))
    lasting = [pair for pair in pairs if any(key[0] == horizon_s for key in pair[1])]
    if not lasting:
        return
    report['coverage_by_horizon'][horizon] = coverage([kept for _, kept in lasting], horizon_s)
    edges = np.quantile([case.forecast.speeds.mean() for case in cases], [1 / 3, 2 / 3])
    groupings: dict[str, Callable[[Case], str]] = {
        'coverage_by_speed': lambda case: _tercile(case, edges),
        'coverage_by_kind': lambda case: case.clip.kind or case.clip.action or 'unnamed',
        'coverage_by_subject': _subject,
    }
    for name, group_of in groupings.items():
        members: dict[str, list[Results]] = defaultdict(list)
        for case, kept in lasting:
            members[group_of(case)].append(kept)
        report[name][horizon] = {
            group: {'windows': len(some), **coverage(some, horizon_s)}
            for group, some in sorted(members.items())
        }
    factors = [case.needed_factor(models.shape, horizon_s) for case, _ in lasting]
    report['reachable_iso'][horizon] = float(np.mean(np.array(factors) <= 1.0))
    key: Key = (horizon_s, 'coverage', VOLUME_LEVEL)
    if key in lasting[0][1] and horizon_s in _VOLUME_HORIZONS_S:
        sizes = np.array([kept[key].volume_m3[-1] for _, kept in lasting])
        slow = np.array([case.forecast.speeds.mean() < SLOW_M_S for case, _ in lasting])
        report['volume_m3'][horizon] = {'ours': float(sizes.mean())}
        report['volume_m3_slow'][horizon] = float(sizes[slow].mean()) if slow.any() else None
    for share in RISKS:
        rows = [kept.get((horizon_s, 'risk', share)) for _, kept in lasting]
        if all(rows):
            _report_risk(report, until, share, [row for row in rows if row])


def _report_risk(
    report: dict[str, Any], until: HorizonCalibration, share: float, rows: Sequence[Promised]
) -> None:
    """Add the windows that no shorter horizon has reported."""
    table = report['risk'].setdefault(f'{share:g}', {})
    for index, (start_s, end_s) in enumerate(until.windows_s):
        row = {'missed_share': float(np.mean([row.missed[index] for row in rows]))}
        if index < len(rows[0].volume_m3):
            row['volume_m3'] = float(np.mean([row.volume_m3[index] for row in rows]))
        table.setdefault(f'{start_s:g}-{end_s:g}', row)


def coverage(results: Sequence[Results], horizon_s: float) -> dict[str, float]:
    """Return the share of windows covered, by level; levels not certified are left out."""
    return {
        f'{value:.2f}': float(np.mean([kept[at_s, promise, value].held for kept in results]))
        for at_s, promise, value in results[0]
        if promise == 'coverage' and at_s == horizon_s
    }


def _tercile(case: Case, speeds: Float64[np.ndarray, ' edge']) -> str:
    place = int(np.searchsorted(speeds, case.forecast.speeds.mean()))
    bounds = ('0', *(f'{speed:.2f}' for speed in speeds), '')
    return f'{bounds[place]}-{bounds[place + 1]} m/s'


def _subject(case: Case) -> str:
    return f'{case.clip.subject}{" (retargeted)" if case.clip.retargeted else ""}'


def _counts(cases: Sequence[Case]) -> dict[str, Any]:
    return {
        'ess_median': float(np.median([case.effective for case in cases])),
        'fallback_share': _fallbacks(cases),
        'clips': len({case.clip.key for case in cases}),
        'windows': len(cases),
        'subjects': len({case.clip.subject for case in cases}),
    }


def rival_volumes(
    models: Models, cases: Sequence[Case], held_out: Sequence[Case], horizon_s: float
) -> dict[str, float]:
    """Return mean volumes of rivals that cover as often as promised on held-out people [m^3]."""
    shown = [case for case in cases if case.lasts(horizon_s)]
    shown = [
        shown[at] for at in np.unique(np.linspace(0, len(shown) - 1, _RIVAL_CASES).astype(int))
    ]
    sizes = {}
    for name, rival in rivals(models, held_out, horizon_s).items():
        limit = quantile(np.array([rival.needed(case) for case in held_out]), VOLUME_LEVEL)
        sizes[name] = float(np.mean([volume_m3(rival.body(case, limit)) for case in shown]))
    return sizes


@dataclass(frozen=True)
class Rival:
    """Volumes that grow with a number.

    Attributes:
        needed: The number at which the volume of a case holds what came true.
        body: The volume of a case at a number.
    """

    needed: Callable[[Case], float]
    body: Callable[[Case, float], Bodies]


def rivals(models: Models, fitted: Sequence[Case], horizon_s: float) -> dict[str, Rival]:
    """Return the reachable set and the Gaussian baselines.

    Args:
        fitted: Windows on which constant velocity's errors are measured.
    """
    shape, residuals = models.shape, models.likeliest.residuals
    times, joints = round(horizon_s / models.period_s), len(shape.layout.joint_names)

    def reachable(case: Case, factor: float) -> Bodies:
        now, end = case.forecast.now[:joints], np.array([horizon_s])
        return reachable_bodies(shape, now, end, VolumeConfig(), factor=factor)

    def ahead(case: Case) -> Points:
        return shape.points(constant_velocity(case.observed, times), case.forecast.scale)

    squares = [((ahead(case) - case.truth[:times]) ** 2).sum(-1) for case in fitted]
    deviation = np.sqrt(np.mean(squares, axis=0) / 3.0) + 1e-3
    baselines = {
        'reachable': Rival(lambda case: case.needed_factor(shape, horizon_s), reachable),
        'constant_velocity_gaussian': _gaussian(shape, ahead, lambda case: deviation),
    }
    if residuals is None:
        return baselines

    def spread(case: Case) -> Float64[np.ndarray, 'time point']:
        past = case.observed[-models.likeliest.module.config.past :]
        variance = residuals.covariances(past, models.period_s)[:times, :, 0, 0]
        return shape.of_points(np.sqrt(variance)) + 1e-3

    likeliest = _gaussian(shape, lambda case: case.forecast.likeliest[1 : times + 1], spread)
    return {**baselines, 'motion_deq_gaussian': likeliest}


def _gaussian(
    shape: BodyShape,
    guess: Callable[[Case], Points],
    spread: Callable[[Case], Float64[np.ndarray, 'time point']],
) -> Rival:
    """Return a prediction with isotropic errors, thicker by a number of their spreads [m]."""

    def needed(case: Case) -> float:
        points = guess(case)
        off = np.linalg.norm(points - case.truth[: len(points)], axis=-1)
        return float((off / spread(case)).max())

    def body(case: Case, radius: float) -> Bodies:
        forecast = case.forecast
        points = np.concatenate([forecast.now[None], guess(case)])
        around = radius * spread(case)
        inflation = np.concatenate([around[:1], around])
        times_s = forecast.times_s[: len(points)]
        return bodies(shape, points[None], np.ones(1), times_s, forecast.scale, inflation, EVERY)

    return Rival(needed, body)


def volume_m3(body: Bodies) -> float:
    """Return the volume of the union of capsules [m^3]; large ones by coarser voxels."""
    low, high = body.bounds
    cell = _CELL_M
    while np.prod((high - low) / cell + 3) > 500_000:
        cell *= 1.25
    grid = VoxelGrid.around(low, high, cell)
    return float(covered(body, grid, padding_m=0.0).sum()) * cell**3


def reliability(models: Models, cases: Sequence[Case]) -> dict[str, Any]:
    """Return Brier score and reliability of voxel probabilities between 0.5 and 1 s.

    Of voxels that a future or the true body fills; all others are trivially right.
    """
    lasting = [case for case in cases if case.lasts(_PROBABILITY_WINDOW_S[1])]
    chosen, tally = lasting[:: max(1, len(lasting) // _RELIABILITY_CASES)], Reliability()
    for case in tqdm(chosen, leave=False, disable=None):
        tally.add(*_voxels(models, case))
    return tally.figures('voxels')


def _voxels(
    models: Models, case: Case
) -> tuple[Float32[np.ndarray, ' voxel'], Bool[np.ndarray, ' voxel']]:
    """Return the probability of voxels where a body may be or was, and whether one was."""
    futures = case.forecast.future_bodies(models.shape, _PROBABILITY_WINDOW_S, EVERY)
    truth = case.true_body(models.shape, _PROBABILITY_WINDOW_S)
    corners = [futures.bounds, truth.bounds]
    low, high = np.min(corners, axis=0)[0], np.max(corners, axis=0)[1]
    grid = VoxelGrid.around(low - _CELL_M, high + _CELL_M, _CELL_M)
    chance, inside = voxel_probability(futures, grid), touched(truth, grid)
    occupied = (chance > 0.0) | inside
    return chance[occupied], inside[occupied]


def _fallbacks(cases: Sequence[Case]) -> dict[str, float]:
    """Return the share of windows in fall-back by reason; recordings are never stale."""
    causes = Counter('out_of_distribution' for case in cases if not case.novelty <= 1.0)
    known = ('stale', 'incomplete', 'out_of_distribution')
    return {cause: causes[cause] / len(cases) for cause in known}


def print_volume(report: dict[str, Any], console: Console) -> None:
    """Print coverage by horizon and by group, missed shares, and volumes."""
    rows: dict[str, dict[str, Cell]] = {}
    for horizon, row in report['coverage_by_horizon'].items():
        rows[f'until {horizon} s'] = {'windows': None, **_cells(row)}
        for grouping in ('coverage_by_speed', 'coverage_by_kind', 'coverage_by_subject'):
            for group, members in report[grouping][horizon].items():
                rows[f'until {horizon} s: {group}'] = {
                    'windows': members['windows'],
                    **_cells(members),
                }
    title = f'{report["calibration"]}: {report["windows"]} windows of {report["clips"]} clips'
    print_table(rows, title, 'covered', console, form='.3f')
    risks: dict[str, dict[str, Cell]] = {
        f'{float(share):.1%}': {
            f'{window} s': f'{row["missed_share"]:.2%} in {row["volume_m3"]:.2f} m^3'
            for window, row in windows.items()
            if 'volume_m3' in row
        }
        for share, windows in report.get('risk', {}).items()
    }
    print_table(risks, 'missed share of the body, and volume', 'risk', console)
    sizes: dict[str, dict[str, Cell]] = {
        f'{horizon} s': {**row, 'ours, slow people': report['volume_m3_slow'].get(horizon)}
        for horizon, row in report.get('volume_m3', {}).items()
    }
    print_table(sizes, f'volume at {VOLUME_LEVEL:.0%} [m^3]', 'until', console, form='.2f')
    iso = ', '.join(f'{share:.1%} until {end} s' for end, share in report['reachable_iso'].items())
    console.print(f'the speeds of ISO 13855 as they are hold for {iso}')
    console.print(
        f'Brier {report["brier"]:.4f} (constant rate {report["brier_of_constant_rate"]:.4f}), '
        f'effective sample size {report["ess_median"]:.0f}, fall-back {report["fallback_share"]}'
    )
    console.print('promises hold for people exchangeable with those of the calibration only')


def _cells(row: Mapping[str, float]) -> dict[str, Cell]:
    return {f'{level:.0%}': row.get(f'{level:.2f}', 'refused') for level in LEVELS}
