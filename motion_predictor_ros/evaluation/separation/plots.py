# SPDX-License-Identifier: Apache-2.0
"""Draw what `evaluate separation` measured."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

_STYLES = {
    'present': ('#8d8d8d', 'present pose + margin'),
    'constant_velocity': ('#5b8e7d', 'constant velocity + margin'),
    'motion_deq': ('#e07a1f', 'MotionDEQ + margin'),
    'level_sets': ('#2a7fb8', 'level sets'),
    'ours': ('#5b2a86', 'collision service'),
}


def plot_separation(report: Mapping[str, Any], path: Path) -> None:
    """Write a picture of stops against missed contacts, one panel a stopping time."""
    stopping = report['stopping']
    figure = Figure(figsize=(5.6 * len(stopping), 4.6), facecolor='white', layout='constrained')
    for place, (stopping_s, result) in enumerate(stopping.items()):
        axes = figure.add_subplot(1, len(stopping), place + 1)
        for family, (colour, label) in _STYLES.items():
            axes.plot(
                *100.0 * np.array(result['curves'][family]).T, color=colour, label=label, lw=2
            )
        for name, row in result['rules'].items():
            is_default = name == result['default_rule']
            if name.startswith(('coverage', 'risk')) and row['missed'] is not None:
                at = 100.0 * row['missed'], 100.0 * row['stops']
                axes.plot(*at, 'o', color='#2a7fb8', ms=9 if is_default else 4.5)
                axes.annotate(
                    name.replace('_', ' '), at, (6, 3), textcoords='offset points', fontsize=7
                )
        iso = 100.0 * result['rules']['iso_13855']['stops']
        axes.axhline(iso, color='black', ls=':', lw=1.2, label='ISO 13855 distance')
        axes.set(xlim=(-0.1, 5.0), ylim=(0.0, min(100.0, 1.15 * iso)))
        axes.set_xlabel('contacts missed [%]')
        axes.set_ylabel('decisions to stop [%]')
        axes.set_title(f'{stopping_s} s to stop', fontsize=11)
        axes.grid(alpha=0.25)
        axes.spines[['top', 'right']].set_visible(False)
        if place == 0:
            axes.legend(frameon=False, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120, metadata={'Software': None})
