# SPDX-License-Identifier: Apache-2.0
"""The report of a scored replay: JSON, and tables for the console."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from jaxtyping import Float64
from rich.console import Console
from scipy.stats import chi2

from motion_predictor_ros.density.types import Futures
from motion_predictor_ros.errors import BagError
from motion_predictor_ros.evaluation.replay.replay import Case, Replay, predictions_by_method
from motion_predictor_ros.evaluation.replay.volume_scores import volume_report, volume_rows
from motion_predictor_ros.evaluation.tables import METHODS, print_errors, print_table, spread
from motion_predictor_ros.scoring.metrics import (
    Horizons,
    mpjpe_mm,
    report_frames,
    squared_mahalanobis,
)
from motion_predictor_ros.volume.body import BodyShape

LEVELS = (*(round(0.05 * step, 2) for step in range(1, 20)), 0.99)
"""Nominal shares of the coverage curve."""


def bag_report(
    run: Replay,
    cases: list[Case],
    body: tuple[BodyShape, int] | None = None,
    reasons: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, Any]:
    """Collect the figures of one bag.

    Args:
        reasons: An example of each reason for which observations were dropped.
        body: Body shape and `VolumeConfig.every`; required if there are volumes.

    Raises:
        BagError: No prediction in the bag could be scored.
    """
    if not cases:
        raise BagError(_nothing_to_score(run, reasons))
    horizons_s = run.scenes[0][1].horizons_s
    report: dict[str, Any] = {
        'mpjpe_mm': _errors(cases, horizons_s),
        'people': _people(cases, horizons_s),
        'joints': joint_errors_mm(cases, horizons_s, run.scenes[0][1].joint_names),
        'coverage': coverage(cases, horizons_s),
        'solver': _solver(run),
        'latency_ms': {
            **spread(run.step_ms),
            'stages': {stage: spread(spent) for stage, spent in run.stages_ms.items()},
        },
        'frames': run.frames,
        'scored': len(cases),
        'drops': dict(sorted(run.drops.items())),
        'model': run.scenes[0][1].model,
    }
    if run.futures:
        report['futures'] = _futures(list(run.futures.values()))
    if run.volumes and body is not None:
        report['volumes'] = volume_report(run, *body)
    return report


def joint_errors_mm(
    cases: list[Case], horizons_s: Horizons, joint_names: tuple[str, ...]
) -> dict[str, dict[str, dict[str, float]]]:
    """Return the mean error [mm] by joint, method and reported horizon ('80', '160', ...)."""
    frames = report_frames(horizons_s)
    frame_indices = list(frames.values())
    totals: dict[str, Float64[np.ndarray, 'horizon joint']] = {}
    for case in cases:
        for name, positions in predictions_by_method(case.prediction, len(case.truth)).items():
            offsets = positions[frame_indices] - case.truth[frame_indices]
            errors_mm = 1000.0 * np.linalg.norm(offsets, axis=-1) / len(cases)
            totals[name] = totals[name] + errors_mm if name in totals else errors_mm
    return {
        joint: {
            name: {str(ms): float(total[row, index]) for row, ms in enumerate(frames)}
            for name, total in totals.items()
        }
        for index, joint in enumerate(joint_names)
    }


def coverage(cases: list[Case], horizons_s: Horizons) -> dict[str, dict[str, float]]:
    """Return the share of joints within the ellipsoids of the published covariances.

    By reported horizon [ms] and nominal share: for Gaussian errors of the published covariance,
    0.9 of the joints lie within the ellipsoid of 0.9. Empty if no covariances were published.
    """
    with_covariances = [case for case in cases if case.prediction.covariances is not None]
    shares: dict[str, dict[str, float]] = {}
    for ms, frame in report_frames(horizons_s).items() if with_covariances else ():
        distances = np.concatenate([_squared_distances(case, frame) for case in with_covariances])
        shares[str(ms)] = {
            f'{level:g}': float(np.mean(distances <= chi2.ppf(level, 3))) for level in LEVELS
        }
    return shares


def _squared_distances(case: Case, frame: int) -> Float64[np.ndarray, ' joint']:
    """Return the squared Mahalanobis distance of each joint from the truth [-]."""
    prediction = case.prediction
    assert prediction.positions is not None and prediction.covariances is not None
    error = case.truth[frame] - prediction.positions[frame]
    return squared_mahalanobis(error, prediction.covariances[frame])


def _nothing_to_score(run: Replay, reasons: Mapping[str, str]) -> str:
    """Return the reasons of drops and the states of people without a prediction."""
    text = (
        f'nothing to score in {run.frames} messages: a person must be observed for about 1 s '
        'before and 1 s after a prediction without gaps'
    )
    for reason, count in run.drops.most_common():
        example = f', first: {reasons[reason]}' if reason in reasons else ''
        text += f'; {count} x dropped as {reason}{example}'
    states: dict[str, list[str]] = {}
    for _, scene in run.scenes:
        for person in scene.people:
            states.setdefault(person.validity.name, []).append(person.reason)
    for validity, examples in states.items():
        example = f', first: {examples[0]}' if examples[0] else ''
        text += f'; {len(examples)} x {validity}{example}'
    return text


def _futures(futures: list[Futures]) -> dict[str, Any]:
    """Summarise the novelty, sample sizes and log-densities of futures."""
    novelty = np.concatenate([item.novelty for item in futures])
    sizes = np.concatenate([item.effective_sample_size for item in futures])
    predicted = [item.predicted_log_density for item in futures]
    densities = np.concatenate([d for d in predicted if d is not None] or [np.zeros(0)])
    finite = densities[np.isfinite(densities)]
    return {
        'model': futures[0].model,
        'times': len(futures),
        'novelty': spread(novelty),
        'out_of_distribution_share': float((novelty > 1.0).mean()),
        'effective_sample_size_median': float(np.median(sizes)),
        'predicted_log_density_median': float(np.median(finite)) if finite.size else None,
    }


def _errors(cases: list[Case], horizons_s: Horizons) -> dict[str, dict[str, float]]:
    return {name: mpjpe_mm([case.errors[name] for case in cases], horizons_s) for name in METHODS}


def _people(cases: list[Case], horizons_s: Horizons) -> dict[str, Any]:
    by_person: dict[str, list[Case]] = {}
    for case in cases:
        by_person.setdefault(case.prediction.person_id, []).append(case)
    return {
        person: {'mpjpe_mm': _errors(person_cases, horizons_s), 'scored': len(person_cases)}
        for person, person_cases in by_person.items()
    }


def _solver(run: Replay) -> dict[str, float]:
    solved = [
        prediction.solver
        for _, scene in run.scenes
        for prediction in scene.people
        if prediction.solver is not None
    ]
    if not solved:
        return {}
    return {
        'steps_mean': float(np.mean([report.steps for report in solved])),
        'residual_median': float(np.median([report.residual for report in solved])),
        'converged_share': float(np.mean([report.converged for report in solved])),
        'warm_share': float(np.mean([report.warm for report in solved])),
    }


def print_bag_report(report: Mapping[str, Any], console: Console) -> None:
    """Print a bag's report."""
    print_errors(report['mpjpe_mm'], 'All people', console)
    rows = {
        f'{person} ({figures["scored"]}), {label}': figures['mpjpe_mm'][name]
        for person, figures in report['people'].items()
        for name, label in METHODS.items()
    }
    print_table(rows, 'By person', 'person (scored)', console, form='.0f')
    console.print(f'solver: {solver_line(report["solver"])}')
    if 'futures' in report:
        futures = report['futures']
        console.print(
            f'futures: drawn {futures["times"]} times by {futures["model"]}, '
            f'{100 * futures["out_of_distribution_share"]:.1f} % out of distribution, '
            f'effective sample size {futures["effective_sample_size_median"]:.0f} in the median'
        )
    if 'volumes' in report:
        print_volumes(report['volumes'], console)
    latency = report['latency_ms']
    medians = ', '.join(f'{name} {ms["p50"]:.1f}' for name, ms in latency['stages'].items())
    console.print(
        f'step: {latency["p50"]:.1f} ms median, {latency["p99"]:.1f} ms 99th percentile'
        f' (medians by stage: {medians})'
    )
    drops = ', '.join(f'{count} {reason}' for reason, count in report['drops'].items()) or 'none'
    console.print(f'frames: {report["frames"]}, scored: {report["scored"]}, drops: {drops}')


