# SPDX-License-Identifier: Apache-2.0
"""3DPW and AMASS: the joints of SMPL bodies, whose frame, on which clock, in which split."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from licensed_files import (
    REST,
    body_of,
    swing,
    write_3dpw,
    write_amass,
    write_body_model,
)
from scipy.spatial.transform import Rotation

from motion_predictor_ros.data import smpl
from motion_predictor_ros.data.amass import load_amass
from motion_predictor_ros.data.recordings import Recordings
from motion_predictor_ros.data.smpl import load_body_model, place_joints
from motion_predictor_ros.data.three_dpw import load_3dpw, load_3dpw_sequences
from motion_predictor_ros.errors import DataError
from motion_predictor_ros.skeleton.layout import SkeletonLayout

FLIP = np.array([-1.0, 1.0, 1.0])


def rows_of(recordings: Recordings, key: str) -> np.ndarray:
    clip = next(clip for clip in recordings.clips if clip.key == key)
    return recordings.positions[clip.start : clip.start + clip.length]


@pytest.mark.parametrize(
    ('name', 'joints'), [('3dpw23', smpl.JOINT_NAMES[1:]), ('amass22', smpl.JOINT_NAMES[:22])]
)
def test_the_layouts_mirror_a_known_pose(name: str, joints: tuple[str, ...]) -> None:
    layout = SkeletonLayout.load(name)
    assert layout.joint_names == joints
    sides = [
        smpl.JOINT_NAMES.index(
            name.replace('left', '<').replace('right', 'left').replace('<', 'right')
        )
        for name in smpl.JOINT_NAMES
    ]
    offsets, turns = REST.copy(), swing(20, 24, 0)
    offsets[1:] -= REST[list(smpl.PARENTS[1:])]
    kept = [smpl.JOINT_NAMES.index(joint) for joint in joints]
    seen = place_joints(offsets, smpl.PARENTS, turns)[:, kept]
    truth = place_joints(offsets, smpl.PARENTS, turns[:, sides] * -FLIP)[:, kept]
    np.testing.assert_allclose(seen[:, list(layout.mirror)] * FLIP, truth, atol=1e-12)
    assert np.abs(seen * FLIP - truth).max() > 0.1  # sides not exchanged
    lengths = [np.linalg.norm(seen[:, at] - seen[:, of], axis=1) for of, at in layout.bones]
    assert np.ptp(lengths, axis=1).max() < 1e-12  # every bone keeps its length


PEOPLE = {
    'train/downtown_walking_00': [body_of(20, 1), body_of(20, 2)],
    'validation/courtyard_box_00': [body_of(15, 3)],
    'test/flat_guitar_01': [body_of(12, 4)],
}


def test_all_people_in_3dpw_are_clips_relative_to_the_pelvis(tmp_path: Path) -> None:
    recordings = load_3dpw(write_3dpw(tmp_path, PEOPLE))
    assert recordings.joint_names == smpl.JOINT_NAMES[1:] and recordings.fps == 30.0
    found = {clip.key: (clip.subject, clip.split, clip.length) for clip in recordings.clips}
    assert found == {
        'train/downtown_walking_00/0': ('downtown_walking_00/0', 'train', 20),
        'train/downtown_walking_00/1': ('downtown_walking_00/1', 'train', 20),
        'validation/courtyard_box_00/0': ('courtyard_box_00/0', 'val', 15),
        'test/flat_guitar_01/0': ('flat_guitar_01/0', 'test', 12),
    }
    person = PEOPLE['train/downtown_walking_00'][1]
    rows = rows_of(recordings, 'train/downtown_walking_00/1')
    np.testing.assert_allclose(rows, (person - person[:, :1])[:, 1:], atol=1e-6)
    assert np.abs(rows - person[:, 1:]).max() > 0.3  # the pelvis wandered


def test_3dpw_is_found_from_either_folder_and_only_requested_splits_are_read(
    tmp_path: Path,
) -> None:
    home = write_3dpw(tmp_path, {'test/a_00': PEOPLE['test/flat_guitar_01']})
    for folder in (home, home / 'sequenceFiles'):
        (only,) = load_3dpw_sequences(folder, ['test'])
        assert only.positions.shape == (12, 24, 3) and not only.positions[:, 0].any()
    with pytest.raises(DataError, match=r'train holds no sequence .*sequenceFiles/train'):
        load_3dpw(home)


@pytest.mark.parametrize(
    ('content', 'said'),
    [
        ([1, 2], 'no list "jointPositions"'),
        ({'poses': []}, 'no list "jointPositions"'),
        ({'jointPositions': []}, 'no list "jointPositions"'),
        ({'jointPositions': [np.zeros((5, 66))]}, r'\(5, 66\); expected finite \[time, 72\]'),
        ({'jointPositions': [np.full((5, 72), np.inf)]}, 'expected finite'),
        ({'jointPositions': ['text']}, 'expected finite'),
    ],
)
def test_sequences_of_another_form_are_refused(content: object, said: str, tmp_path: Path) -> None:
    path = write_3dpw(tmp_path, PEOPLE) / 'sequenceFiles/test/flat_guitar_01.pkl'
    path.write_bytes(pickle.dumps(content, 2))
    with pytest.raises(DataError, match=said):
        load_3dpw(tmp_path)


def test_a_body_model_places_joints_by_shape(tmp_path: Path) -> None:
    model = load_body_model(write_body_model(tmp_path / 'model.npz', grow=0.1))
    betas = np.zeros(16)
    np.testing.assert_allclose(model.rest(betas), REST[:22], atol=1e-12)
    betas[0] = 2.0
    np.testing.assert_allclose(model.rest(betas), 1.2 * REST[:22], atol=1e-12)


@pytest.mark.parametrize(
    ('changes', 'said'),
    [
        ({'J_regressor': np.eye(10, 26)}, r'J_regressor is \(10, 26\)'),
        ({'J_regressor': np.eye(52, 25)}, r'26 vertices, not sparse'),
        ({'J_regressor': np.array({'sparse': 1}, object)}, 'not a SMPL'),
        ({'shapedirs': np.zeros((26, 3, 10))}, r'shapedirs \(26, 3, 10\)'),
        ({'v_template': np.zeros((25, 3))}, r'v_template is \(25, 3\)'),
    ],
)
def test_other_body_models_are_refused_with_where_to_get_one(
    changes: dict[str, np.ndarray], said: str, tmp_path: Path
) -> None:
    path = write_body_model(tmp_path / 'model.npz')
    with np.load(path) as file:
        content = dict(file) | changes
    np.savez(path, **content)
    with pytest.raises(DataError, match=said + r'.*mano\.is\.tue\.mpg\.de'):
        load_body_model(path)


@pytest.fixture
def amass(tmp_path: Path) -> Path:
    for gender in ('male', 'female'):
        write_body_model(tmp_path / f'smplh/{gender}/model.npz', 0.1 if gender == 'male' else 0.5)
    write_amass(tmp_path / 'CMU/01/01_01_poses.npz', swing(41, 22, 0), 120.0)
    write_amass(tmp_path / 'MPI_HDM05/bk/a_poses.npz', swing(9, 22, 1), 60.0)
    betas = np.eye(16)[0]
    others = {'gender': np.array(b'female'), 'betas': betas}
    write_amass(tmp_path / 'SSM_synced/s1/b_poses.npz', swing(9, 22, 2), 60.0, **others)
    np.savez(tmp_path / 'CMU/01/male_stagei.npz', betas=betas)
    write_amass(tmp_path / 'Unheard/01/c_poses.npz', swing(9, 22, 3), 60.0)
    return tmp_path


def test_amass_becomes_joints_in_the_world_by_subject_and_data_set(amass: Path) -> None:
    recordings = load_amass(amass)
    assert recordings.joint_names == smpl.JOINT_NAMES[:22] and recordings.fps == 60.0
    found = {clip.key: (clip.subject, clip.split, clip.length) for clip in recordings.clips}
    assert found == {
        'CMU/01/01_01_poses': ('CMU/01', 'train', 21),
        'HDM05/bk/a_poses': ('HDM05/bk', 'val', 9),
        'SSM/s1/b_poses': ('SSM/s1', 'test', 9),
    }


def test_amass_turns_a_body_about_its_pelvis_and_moves_it(tmp_path: Path) -> None:
    """Pelvis at rest + trans; everybody else around it, by the root's turn."""
    write_body_model(tmp_path / 'smplh/male/model.npz')
    turns = np.zeros((2, 22, 3))
    turns[:, 0] = (np.pi / 2, 0, 0)  # y up becomes z up
    turns[1, smpl.JOINT_NAMES.index('left_elbow')] = (0, 0, np.pi / 2)  # in the upper arm's frame
    write_amass(tmp_path / 'CMU/01/a.npz', turns, 60.0)
    rows = rows_of(load_amass(tmp_path), 'CMU/01/a')
    upright = Rotation.from_rotvec([np.pi / 2, 0, 0])
    standing = upright.apply(REST[:22]) + np.array([1.0, 2.0, 0.9])
    np.testing.assert_allclose(rows[0], standing, atol=1e-6)
    moved = np.abs(rows[1] - rows[0]).max(axis=-1) > 1e-6
    assert [smpl.JOINT_NAMES[joint] for joint in np.flatnonzero(moved)] == ['left_wrist']
    elbow, wrist = (smpl.JOINT_NAMES.index(f'left_{name}') for name in ('elbow', 'wrist'))
    bone = REST[wrist] - REST[elbow]
    expected = upright.apply(Rotation.from_rotvec([0, 0, np.pi / 2]).apply(bone))
    np.testing.assert_allclose(rows[1, wrist] - rows[1, elbow], expected, atol=1e-6)


