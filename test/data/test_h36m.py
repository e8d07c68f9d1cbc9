# SPDX-License-Identifier: Apache-2.0
"""Human3.6M in angles and in positions: the published skeleton, joints, splits and units."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from licensed_files import h36m_rows, swing, write_h36m, write_h36m_positions
from scipy.spatial.transform import Rotation

from motion_predictor_ros.data import h36m
from motion_predictor_ros.data.h36m import (
    FED,
    FED_NAMES,
    JOINT_NAMES,
    KEPT,
    OFFSETS_MM,
    PARENTS,
    load_h36m,
    load_h36m_positions,
    load_h36m_sequences,
    pose_h36m,
)
from motion_predictor_ros.errors import DataError
from motion_predictor_ros.skeleton.layout import SkeletonLayout

# As the literature's code writes them.
IGNORED = [0, 1, 6, 11, 16, 20, 23, 24, 28, 31]
COPY_TO = [16, 20, 23, 24, 28, 31]
COPY_FROM = [13, 19, 22, 13, 27, 30]


def pose(**turns: tuple[float, float, float]) -> dict[str, np.ndarray]:
    """Turn some joints and return where each one is [mm]."""
    rows = np.zeros((1, 99))
    for name, turn in turns.items():
        at = 3 + 3 * JOINT_NAMES.index(name)
        rows[0, at : at + 3] = turn
    return dict(zip(JOINT_NAMES, pose_h36m(rows)[0], strict=True))


def row_vectors(rows: np.ndarray, sign: float = 1.0) -> np.ndarray:
    """Place the joints as the literature writes it: p = offset R, R = exp(r) R_parent."""
    world, places = {}, np.zeros((len(rows), 32, 3))
    for joint, parent in enumerate(PARENTS):
        vectors = sign * rows[:, 3 + 3 * joint : 6 + 3 * joint] * (joint > 0)
        own = Rotation.from_rotvec(vectors).as_matrix()
        world[joint] = own if parent < 0 else own @ world[parent]
        if parent >= 0:
            turned = np.einsum('x,txy->ty', OFFSETS_MM[joint], world[parent])
            places[:, joint] = places[:, parent] + turned
    return places


def test_the_joints_are_those_of_the_published_protocol() -> None:
    assert len(set(JOINT_NAMES)) == len(PARENTS) == len(OFFSETS_MM) == 32
    assert FED.tolist() == [joint for joint in range(32) if joint not in IGNORED]
    twins = {JOINT_NAMES[to]: JOINT_NAMES[of] for to, of in zip(COPY_TO, COPY_FROM, strict=True)}
    assert twins == h36m.TWINS
    assert {JOINT_NAMES[joint] for joint in IGNORED} == {*h36m.STATIC, *h36m.TWINS}


def test_a_person_at_rest_stands_with_arms_up() -> None:
    at = pose()
    np.testing.assert_allclose(at['RightFoot'], [-132.948591, -442.894612 - 454.206447, 0], 1e-6)
    np.testing.assert_allclose(at['LeftToeEnd'], [132.948826, -897.101, 237.767374], 1e-6)
    np.testing.assert_allclose(at['HeadEnd'], [0, 0.1 + 233.383263 + 493.214846, 0], 1e-6)
    height = 0.1 + 233.383263 + 257.077681
    np.testing.assert_allclose(at['LeftHand'], [0, height + 681.650450, 0], 1e-6)
    np.testing.assert_allclose(at['RightWristEnd'][1] - at['LeftWristEnd'][1], 37.50, atol=0.01)


def test_knees_bend_backwards_by_the_angle_given() -> None:
    at = pose(RightLeg=(-np.pi / 2, 0, 0))  # the published example has knees at -0.78 and -0.10
    np.testing.assert_allclose(at['RightFoot'] - at['RightLeg'], [0, 0, -454.206447], atol=1e-3)
    np.testing.assert_allclose(at['RightToeBase'] - at['RightFoot'], [0, -162.767, 0], atol=1e-2)
    np.testing.assert_allclose(at['LeftFoot'], pose()['LeftFoot'])


def test_joints_are_placed_as_the_literature_writes_it() -> None:
    rows = h36m_rows(20, 1)
    np.testing.assert_allclose(pose_h36m(rows), row_vectors(rows), atol=1e-3)  # [mm]
    assert np.abs(pose_h36m(rows) - row_vectors(rows, sign=-1.0)).max() > 100.0


def test_joints_that_are_not_fed_stand_still_or_coincide() -> None:
    """Four never move and six are copies, whatever is turned: the protocol counts on it."""
    random = np.random.default_rng(0)
    positions = pose_h36m(random.normal(size=(40, 99)))
    spread = np.ptp(positions, axis=0).max(axis=-1)
    assert {JOINT_NAMES[joint] for joint in np.flatnonzero(spread < 1e-3)} == set(h36m.STATIC)
    np.testing.assert_allclose(positions[:, COPY_TO], positions[:, COPY_FROM], atol=1e-3)
    apart = np.abs(positions[:, FED, None] - positions[:, None, FED]).max((0, 3))
    assert (apart + 1e9 * np.eye(22)).min() > 10.0  # no two fed joints coincide


def test_translation_and_rotation_of_the_root_are_dropped() -> None:
    rows = h36m_rows(10, 2)
    moved = rows.copy()
    moved[:, :6] += np.random.default_rng(3).normal(size=(10, 6))
    np.testing.assert_array_equal(pose_h36m(moved), pose_h36m(rows))
    moved[:, 6:9] += 0.5
    assert np.abs(pose_h36m(moved) - pose_h36m(rows)).max() > 10.0


def mirrored(rows: np.ndarray, mirror: list[int]) -> np.ndarray:
    """Reflect rotations in the plane x = 0 and exchange sides."""
    turns = rows[:, 3:].reshape(-1, 32, 3)[:, mirror] * np.array([1.0, -1.0, -1.0])
    return np.hstack([rows[:, :3], turns.reshape(-1, 96)])


def all_sides() -> list[int]:
    swap = {'Left': 'Right', 'Right': 'Left'}
    other = [
        next((new + name[len(old) :] for old, new in swap.items() if name.startswith(old)), name)
        for name in JOINT_NAMES
    ]
    return [JOINT_NAMES.index(name) for name in other]


def test_the_layout_mirrors_a_known_pose() -> None:
    """Right wrist ends are 37.5 mm further out than left ones in the skeleton itself."""
    layout = SkeletonLayout.load('h36m22')
    assert layout.joint_names == FED_NAMES
    rows = h36m_rows(30, 4)
    truth = pose_h36m(mirrored(rows, all_sides()))[:, FED]
    seen = pose_h36m(rows)[:, FED]
    reflected = seen[:, list(layout.mirror)] * np.array([-1.0, 1.0, 1.0])
    errors = dict(zip(FED_NAMES, np.abs(reflected - truth).max((0, 2)), strict=True))
    ends = [errors.pop(f'{side}WristEnd') for side in ('Left', 'Right')]
    assert max(errors.values()) < 0.1 and 20.0 < min(ends) <= max(ends) < 37.6  # [mm]
    assert np.abs(seen * np.array([-1.0, 1.0, 1.0]) - truth).max() > 100.0  # sides not exchanged


def test_every_bone_of_the_layout_keeps_its_length_but_for_the_links_to_the_knees() -> None:
    layout = SkeletonLayout.load('h36m22')
    positions = pose_h36m(h36m_rows(40, 5))[:, FED]
    lengths = {
        layout.joint_names[child]: np.linalg.norm(
            positions[:, child] - positions[:, parent], axis=1
        )
        for parent, child in layout.bones
    }
    changing = {name for name, each in lengths.items() if np.ptp(each) > 1e-3}
    assert changing == {'LeftLeg', 'RightLeg'}


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    def rows(who: str, action: str, take: int) -> np.ndarray:
        return h36m_rows(20 + 2 * take, int(who[1:]) * 100 + h36m.ACTIONS.index(action))

    return write_h36m(tmp_path_factory.mktemp('h36m'), rows)


def test_clips_are_the_22_joints_of_every_second_line_in_metres(folder: Path) -> None:
    recordings = load_h36m(folder)
    assert recordings.joint_names == FED_NAMES and recordings.fps == 25.0
    assert len(recordings.clips) == 7 * 15 * 2
    clip = next(each for each in recordings.clips if each.key == 'S9/phoning_2')
    assert (clip.subject, clip.split, clip.length) == ('S9', 'train', 12)
    lines = np.loadtxt(folder / 'S9/phoning_2.txt', delimiter=',')
    expected = row_vectors(lines[[0, 2, 4, 6]])[:, FED] / 1000.0
    found = recordings.positions[clip.start : clip.start + 4]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    odd = row_vectors(lines[[1, 3, 5, 7]])[:, FED] / 1000.0
    assert np.abs(found - odd).max() > 1e-3


def test_subjects_are_split_as_in_the_literature(folder: Path) -> None:
    splits = {(clip.subject, clip.split) for clip in load_h36m(folder).clips}
    train = {(f'S{number}', 'train') for number in (1, 6, 7, 8, 9)}
    assert splits == train | {('S11', 'val'), ('S5', 'test')}


def test_sequences_keep_all_joints_in_millimetres_of_requested_subjects(folder: Path) -> None:
    sequences = load_h36m_sequences(folder, ['S5'])
    assert [each.key for each in sequences[:3]] == ['S5/walking_1', 'S5/walking_2', 'S5/eating_1']
    assert len(sequences) == 30 and {each.subject for each in sequences} == {'S5'}
    hips = sequences[0].positions[:, 1]
    np.testing.assert_allclose(hips, np.tile([-132.948591, 0, 0], (len(hips), 1)), rtol=1e-6)


def test_a_missing_take_is_named(tmp_path: Path) -> None:
    write_h36m(tmp_path / 'part', lambda *_: np.zeros((2, 99)), ('S5', 'S11'))
    (tmp_path / 'part/S5/posing_2.txt').unlink()
    with pytest.raises(DataError, match=r'lacks 1 of 30 files .* such as S5/posing_2\.txt'):
        load_h36m_sequences(tmp_path / 'part', ['S5'])
    with pytest.raises(DataError, match=r'lacks 151 of 210 files .*S1/walking_1\.txt.*docs/data'):
        load_h36m(tmp_path / 'part')


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        ('1,2,3\n', '1 rows of 3 numbers; expected 99'),
        ('', 'expected 99'),
        ('one,two\n', 'table of 99 numbers'),
        (','.join(['0'] * 99) + '\n1,2\n', 'table of 99 numbers'),
        (','.join(['nan'] * 99), '99 finite numbers'),
    ],
)
@pytest.mark.filterwarnings('ignore:loadtxt')
def test_a_file_of_another_form_is_refused(text: str, said: str, tmp_path: Path) -> None:
    folder = write_h36m(tmp_path / 'h36m', lambda *_: np.zeros((2, 99)), ('S5',))
    (folder / 'S5/walking_1.txt').write_text(text)
    with pytest.raises(DataError, match=rf'S5/walking_1\.txt .*{said}'):
        load_h36m_sequences(folder, ['S5'])


def subjects(frames: int = 6) -> dict[str, dict[str, np.ndarray]]:
    random = np.random.default_rng(0)
    return {
        who: {
            action: random.normal(size=(frames, 32, 3)).astype(np.float32)
            for action in ('Walking', 'WalkTogether 1')
        }
        for who in ('S1', 'S5', 'S11')
    }


def test_positions_are_the_17_joints_that_the_literature_keeps(tmp_path: Path) -> None:
    content = subjects()
    recordings = load_h36m_positions(write_h36m_positions(tmp_path / 'data_3d_h36m.npz', content))
    layout = SkeletonLayout.load('h36m17')
    assert recordings.joint_names == layout.joint_names and recordings.fps == 50.0
    assert KEPT.tolist() == [0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 15, 17, 18, 19, 25, 26, 27]
    found = {clip.key: (clip.subject, clip.split) for clip in recordings.clips}
    assert found['S11/WalkTogether 1'] == ('S11', 'val') and found['S5/Walking'] == ('S5', 'test')
    for clip in recordings.clips:
        who, action = clip.key.split('/')
        rows = recordings.positions[clip.start : clip.start + clip.length]
        np.testing.assert_array_equal(rows, content[who][action][:, KEPT])


def test_the_layout_of_17_mirrors_a_known_pose() -> None:
    layout = SkeletonLayout.load('h36m17')
    rows = np.hstack([np.zeros((30, 3)), swing(30, 32, 6).reshape(30, 96)])
    truth = pose_h36m(mirrored(rows, all_sides()))[:, KEPT]
    seen = pose_h36m(rows)[:, KEPT]
    reflected = seen[:, list(layout.mirror)] * np.array([-1.0, 1.0, 1.0])
    np.testing.assert_allclose(reflected, truth, atol=0.1)
    assert np.abs(seen * np.array([-1.0, 1.0, 1.0]) - truth).max() > 100.0


@pytest.mark.parametrize(
    ('change', 'said'),
    [
        (lambda content: [content], 'must map subjects'),
        (lambda content: {'P1': content['S1']}, r"must map subjects .*got \['P1'\]"),
        (lambda content: {'S1': 3}, 'S1 must map actions'),
        (
            lambda content: {'S1': {'Walking': np.zeros((9, 17, 3))}},
            r"'Walking' is .*\(9, 17, 3\)",
        ),
        (lambda content: {'S1': {'Walking': np.full((9, 32, 3), np.nan)}}, 'not finite'),
        (lambda content: {'S1': {'Walking': 'text'}}, r'expected \[time, 32, 3\]'),
    ],
)
def test_positions_of_another_form_are_refused(
    change: Callable[[dict[str, object]], object], said: str, tmp_path: Path
) -> None:
    path = write_h36m_positions(tmp_path / 'a.npz', change(dict(subjects())))
    with pytest.raises(DataError, match=said):
        load_h36m_positions(path)
