# SPDX-License-Identifier: Apache-2.0
"""Score the volumes of a replay by the motion that the same bag recorded later.

A volume covers if every voxel that the body then touched, from the observation until the end of a
window, belongs to the keep-out volume. Voxel probabilities are compared with whether
the body touched the voxel, swept as futures are, over voxels with a probability or a body: all
others are trivially correct. Only people observed at every time until the last window's end are
scored.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

from motion_predictor_ros.evaluation.reliability import Reliability
from motion_predictor_ros.evaluation.replay.kept_volumes import KeptVolume
from motion_predictor_ros.evaluation.replay.replay import Replay
from motion_predictor_ros.skeleton.frame import Validity
from motion_predictor_ros.volume.body import BodyShape
from motion_predictor_ros.volume.capsules import Bodies, bodies
from motion_predictor_ros.volume.forecast import window_frames
from motion_predictor_ros.volume.voxels import covered, touched

_SUBSTEPS = 4
"""Times of the true motion per predicted frame, along straight lines; as in calibration."""


def volume_report(run: Replay, shape: BodyShape, every: int) -> dict[str, Any]:
    """Return coverage and size of volumes, and the reliability of voxel probabilities.

    By the end of each window [s]: `coverage.<end>` is joint over all times until then.

    Args:
        every: Predicted frames that share one set of capsules, as volumes were made with.
    """
    period_s = float(run.scenes[0][1].horizons_s[0])
    volumes = [(key[0], volume) for key, some in run.volumes.items() for volume in some]
    calibrated = [volume for _, volume in volumes if volume.validity is Validity.OK]
    fallbacks = Counter(volume.cause for _, volume in volumes if volume.cause)
    covered_until: dict[bool, list[list[bool]]] = {True: [], False: []}
    ends = [f'{window.end_s:g}' for window in volumes[0][1].windows]
    tallies = {end: Reliability() for end in ends}
    for epoch, volume in volumes:
        truth = _truth(run, epoch, volume, shape, period_s)
        if truth is None:
            continue
        is_calibrated = volume.validity is Validity.OK
        inside = [_covers(volume, at, truth.body(at)) for at in range(len(ends))]
        covered_until[is_calibrated].append(np.logical_and.accumulate(inside).tolist())
        for index, end in enumerate(ends if is_calibrated else ()):
            swept = covered(truth.body(index, _SUBSTEPS * every), volume.windows[index].grid)
            chance = volume.windows[index].probability
            counted = (chance > 0.0) | swept
            tallies[end].add(chance[counted], swept[counted])
    sizes = [[window.volume_m3 for window in volume.windows] for volume in calibrated]
    return {
        'calibration': next((volume.calibration for volume in calibrated), ''),
        'promise': next((volume.promise for volume in calibrated), ''),
        'level': max((volume.level for volume in calibrated), default=0.0),
        'horizon_s': volumes[0][1].horizon_s,
        'voxel_m': max(window.grid.size_m for _, volume in volumes for window in volume.windows),
        'times': len(calibrated),
        'scored': len(covered_until[True]),
        'coverage': _means(covered_until[True], ends),
        'volume_m3': _means(sizes, ends),
        'voxels': {end: tally.figures('voxels') for end, tally in tallies.items() if tally.cases},
        'fallbacks': dict(sorted(fallbacks.items())),
        'reachable_scored': len(covered_until[False]),
        'reachable_held': _means(covered_until[False], ends),
    }


def _means(rows: Sequence[Sequence[float]], ends: list[str]) -> dict[str, float]:
    return dict(zip(ends, np.mean(rows, axis=0).tolist(), strict=True)) if rows else {}


@dataclass(frozen=True)
class _Truth:
    """True motion of one person in the windows of a volume."""

    shape: BodyShape
    points: Float64[np.ndarray, 'time point xyz=3']
    times_s: Float64[np.ndarray, ' time']
    windows_s: tuple[tuple[float, float], ...]
    scale: float

    def body(self, index: int, every: int = 1) -> Bodies:
        """Return the body in one window, `every` times sharing one set of capsules."""
        first, last = window_frames(self.times_s, self.windows_s[index])
        points, times_s = self.points[None, first:last], self.times_s[first:last]
        return bodies(self.shape, points, np.ones(1), times_s, self.scale, every=every)


def _truth(
    run: Replay, epoch: int, volume: KeptVolume, shape: BodyShape, period_s: float
) -> _Truth | None:
    """Return the true motion; None unless it was observed throughout."""
    windows_s = tuple((window.start_s, window.end_s) for window in volume.windows)
    last = int(np.ceil(windows_s[-1][1] / period_s - 1e-9))
    times_s = period_s / _SUBSTEPS * np.arange(_SUBSTEPS * last + 1)
    positions = run.tracks[epoch, volume.person_id].at(volume.stamp_ns, times_s)
    if positions is None:
        return None
    scale = shape.scale(positions[0])
    return _Truth(shape, shape.points(positions, scale), times_s, windows_s, scale)


def _covers(volume: KeptVolume, index: int, body: Bodies) -> bool:
    """Check whether the body stayed within one window's volume."""
    window, (low, high) = volume.windows[index], body.bounds
    grid, lowest = window.grid, np.array(window.grid.origin)
    if (low < lowest).any() or (high > lowest + grid.size_m * np.array(grid.shape)).any():
        return False
    return not (touched(body, grid) & ~window.covered).any()


def volume_rows(report: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Return coverage, mean size and Brier score by the end of each window."""
    rows = {}
    for end, size in report['volume_m3'].items():
        shares, voxels = report['coverage'], report['voxels'].get(end)
        rows[end] = {
            'stayed inside': f'{100.0 * shares[end]:.1f} %' if shares else 'not scored',
            'mean size [m^3]': f'{size:.2f}',
            'Brier score (of a constant)': ''
            if voxels is None
            else f'{voxels["brier"]:.3f} ({voxels["brier_of_constant_rate"]:.3f})',
        }
    return rows
