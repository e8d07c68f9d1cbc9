# SPDX-License-Identifier: Apache-2.0
"""Pack a replay for embedding in a page.

The result is one JSON object. Long arrays are base64 of little-endian integers: positions are
int16 multiples of `step_m` (a millimetre unless people walk further than 65 m) around `origin_m`,
with `UNKNOWN` where a joint was not observed or nothing was predicted. A person's arrays have one
row per scene the person is in (`scenes`, indices into `times_ms`). Less frequent data have scenes
of their own: `futures` of a person, and `volumes` (volume_data.py). page/replay.js reads it.
"""

import base64
import math
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Float64, Int32
from matplotlib import colormaps
from matplotlib.colors import to_hex

from motion_predictor_ros.conventions import NS_PER_S
from motion_predictor_ros.evaluation.replay.replay import Replay
from motion_predictor_ros.evaluation.report.volume_data import (
    FUTURES,
    FUTURES_S,
    ShownFutures,
    future_colours,
    pack_volumes,
    shown_futures,
)
from motion_predictor_ros.prediction.types import Prediction, ScenePrediction
from motion_predictor_ros.scoring.metrics import Horizons, Pose
from motion_predictor_ros.skeleton.frame import Validity
from motion_predictor_ros.skeleton.layout import SkeletonLayout
from motion_predictor_ros.skeleton.plausibility import UPWARDS

UNKNOWN = -32768
"""Code of NaN among packed coordinates."""

_GHOSTS = 5
_PAUSE_NS = NS_PER_S // 2
"""Pause between two passes of a bag that loops."""

_PER_S, _MIN_SIZE, _MAX_SIZE = 200_000, 2_000_000, 16_000_000
"""Characters of a packed replay per second, and in all, above which scenes are left out."""

_Row = tuple[int, Pose, Prediction]


def pack_replay(run: Replay, layout: SkeletonLayout, up: str) -> dict[str, Any]:
    """Return the data of page/replay.js.

    Args:
        up: Axis of the frame that points up, such as 'z'; z if it is 'unknown'.
    """
    times_ms = scene_times_ms(run)
    horizons_s = run.scenes[0][1].horizons_s
    frames = _ghost_frames(horizons_s)
    every = _thinning(run, times_ms, len(layout.joint_names) * (1 + len(frames)))
    people, futures = _rows(run, every), shown_futures(run, every)
    origin, step_m = _grid(people, frames, futures)
    upwards = UPWARDS.get(up, UPWARDS['z'])
    ramp = colormaps['plasma_r'](0.25 + 0.5 * np.arange(1, len(frames) + 1) / len(frames))
    shown_times_ms = times_ms[::every]
    return {
        'joints': list(layout.joint_names),
        'bones': [list(bone) for bone in layout.bones],
        'up': upwards.tolist(),
        'validities': [validity.name for validity in Validity],
        'ghosts_s': [round(float(horizons_s[frame]), 6) for frame in frames],
        'ghost_colours': [to_hex(colour) for colour in ramp],
        'origin_m': origin.tolist(),
        'step_m': step_m,
        'every': every,
        'interval_ms': float(np.median(np.diff(shown_times_ms)))
        if len(shown_times_ms) > 1
        else 0.0,
        'times_ms': _text(shown_times_ms, '<i4'),
        'people': [
            _pack_person(key, rows, frames, origin, step_m, futures.get(key))
            for key, rows in people.items()
        ],
        'futures_s': FUTURES_S,
        'future_colours': future_colours(FUTURES) if futures else [],
        'volumes': pack_volumes(run, times_ms, every, upwards),
    }


def scene_times_ms(run: Replay) -> Int32[np.ndarray, ' scene']:
    """Return the display time of each scene [ms], from 0; passes of a loop follow each other."""
    steps_ns = [0]
    for (before, earlier), (epoch, scene) in pairwise(run.scenes):
        steps_ns.append(scene.stamp_ns - earlier.stamp_ns if epoch == before else _PAUSE_NS)
    return np.round(np.cumsum(steps_ns) / 1e6).astype(np.int32)


