# SPDX-License-Identifier: Apache-2.0
"""Human3.6M as the literature on short motions uses it: joint angles in text files.

File format: `S1/walking_1.txt`: one frame per line at 50 fps, 99 numbers with commas between them:
the root's translation, then one rotation vector [rad] per joint. The angles are those of row
vectors (p = offset R), so a joint turns by the negative of its vector. Every second frame is kept
(25 fps), translation and rotation of the root are dropped, and all people have the same bones.

Frame: hips at the origin, never turning; x to the left, y up, z ahead. Of the 32 joints, four then
never move and six coincide with another one; models are given the other 22.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from motion_predictor_ros.data.numpy_pickle import read_object_array
from motion_predictor_ros.data.recordings import Piece, Recordings, join_clips
from motion_predictor_ros.data.smpl import place_joints
from motion_predictor_ros.errors import DataError

JOINT_NAMES = (
    *('Hips', 'RightUpLeg', 'RightLeg', 'RightFoot', 'RightToeBase', 'RightToeEnd'),
    *('LeftUpLeg', 'LeftLeg', 'LeftFoot', 'LeftToeBase', 'LeftToeEnd'),
    *('Spine', 'Spine1', 'Neck', 'Head', 'HeadEnd'),
    *('LeftShoulder', 'LeftArm', 'LeftForeArm', 'LeftHand', 'LeftHandThumb', 'LeftThumbEnd'),
    *('LeftWristEnd', 'LeftWristSite'),
    *('RightShoulder', 'RightArm', 'RightForeArm', 'RightHand', 'RightHandThumb'),
    *('RightThumbEnd', 'RightWristEnd', 'RightWristSite'),
)
PARENTS = (
    *(-1, 0, 1, 2, 3, 4, 0, 6, 7, 8, 9, 0, 11, 12, 13, 14),
    *(12, 16, 17, 18, 19, 20, 19, 22, 12, 24, 25, 26, 27, 28, 27, 30),
)
"""Joint index of each joint's parent; -1 for the root."""

_LENGTHS_MM = (  # axis (x, y or z) and length of each joint's offset from its parent
    *(('x', 0.0), ('x', -132.948591), ('y', -442.894612), ('y', -454.206447)),
    *(('z', 162.767078), ('z', 74.999437)),
    *(('x', 132.948826), ('y', -442.894413), ('y', -454.206590), ('z', 162.767426)),
    *(('z', 74.999948), ('y', 0.1), ('y', 233.383263), ('y', 257.077681), ('y', 121.134938)),
    *(('y', 115.002227), ('y', 257.077681), ('y', 151.034226), ('y', 278.882773)),
    *(('y', 251.733451), ('y', 0.0), ('z', 99.999627), ('y', 100.000188), ('y', 0.0)),
    *(('y', 257.077681), ('y', 151.031437), ('y', 278.892924), ('y', 251.728680), ('y', 0.0)),
    *(('z', 99.999888), ('y', 137.499922), ('y', 0.0)),
)
OFFSETS_MM = np.array(
    [[length * (axis == coordinate) for coordinate in 'xyz'] for axis, length in _LENGTHS_MM],
    np.float64,
)
"""The one skeleton of the literature, from parent to joint when nothing is turned."""

STATIC = ('Hips', 'RightUpLeg', 'LeftUpLeg', 'Spine')
"""Joints that never move in the frame of the hips."""

TWINS = {
    'LeftShoulder': 'Neck',
    'LeftHandThumb': 'LeftHand',
    'LeftWristSite': 'LeftWristEnd',
    'RightShoulder': 'Neck',
    'RightHandThumb': 'RightHand',
    'RightWristSite': 'RightWristEnd',
}
"""Joints that coincide with another one, which replaces them."""

FED_NAMES = tuple(name for name in JOINT_NAMES if name not in (*STATIC, *TWINS))
"""The 22 joints of the models, in the order of layout `h36m22`."""

FED = np.array([JOINT_NAMES.index(name) for name in FED_NAMES])

ACTIONS = (
    *('walking', 'eating', 'smoking', 'discussion', 'directions', 'greeting', 'phoning', 'posing'),
    *('purchases', 'sitting', 'sittingdown', 'takingphoto', 'waiting', 'walkingdog'),
    'walkingtogether',
)
TAKES = (1, 2)
SPLIT_OF = {
    **dict.fromkeys(('S1', 'S6', 'S7', 'S8', 'S9'), 'train'),
    **{'S11': 'val', 'S5': 'test'},
}
"""Split of each subject, as the literature has it."""

ATTRIBUTION = (
    'Human3.6M: C. Ionescu, D. Papava, V. Olaru, C. Sminchisescu, IEEE TPAMI 36(7), 2014; '
    'its licence allows academic use only.',
)

_COLUMNS = 3 + 3 * len(JOINT_NAMES)
_STRIDE, _FPS = 2, 25.0
_MM_PER_M = 1000.0


