# SPDX-License-Identifier: Apache-2.0
"""Read the literature's CMU benchmark: to train on, and whole, as its protocol needs it.

File format: float32 arrays [time, joint=38, 3] named "train/<action>_<k>" or "test/<action>_<k>",
and `__meta__`, a JSON string with `joint_names`. Frame: hips at the origin, never turning; x to
the left, y up. The first row of every clip is a T-pose.

Units are nominal, so that figures compare with the papers': their 25 fps is 60 Hz,
and their millimetres are 1.24 times too large. So "1000 ms" is 417 ms, and 1 m here is 0.81 m.
"""

import json
import re
import zlib
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from motion_predictor_ros.data.recordings import Piece, Recordings, join_clips, load_recordings
from motion_predictor_ros.errors import DataError

JOINT_NAMES = (
    *('Hips', 'LHipJoint', 'LeftUpLeg', 'LeftLeg', 'LeftFoot', 'LeftToeBase', 'LeftToeEnd'),
    *('RHipJoint', 'RightUpLeg', 'RightLeg', 'RightFoot', 'RightToeBase', 'RightToeEnd'),
    *('LowerBack', 'Spine', 'Spine1', 'Neck', 'Neck1', 'Head', 'HeadEnd'),
    *('LeftShoulder', 'LeftArm', 'LeftForeArm', 'LeftHand', 'LeftFingerBase', 'LeftHandIndex1'),
    *('LeftIndexEnd', 'LThumb', 'LThumbEnd'),
    *('RightShoulder', 'RightArm', 'RightForeArm', 'RightHand', 'RightFingerBase'),
    *('RightHandIndex1', 'RightIndexEnd', 'RThumb', 'RThumbEnd'),
)
STATIC = ('Hips', 'LHipJoint', 'LeftUpLeg', 'RHipJoint', 'RightUpLeg', 'LowerBack')
"""Joints that never move in the frame of the hips."""

TWINS = {
    'Neck': 'Spine1',
    'LeftShoulder': 'Spine1',
    'RightShoulder': 'Spine1',
    'LeftFingerBase': 'LeftHand',
    'LThumb': 'LeftHand',
    'RightFingerBase': 'RightHand',
    'RThumb': 'RightHand',
}
"""Joints that coincide with another one, which replaces them."""

FED_NAMES = tuple(name for name in JOINT_NAMES if name not in (*STATIC, *TWINS))
"""The 25 joints of the models, in the order of layout `cmu25`."""

FED = np.array([JOINT_NAMES.index(name) for name in FED_NAMES])

ATTRIBUTION = (
    'The data used in this project was obtained from mocap.cs.cmu.edu. '
    'The database was created with funding from NSF EIA-0196217.',
)

_NOMINAL_FPS = 25.0
_MM_PER_M = 1000.0
_KEY = re.compile(r'(train|test)/(\w+)_(\d+)')
_HELD_OUT_FRAMES = 120
_HELD_OUT_SHARE = 0.2
_UNREADABLE = (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, BadZipFile)


def load_cmu_sequences(path: Path) -> tuple[Piece, ...]:
    """Read every clip with all 38 joints [nominal mm], by split, action and number.

    Raises:
        DataError: The file is missing or malformed; the message names what is missing.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            names = tuple(json.loads(str(file['__meta__']))['joint_names'])
            if names != JOINT_NAMES:
                raise ValueError(f'joint_names are {names}, expected {JOINT_NAMES}')
            keys = [key for key in file.files if not key.startswith('__')]
            sequences = [_sequence(key, np.asarray(file[key])) for key in keys]
    except FileNotFoundError as error:
        raise DataError(f'no CMU benchmark at {path}') from error
    except (*_UNREADABLE, zlib.error) as error:
        raise DataError(
            f'{path} is not the CMU benchmark (npz of float32 [time, 38, 3] arrays named '
            f'"train/<action>_<k>" or "test/<action>_<k>", and __meta__ JSON with joint_names): '
            f'{error!r}'
        ) from error
    if not sequences:
        raise DataError(f'{path} has no clips; expected "train/<action>_<k>", "test/<action>_<k>"')
    return tuple(sorted(sequences, key=_order))


def _order(piece: Piece) -> tuple[str, str, int]:
    return piece.split, piece.action, int(piece.key.rpartition('_')[2])


def _sequence(key: str, array: np.ndarray) -> Piece:
    match = _KEY.fullmatch(key)
    if match is None:
        raise ValueError(f'a clip is named {key!r}')
    if array.dtype != np.float32 or array.shape[1:] != (len(JOINT_NAMES), 3):
        raise ValueError(f'clip {key!r} is {array.dtype} {array.shape}')
    if not np.isfinite(array).all():
        raise ValueError(f'clip {key!r} holds values that are not finite')
    return Piece(key, match[2], match[1], array, match[2])


def load_cmu_benchmark(path: Path) -> Recordings:
    """Read the 25 joints that models are given, in nominal metres at nominal 25 fps.

    A clip's subject is its action. Test clips stay test. The benchmark names no validation clips,
    and choosing checkpoints on test would be peeking, so the last training clip of each action is
    held out: at most its last 120 frames, so that two actions with very long clips do not
    dominate. Of an action's only clip the last fifth is held out. The rest of a cut clip trains;
    its pieces bear their rows, as in 'train/walking_1[:400]'.

    Raises:
        DataError: As `load_cmu_sequences`, or there is no training clip.
    """
    pieces = list(_pieces(load_cmu_sequences(path)))
    if all(piece.split == 'test' for piece in pieces):
        raise DataError(f'{path} has no training clips, "train/<action>_<k>"')
    return join_clips(FED_NAMES, _NOMINAL_FPS, pieces, ATTRIBUTION)


def _pieces(sequences: tuple[Piece, ...]) -> Iterator[Piece]:
    fed = (piece.fed(FED, _MM_PER_M) for piece in sequences)
    for (split, _), group in groupby(fed, lambda piece: (piece.split, piece.action)):
        *whole, last = group
        yield from whole
        if split == 'train':
            yield from _hold_out(last, only=not whole)
        else:
            yield last


def _hold_out(clip: Piece, only: bool) -> Iterator[Piece]:
    length = len(clip.positions)
    held = round(_HELD_OUT_SHARE * length) if only else min(_HELD_OUT_FRAMES, length)
    cut = length - held
    if cut == 0:
        yield clip._replace(split='val')
        return
    yield clip._replace(key=f'{clip.key}[:{cut}]', positions=clip.positions[:cut])
    yield clip._replace(key=f'{clip.key}[{cut}:]', positions=clip.positions[cut:], split='val')


def is_cmu_benchmark(path: Path) -> bool:
    """Check whether a file's clips have the benchmark's names."""
    try:
        with np.load(path, allow_pickle=False) as file:
            keys = [key for key in file.files if not key.startswith('__')]
    except _UNREADABLE:
        return False
    return bool(keys) and all(_KEY.fullmatch(key) for key in keys)


def load_training_data(path: Path) -> Recordings:
    """Read the CMU benchmark or a file of clips, recognised by the names of its arrays.

    Raises:
        DataError: It is neither of them.
    """
    return load_cmu_benchmark(path) if is_cmu_benchmark(path) else load_recordings(path)
