# SPDX-License-Identifier: Apache-2.0
"""Pack a replay's volumes and futures small enough to travel inside a page.

Voxels are packed by level: how many of `LEVELS_P` their probability reaches. A grid is cut to what
is in it and written in runs along its last axis, one byte each: the level in the upper four bits,
the length less one in the lower four; 15 there means that the next two bytes hold the length.
Voxels of a reachable set are not sent: it has no probabilities. Of keep-out volumes its
footprint is sent, as a grid that is flat along `up`. page/volumes.js reads all of it.
"""

import base64
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Bool, Float64, Int32, Int64, UInt8
from matplotlib import colormaps
from matplotlib.colors import to_hex

from motion_predictor_ros.density.types import Futures
from motion_predictor_ros.evaluation.replay.kept_volumes import KeptVolume, KeptWindow
from motion_predictor_ros.evaluation.replay.replay import Replay
from motion_predictor_ros.skeleton.frame import Validity
from motion_predictor_ros.volume.grid import VoxelGrid
from motion_predictor_ros.volume.sparse import downsampled

LEVELS_P = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
"""Thresholds that the page offers."""

FUTURES, FUTURES_S = 10, 1.0
"""Possible futures shown of each person, and how far ahead [s]."""

_VOXEL_M = 0.1
_PER_S, _LEAST, _MOST = 65_000, 650_000, 8_000_000
"""Characters that volumes may take per second, and in all; then voxels are joined and left out."""

_LONG = 15

T = TypeVar('T')
Grid = list[Any]
"""Size [m], place of the lowest corner in voxels, voxels along x, y and z, runs."""


def pack_volumes(
    run: Replay, times_ms: Int32[np.ndarray, ' scene'], every: int, up: Float64[np.ndarray, '3']
) -> dict[str, Any] | None:
    """Return the page's data of volumes, by 'epoch/person'; None without any.

    Args:
        times_ms: Of all scenes.
        every: Which scenes are shown: each `every`-th.
    """
    drawn = {
        key: [(volume.person_id, volume) for volume in volumes]
        for key, volumes in run.volumes.items()
    }
    people_volumes = _by_person(run, every, drawn)
    slots = {key: list(volumes.items()) for key, volumes in people_volumes.items()}
    if not slots:
        return None
    axis = int(np.argmax(np.abs(up)))
    allowed = min(max(_LEAST, _PER_S * int(times_ms[-1]) / 1000.0), _MOST)
    size_m, leave = _VOXEL_M, 1
    people = {key: _pack(shown, axis, size_m) for key, shown in slots.items()}
    while len(str(people)) > allowed and leave < 64:
        if size_m == _VOXEL_M:
            size_m *= 2.0
        else:
            leave *= 2
        people = {key: _pack(shown[::leave], axis, size_m) for key, shown in slots.items()}
    volumes = [volume for shown in slots.values() for _, volume in shown]
    promised = next((v for v in volumes if v.validity is Validity.OK), volumes[0])
    shown_ms = times_ms[::every]
    gaps = [np.diff(shown_ms[[scene for scene, _ in shown[::leave]]]) for shown in slots.values()]
    usual_ms = float(np.median(np.concatenate(gaps))) if sum(map(len, gaps)) else 0.0
    ramp = colormaps['YlGn'](0.25 + 0.75 * np.arange(1, len(LEVELS_P) + 1) / len(LEVELS_P))
    return {
        'levels': list(LEVELS_P),
        'colours': [to_hex(colour) for colour in ramp],
        'windows_s': [[window.start_s, window.end_s] for window in volumes[0].windows],
        'up_axis': axis,
        'promises': [promised.promise, promised.other],
        'voxel_m': size_m,
        'hold_ms': max(300.0, 1.5 * usual_ms),
        'people': {f'{epoch}/{person}': packed for (epoch, person), packed in people.items()},
    }


