# SPDX-License-Identifier: Apache-2.0
"""Write a scored bag as one self-contained page: replay, charts and tables.

The page loads nothing from the network; its Content-Security-Policy forbids it.
"""

import json
from collections.abc import Iterable, Mapping
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from motion_predictor_ros.evaluation.replay.replay import Case, Replay
from motion_predictor_ros.evaluation.replay.volume_scores import volume_rows
from motion_predictor_ros.evaluation.report.charts import (
    MAX_PEOPLE,
    coverage_chart,
    errors_chart,
    latency_chart,
    reliability_chart,
    solver_chart,
    timeline_chart,
)
from motion_predictor_ros.evaluation.report.replay_data import pack_replay
from motion_predictor_ros.evaluation.report.tables import VOLUME_HEADS, solver_line, volumes_line
from motion_predictor_ros.evaluation.tables import METHODS
from motion_predictor_ros.skeleton.layout import SkeletonLayout


def write_html(
    report: Mapping[str, Any],
    run: Replay,
    cases: list[Case],
    layout: SkeletonLayout,
    up: str,
    title: str,
    path: Path,
) -> None:
    """Write the page.

    Args:
        report: Report of `bag_report`, with 'live' if a live node answered the same bag.
        up: Axis of the frame that points up, such as 'z'.
    """
    replay = pack_replay(run, layout, up)
    every = replay['every']
    page = Template(_part('page.html')).substitute(
        title=escape(title),
        summary=_summary(report),
        style=_part('page.css'),
        thinned=f'One observation of {every} is shown.' if every > 1 else '',
        sections='\n'.join(_sections(report, run, cases)),
        # A person id must not end the script element.
        replay=json.dumps(replay, separators=(',', ':')).replace('<', r'\u003c'),
        script=_part('volumes.js') + _part('replay.js'),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding='utf-8')


def _part(name: str) -> str:
    return (
        files('motion_predictor_ros.evaluation.report').joinpath('page', name).read_text('utf-8')
    )


def _summary(report: Mapping[str, Any]) -> str:
    drops = ', '.join(f'{count} {reason}' for reason, count in report['drops'].items()) or 'none'
    return escape(
        f'Model {report["model"]}; {report["frames"]} messages, {len(report["people"])} people '
        f'scored, {report["scored"]} predictions scored by later observations of the bag; '
        f'drops: {drops}.'
    )


def _sections(report: Mapping[str, Any], run: Replay, cases: list[Case]) -> Iterable[str]:
    yield '<h2>Error by horizon</h2>'
    yield errors_chart(cases, run)
    yield _errors_table(report['mpjpe_mm'])
    if report['coverage']:
        yield '<h2>Coverage of the covariances</h2>'
        yield _note('Above the diagonal: errors are smaller than the covariances; below: larger.')
        yield coverage_chart(report['coverage'])
    if 'volumes' in report:
        yield from _volumes(report['volumes'])
    yield '<h2>Latency</h2>'
    yield latency_chart(run)
    yield _latency_table(report)
    yield '<h2>Solver steps, warm and cold</h2>'
    yield solver_chart(run)
    yield _note(f'Solver: {solver_line(report["solver"])}.')
    yield '<h2>Validity of the predictions</h2>'
    yield timeline_chart(run)
    if len({key[1] for key in run.tracks}) > MAX_PEOPLE:
        yield _note(f'Only the first {MAX_PEOPLE} people are shown.')
    yield '<h2>Error by person</h2>'
    people = report['people']
    yield _breakdown_table('person', {name: row['mpjpe_mm'] for name, row in people.items()})
    yield '<h2>Error by joint</h2>'
    yield _breakdown_table('joint', report['joints'])


def _volumes(volumes: Mapping[str, Any]) -> Iterable[str]:
    yield '<h2>Coverage of the keep-out volumes</h2>'
    if volumes['times']:
        nominal = f'Nominal coverage {100 * volumes["level"]:.0f} %, jointly until'
        yield _note(f"{nominal} {volumes['horizon_s']:g} s, for people like the calibration's.")
        yield _table(VOLUME_HEADS, volume_rows(volumes))
    yield _note(volumes_line(volumes))
    if volumes['voxels']:
        yield '<h2>Reliability of voxel probabilities</h2>'
        yield _note('Above the diagonal: bodies were in voxels more often than predicted.')
        yield reliability_chart(volumes['voxels'])


def _note(text: str) -> str:
    return f'<p class="note">{escape(text)}</p>'


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table of HTML cells."""
    heads = ''.join(f'<th>{cell}</th>' for cell in head)
    body = '\n'.join(
        '<tr>' + ''.join(f'<td>{cell}</td>' for cell in row) + '</tr>' for row in rows
    )
    return f'<div class="wide"><table>\n<tr>{heads}</tr>\n{body}\n</table></div>'


def _errors_table(errors: Mapping[str, Mapping[str, float]]) -> str:
    best = {ms: min(row[ms] for row in errors.values()) for ms in errors['motion_deq']}
    rows = [
        [label, *(_marked(value, value == best[ms]) for ms, value in errors[name].items())]
        for name, label in METHODS.items()
    ]
    return _table(['MPJPE [mm] after [ms]', *best], rows)


def _marked(value: float, best: bool) -> str:
    return f'<b>{value:.1f}</b>' if best else f'{value:.1f}'


def _breakdown_table(name: str, parts: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """Return MotionDEQ's errors at all horizons, and the baselines' at the last."""
    horizons = list(next(iter(parts.values()))['motion_deq'])
    last = horizons[-1]
    others = [name for name in METHODS if name != 'motion_deq']
    head = [f'{name}, MotionDEQ [mm] after [ms]', *horizons]
    head += [f'{METHODS[name]}, {last}' for name in others]
    rows = [
        [
            escape(part),
            *(f'{errors["motion_deq"][ms]:.1f}' for ms in horizons),
            *(f'{errors[other][last]:.1f}' for other in others),
        ]
        for part, errors in parts.items()
    ]
    return _table(head, rows)


def _latency_table(report: Mapping[str, Any]) -> str:
    timed = {f'{stage}, when it runs': ms for stage, ms in report['latency_ms']['stages'].items()}
    timed['whole step, in the replay'] = report['latency_ms']
    if 'live' in report:
        timed['observation to published answer, live node'] = report['live']['age_ms']
    rows = [[name, f'{ms["p50"]:.1f}', f'{ms["p99"]:.1f}'] for name, ms in timed.items()]
    return _table(['[ms]', 'median', '99th percentile'], rows)