def _ghost_frames(horizons_s: Horizons) -> list[int]:
    """Return evenly spaced horizons, including the last one."""
    last = len(horizons_s)
    return sorted({math.ceil(last * ghost / _GHOSTS) - 1 for ghost in range(1, _GHOSTS + 1)})


def _thinning(run: Replay, times_ms: Int32[np.ndarray, ' scene'], joints_per_person: int) -> int:
    """Return n such that every n-th scene fits; 1 keeps all."""
    people = sum(len(scene.people) for _, scene in run.scenes)
    characters = people * joints_per_person * 3 * 2 * 4 / 3
    allowed = min(max(_MIN_SIZE, _PER_S * int(times_ms[-1]) / 1000.0), _MAX_SIZE)
    return max(1, math.ceil(characters / allowed))


def _rows(run: Replay, every: int) -> dict[tuple[int, str], list[_Row]]:
    """Collect observed and predicted positions of each person, by pass and person id."""
    observed = {
        (*key, frame.stamp_ns): frame.positions
        for key, track in run.tracks.items()
        for frame in track.frames
    }
    rows: dict[tuple[int, str], list[_Row]] = {}
    scenes: tuple[tuple[int, ScenePrediction], ...] = run.scenes[::every]
    for index, (epoch, scene) in enumerate(scenes):
        for person in scene.people:
            positions = observed.get((epoch, person.person_id, person.stamp_ns))
            if positions is None:  # predicted on without being seen
                continue
            rows.setdefault((epoch, person.person_id), []).append((index, positions, person))
    return rows


def _ghosts(row: _Row, frames: list[int]) -> Float64[np.ndarray, 'ghost joint xyz=3']:
    _, observed, prediction = row
    if prediction.positions is None:
        return np.full((len(frames), *observed.shape), np.nan)
    return prediction.positions[frames]


def _grid(
    people: dict[tuple[int, str], list[_Row]],
    frames: list[int],
    futures: dict[tuple[int, str], ShownFutures],
) -> tuple[Float64[np.ndarray, ' xyz=3'], float]:
    """Return the centre of all points, and the step that reaches the farthest [m]."""
    extremes = [
        points
        for rows in people.values()
        for row in rows
        for points in (row[1], _ghosts(row, frames).reshape(-1, 3))
    ]
    extremes += [person.positions.reshape(-1, 3) for person in futures.values()]
    everything = np.concatenate(extremes)
    low, high = np.nanmin(everything, axis=0), np.nanmax(everything, axis=0)
    return (low + high) / 2, max(0.001, float((high - low).max()) / 2 / 32767)


def _pack_person(
    key: tuple[int, str],
    rows: list[_Row],
    frames: list[int],
    origin: Float64[np.ndarray, ' xyz=3'],
    step_m: float,
    futures: ShownFutures | None,
) -> dict[str, Any]:
    def quantised(points: np.ndarray) -> str:
        steps = np.round((points - origin) / step_m)
        return _text(np.where(np.isnan(steps), UNKNOWN, steps), '<i2')

    person_futures = futures or ShownFutures([], np.zeros((0, 0, len(rows[0][1]), 3)))
    return {
        'id': key[1],
        'key': f'{key[0]}/{key[1]}',
        'scenes': _text(np.array([index for index, _, _ in rows]), '<i4'),
        'validity': _text(np.array([prediction.validity for _, _, prediction in rows]), 'u1'),
        'observed': quantised(np.array([observed for _, observed, _ in rows])),
        'ghosts': quantised(np.array([_ghosts(row, frames) for row in rows])),
        'future_scenes': _text(np.array(person_futures.scenes), '<i4'),
        'futures': quantised(person_futures.positions),
    }


def _text(values: np.ndarray, kind: str) -> str:
    return base64.b64encode(values.astype(kind).tobytes()).decode('ascii')
