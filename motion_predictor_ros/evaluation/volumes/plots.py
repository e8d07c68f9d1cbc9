# SPDX-License-Identifier: Apache-2.0
"""Plots of `evaluate volume`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use('Agg')

from matplotlib import pyplot as plt
from matplotlib.axes import Axes


def plot_volume(report: Mapping[str, Any], out: Path) -> Path:
    """Write volume.png: coverage against level, reliability of voxels, volumes."""
    out.mkdir(parents=True, exist_ok=True)
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(15, 4.5))
    _coverage(left, report)
    _reliability(middle, report)
    _volumes(right, report)
    figure.suptitle('covers people exchangeable with those of the calibration only')
    figure.tight_layout()
    path = out / 'volume.png'
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path


def _coverage(axes: Axes, report: Mapping[str, Any]) -> None:
    for horizon, row in report['coverage_by_horizon'].items():
        levels = sorted(row)
        axes.plot(
            [float(level) for level in levels],
            [row[level] for level in levels],
            'o-',
            label=f'until {horizon} s',
        )
    axes.plot([0.5, 1.0], [0.5, 1.0], 'k:', label='as promised')
    axes.set_xlabel('level')
    axes.set_ylabel('windows covered, jointly')
    axes.legend()


def _reliability(axes: Axes, report: Mapping[str, Any]) -> None:
    curve = report['reliability']
    axes.plot([part['predicted'] for part in curve], [part['observed'] for part in curve], 'o-')
    axes.plot([0.0, 1.0], [0.0, 1.0], 'k:')
    axes.set_xlabel('predicted probability of a voxel, 0.5 to 1 s')
    axes.set_ylabel('share of voxels in which a person was')


def _volumes(axes: Axes, report: Mapping[str, Any]) -> None:
    for shift, (horizon, row) in enumerate(report['volume_m3'].items()):
        places = [index + 0.4 * shift for index in range(len(row))]
        axes.bar(places, list(row.values()), width=0.35, label=f'until {horizon} s')
        axes.set_xticks(places, [name.replace('_', '\n') for name in row])
    axes.set_yscale('log')
    axes.set_ylabel('volume at 95 %, m^3')
    if report['volume_m3']:
        axes.legend()
