# SPDX-License-Identifier: Apache-2.0
"""Turn scored replays into the JSON that scripts read and the table that people read."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64
from rich.console import Console
from rich.table import Table

from motion_predictor_ros.density.types import Futures
from motion_predictor_ros.errors import BagError
from motion_predictor_ros.evaluation.replay.breakdown import coverage, joint_errors_mm
from motion_predictor_ros.evaluation.replay.replay import Case, Replay
from motion_predictor_ros.evaluation.replay.volume_scores import volume_report, volume_rows
from motion_predictor_ros.scoring.metrics import mpjpe_mm
from motion_predictor_ros.volume.body import BodyShape

METHODS = {
    'motion_deq': 'MotionDEQ',
    'constant_velocity': 'constant velocity',
    'repeat_last': 'repeat last frame',
}
"""Keys in reports, and what people call them."""


VOLUME_HEADS = (
    'until [s]',
    'stayed inside',
    'mean size [m^3]',
    'Brier score (of a constant)',
)
"""What `volume_rows` holds."""


def bag_report(
    played: Replay, cases: list[Case], body: tuple[BodyShape, int] | None = None
) -> dict[str, Any]:
    """Collect the figures of one bag.

    Args:
        body: Shape of the people and `VolumeConfig.every`; needed where volumes were told.

    Raises:
        BagError: Nothing in the bag could be predicted and scored.
    """
    if not cases:
        raise BagError(
            f'nothing to score in {played.frames} messages (drops: {dict(played.drops)}): a '
            'person must be seen for about 1 s before and 1 s after a prediction without gaps'
        )
    horizons_s = played.scenes[0][1].horizons_s
    report: dict[str, Any] = {
        'mpjpe_mm': _errors(cases, horizons_s),
        'people': _people(cases, horizons_s),
        'joints': joint_errors_mm(cases, horizons_s, played.scenes[0][1].joint_names),
        'coverage': coverage(cases, horizons_s),
        'solver': _solver(played),
        'latency_ms': {
            **latency_ms(played.step_ms),
            'stages': {stage: latency_ms(spent) for stage, spent in played.stages_ms.items()},
        },
        'frames': played.frames,
        'scored': len(cases),
        'drops': dict(sorted(played.drops.items())),
        'model': played.scenes[0][1].model,
    }
    if played.futures:
        report['futures'] = _futures(list(played.futures.values()))
    if played.volumes and body is not None:
        report['volumes'] = volume_report(played, *body)
    return report


def _futures(weighed: list[Futures]) -> dict[str, Any]:
    """Say how often futures were weighed, and how far the density model knows what it saw."""
    novelty = np.concatenate([each.novelty for each in weighed])
    sizes = np.concatenate([each.effective_sample_size for each in weighed])
    predicted = [each.predicted_log_density for each in weighed]
    densities = np.concatenate([each for each in predicted if each is not None] or [np.zeros(0)])
    known = densities[np.isfinite(densities)]
    return {
        'model': weighed[0].model,
        'times': len(weighed),
        'novelty': {'p50': float(np.median(novelty)), 'p99': float(np.percentile(novelty, 99))},
        'out_of_distribution_share': float((novelty > 1.0).mean()),
        'effective_sample_size_median': float(np.median(sizes)),
        'predicted_log_density_median': float(np.median(known)) if known.size else None,
    }


def latency_ms(step_ms: Float64[np.ndarray, ' step']) -> dict[str, float]:
    """Return median and 99th percentile."""
    return {'p50': float(np.percentile(step_ms, 50)), 'p99': float(np.percentile(step_ms, 99))}


def _errors(
    cases: list[Case], horizons_s: Float64[np.ndarray, ' horizon']
) -> dict[str, dict[str, float]]:
    return {
        name: mpjpe_mm([case.errors[name] for case in cases], horizons_s)
        for name in ('motion_deq', 'repeat_last', 'constant_velocity')
    }


def _people(cases: list[Case], horizons_s: Float64[np.ndarray, ' horizon']) -> dict[str, Any]:
    by_person: dict[str, list[Case]] = {}
    for case in cases:
        by_person.setdefault(case.prediction.person_id, []).append(case)
    return {
        person: {'mpjpe_mm': _errors(own, horizons_s), 'scored': len(own)}
        for person, own in by_person.items()
    }


def _solver(played: Replay) -> dict[str, float]:
    solved = [
        prediction.solver
        for _, scene in played.scenes
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


def write_json(report: Mapping[str, Any], path: Path) -> None:
    """Write a report where scripts find it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=2) + '\n')


