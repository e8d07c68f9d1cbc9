# SPDX-License-Identifier: Apache-2.0
"""Draw a replay's charts as SVG that stands inside a page and is the same every time."""

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
from motion_predictor_ros.evaluation.report.picture import draw_errors
from motion_predictor_ros.evaluation.report.replay_data import scene_times_ms
from motion_predictor_ros.skeleton.frame import Validity

MAX_PEOPLE = 40
"""Lines of the timeline; more are not told apart."""

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
    'text.parse_math': False,  # ids come from outside: a dollar sign is no formula
    'font.size': 10.0,
    'axes.spines.top': False,
    'axes.spines.right': False,
}


def errors_chart(cases: list[Case], played: Replay) -> str:
    """Draw the mean error by horizon, beside the baselines."""
    horizons_s = played.scenes[0][1].horizons_s
    return _svg(lambda axes: draw_errors(axes, cases, horizons_s), (7.2, 3.2))


def coverage_chart(shares: Mapping[str, Mapping[str, float]]) -> str:
    """Draw how often the truth lay within what was said, against how often it should have."""

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color='#8d8d8d', linestyle=':', label='as it should be')
        ramp = matplotlib.colormaps['plasma_r']
        for place, (ms, found) in enumerate(shares.items(), 1):
            colour = ramp(0.25 + 0.5 * place / len(shares))
            axes.plot([*map(float, found)], [*found.values()], color=colour, label=f'{ms} ms')
        axes.set_xlabel('nominal share of joints within the ellipsoid')
        axes.set_ylabel('observed share')
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, fontsize=8)

    return _svg(draw, (4.6, 3.6))


def reliability_chart(voxels: Mapping[str, Any]) -> str:
    """Draw how often bodies were in voxels, against how likely that was said to be."""

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color='#8d8d8d', linestyle=':', label='as it should be')
        ramp = matplotlib.colormaps['YlGn']
        for place, (end, found) in enumerate(voxels.items(), 1):
            curve = found['reliability']
            axes.plot(
                [each['predicted'] for each in curve],
                [each['observed'] for each in curve],
                'o-',
                color=ramp(0.3 + 0.7 * place / len(voxels)),
                markersize=3,
                label=f'window until {end} s',
            )
        axes.set_xlabel('predicted probability of a voxel')
        axes.set_ylabel('share of voxels with a body part')
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, fontsize=8)

    return _svg(draw, (4.6, 3.6))


def latency_chart(played: Replay) -> str:
    """Draw how long each stage takes when it is due, and the whole step."""
    spent_ms = {**played.stages_ms, 'whole step': played.step_ms}

    def draw(axes: Axes) -> None:
        places = range(len(spent_ms), 0, -1)
        for place, times_ms in zip(places, spent_ms.values(), strict=True):
            low, median, high, slow = np.percentile(times_ms, (5, 50, 95, 99))
            axes.barh(place, high - low, left=low, height=0.5, color='#a3b8cc')
            axes.plot([median] * 2, [place - 0.25, place + 0.25], color='#111111', linewidth=2)
            axes.plot(slow, place, 'o', color='#d1495b', markersize=4)
        axes.set_yticks(places, list(spent_ms))
        axes.set_xscale('log')
        axes.set_xlim(left=0.1)
        axes.xaxis.set_major_formatter('{x:g}')
        axes.set_xlabel('[ms]; bar: 5th to 95th percentile, line: median, dot: 99th percentile')
        axes.grid(alpha=0.3, axis='x')

    return _svg(draw, (7.2, 0.9 + 0.35 * len(spent_ms)))


def solver_chart(played: Replay) -> str:
    """Draw how many steps the solver took, from a person's last solution and from nothing."""
    people = [person for _, scene in played.scenes for person in scene.people]
    solved = [person.solver for person in people if person.solver is not None]
    steps = {
        name: [report.steps for report in solved if report.warm is warm]
        for name, warm in (('cold', False), ('warm', True))
    }
    most = max((max(taken, default=0) for taken in steps.values()), default=0)

    def draw(axes: Axes) -> None:
        for (name, taken), colour, shift in zip(
            steps.items(), ('#3d5a80', '#ee6c4d'), (-0.2, 0.2), strict=True
        ):
            if not taken:
                continue
            share = np.bincount(taken, minlength=most + 1) / len(taken)
            label = f'{name}: {np.mean(taken):.1f} steps on average ({len(taken)})'
            axes.bar(np.arange(most + 1) + shift, share, 0.4, color=colour, label=label)
        axes.set_xlabel('solver steps')
        axes.set_ylabel('share of predictions')
        axes.legend(frameon=False, fontsize=8)

    return _svg(draw, (7.2, 2.8))


def timeline_chart(played: Replay) -> str:
    """Draw for each person when they were seen, and whether the prediction could be used."""
    ends_s = _runs(played)
    shown = list(ends_s)[:MAX_PEOPLE]
    used = {validity for person in shown for _, _, validity in ends_s[person]}

    def draw(axes: Axes) -> None:
        for row, person in enumerate(shown):
            spans = [(begin, length) for begin, length, _ in ends_s[person]]
            colours = [_VALIDITY_COLOURS[validity] for _, _, validity in ends_s[person]]
            axes.broken_barh(spans, (row - 0.35, 0.7), facecolors=colours)
        axes.set_yticks(range(len(shown)), shown)
        axes.set_ylim(len(shown) - 0.4, -0.6)
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

    return _svg(draw, (7.2, 1.1 + 0.28 * len(shown)))


def _runs(played: Replay) -> dict[str, list[tuple[float, float, Validity]]]:
    """Return when each person's validity stayed the same: begin and length [s], validity."""
    times_s = scene_times_ms(played) / 1000.0
    period_s = float(np.median(np.diff(times_s))) if len(times_s) > 1 else 0.0
    seen: dict[str, list[tuple[int, Validity]]] = {}
    for place, (_, scene) in enumerate(played.scenes):
        for person in scene.people:
            seen.setdefault(person.person_id, []).append((place, person.validity))
    runs = {}
    for name, states in seen.items():
        # Neighbours in one run have the same validity and the same place minus rank.
        ranked = groupby(enumerate(states), key=lambda each: (each[1][0] - each[0], each[1][1]))
        runs[name] = [
            _run(times_s, [place for _, (place, _) in group], period_s, key[1])
            for key, group in ranked
        ]
    return runs


def _run(
    times_s: np.ndarray, places: list[int], period_s: float, validity: Validity
) -> tuple[float, float, Validity]:
    begin, end = float(times_s[places[0]]), float(times_s[places[-1]])
    return begin, end - begin + period_s, validity


def _svg(draw: Callable[[Axes], None], inches: tuple[float, float]) -> str:
    """Return an <svg> element alone: no prolog, no metadata, no names that two charts share."""
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
