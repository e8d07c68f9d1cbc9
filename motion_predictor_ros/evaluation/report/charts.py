# SPDX-License-Identifier: Apache-2.0
"""Charts of a replay as deterministic SVG, for embedding in a page."""

import io
import re
from collections.abc import Callable, Mapping
from itertools import groupby
from typing import Any

import matplotlib

matplotlib.use('Agg')
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from motion_predictor_ros.evaluation.replay.replay import Case, Replay
from motion_predictor_ros.evaluation.report.pictures import draw_errors
from motion_predictor_ros.evaluation.report.replay_data import scene_times_ms
from motion_predictor_ros.skeleton.frame import Validity

MAX_PEOPLE = 40
"""Lines of the timeline; more would be too thin."""

_VALIDITY_COLOURS = {
    Validity.OK: '#5b8e7d',
    Validity.WARMING_UP: '#d8d8d8',
    Validity.INCOMPLETE: '#f2b134',
    Validity.OUT_OF_DISTRIBUTION: '#d1495b',
    Validity.NOT_CONVERGED: '#7d5ba6',
    Validity.STALE: '#8d8d8d',
}
_STYLE: dict[Any, Any] = {
    'svg.hashsalt': 'motion_predictor_ros',
    'svg.fonttype': 'none',
    'text.parse_math': False,  # person ids may contain dollar signs
    'font.size': 10.0,
    'axes.spines.top': False,
    'axes.spines.right': False,
}


def errors_chart(cases: list[Case], run: Replay) -> str:
    """Draw the mean error by horizon, beside the baselines."""
    horizons_s = run.scenes[0][1].horizons_s
    return _svg(lambda axes: draw_errors(axes, cases, horizons_s), (7.2, 3.2))


def coverage_chart(shares: Mapping[str, Mapping[str, float]]) -> str:
    """Plot the observed against the nominal coverage of the covariances."""
    curves = {
        f'{ms} ms': ([*map(float, curve)], [*curve.values()]) for ms, curve in shares.items()
    }
    labels = 'nominal share of joints within the ellipsoid', 'observed share'
    return _calibration(curves, labels, 'plasma_r')


def reliability_chart(voxels: Mapping[str, Any]) -> str:
    """Plot the observed frequency of body parts in voxels against the predicted probability."""
    curves = {
        f'window until {end} s': tuple(
            [point[key] for point in window['reliability']] for key in ('predicted', 'observed')
        )
        for end, window in voxels.items()
    }
    labels = 'predicted probability of a voxel', 'share of voxels with a body part'
    return _calibration(curves, labels, 'YlGn')


def _calibration(
    curves: Mapping[str, tuple[list[float], ...]], labels: tuple[str, str], colours: str
) -> str:
    """Plot observed against predicted shares, and the diagonal that is ideal."""

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color='#8d8d8d', linestyle=':', label='ideal')
        ramp = matplotlib.colormaps[colours]
        for index, (name, (predicted, observed)) in enumerate(curves.items(), 1):
            colour = ramp(0.3 + 0.6 * index / len(curves))
            axes.plot(predicted, observed, 'o-', color=colour, markersize=3, label=name)
        axes.set(xlabel=labels[0], ylabel=labels[1], xlim=(0, 1), ylim=(0, 1))
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, fontsize=8)

    return _svg(draw, (4.6, 3.6))


def latency_chart(run: Replay) -> str:
    """Plot the duration of each stage when it runs, and of the whole step."""
    spent_ms = {**run.stages_ms, 'whole step': run.step_ms}

    def draw(axes: Axes) -> None:
        rows = range(len(spent_ms), 0, -1)
        for row, times_ms in zip(rows, spent_ms.values(), strict=True):
            low, median, high, slow = np.percentile(times_ms, (5, 50, 95, 99))
            axes.barh(row, high - low, left=low, height=0.5, color='#a3b8cc')
            axes.plot([median] * 2, [row - 0.25, row + 0.25], color='#111111', linewidth=2)
            axes.plot(slow, row, 'o', color='#d1495b', markersize=4)
        axes.set_yticks(rows, list(spent_ms))
        axes.set_xscale('log')
        axes.set_xlim(left=0.1)
        axes.xaxis.set_major_formatter('{x:g}')
        axes.set_xlabel('[ms]; bar: 5th to 95th percentile, line: median, dot: 99th percentile')
        axes.grid(alpha=0.3, axis='x')

    return _svg(draw, (7.2, 0.9 + 0.35 * len(spent_ms)))


