# SPDX-License-Identifier: Apache-2.0
"""Draw people, their predicted ghosts and the truth, with the error curves below.

Each person is shown at the moment whose error at the last horizon is that person's median: neither
the best nor the worst; of the moments with a calibrated volume where there are any. Then the
volumes of both promises are drawn around the ghosts, and from above.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from mpl_toolkits.mplot3d.art3d import Line3DCollection, Poly3DCollection

from motion_predictor_ros.evaluation.replay.kept_volumes import KeptVolume
from motion_predictor_ros.evaluation.replay.replay import Case
from motion_predictor_ros.evaluation.tables import METHODS
from motion_predictor_ros.scoring.metrics import Horizons
from motion_predictor_ros.skeleton.layout import SkeletonLayout
from motion_predictor_ros.volume.grid import VoxelGrid

_PROMISES = {'coverage': ('#3f8fc4', 0.025), 'risk': ('#1fa27d', 0.06)}
"""Colour and opacity of a voxel's face."""

_CORNERS = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])


def draw_promises(axes: Any, volume: KeptVolume) -> Float64[np.ndarray, 'face corner=4 xyz=3']:
    """Draw the surfaces of both volumes of the last window; return the larger one's faces."""
    window, drawn = volume.windows[-1], []
    for promise, inside in ((volume.promise, window.covered), (volume.other, window.other)):
        if inside is not None:
            colour, opacity = _PROMISES[promise]
            drawn.append(faces(inside, window.grid))
            axes.add_collection3d(
                Poly3DCollection(
                    drawn[-1], facecolors=colour, alpha=opacity, edgecolors='none', zorder=0
                )
            )
    return max(drawn, key=len)


def faces(
    inside: Bool[np.ndarray, 'x y z'], grid: VoxelGrid
) -> Float64[np.ndarray, 'face corner=4 xyz=3']:
    """Return the faces between voxels inside and outside [m]."""
    around = np.pad(inside, 1)
    faces = []
    for axis in range(3):
        places = np.argwhere(np.diff(around, axis=axis))
        others = [other for other in range(3) if other != axis]
        places[:, others] -= 1  # of the padding; along `axis` the difference has taken it off
        quads = np.repeat(places[:, None, :].astype(np.float64), 4, axis=1)
        quads[:, :, others] += _CORNERS
        faces.append(quads)
    return np.array(grid.origin) + grid.size_m * np.concatenate(faces)


def draw_footprints(axes: Axes, volume: KeptVolume) -> None:
    """Draw volumes from above, windows one over the other, earliest darkest; the other's line."""
    for window in reversed(volume.windows):
        grid = window.grid
        across = [
            start + grid.size_m * np.arange(count + 1)
            for start, count in zip(grid.origin[:2], grid.shape[:2], strict=True)
        ]
        if window.other is not None:
            centres = [edges[:-1] + 0.5 * grid.size_m for edges in across]
            inside = window.other.any(axis=2).T.astype(np.float64)
            axes.contour(*centres, inside, levels=[0.5], colors='#14724f', linewidths=0.8)
        shown = np.ma.masked_equal(window.covered.any(axis=2).T.astype(np.float64), 0.0)
        axes.imshow(
            (1.0 - window.start_s) * shown,
            origin='lower',
            extent=(*across[0][[0, -1]], *across[1][[0, -1]]),
            cmap='GnBu',
            vmin=-0.4,
            vmax=1.6,
        )


_GHOSTS_S = (0.2, 0.4, 0.6, 0.8, 1.0)
_CAPTION = (
    'above, black: observed; orange to purple: predicted 0.2 to 1.0 s ahead; '
    'dashed: truth after 1.0 s'
)
_VOLUMES = (
    'blue: keep-out volume of coverage, green: of risk, {from_s:g} to {to_s:g} s ahead; '
    'from above, dark to light: {promise} ({level:g} %) within {ends} s, line: {other}'
)
_COLOURS = {'motion_deq': '#d1495b', 'constant_velocity': '#5b8e7d', 'repeat_last': '#8d8d8d'}


