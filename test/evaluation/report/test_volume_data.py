# SPDX-License-Identifier: Apache-2.0
"""Volumes travel inside a page as they are, and never make it too large."""

import base64
import dataclasses
import json
from typing import Any

import numpy as np
import pytest
from volume_replays import KEPT, goes, stands, told, walks, weighed

from motion_predictor_ros.evaluation.replay.replay import Replay
from motion_predictor_ros.evaluation.report import volume_data
from motion_predictor_ros.evaluation.report.replay_data import scene_times_ms
from motion_predictor_ros.evaluation.report.volume_data import (
    LEVELS_P,
    pack_volumes,
    runs,
    shown_futures,
)
from motion_predictor_ros.skeleton.frame import Validity

UP = np.array([0.0, 0.0, 1.0])


def pack(played: Replay, every: int = 1) -> dict[str, Any]:
    found = pack_volumes(played, scene_times_ms(played), every, UP)
    assert found is not None
    return found


def read_runs(packed: bytes) -> np.ndarray:
    """Read runs as the page does."""
    levels: list[int] = []
    at = 0
    while at < len(packed):
        level, length = packed[at] >> 4, (packed[at] & 15) + 1
        if length == 16:
            length, at = packed[at + 1] + 256 * packed[at + 2], at + 2
        levels += [level] * length
        at += 1
    return np.array(levels, dtype=np.uint8)


def read_grid(grid: list[Any]) -> tuple[float, np.ndarray, np.ndarray]:
    """Return the size, the lowest corner [m] and the levels of a packed grid."""
    size, *first, nx, ny, nz, text = grid
    levels = read_runs(base64.b64decode(text)).reshape(nx, ny, nz)
    return size, size * np.array(first), levels


@pytest.mark.parametrize('lengths', [[1], [15, 16, 17, 1], [65_535, 65_536, 3], [200_000]])
def test_runs_of_any_length_survive_a_round_trip(lengths: list[int]) -> None:
    levels = np.repeat(np.arange(len(lengths)) % 16, lengths).astype(np.uint8)
    np.testing.assert_array_equal(read_runs(runs(levels)), levels)


def test_a_level_is_how_many_thresholds_a_probability_reaches() -> None:
    played = goes(stands, 0.1)
    packed = pack(dataclasses.replace(played, volumes=told(played)))
    kept = KEPT[Validity.OK]
    for index, window in enumerate(kept.windows):
        size, corner, levels = read_grid(packed['people']['0/0']['voxels'][0][index])
        assert size == window.grid.size_m
        reached = (window.probability[..., None] + 0.51 / 255 >= np.array(LEVELS_P)).sum(-1)
        assert levels.sum() == reached.sum()
        first = np.round((corner - window.grid.origin) / size).astype(int)
        part = tuple(slice(a, a + n) for a, n in zip(first, levels.shape, strict=True))
        np.testing.assert_array_equal(levels, reached[part])


def test_the_footprint_is_the_covered_space_from_above() -> None:
    played = goes(stands, 0.1)
    packed = pack(dataclasses.replace(played, volumes=told(played)))
    for index, window in enumerate(KEPT[Validity.OK].windows):
        _, corner, levels = read_grid(packed['people']['0/0']['keep'][0][index])
        assert levels.shape[2] == 1 and corner[2] == 0.0
        assert levels.sum() == window.covered.any(axis=2).sum()


def test_a_reachable_set_has_a_footprint_but_no_voxels() -> None:
    played = goes(stands, 0.1)
    volumes = told(played, validity=Validity.INCOMPLETE)
    own = pack(dataclasses.replace(played, volumes=volumes))['people']['0/0']
    assert own['voxels'] == [[None] * 3] and None not in own['keep'][0]


def test_without_volumes_nothing_is_packed() -> None:
    played = goes(stands, 0.1)
    assert pack_volumes(played, scene_times_ms(played), 1, UP) is None


def test_volumes_appear_in_the_first_scene_shown_that_is_not_earlier() -> None:
    played = goes(stands, 1.0)
    volumes = told(played, every=6)
    assert pack(dataclasses.replace(played, volumes=volumes))['people']['0/0']['scenes'] == [
        0, 6, 12, 18, 24
    ]  # fmt: skip
    thinned = pack(dataclasses.replace(played, volumes=volumes), every=4)
    assert thinned['people']['0/0']['scenes'] == [0, 2, 3, 5, 6]


def test_ten_seconds_of_many_people_get_larger_and_rarer_voxels() -> None:
    played = goes(walks, 10.0, people=6)
    whole = dataclasses.replace(played, volumes=told(played, wander_m=0.03))
    packed = pack(whole)
    assert len(json.dumps(packed)) < 660_000  # what is left of three megabytes
    assert packed['voxel_m'] == 0.2
    few = pack(dataclasses.replace(played, volumes=dict(list(whole.volumes.items())[:4])))
    assert few['voxel_m'] == 0.1 and few['hold_ms'] == 300.0


def test_rarer_volumes_are_held_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    played = goes(walks, 2.0)
    whole = dataclasses.replace(played, volumes=told(played))
    monkeypatch.setattr(volume_data, '_LEAST', len(json.dumps(pack(whole)['people'])) // 6)
    monkeypatch.setattr(volume_data, '_PER_S', 0)
    packed = pack(whole)
    assert len(packed['people']['0/0']['scenes']) < 10 and packed['hold_ms'] >= 600.0


def test_the_likeliest_futures_are_shown_where_they_are_after_a_second() -> None:
    played = goes(stands, 1.0)
    shown = shown_futures(dataclasses.replace(played, futures=weighed(played)), 1)[0, '0']
    assert shown.scenes == [0, 6, 12, 18, 24] and shown.positions.shape == (5, 10, 18, 3)
    start = played.tracks[0, '0'].frames[0].positions
    for rank in range(10):  # the last of twelve is the likeliest
        np.testing.assert_allclose(shown.positions[0, rank], start + 0.1 * (11 - rank))