def solver_line(solver: Mapping[str, float]) -> str:
    """Summarise the solver's steps; empty figures are of a predictor without one."""
    if not solver:
        return 'the predictor has none'
    return (
        f'{solver["steps_mean"]:.1f} steps on average; {100 * solver["converged_share"]:.1f} % '
        f'converged, {100 * solver["warm_share"]:.1f} % warm; median residual '
        f'{solver["residual_median"]:.1e}'
    )


def print_volumes(volumes: Mapping[str, Any], console: Console) -> None:
    """Print the size and coverage of volumes."""
    if volumes['times']:
        nominal = f'{100 * volumes["level"]:.0f} % nominal, until {volumes["horizon_s"]:g} s'
        print_table(volume_rows(volumes), f'Keep-out volumes, {nominal}', 'until [s]', console)
    console.print(volumes_line(volumes))


def volumes_line(volumes: Mapping[str, Any]) -> str:
    """Summarise the numbers of scored volumes and of reachable sets."""
    fallbacks = ', '.join(f'{count} {cause}' for cause, count in volumes['fallbacks'].items())
    covered = volumes['reachable_held'].items()
    shares = ', '.join(f'{100 * share:.0f} % until {end} s' for end, share in covered)
    scored = f' (covered {shares}, of {volumes["reachable_scored"]} scored)' if shares else ''
    return (
        f'volumes: {volumes["times"]} by {volumes["calibration"] or "no calibration"}, '
        f'{volumes["scored"]} of them scored by later observations; '
        f'reachable set instead: {fallbacks or "never"}{scored}'
    )
