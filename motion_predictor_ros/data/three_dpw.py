# SPDX-License-Identifier: Apache-2.0
"""3DPW's sequences: 24 SMPL joints of one or two people, 30 fps.

File format: `sequenceFiles/{train,validation,test}/*.pkl`, pickles of Python 2, of which
`jointPositions` is read: one float array [time, 72] per person, metres in the world.

As in the literature, each frame is relative to its pelvis and not rotated; the pelvis is then
constant, and models use the other 23. The clock is the true one, 30 fps. Many papers
label their columns as if it were 25: see `evaluation/motion/pose_benchmarks.py`.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from motion_predictor_ros.data.numpy_pickle import read_numpy_pickle
from motion_predictor_ros.data.recordings import Piece, Recordings, join_clips
from motion_predictor_ros.data.smpl import JOINT_NAMES
from motion_predictor_ros.errors import DataError

FED_NAMES = JOINT_NAMES[1:]
"""The 23 joints of the models, in the order of layout `3dpw23`."""

FED = np.arange(1, len(JOINT_NAMES))

SPLIT_OF = {'train': 'train', 'validation': 'val', 'test': 'test'}
"""Split by folder, as its authors have it."""

ATTRIBUTION = (
    '3DPW: T. von Marcard, R. Henschel, M. J. Black, B. Rosenhahn, G. Pons-Moll, ECCV 2018; '
    'its licence allows non-commercial research only.',
)

_FPS = 30.0


def _home(path: Path) -> Path:
    """Accept the data set's folder, or `sequenceFiles` in it."""
    inner = path / 'sequenceFiles'
    return inner if inner.is_dir() else path


def is_3dpw(path: Path) -> bool:
    """Check whether a folder looks like 3DPW, complete or not."""
    return any(any((_home(path) / folder).glob('*.pkl')) for folder in SPLIT_OF)


def load_3dpw_sequences(path: Path, folders: Sequence[str] = tuple(SPLIT_OF)) -> tuple[Piece, ...]:
    """Read all 24 joints of all people in `folders` [m], by folder, name and person.

    Raises:
        DataError: A folder is missing or empty, or a file is not of the form above.
    """
    home, sequences = _home(path), []
    for folder in folders:
        files = sorted((home / folder).glob('*.pkl'))
        if not files:
            raise DataError(
                f'{home / folder} holds no sequence (*.pkl) of 3DPW; choose the folder that holds '
                'sequenceFiles/train, /validation and /test (docs/data.md)'
            )
        for file in files:
            for number, positions in enumerate(_people(file)):
                subject = f'{file.stem}/{number}'
                sequences.append(
                    Piece(f'{folder}/{subject}', subject, SPLIT_OF[folder], positions)
                )
    return tuple(sequences)


def _people(path: Path) -> list[np.ndarray]:
    content = read_numpy_pickle(path)
    people = content.get('jointPositions') if isinstance(content, dict) else None
    if not isinstance(people, list) or not people:
        raise DataError(f'{path} has no list "jointPositions"; expected a sequence file of 3DPW')
    return [_relative_to_pelvis(path, np.asarray(person)) for person in people]


def _relative_to_pelvis(path: Path, rows: np.ndarray) -> np.ndarray:
    width = 3 * len(JOINT_NAMES)
    if rows.dtype.kind != 'f' or rows.shape[1:] != (width,) or not np.isfinite(rows).all():
        raise DataError(
            f'{path}: jointPositions holds {rows.dtype} {rows.shape}; expected finite '
            f'[time, {width}] positions in metres'
        )
    positions = rows.reshape(len(rows), len(JOINT_NAMES), 3).astype(np.float64)
    return (positions - positions[:, :1]).astype(np.float32)


def load_3dpw(path: Path) -> Recordings:
    """Read the 23 joints that models are given, at 30 fps.

    Raises:
        DataError: As `load_3dpw_sequences`.
    """
    pieces = [piece.fed(FED) for piece in load_3dpw_sequences(path)]
    return join_clips(FED_NAMES, _FPS, pieces, ATTRIBUTION)