def is_h36m(folder: Path) -> bool:
    """Check whether a folder looks like Human3.6M in angles, complete or not."""
    return any(folder.glob('S[0-9]*/*_[12].txt'))


def load_h36m_sequences(
    folder: Path, subjects: Sequence[str] = tuple(SPLIT_OF)
) -> tuple[Piece, ...]:
    """Read every take of `subjects` with all 32 joints [mm], by subject, action and take.

    Raises:
        DataError: A file is missing or not of the form above; figures of a part of the data
            could not be compared with others.
    """
    takes = [
        (f'{subject}/{action}_{take}', subject, action)
        for subject in subjects
        for action in ACTIONS
        for take in TAKES
    ]
    missing = [key for key, _, _ in takes if not (folder / f'{key}.txt').is_file()]
    if missing:
        raise DataError(
            f'{folder} lacks {len(missing)} of {len(takes)} files of Human3.6M in angles, such as '
            f'{missing[0]}.txt; choose the folder that holds {", ".join(subjects)}, each with two '
            f'takes of {len(ACTIONS)} actions (docs/data.md)'
        )
    return tuple(
        Piece(key, subject, SPLIT_OF[subject], pose_h36m(_angles(folder / f'{key}.txt')), action)
        for key, subject, action in takes
    )


def _angles(path: Path) -> np.ndarray:
    try:
        rows = np.loadtxt(path, delimiter=',', dtype=np.float64, ndmin=2)
    except (OSError, ValueError) as error:
        raise DataError(
            f'{path} is not a table of {_COLUMNS} numbers with commas between: {error}'
        ) from error
    if rows.shape[1] != _COLUMNS or len(rows) == 0 or not np.isfinite(rows).all():
        raise DataError(
            f'{path} holds {rows.shape[0]} rows of {rows.shape[1]} numbers; expected {_COLUMNS} '
            'finite numbers a row: is it Human3.6M as rotation vectors?'
        )
    return rows[::_STRIDE]


def pose_h36m(rows: np.ndarray) -> Float32[np.ndarray, 'time joint=32 xyz=3']:
    """Return where the 32 joints are [mm], from rows of 99 numbers as in the files."""
    turns = -rows[:, 3:].reshape(len(rows), len(JOINT_NAMES), 3)
    turns[:, 0] = 0.0
    return place_joints(OFFSETS_MM, PARENTS, turns).astype(np.float32)


def load_h36m(folder: Path) -> Recordings:
    """Read the 22 joints that models are given, in metres at 25 fps; split by subject.

    Raises:
        DataError: As `load_h36m_sequences`.
    """
    pieces = [piece.fed(FED, _MM_PER_M) for piece in load_h36m_sequences(folder)]
    return join_clips(FED_NAMES, _FPS, pieces, ATTRIBUTION)


KEPT = np.array([0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 15, 17, 18, 19, 25, 26, 27])
KEPT_NAMES = tuple(JOINT_NAMES[joint] for joint in KEPT)
"""The 17 joints of layout `h36m17`, in its order."""

_ARRAY = 'positions_3d'
_POSITIONS_FPS = 50.0


def is_h36m_positions(path: Path) -> bool:
    """Check whether a file holds the array's name; nothing is unpickled."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return _ARRAY in file.files
    except (OSError, ValueError, EOFError, AttributeError):
        return False


def load_h36m_positions(path: Path) -> Recordings:
    """Read the 17 joints of every take of the seven subjects.

    Raises:
        DataError: The file is missing, malformed, or holds more than arrays.
    """
    subjects = read_object_array(path, _ARRAY)
    if not isinstance(subjects, dict) or not set(subjects) & set(SPLIT_OF):
        raise DataError(
            f'{path}: {_ARRAY} must map subjects ({", ".join(SPLIT_OF)}) to their actions, got '
            f'{list(subjects) if isinstance(subjects, dict) else type(subjects)}'
        )
    pieces = []
    for subject in SPLIT_OF:
        actions = subjects.get(subject, {})
        if not isinstance(actions, dict):
            raise DataError(
                f'{path}: {subject} must map actions to positions, got {type(actions)}'
            )
        for action, positions in actions.items():
            array = np.asarray(positions)
            _check_positions(f'{path}: {subject} {action!r}', array)
            key = f'{subject}/{action}'
            pieces.append(Piece(key, subject, SPLIT_OF[subject], array[:, KEPT]))
    return join_clips(KEPT_NAMES, _POSITIONS_FPS, pieces, ATTRIBUTION)


def _check_positions(name: str, array: np.ndarray) -> None:
    if array.dtype.kind != 'f' or array.shape[1:] != (len(JOINT_NAMES), 3):
        raise DataError(
            f'{name} is {array.dtype} {array.shape}; expected [time, 32, 3] positions in metres, '
            'with all joints'
        )
    if not np.isfinite(array).all():
        raise DataError(f'{name} holds values that are not finite')