def test_amass_uses_the_body_of_the_subjects_gender_and_shape(amass: Path) -> None:
    rows = rows_of(load_amass(amass), 'SSM/s1/b_poses')
    thigh = [smpl.JOINT_NAMES.index(f'left_{name}') for name in ('hip', 'knee')]
    length = np.linalg.norm(rows[:, thigh[1]] - rows[:, thigh[0]], axis=-1)
    np.testing.assert_allclose(length, 1.5 * 0.4, rtol=1e-5)  # female: 1 + 0.5 beta


@pytest.mark.parametrize(('fps', 'frames'), [(60.0, 31), (120.0, 61), (100.0, 51), (30.0, 16)])
def test_every_rate_ends_at_60_fps_after_the_same_half_second(
    fps: float, frames: int, tmp_path: Path
) -> None:
    write_body_model(tmp_path / 'smplh/male/model.npz')
    way = np.arange(frames)[:, None] / fps * np.array([[1.0, -2.0, 3.0]])  # [m], linear in time
    write_amass(tmp_path / 'CMU/01/a.npz', np.zeros((frames, 22, 3)), fps, trans=way)
    rows = rows_of(load_amass(tmp_path), 'CMU/01/a')
    expected = np.arange(31)[:, None] / 60.0 * np.array([[1.0, -2.0, 3.0]])
    np.testing.assert_allclose(rows[:, 0], expected, atol=1e-6)


