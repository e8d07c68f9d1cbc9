# SPDX-License-Identifier: Apache-2.0
"""Clips of any rate are read; those that the models' clock does not divide are resampled."""

import json
from pathlib import Path

import numpy as np
import pytest

from motion_predictor_ros.data.recordings import Recordings, load_recordings, resample
from motion_predictor_ros.errors import DataError

PARENTS = (-1, 0, 1)
BONES_M = (0.4, 0.3)


def swing(fps: float, seconds: float = 2.0) -> np.ndarray:
    """A root that walks, and two bones that swing at constant length."""
    times_s = np.arange(round(seconds * fps) + 1) / fps
    poses = np.zeros((len(times_s), 3, 3))
    poses[:, 0] = np.stack([times_s, 0.1 * np.sin(3.0 * times_s), np.ones_like(times_s)], axis=1)
    for joint, length_m, angle in zip((1, 2), BONES_M, (1.5, 2.5), strict=True):
        turn = np.sin(2.0 * times_s) * angle
        bone = np.stack([np.sin(turn), np.zeros_like(turn), -np.cos(turn)], axis=1)
        poses[:, joint] = poses[:, joint - 1] + length_m * bone
    return poses


def written(path: Path, fps: float | None, *, parents: bool = True, **clips: float) -> Recordings:
    """Clips by name at rates of their own, as read back."""
    infos = {
        key: {'subject': key, 'split': 'test', 'knot_fps': rate} for key, rate in clips.items()
    }
    meta = {'joint_names': ['root', 'upper', 'lower'], 'fps': fps, 'clips': infos}
    if parents:
        meta['parents'] = PARENTS
    arrays = {key: swing(rate).astype(np.float32) for key, rate in clips.items()}
    np.savez(path, __meta__=json.dumps(meta), **arrays)
    return load_recordings(path)


@pytest.mark.parametrize('fps', [25.0, 50.0, 100.0])
def test_clips_that_the_clock_divides_are_read_as_they_are(tmp_path: Path, fps: float) -> None:
    read = written(tmp_path / 'clips.npz', fps, ann=fps)
    assert read.fps == fps
    assert np.array_equal(read.positions, swing(fps).astype(np.float32))


@pytest.mark.parametrize('parents', [True, False])
@pytest.mark.parametrize('fps', [24.0, 30.0, 59.94, 120.0])
def test_other_rates_are_brought_to_50_hz(tmp_path: Path, fps: float, parents: bool) -> None:
    read = written(tmp_path / 'clips.npz', fps, parents=parents, ann=fps)
    truth = swing(50.0)[: len(read.positions)]
    assert read.fps == 50.0 and len(read.positions) >= 100
    assert np.abs(read.positions - truth).max() < 1e-3
    kept = swing(fps)[: len(truth)]  # control: taken as if it were at 50 Hz
    assert np.abs(kept - truth[: len(kept)]).max() > 0.02


def test_clips_of_several_rates_share_one(tmp_path: Path) -> None:
    read = written(tmp_path / 'clips.npz', None, ann=12.0, bob=6.0)
    assert [clip.length for clip in read.clips] == [101, 101]
    truth = swing(50.0)
    for clip, limit_m in zip(read.clips, (0.003, 0.03), strict=True):
        poses = read.positions[clip.start : clip.start + clip.length]
        assert np.abs(poses - truth).max() < limit_m
        bones = np.linalg.norm(np.diff(poses, axis=1), axis=-1)
        assert bones == pytest.approx(np.broadcast_to(BONES_M, bones.shape), abs=1e-5)
    stretched = resample(swing(6.0), 6.0, 50.0)  # control: splines of positions bend bones
    assert np.abs(np.linalg.norm(np.diff(stretched, axis=1), axis=-1) - BONES_M).max() > 1e-3


def test_a_clip_without_any_rate_is_an_error(tmp_path: Path) -> None:
    meta = {'joint_names': ['root'], 'clips': {'ann': {'subject': 'a', 'split': 'test'}}}
    np.savez(
        tmp_path / 'clips.npz', __meta__=json.dumps(meta), ann=np.zeros((5, 1, 3), np.float32)
    )
    with pytest.raises(DataError, match='fps'):
        load_recordings(tmp_path / 'clips.npz')
