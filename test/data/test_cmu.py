# SPDX-License-Identifier: Apache-2.0
"""The CMU benchmark as training data: which joints, which units, and which clips are held out."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from cmu_files import COPY_FROM, COPY_TO, IGNORED, USED, wander, write_benchmark

from motion_predictor_ros.data.cmu import (
    FED,
    FED_NAMES,
    JOINT_NAMES,
    STATIC,
    TWINS,
    load_cmu_benchmark,
    load_cmu_sequences,
    load_training_data,
)
from motion_predictor_ros.data.recordings import Recordings
from motion_predictor_ros.errors import DataError
from motion_predictor_ros.skeleton.layout import SkeletonLayout
from motion_predictor_ros.training.motion_deq import MotionDEQLearner, MotionTask
from motion_predictor_ros.training.recipe import load_recipe

CLIPS = {
    'train/walking_1': wander(60, 1),
    'train/walking_10': wander(50, 2),
    'train/walking_2': wander(40, 3),
    'train/basketball_signal_1': wander(70, 4),
    'train/basketball_signal_2': wander(400, 5),
    'train/soccer_1': wander(200, 6),
    'test/walking_1': wander(45, 7),
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_benchmark(tmp_path / 'cmu.npz', CLIPS)


@pytest.fixture
def recordings(file: Path) -> Recordings:
    return load_cmu_benchmark(file)


def test_the_joints_are_those_of_the_published_protocol() -> None:
    assert FED.tolist() == USED and len(FED_NAMES) == 25
    twins = {JOINT_NAMES[to]: JOINT_NAMES[of] for to, of in zip(COPY_TO, COPY_FROM, strict=True)}
    assert twins == TWINS
    assert {JOINT_NAMES[joint] for joint in IGNORED} == {*STATIC, *TWINS}


def test_the_layout_has_the_fed_joints_in_order_and_mirrors_sides() -> None:
    layout = SkeletonLayout.load('cmu25')
    assert layout.joint_names == FED_NAMES
    swap = str.maketrans('LR', 'RL')
    for name, other in zip(layout.joint_names, layout.mirror, strict=True):
        right = name.replace('Left', '<').replace('Right', 'Left').replace('<', 'Right')
        thumb = name.translate(swap) if 'Thumb' in name else right
        assert layout.joint_names[other] == thumb


def test_no_bone_crosses_from_left_to_right() -> None:
    layout = SkeletonLayout.load('cmu25')
    sides = [name[0] if name[0] in 'LR' else '' for name in layout.joint_names]
    assert all(
        not sides[parent] or sides[parent] == sides[child] for parent, child in layout.bones
    )


def test_positions_are_the_fed_joints_in_thousandths(recordings: Recordings) -> None:
    assert recordings.joint_names == FED_NAMES and recordings.fps == 25.0
    for clip in recordings.clips:
        rows = CLIPS[clip.key.split('[')[0]]
        cut = clip.key.partition('[')[2].rstrip(']')
        first, last = (int(part) if part else None for part in (cut or ':').split(':'))
        expected = rows[first:last, USED].astype(np.float64) / 1000
        found = recordings.positions[clip.start : clip.start + clip.length]
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_the_last_training_clip_of_an_action_validates(recordings: Recordings) -> None:
    """Last by number, not by spelling: 10 comes after 2. Long and lone clips are cut."""
    splits = {clip.key: (clip.subject, clip.split, clip.length) for clip in recordings.clips}
    assert splits == {
        'train/walking_1': ('walking', 'train', 60),
        'train/walking_2': ('walking', 'train', 40),
        'train/walking_10': ('walking', 'val', 50),
        'train/basketball_signal_1': ('basketball_signal', 'train', 70),
        'train/basketball_signal_2[:280]': ('basketball_signal', 'train', 280),
        'train/basketball_signal_2[280:]': ('basketball_signal', 'val', 120),
        'train/soccer_1[:160]': ('soccer', 'train', 160),
        'train/soccer_1[160:]': ('soccer', 'val', 40),
        'test/walking_1': ('walking', 'test', 45),
    }


def test_no_frame_is_lost_or_in_two_splits(recordings: Recordings) -> None:
    rows = {row.tobytes() for row in recordings.positions}
    assert len(rows) == len(recordings.positions) == sum(map(len, CLIPS.values()))
    spans = sorted((clip.start, clip.start + clip.length) for clip in recordings.clips)
    assert [end for _, end in spans[:-1]] == [start for start, _ in spans[1:]]


def test_sequences_keep_all_joints_and_the_units_of_the_file(file: Path) -> None:
    sequences = {each.key: each for each in load_cmu_sequences(file)}
    assert sequences.keys() == CLIPS.keys()
    signal = sequences['train/basketball_signal_2']
    assert (signal.split, signal.action) == ('train', 'basketball_signal')
    np.testing.assert_array_equal(signal.positions, CLIPS[signal.key])


@pytest.mark.parametrize(
    ('clips', 'changes', 'message'),
    [
        ({}, {}, 'no clips'),
        ({'train/walking_1': wander(9, 0)[:, :25]}, {}, r"'train/walking_1' is float32 \(9, 25"),
        ({'train/walking_1': wander(9, 0).astype(float)}, {}, 'float64'),
        ({'train/walking_1': np.full((9, 38, 3), np.nan, np.float32)}, {}, 'not finite'),
        ({'train/walking_1': np.array([{'evil': 1}], dtype=object)}, {}, 'pickle'),
        ({'val/walking_1': wander(9, 0)}, {}, "is named 'val/walking_1'"),
        ({'train/walking': wander(9, 0)}, {}, "is named 'train/walking'"),
        ({'train/walking_1': wander(9, 0)}, {'joint_names': JOINT_NAMES[::-1]}, 'joint_names'),
    ],
)
def test_files_of_another_form_are_refused(
    tmp_path: Path, clips: dict[str, np.ndarray], changes: dict[str, object], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        load_cmu_sequences(write_benchmark(tmp_path / 'bad.npz', clips, **changes))


def test_missing_damaged_and_empty_files_are_refused(tmp_path: Path, file: Path) -> None:
    with pytest.raises(DataError, match='no CMU benchmark at'):
        load_cmu_sequences(tmp_path / 'gone.npz')
    np.savez(tmp_path / 'bare.npz', **CLIPS)
    with pytest.raises(DataError, match='__meta__'):
        load_cmu_sequences(tmp_path / 'bare.npz')
    whole = file.read_bytes()
    for content in (whole[: len(whole) // 2], b'', b'PK\x03\x04'):
        file.write_bytes(content)
        with pytest.raises(DataError, match='is not the CMU benchmark'):
            load_cmu_sequences(file)


def test_a_file_without_training_clips_cannot_train(tmp_path: Path) -> None:
    path = write_benchmark(tmp_path / 'cmu.npz', {'test/walking_1': wander(45, 7)})
    assert len(load_cmu_sequences(path)) == 1
    with pytest.raises(DataError, match='no training clips'):
        load_cmu_benchmark(path)


def test_training_data_formats_are_recognised_by_their_keys(tmp_path: Path, file: Path) -> None:
    assert load_training_data(file).joint_names == FED_NAMES
    meta = {'joint_names': ['hip'], 'fps': 50, 'clips': {'a/1': {'subject': 'a', 'split': 'val'}}}
    clips = {'__meta__': np.array(json.dumps(meta)), 'a/1': np.zeros((9, 1, 3), np.float32)}
    np.savez(tmp_path / 'ours.npz', **clips)
    assert load_training_data(tmp_path / 'ours.npz').joint_names == ('hip',)
    with pytest.raises(DataError, match='no recordings at'):
        load_training_data(tmp_path / 'gone.npz')
    (tmp_path / 'text.npz').write_text('hello')
    with pytest.raises(DataError, match='not a file of motion clips'):
        load_training_data(tmp_path / 'text.npz')


@pytest.mark.parametrize(('name', 'still'), [('cmu', 'layers.1.update'), ('cmu_second', '')])
def test_shipped_recipes_follow_the_protocol_and_train_on_such_a_file(
    recordings: Recordings, name: str, still: str
) -> None:
    """Without a Neumann term, what makes patterns last learns nothing: nobody reads them."""
    torch.set_default_dtype(torch.float32)
    name, recipe = load_recipe(name)
    model = recipe.model
    assert (model.joints, model.past, model.future, model.period_s) == (25, 10, 25, 0.04)
    schedule = dataclasses.replace(recipe.schedule, batch=2)
    recipe = dataclasses.replace(recipe, schedule=schedule)
    task = MotionTask(name, recipe, recordings, MotionDEQLearner(recipe, torch.device('cpu')))
    losses = task.step(0)
    assert np.isfinite(list(losses.values())).all()
    named = task.module.named_parameters()
    silent = {key for key, each in named if float(each.grad.abs().max()) == 0}
    assert bool(silent) == bool(still) and all(
        still in key or 'message_out' in key or key.startswith('cell.norm') for key in silent
    )
