# SPDX-License-Identifier: Apache-2.0
"""Human3.6M as the literature on many futures uses it: `data_3d_h36m.npz`.

File format: `positions_3d`, an object array that holds {subject: {action: [time, 32, 3]}}, float32
metres at 50 fps in the world frame, z up. The 17 joints that the literature keeps are read, the
root among them: whoever scores without it subtracts it.

Splits are those of `h36m.py`. The literature on many futures trains on S1, S5 to S8 and tests on
S9 and S11 instead; clips name their subject, so `Recordings.select` can follow either.
"""

from pathlib import Path

import numpy as np

from motion_predictor_ros.errors import DataError
from motion_predictor_ros.training.h36m import ATTRIBUTION, JOINT_NAMES, SPLIT_OF
from motion_predictor_ros.training.numpy_pickle import read_object_array
from motion_predictor_ros.training.recordings import Piece, Recordings, join_clips

KEPT = np.array([0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 15, 17, 18, 19, 25, 26, 27])
KEPT_NAMES = tuple(JOINT_NAMES[joint] for joint in KEPT)
"""The 17 joints of layout `h36m17`, in its order."""

_ARRAY = 'positions_3d'
_FPS = 50.0


def is_h36m_positions(path: Path) -> bool:
    """Tell whether a file bears the array's name; nothing is unpickled."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return _ARRAY in file.files
    except (OSError, ValueError, EOFError, AttributeError):
        return False


def load_h36m_positions(path: Path) -> Recordings:
    """Read the 17 joints of every take of the seven subjects.

    Raises:
        DataError: The file is missing, not of the form above, or asks for more than arrays.
    """
    subjects = read_object_array(path, _ARRAY)
    if not isinstance(subjects, dict) or not set(subjects) & set(SPLIT_OF):
        raise DataError(
            f'{path}: {_ARRAY} must map subjects ({", ".join(SPLIT_OF)}) to their actions, got '
            f'{list(subjects) if isinstance(subjects, dict) else type(subjects)}'
        )
    pieces = [
        _piece(path, subject, action, positions)
        for subject in SPLIT_OF
        for action, positions in _actions(path, subject, subjects.get(subject, {}))
    ]
    return join_clips(KEPT_NAMES, _FPS, pieces, ATTRIBUTION)


def _actions(path: Path, subject: str, actions: object) -> list[tuple[object, object]]:
    if not isinstance(actions, dict):
        raise DataError(f'{path}: {subject} must map actions to positions, got {type(actions)}')
    return list(actions.items())


def _piece(path: Path, subject: str, action: object, positions: object) -> Piece:
    array = np.asarray(positions)
    if array.dtype.kind != 'f' or array.shape[1:] != (len(JOINT_NAMES), 3):
        raise DataError(
            f'{path}: {subject} {action!r} is {array.dtype} {array.shape}; expected [time, 32, 3] '
            'positions in metres, with all joints'
        )
    if not np.isfinite(array).all():
        raise DataError(f'{path}: {subject} {action!r} holds values that are not finite')
    return f'{subject}/{action}', subject, SPLIT_OF[subject], array[:, KEPT]