def solver_chart(run: Replay) -> str:
    """Plot the distribution of solver steps, warm and cold."""
    people = [person for _, scene in run.scenes for person in scene.people]
    solved = [person.solver for person in people if person.solver is not None]
    steps = {
        name: [report.steps for report in solved if report.warm is warm]
        for name, warm in (('cold', False), ('warm', True))
    }
    largest = max((max(counts, default=0) for counts in steps.values()), default=0)

    def draw(axes: Axes) -> None:
        for (name, counts), colour, shift in zip(
            steps.items(), ('#3d5a80', '#ee6c4d'), (-0.2, 0.2), strict=True
        ):
            if not counts:
                continue
            share = np.bincount(counts, minlength=largest + 1) / len(counts)
            label = f'{name}: {np.mean(counts):.1f} steps on average ({len(counts)})'
            axes.bar(np.arange(largest + 1) + shift, share, 0.4, color=colour, label=label)
        axes.set_xlabel('solver steps')
        axes.set_ylabel('share of predictions')
        axes.legend(frameon=False, fontsize=8)

    return _svg(draw, (7.2, 2.8))


def timeline_chart(run: Replay) -> str:
    """Plot each person's validity over time."""
    ends_s = _runs(run)
    people = list(ends_s)[:MAX_PEOPLE]
    used = {validity for person in people for _, _, validity in ends_s[person]}

    def draw(axes: Axes) -> None:
        for row, person in enumerate(people):
            spans = [(begin, length) for begin, length, _ in ends_s[person]]
            colours = [_VALIDITY_COLOURS[validity] for _, _, validity in ends_s[person]]
            axes.broken_barh(spans, (row - 0.35, 0.7), facecolors=colours)
        axes.set_yticks(range(len(people)), people)
        axes.set_ylim(len(people) - 0.4, -0.6)
        axes.set_xlabel('time [s]')
        handles = [
            matplotlib.patches.Patch(color=colour, label=validity.name)
            for validity, colour in _VALIDITY_COLOURS.items()
            if validity in used
        ]
        axes.legend(
            handles=handles,
            frameon=False,
            fontsize=8,
            ncols=3,
            loc='lower left',
            bbox_to_anchor=(0, 1),
        )

    return _svg(draw, (7.2, 1.1 + 0.28 * len(people)))


def _runs(run: Replay) -> dict[str, list[tuple[float, float, Validity]]]:
    """Return the intervals of constant validity of each person: begin and length [s], validity."""
    times_s = scene_times_ms(run) / 1000.0
    period_s = float(np.median(np.diff(times_s))) if len(times_s) > 1 else 0.0
    states_by_person: dict[str, list[tuple[int, Validity]]] = {}
    for index, (_, scene) in enumerate(run.scenes):
        for person in scene.people:
            states_by_person.setdefault(person.person_id, []).append((index, person.validity))
    runs: dict[str, list[tuple[float, float, Validity]]] = {}
    for name, states in states_by_person.items():
        # Consecutive scenes of one run have the same validity and the same index minus rank.
        ranked = groupby(enumerate(states), key=lambda item: (item[1][0] - item[0], item[1][1]))
        for (_, validity), group in ranked:
            indices = [index for _, (index, _) in group]
            begin_s, end_s = float(times_s[indices[0]]), float(times_s[indices[-1]])
            interval = begin_s, end_s - begin_s + period_s, validity
            runs.setdefault(name, []).append(interval)
    return runs


def _svg(draw: Callable[[Axes], None], inches: tuple[float, float]) -> str:
    """Return an <svg> element without prolog, metadata and ids that could clash in a page."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=inches)
        draw(figure.add_subplot())
        buffer = io.StringIO()
        metadata = {'Date': None, 'Creator': None, 'Format': None, 'Type': None}
        figure.savefig(buffer, format='svg', bbox_inches='tight', metadata=metadata)
    text = buffer.getvalue()
    text = text[text.index('<svg') :]
    text = re.sub(r'<metadata>.*?</metadata>', '', text, flags=re.DOTALL)
    text = re.sub(r' xmlns(:\w+)?="[^"]*"', '', text)
    return re.sub(r'<g id="[^"]*"', '<g', text)
