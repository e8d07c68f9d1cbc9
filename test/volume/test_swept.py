# SPDX-License-Identifier: Apache-2.0
"""One capsule per part holds all of its capsules."""

import numpy as np
from safety_volumes import volume
from volume_scenes import SHAPE, wandering

from motion_predictor_ros.volume.capsules import Swept, bodies, swept_capsules


def sticks_out_m(swept: Swept, starts: np.ndarray, ends: np.ndarray, radii: np.ndarray) -> float:
    """How far any capsule's surface, at points along it, is outside its part's capsule [m]."""
    share = np.linspace(0, 1, 11)[:, None]
    worst = -np.inf
    for part, (a, b, r) in enumerate(zip(*swept, strict=True)):
        for start, end, radius in zip(starts[:, part], ends[:, part], radii[:, part], strict=True):
            points = (1 - share) * start + share * end
            along = np.clip((points - a) @ (b - a) / max((b - a) @ (b - a), 1e-12), 0, 1)
            away = np.linalg.norm(points - a - along[:, None] * (b - a), axis=-1)
            worst = max(worst, float((away + radius - r).max()))
    return worst


def test_swept_capsules_hold_all() -> None:
    points, times_s = wandering(4, 6, speed=5.0)
    people = bodies(SHAPE, points, np.full(4, 0.25), times_s)
    parts = people.radii.shape[-1]
    starts, ends = people.starts.reshape(-1, parts, 3), people.ends.reshape(-1, parts, 3)
    radii = people.radii.reshape(-1, parts)
    start, end, radius = swept_capsules(people)
    assert sticks_out_m((start, end, radius), starts, ends, radii) < 1e-9
    assert sticks_out_m((start, end, 0.8 * radius), starts, ends, radii) > 0.01


def test_capsules_of_a_window_hold_its_covered_voxels() -> None:
    window = volume().windows[1]
    start, end, radius = swept_capsules(window.bodies)
    centres = window.grid.centres(window.covered)
    nearest = np.full(len(centres), np.inf)
    for a, b, r in zip(start, end, radius, strict=True):
        along = np.clip((centres - a) @ (b - a) / max((b - a) @ (b - a), 1e-12), 0, 1)
        away = np.linalg.norm(centres - a - along[:, None] * (b - a), axis=-1)
        nearest = np.minimum(nearest, away - r)
    assert nearest.max() <= window.grid.padding_m + 1e-9
