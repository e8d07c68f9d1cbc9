# SPDX-License-Identifier: Apache-2.0
"""Windows hold what the recordings hold, at the model's clock, and only within one clip."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from motion_predictor_ros.data.recordings import (
    UNLABELLED,
    Recordings,
    kind_of,
    load_recordings,
)
from motion_predictor_ros.errors import DataError
from motion_predictor_ros.training.windows import (
    SamplingConfig,
    WindowSampler,
    every_window,
    limit_training,
    windows_with_clips,
)

NAMES = ('root', 'left', 'right')
PLAIN = SamplingConfig(mirror=False, stretch=1.0)


def write(path: Path, clips: dict[str, np.ndarray], /, **changes: object) -> Path:
    info = {key: {'subject': key[0], 'split': 'train'} for key in clips}
    meta = {'joint_names': NAMES, 'fps': 50, 'clips': info} | changes
    np.savez(path, __meta__=np.array(json.dumps(meta)), **clips)
    return path


def ramp(frames: int, start: float) -> np.ndarray:
    """A clip whose x is its time in frames plus `start`, joint by joint 0.1 further."""
    x = np.arange(frames)[:, None] + start + 0.1 * np.arange(3)
    return np.stack([x, 0 * x, 0 * x + 1], axis=-1).astype(np.float32)


@pytest.fixture
def recordings(tmp_path: Path) -> Recordings:
    clips = {'a1': ramp(80, 0), 'b1': ramp(60, 1000), 'b2': ramp(5, 5000)}
    return load_recordings(write(tmp_path / 'clips.npz', clips))


def sampler(recordings: Recordings, config: SamplingConfig) -> WindowSampler:
    return WindowSampler(recordings, 10, 0.04, (0, 2, 1), config, torch.device('cpu'))


def draw(recordings: Recordings, config: SamplingConfig, seed: int = 0) -> torch.Tensor:
    return sampler(recordings, config).draw(400, torch.Generator().manual_seed(seed))


def test_windows_run_on_the_model_clock_within_one_clip(recordings: Recordings) -> None:
    windows = draw(recordings, PLAIN)
    steps = windows[:, 1:, :, 0] - windows[:, :-1, :, 0]
    torch.testing.assert_close(steps, torch.full_like(steps, 2.0), atol=2e-3, rtol=0)
    first, last = windows[:, 0, 0, 0], windows[:, -1, 0, 0]
    in_a = (first >= -1e-3) & (last <= 79.001)
    in_b = (first >= 999.9) & (last <= 1059.1)
    assert bool((in_a | in_b).all()) and bool(in_a.any()) and bool(in_b.any())


def test_stretch_changes_the_pace_within_its_bounds(recordings: Recordings) -> None:
    windows = draw(recordings, SamplingConfig(mirror=False, stretch=1.25))
    pace = (windows[:, -1, 0, 0] - windows[:, 0, 0, 0]) / 9.0
    assert 1.6 - 1e-3 <= float(pace.min()) < 1.7 and 2.4 < float(pace.max()) <= 2.5 + 1e-3


def test_mirror_exchanges_left_and_right_in_half_of_the_windows(recordings: Recordings) -> None:
    windows = draw(recordings, SamplingConfig(mirror=True, stretch=1.0))
    flipped = windows[:, 0, 0, 0] < -1e-3
    assert 0.4 < float(flipped.double().mean()) < 0.6
    gap = windows[:, 0, 2, 0] - windows[:, 0, 1, 0]  # +0.1 between left and right, unflipped
    torch.testing.assert_close(gap, torch.full_like(gap, 0.1), atol=1e-3, rtol=0)


def test_the_same_seed_gives_the_same_batch(recordings: Recordings) -> None:
    assert torch.equal(draw(recordings, PLAIN, 3), draw(recordings, PLAIN, 3))
    assert not torch.equal(draw(recordings, PLAIN, 3), draw(recordings, PLAIN, 4))


def test_every_window_lists_them_all_in_order(recordings: Recordings) -> None:
    windows = every_window(recordings, 10, 0.04, 0.2)
    assert len(windows) == len(range(0, 80 - 18, 10)) + len(range(0, 60 - 18, 10))
    assert windows[1, 0, 0, 0] == 10.0 and windows[1, -1, 0, 0] == 28.0


def test_too_short_recordings_are_refused(recordings: Recordings) -> None:
    with pytest.raises(DataError, match='no clip is as long'):
        every_window(recordings, 100, 0.04, 0.2)
    with pytest.raises(DataError, match='no clip is as long'):
        WindowSampler(recordings, 100, 0.04, (0, 2, 1), PLAIN, torch.device('cpu'))


def test_a_foreign_rate_is_refused(recordings: Recordings) -> None:
    with pytest.raises(DataError, match='not a multiple'):
        every_window(recordings, 10, 0.03, 0.2)


def test_clips_with_missing_joints_are_left_out(tmp_path: Path) -> None:
    holes = ramp(30, 0)
    holes[3, 1] = np.nan
    path = write(tmp_path / 'clips.npz', {'a1': holes, 'b1': ramp(30, 0)})
    assert [clip.key for clip in load_recordings(path).clips] == ['b1']


@pytest.mark.parametrize(
    ('clips', 'changes', 'message'),
    [
        ({'a1': np.zeros((9, 4, 3), np.float32)}, {}, 'shape'),
        ({'a1': ramp(9, 0)}, {'clips': {'zz': {}}}, 'zz'),
        ({'a1': ramp(9, 0)}, {'clips': {'a1': {'subject': 'x'}}}, 'split'),
        ({}, {}, 'no clip'),
        ({'a1': np.array([{'evil': 1}], dtype=object)}, {}, 'pickle'),
    ],
)
def test_files_of_another_form_are_refused(
    tmp_path: Path, clips: dict[str, np.ndarray], changes: dict[str, object], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        load_recordings(write(tmp_path / 'bad.npz', clips, **changes))


def test_missing_and_damaged_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match='no recordings at'):
        load_recordings(tmp_path / 'gone.npz')
    path = write(tmp_path / 'cut.npz', {'a1': ramp(30, 0)})
    for length in (200, 0):
        path.write_bytes(path.read_bytes()[:length])
        with pytest.raises(DataError, match='not a file of motion clips'):
            load_recordings(path)


def test_windows_that_are_not_stretched_are_cut_frame_by_frame(recordings: Recordings) -> None:
    half = SamplingConfig(mirror=False, stretch=1.25, stretch_share=0.5)
    windows = draw(recordings, half)
    pace = (windows[:, -1, 0, 0] - windows[:, 0, 0, 0]) / 9.0
    as_recorded = (pace - 2.0).abs() < 1e-3
    assert 0.4 < float(as_recorded.float().mean()) < 0.6
    first = windows[as_recorded, 0, 0, 0]
    torch.testing.assert_close(first, first.round(), atol=1e-3, rtol=0)
    assert float((windows[~as_recorded, 0, 0, 0] % 1.0 - 0.5).abs().min()) < 0.4  # control
    assert float(pace.min()) < 1.7 and float(pace.max()) > 2.4


def test_a_window_may_end_with_the_last_frame_of_all(tmp_path: Path) -> None:
    alone = load_recordings(write(tmp_path / 'alone.npz', {'a1': ramp(20, 0)}))
    last = draw(alone, SamplingConfig(mirror=False, stretch_share=0.0))[:, -1, 0, 0]
    assert float(last.max()) == 19.0 and float(last.min()) == 18.0


def test_kinds_that_robots_hardly_meet_are_drawn_less_often(tmp_path: Path) -> None:
    clips = {'a1': ramp(80, 0), 'b1': ramp(80, 1000)}
    kinds = {'a1': 'animal / pantomime', 'b1': 'walk'}
    info = {key: {'subject': key[0], 'split': 'train', 'kind': kinds[key]} for key in clips}
    recordings = load_recordings(write(tmp_path / 'clips.npz', clips, clips=info))

    def share(weight: float) -> float:
        config = SamplingConfig(
            mirror=False, stretch=1.0, rare_kinds='pantomime dance', rare_weight=weight
        )
        return float((draw(recordings, config)[:, 0, 0, 0] < 500).double().mean())

    assert abs(share(1.0) - 0.5) < 0.1  # control
    assert abs(share(0.25) - 0.2) < 0.08


def test_every_kind_of_motion_can_be_drawn_equally_often(tmp_path: Path) -> None:
    clips = {'a1': ramp(80, 0), 'b1': ramp(80, 1000), 'c1': ramp(80, 2000), 'd1': ramp(80, 3000)}
    kinds = {'a1': 'sit', 'b1': 'walk', 'c1': 'walk', 'd1': 'walk'}
    info = {key: {'subject': key[0], 'split': 'train', 'kind': kinds[key]} for key in clips}
    recordings = load_recordings(write(tmp_path / 'clips.npz', clips, clips=info))

    def share_of_sitting(even: bool) -> float:
        config = SamplingConfig(mirror=False, stretch=1.0, even_kinds=even)
        return float((draw(recordings, config)[:, 0, 0, 0] < 500).double().mean())

    assert abs(share_of_sitting(True) - 0.5) < 0.1
    assert abs(share_of_sitting(False) - 0.25) < 0.1  # control


def test_windows_name_the_clip_that_they_were_cut_from(recordings: Recordings) -> None:
    windows, clips = windows_with_clips(recordings, 10, 0.04, 0.2)
    torch.testing.assert_close(windows, every_window(recordings, 10, 0.04, 0.2))
    for window, clip in zip(windows, clips, strict=True):
        assert (float(window[0, 0, 0]) >= 1000.0) == (clip.key == 'b1')
    assert {clip.key for clip in clips} == {'a1', 'b1'}  # control: both are there


def test_less_data_is_part_of_more(tmp_path: Path) -> None:
    clips = {f'{subject}{number}': ramp(50, 0) for subject in 'abcd' for number in range(3)}
    recordings = load_recordings(write(tmp_path / 'clips.npz', clips))

    def kept(subjects: int = 0, minutes: float = 0.0) -> set[str]:
        config = SamplingConfig(max_subjects=subjects, max_minutes=minutes)
        return {clip.key for clip in limit_training(recordings, config).clips}

    assert kept() == set(clips)
    assert len(kept(subjects=1)) == 3 and kept(subjects=1) < kept(subjects=3)
    one, four = kept(minutes=1.01 / 60), kept(minutes=4.01 / 60)
    assert (len(one), len(four)) == (1, 4) and one < four


def test_a_clip_without_a_kind_gets_that_of_its_description(tmp_path: Path) -> None:
    clips = {'a1': ramp(30, 0), 'b1': ramp(30, 0), 'c1': ramp(30, 0)}
    info = {key: {'subject': key[0], 'split': 'train'} for key in clips}
    info['a1'] |= {'description': 'walk, veer left'}
    info['b1'] |= {'description': 'walk, veer left', 'kind': 'walk'}
    kinds = [
        clip.kind for clip in load_recordings(write(tmp_path / 'c.npz', clips, clips=info)).clips
    ]
    assert kinds == ['turn / step / navigate', 'walk', UNLABELLED]
    assert kind_of('laugh') == 'gesture / talk / stand' and kind_of('') == UNLABELLED


def test_partners_are_found_in_merged_files_and_alone(tmp_path: Path) -> None:
    clips = {'more/cmu/1': ramp(30, 0), 'more/cmu/2': ramp(30, 0), 'cmu/3': ramp(30, 0)}
    info = {key: {'subject': key[-1], 'split': 'train'} for key in clips}
    info['more/cmu/1'] |= {'pair': 'cmu/2'}
    info['cmu/3'] |= {'pair': 'cmu/9'}
    loaded = load_recordings(write(tmp_path / 'c.npz', clips, clips=info))
    assert [clip.pair for clip in loaded.clips] == ['more/cmu/2', '', '']