def _by_person(
    run: Replay, every: int, drawn: Mapping[tuple[int, int], Iterable[tuple[str, T]]]
) -> dict[tuple[int, str], dict[int, T]]:
    """Return what each person has, by the first scene shown that is not earlier.

    Args:
        drawn: Person and value, by epoch and stamp of a scene.
    """
    last = (len(run.scenes) - 1) // every
    places = {
        (epoch, scene.stamp_ns): min(-(-place // every), last)
        for place, (epoch, scene) in enumerate(run.scenes)
    }
    people: dict[tuple[int, str], dict[int, T]] = {}
    for key, pairs in drawn.items():
        for person, value in pairs:
            people.setdefault((key[0], person), {})[places[key]] = value
    return people


def _pack(shown: list[tuple[int, KeptVolume]], axis: int, size_m: float) -> dict[str, Any]:
    def packed(pack: Callable[[KeptVolume, KeptWindow], Grid | None]) -> list[list[Grid | None]]:
        return [[pack(volume, window) for window in volume.windows] for _, volume in shown]

    return {
        'scenes': [scene for scene, _ in shown],
        'voxels': packed(lambda volume, window: _voxels(volume, window, size_m)),
        'keep': packed(lambda _, window: _footprint(window.covered, window.grid, axis)),
        'other': packed(lambda _, window: _footprint(window.other, window.grid, axis)),
    }


def _voxels(volume: KeptVolume, window: KeptWindow, size_m: float) -> Grid | None:
    """Return the levels of a window's voxels; None of a reachable set, or where none is likely."""
    if volume.validity is not Validity.OK:
        return None
    reached = np.arange(256)[:, None] + 0.5 >= 255.0 * np.array(LEVELS_P)
    level_of = reached.sum(axis=1).astype(np.uint8)
    return _grid(level_of[window.parts_of_255], window.grid, size_m)


def _footprint(
    inside: Bool[np.ndarray, 'x y z'] | None, grid: VoxelGrid, axis: int
) -> Grid | None:
    """Return the footprint of a volume, projected along `up`; None without one."""
    if inside is None:
        return None
    low = [round(place / grid.size_m) * grid.size_m for place in grid.origin]
    low[axis] = 0.0
    flat = np.expand_dims(inside.max(axis=axis), axis).astype(np.uint8)
    shape = (flat.shape[0], flat.shape[1], flat.shape[2])
    plane = VoxelGrid((low[0], low[1], low[2]), grid.size_m, shape)
    return _grid(flat, plane, _VOXEL_M)


def _grid(levels: UInt8[np.ndarray, 'x y z'], grid: VoxelGrid, size_m: float) -> Grid | None:
    """Downsample voxels to the size, crop them, and encode them in runs."""
    while grid.size_m < size_m - 1e-9:
        levels, grid = downsampled(levels, grid)
    spans = []
    for axis in range(3):
        there = np.flatnonzero(levels.any(axis=tuple({0, 1, 2} - {axis})))
        if not len(there):
            return None
        spans.append((int(there[0]), int(there[-1]) + 1))
    cut = levels[tuple(slice(*span) for span in spans)]
    places = np.round(np.array(grid.origin) / grid.size_m).astype(int)
    first = [int(place) + span[0] for place, span in zip(places, spans, strict=True)]
    text = base64.b64encode(runs(cut.ravel())).decode('ascii')
    return [round(grid.size_m, 6), *first, *cut.shape, text]


def runs(levels: UInt8[np.ndarray, ' voxel']) -> bytes:
    """Write levels below 16 in runs."""
    starts: Int64[np.ndarray, ' run'] = np.flatnonzero(np.diff(levels, prepend=255))
    lengths = np.diff(starts, append=len(levels))
    written = bytearray()
    for level, length in zip(levels[starts].tolist(), lengths.tolist(), strict=True):
        left = length
        while left:
            part = min(left, 65_535)
            left -= part
            if part <= _LONG:
                written.append(16 * level + part - 1)
            else:
                written.append(16 * level + _LONG)
                written += part.to_bytes(2, 'little')
    return bytes(written)


@dataclass(frozen=True)
class ShownFutures:
    """Where a person's futures go.

    Attributes:
        scenes: In which they appear.
        positions: [m], the likeliest first.
    """

    scenes: list[int]
    positions: Float64[np.ndarray, 'slot future joint xyz=3']


def shown_futures(run: Replay, every: int) -> dict[tuple[int, str], ShownFutures]:
    """Return the likeliest futures of each person at the horizon next to `FUTURES_S`."""
    drawn = {
        key: [(person, _likeliest(futures, row)) for row, person in enumerate(futures.person_ids)]
        for key, futures in run.futures.items()
    }
    return {
        key: ShownFutures(list(by_scene), np.array(list(by_scene.values())))
        for key, by_scene in _by_person(run, every, drawn).items()
    }


def _likeliest(futures: Futures, row: int) -> Float64[np.ndarray, 'future joint xyz=3']:
    frame = int(np.argmin(np.abs(futures.horizons_s - FUTURES_S)))
    order = np.argsort(-futures.log_density[row], kind='stable')[:FUTURES]
    return futures.positions[row, order, frame]


def future_colours(count: int) -> list[str]:
    """Return opaque colours from likely to unlikely."""
    ramp = colormaps['Blues'](np.linspace(0.95, 0.35, count))
    return [to_hex(colour) for colour in ramp]