def draw_scene(
    cases: list[Case],
    horizons_s: Horizons,
    layout: SkeletonLayout,
    path: Path,
    volumes: Mapping[tuple[int, str], KeptVolume] | None = None,
    columns: int = 4,
) -> None:
    """Write a PNG of the first `columns` people and the errors by horizon.

    Args:
        volumes: Those that are calibrated, by stamp and person.
    """
    people: dict[str, list[Case]] = {}
    for case in cases:
        people.setdefault(case.prediction.person_id, []).append(case)
    by_case = volumes or {}
    median_cases = [
        _median_case(person_cases, by_case) for person_cases in list(people.values())[:columns]
    ]
    around = [by_case.get(_key(case)) for case in median_cases]
    with_volumes = any(around)
    inches = (3.4 * max(len(median_cases), 2), 9.6 if with_volumes else 6.0)
    figure = Figure(figsize=inches, facecolor='white')
    ratios, gap = ([1.9, 1.5, 1.0], 0.3) if with_volumes else ([1.9, 1.0], 0.04)
    grid = figure.add_gridspec(len(ratios), len(median_cases), height_ratios=ratios, hspace=gap)
    for place, (case, volume) in enumerate(zip(median_cases, around, strict=True)):
        axes = figure.add_subplot(grid[0, place], projection='3d')
        quads = np.zeros((0, 4, 3))
        if volume is not None:
            quads = draw_promises(axes, volume)
            _draw_from_above(figure.add_subplot(grid[1, place]), case, volume, layout)
        points = _draw_person(axes, case, horizons_s, layout)
        _frame_view(axes, np.concatenate([points, quads.reshape(-1, 3)]))
        axes.set_title(case.prediction.person_id, fontsize=11)
    below = figure.add_subplot(grid[-1, :])
    draw_errors(below, cases, horizons_s)
    below.set_title(_caption(around), fontsize=9, loc='left')
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, bbox_inches='tight', metadata={'Software': None})


def _caption(around: list[KeptVolume | None]) -> str:
    volume = next(filter(None, around), None)
    if volume is None:
        return _CAPTION
    last, ends = volume.windows[-1], ', '.join(f'{window.end_s:g}' for window in volume.windows)
    caption = _VOLUMES.format(
        from_s=last.start_s,
        to_s=last.end_s,
        promise=volume.promise,
        level=100 * volume.level,
        ends=ends,
        other=volume.other,
    )
    return f'{_CAPTION}\n{caption}'


def _draw_from_above(axes: Axes, case: Case, volume: KeptVolume, layout: SkeletonLayout) -> None:
    window = case.prediction.window
    assert window is not None
    draw_footprints(axes, volume)
    bones = np.array(layout.bones)
    for first, second in bones:
        axes.plot(*case.truth[-1][[first, second], :2].T, color='#444444', lw=1.0, ls='--')
        axes.plot(*window.positions[-1][[first, second], :2].T, color='black', lw=1.6)
    axes.set_aspect('equal')
    axes.tick_params(labelsize=7)
    axes.set_ylabel('[m]', fontsize=7, labelpad=0)


def _key(case: Case) -> tuple[int, str]:
    return case.prediction.stamp_ns, case.prediction.person_id


def _median_case(cases: list[Case], volumes: Mapping[tuple[int, str], KeptVolume]) -> Case:
    preferred = [case for case in cases if _key(case) in volumes] or cases
    ranked = sorted(preferred, key=lambda case: float(case.errors['motion_deq'][-1]))
    return ranked[len(ranked) // 2]


def _draw_person(
    axes: Any, case: Case, horizons_s: Horizons, layout: SkeletonLayout
) -> Float64[np.ndarray, 'point xyz=3']:
    """Draw the observed, predicted and true pose; return the points that the view must contain."""
    window, future = case.prediction.window, case.prediction.positions
    assert window is not None and future is not None
    bones = np.array(layout.bones)
    ramp = colormaps['plasma_r']
    for horizon in reversed(_GHOSTS_S):
        frame = int(np.argmin(np.abs(horizons_s - horizon)))
        colour = ramp(0.25 + 0.5 * horizon / _GHOSTS_S[-1])
        axes.add_collection3d(
            Line3DCollection(future[frame][bones], colors=[colour], linewidths=1.6)
        )
    axes.add_collection3d(
        Line3DCollection(case.truth[-1][bones], colors='#444444', linewidths=1.0, linestyles='--')
    )
    axes.add_collection3d(
        Line3DCollection(window.positions[-1][bones], colors='black', linewidths=2.4)
    )
    return np.concatenate([future.reshape(-1, 3), case.truth[-1], window.positions[-1]])


def _frame_view(axes: Any, points: Float64[np.ndarray, 'point xyz=3']) -> None:
    middle = (points.max(0) + points.min(0)) / 2
    half = max(0.95, float((points.max(0) - points.min(0)).max()) / 2)
    for set_limits, centre in zip(
        (axes.set_xlim, axes.set_ylim, axes.set_zlim), middle, strict=True
    ):
        set_limits(centre - half, centre + half)
    axes.set_box_aspect((1, 1, 1), zoom=1.8)
    axes.view_init(elev=12, azim=-60)
    axes.set_axis_off()


def draw_errors(axes: Any, cases: list[Case], horizons_s: Horizons) -> None:
    """Draw the mean error of each method by horizon."""
    for name, label in METHODS.items():
        mean_mm = 1000.0 * np.mean([case.errors[name] for case in cases], axis=0)
        axes.plot(1000.0 * horizons_s, mean_mm, label=label, color=_COLOURS[name], linewidth=2)
    axes.set(xlabel='horizon [ms]', ylabel='MPJPE [mm]', xlim=(0, 1000.0 * horizons_s[-1]))
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, loc='upper left')