def print_errors(errors: Mapping[str, Mapping[str, float]], title: str, console: Console) -> None:
    """Print one line per method, one column per horizon [mm], the best of each in bold."""
    horizons = list(errors['motion_deq'])
    table = Table(title=title, title_justify='left')
    table.add_column(r'MPJPE \[mm] after \[ms]')
    for horizon in horizons:
        table.add_column(horizon, justify='right')
    best = {ms: min(row[ms] for row in errors.values()) for ms in horizons}
    for name, label in METHODS.items():
        row = errors[name]
        cells = [
            f'[bold]{row[ms]:.1f}[/]' if row[ms] == best[ms] else f'{row[ms]:.1f}'
            for ms in horizons
        ]
        table.add_row(label, *cells)
    console.print(table)


def _people_table(people: Mapping[str, Any]) -> Table:
    table = Table(title='By person', title_justify='left')
    table.add_column('person (scored)')
    table.add_column('MPJPE \\[mm] after \\[ms]')
    horizons = list(next(iter(people.values()))['mpjpe_mm']['motion_deq'])
    for horizon in horizons:
        table.add_column(horizon, justify='right')
    for person, own in people.items():
        head = f'{person} ({own["scored"]})'
        for name, label in METHODS.items():
            row = own['mpjpe_mm'][name]
            table.add_row(head, label, *(f'{row[ms]:.0f}' for ms in horizons))
            head = ''
        table.add_section()
    return table


def print_bag_report(report: Mapping[str, Any], console: Console) -> None:
    """Print everything in a bag's report that a person wants to see."""
    print_errors(report['mpjpe_mm'], 'Everybody', console)
    console.print(_people_table(report['people']))
    solver, latency = report['solver'], report['latency_ms']
    console.print(
        f'solver: {solver["steps_mean"]:.1f} steps, median residual '
        f'{solver["residual_median"]:.1e}, {100 * solver["converged_share"]:.1f} % converged, '
        f'{100 * solver["warm_share"]:.1f} % warm'
    )
    if 'futures' in report:
        _print_futures(report['futures'], console)
    if 'volumes' in report:
        print_volumes(report['volumes'], console)
    console.print(
        f'step: {latency["p50"]:.1f} ms median, {latency["p99"]:.1f} ms 99th percentile'
        f' ({stages_line(report)})'
    )
    drops = ', '.join(f'{count} {reason}' for reason, count in report['drops'].items()) or 'none'
    console.print(f'frames: {report["frames"]}, scored: {report["scored"]}, drops: {drops}')


def _print_futures(futures: Mapping[str, Any], console: Console) -> None:
    console.print(
        f'futures: weighed {futures["times"]} times by {futures["model"]}, '
        f'{100 * futures["out_of_distribution_share"]:.1f} % unlike anything recorded, '
        f'effective sample size {futures["effective_sample_size_median"]:.0f} in the median'
    )


def stages_line(report: Mapping[str, Any]) -> str:
    """Return the median of each stage when it is due, as text."""
    stages = report['latency_ms']['stages'].items()
    return 'medians by stage: ' + ', '.join(f'{name} {ms["p50"]:.1f}' for name, ms in stages)


def print_volumes(volumes: Mapping[str, Any], console: Console) -> None:
    """Print how large volumes were and how often they held."""
    if volumes['times']:
        aim = f'{100 * volumes["level"]:.0f} % aimed at jointly until {volumes["horizon_s"]:g} s'
        table = Table(title=f'Space to keep free, {aim}', title_justify='left')
        for head in VOLUME_HEADS:
            table.add_column(head.replace('[', r'\['), justify='right')
        for row in volume_rows(volumes):
            table.add_row(*row)
        console.print(table)
    console.print(volumes_line(volumes))


def volumes_line(volumes: Mapping[str, Any]) -> str:
    """Say on what the figures of volumes rest."""
    fallbacks = ', '.join(f'{count} {cause}' for cause, count in volumes['fallbacks'].items())
    held = volumes['reachable_held'].items()
    shares = ', '.join(f'{100 * share:.0f} % until {end} s' for end, share in held)
    told = f' (held in {shares}, of {volumes["reachable_scored"]} scored)' if shares else ''
    return (
        f'volumes: {volumes["times"]} by {volumes["calibration"] or "no calibration"}, '
        f'{volumes["scored"]} of them scored against what was seen later; '
        f'reachable set instead: {fallbacks or "never"}{told}'
    )
