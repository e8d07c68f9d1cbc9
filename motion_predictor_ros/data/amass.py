# SPDX-License-Identifier: Apache-2.0
"""AMASS, "SMPL+H G" files: body shapes and joint angles, which a body model turns into joints.

File format: `<data set>/<subject>/<motion>.npz` with `poses` [time, 156] rotation vectors [rad],
`trans` [time, 3] [m], `betas`, `gender` and `mocap_framerate`; beside the data sets lies
`smplh/{male,female}/model.npz`. The 22 joints of the body are read with their root, z up, and put
on a clock of 60 fps by linear interpolation. (The literature keeps every round(rate / 60)-th frame
and calls that 60 fps; the two agree where the rate is a multiple of 60.)
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from jaxtyping import Float, Float32

from motion_predictor_ros.data.recordings import Piece, Recordings, join_clips
from motion_predictor_ros.data.smpl import (
    BETAS,
    BODY,
    JOINT_NAMES,
    PARENTS,
    BodyModel,
    load_body_model,
    place_joints,
)
from motion_predictor_ros.errors import DataError

SPLITS = {
    'train': (
        *('ACCAD', 'BMLhandball', 'BMLmovi', 'BMLrub', 'CMU', 'EKUT', 'EyesJapanDataset', 'KIT'),
        *('PosePrior', 'TCDHands', 'TotalCapture'),
    ),
    'val': ('HumanEva', 'HDM05', 'SFU', 'MoSh'),
    'test': ('DFaust', 'DanceDB', 'GRAB', 'HUMAN4D', 'SOMA', 'SSM', 'Transitions'),
}
"""Data sets by split, as the literature on many futures has it; it trains on 'val' too."""

OLDER_NAMES = {
    'BioMotionLab_NTroje': 'BMLrub',
    'Eyes_Japan_Dataset': 'EyesJapanDataset',
    'MPI_Limits': 'PosePrior',
    'TCD_handMocap': 'TCDHands',
    'MPI_HDM05': 'HDM05',
    'MPI_mosh': 'MoSh',
    'DFaust_67': 'DFaust',
    'SSM_synced': 'SSM',
    'Transitions_mocap': 'Transitions',
}
"""Names that earlier releases gave to data sets."""

FED_NAMES = JOINT_NAMES[:BODY]
"""The 22 joints of layout `amass22`, in its order."""

ATTRIBUTION = (
    'AMASS: N. Mahmood, N. Ghorbani, N. F. Troje, G. Pons-Moll, M. J. Black, ICCV 2019, and the '
    'data sets in it; its licence allows non-commercial research only.',
)

_FPS = 60.0
_ANGLES = 3 * 52  # body and fingers
_SPLIT_OF = {name: split for split, names in SPLITS.items() for name in names}
_NO_MOTION = ('shape.npz', 'stagei.npz')  # files of a body's shape
_RATE_NAMES = ('mocap_framerate', 'mocap_frame_rate')
_UNREADABLE = (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile)


def _data_sets(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.iterdir()):
        name = OLDER_NAMES.get(path.name, path.name)
        if path.is_dir() and name in _SPLIT_OF:
            yield name, path


def is_amass(folder: Path) -> bool:
    """Check whether a folder holds data sets of AMASS."""
    return any(_data_sets(folder))


def load_amass(folder: Path) -> Recordings:
    """Read the 22 joints of every motion of every data set in `folder`, in metres, z up.

    Data sets that are not in `SPLITS` are passed over.

    Raises:
        DataError: A body model is missing, a file is not of the form above, or there is none.
    """
    models: dict[str, BodyModel] = {}
    pieces: list[Piece] = []
    for name, home in _data_sets(folder):
        for path in sorted(home.glob('*/*.npz')):
            if not path.name.endswith(_NO_MOTION):
                subject = f'{name}/{path.parent.name}'
                positions = _read_motion(path, folder, models)
                pieces.append(Piece(f'{subject}/{path.stem}', subject, _SPLIT_OF[name], positions))
    if not pieces:
        raise DataError(
            f'{folder} holds no motion of AMASS, <data set>/<subject>/<motion>.npz with a data '
            f'set out of {sorted(_SPLIT_OF)} (docs/data.md)'
        )
    return join_clips(FED_NAMES, _FPS, pieces, ATTRIBUTION)


def _read_motion(
    path: Path, folder: Path, models: dict[str, BodyModel]
) -> Float32[np.ndarray, 'time joint=22 xyz=3']:
    try:
        with np.load(path, allow_pickle=False) as file:
            poses, trans, betas = (
                np.asarray(file[name], np.float64) for name in ('poses', 'trans', 'betas')
            )
            rate, gender = _rate(file), _gender(file)
            betas = betas.ravel()
            fits = poses.shape[1:] == (_ANGLES,) and trans.shape == (len(poses), 3)
            if not fits or len(betas) < BETAS or not rate > 0:
                raise ValueError(
                    f'poses {poses.shape}, trans {trans.shape}, betas {betas.shape}, {rate} fps'
                )
            if not (np.isfinite(poses).all() and np.isfinite(trans).all()):
                raise ValueError('values that are not finite')
    except _UNREADABLE as error:
        raise DataError(
            f'{path} is not a motion of AMASS, SMPL+H G (npz of poses, trans, betas, gender and '
            f'mocap_framerate): {error!r}'
        ) from error
    if gender not in models:
        models[gender] = load_body_model(folder / 'smplh' / gender / 'model.npz')
    rest = models[gender].rest(betas[:BETAS])
    turns = poses[:, : 3 * BODY].reshape(len(poses), BODY, 3)
    return _resampled(_placed(rest, turns) + trans[:, None], rate)


def _rate(file: Mapping[str, np.ndarray]) -> float:
    for name in _RATE_NAMES:
        if name in file:
            return float(file[name])
    raise KeyError(_RATE_NAMES[0])


def _gender(file: Mapping[str, np.ndarray]) -> str:
    """Some files hold text, some bytes, some the text of bytes."""
    value = file['gender'].item()
    text = value.decode() if isinstance(value, bytes) else str(value)
    text = text.removeprefix("b'").removesuffix("'")
    if text not in ('male', 'female', 'neutral'):
        raise ValueError(f'gender is {text!r}')
    return text


def _placed(
    rest: Float[np.ndarray, 'joint=22 xyz=3'], turns: Float[np.ndarray, 'time joint=22 xyz=3']
) -> Float[np.ndarray, 'time joint=22 xyz=3']:
    offsets = rest.copy()
    offsets[1:] -= rest[list(PARENTS[1:BODY])]
    return place_joints(offsets, PARENTS[:BODY], turns)


def _resampled(
    positions: Float[np.ndarray, 'time joint xyz=3'], rate: float
) -> Float32[np.ndarray, 'sample joint xyz=3']:
    """Interpolate onto 60 fps, from the first frame on."""
    last = len(positions) - 1
    at = np.arange(int(last * _FPS / rate + 1e-6) + 1) * (rate / _FPS)
    low = np.minimum(at.astype(np.int64), max(last - 1, 0))
    part = (at - low)[:, None, None]
    high = np.minimum(low + 1, last)
    return (positions[low] * (1.0 - part) + positions[high] * part).astype(np.float32)
