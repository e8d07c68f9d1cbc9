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
from motion_predictor_ros.evaluation.report.tables import solver_line, volumes_line
from motion_predictor_ros.evaluation.tables import METHODS, Cell, format_cells
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
    errors = {label: report['mpjpe_mm'][name] for name, label in METHODS.items()}
    yield _table('MPJPE [mm] after [ms]', errors, bold='<b>{}</b>')
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
        yield _table('until [s]', volume_rows(volumes))
    yield _note(volumes_line(volumes))
    if volumes['voxels']:
        yield '<h2>Reliability of voxel probabilities</h2>'
        yield _note('Above the diagonal: bodies were in voxels more often than predicted.')
        yield reliability_chart(volumes['voxels'])


def _note(text: str) -> str:
    return f'<p class="note">{escape(text)}</p>'


def _table(
    corner: str, rows: Mapping[str, Mapping[str, Cell]], form: str = '.1f', bold: str = '{}'
) -> str:
    """Return a table with one line per row; `corner` heads their names."""
    heads, lines = format_cells(rows, form, escape, bold)
    head = ''.join(f'<th>{cell}</th>' for cell in [escape(corner), *heads])
    body = '\n'.join(
        '<tr>' + ''.join(f'<td>{cell}</td>' for cell in line) + '</tr>' for line in lines
    )
    return f'<div class="wide"><table>\n<tr>{head}</tr>\n{body}\n</table></div>'


def _breakdown_table(name: str, parts: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """Return MotionDEQ's errors at all horizons, and the baselines' at the last."""
    last = list(next(iter(parts.values()))['motion_deq'])[-1]
    others = [name for name in METHODS if name != 'motion_deq']
    rows = {
        part: {
            **errors['motion_deq'],
            **{f'{METHODS[other]}, {last}': errors[other][last] for other in others},
        }
        for part, errors in parts.items()
    }
    return _table(f'{name}, MotionDEQ [mm] after [ms]', rows)


def _latency_table(report: Mapping[str, Any]) -> str:
    timed = {f'{stage}, when it runs': ms for stage, ms in report['latency_ms']['stages'].items()}
    timed['whole step, in the replay'] = report['latency_ms']
    if 'live' in report:
        timed['observation to published answer, live node'] = report['live']['age_ms']
    heads = {'median': 'p50', '99th percentile': 'p99'}
    rows = {name: {head: ms[key] for head, key in heads.items()} for name, ms in timed.items()}
    return _table('[ms]', rows)