@pytest.mark.parametrize(
    ('changes', 'said'),
    [
        ({'poses': None}, 'poses'),
        ({'mocap_framerate': None}, 'mocap_framerate'),
        ({'mocap_framerate': np.array(0.0)}, '0.0 fps'),
        ({'trans': np.zeros((3, 3))}, r'\(3, 3\)'),
        ({'poses': np.zeros((9, 165))}, r'poses \(9, 165\)'),
        ({'trans': np.full((9, 3), np.nan)}, 'not finite'),
        ({'betas': np.zeros(10)}, r'betas \(10,\)'),
        ({'gender': np.array('robot')}, 'robot'),
        ({'poses': np.array([{}], object)}, 'allow_pickle'),
    ],
)
def test_motions_of_another_form_are_refused(
    changes: dict[str, object], said: str, amass: Path
) -> None:
    write_amass(amass / 'CMU/01/01_01_poses.npz', swing(9, 22, 0), 60.0, **changes)
    with pytest.raises(DataError, match=r'01_01_poses\.npz is not a motion of AMASS.*' + said):
        load_amass(amass)


def test_a_missing_body_model_and_an_empty_folder_are_errors_with_a_remedy(amass: Path) -> None:
    (amass / 'smplh/female/model.npz').unlink()
    with pytest.raises(DataError, match=r'no body model at .*female/model\.npz: get "Extended'):
        load_amass(amass)
    (amass / 'empty/CMU').mkdir(parents=True)
    with pytest.raises(DataError, match='holds no motion of AMASS'):
        load_amass(amass / 'empty')
