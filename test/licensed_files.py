# SPDX-License-Identifier: Apache-2.0
"""Small synthetic files in the formats of Human3.6M, 3DPW and AMASS."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from motion_predictor_ros.data import h36m, smpl
from motion_predictor_ros.data.smpl import place_joints

REST = np.array(  # [m]; left is x > 0, and right its mirror image
    [
        *((0.0, 0.0, 0.0), (0.1, -0.1, 0.0), (-0.1, -0.1, 0.0), (0.0, 0.1, -0.02)),
        *((0.1, -0.5, 0.0), (-0.1, -0.5, 0.0), (0.0, 0.25, -0.02), (0.1, -0.9, -0.03)),
        *((-0.1, -0.9, -0.03), (0.0, 0.3, 0.0), (0.1, -0.95, 0.1), (-0.1, -0.95, 0.1)),
        *((0.0, 0.5, 0.0), (0.07, 0.4, 0.0), (-0.07, 0.4, 0.0), (0.0, 0.6, 0.05)),
        *((0.17, 0.45, 0.0), (-0.17, 0.45, 0.0), (0.43, 0.45, -0.02), (-0.43, 0.45, -0.02)),
        *((0.69, 0.45, 0.0), (-0.69, 0.45, 0.0), (0.77, 0.44, 0.0), (-0.77, 0.44, 0.0)),
    ]
)
"""A body at rest with SMPL's 24 joints."""


def swing(frames: int, joints: int, seed: int) -> np.ndarray:
    """Draw rotation vectors [rad] that change smoothly [time, joint, 3]."""
    random = np.random.default_rng(seed)
    wide, phase = (
        random.normal(scale=0.3, size=(1, joints, 3)),
        random.uniform(0, 6, (1, joints, 1)),
    )
    return wide * np.sin(0.15 * np.arange(frames)[:, None, None] + phase)


def h36m_rows(frames: int, seed: int) -> np.ndarray:
    """Draw lines of a text file: translation and 32 rotation vectors [time, 99]."""
    trans = np.random.default_rng(seed).normal(scale=500, size=(frames, 3))
    return np.hstack([trans, swing(frames, 32, seed).reshape(frames, 96)])


def write_h36m(
    folder: Path,
    rows: Callable[[str, str, int], np.ndarray],
    subjects: tuple[str, ...] = tuple(h36m.SPLIT_OF),
) -> Path:
    """Write every take of every action, with the lines of `rows`."""
    for who in subjects:
        (folder / who).mkdir(parents=True)
        for action in h36m.ACTIONS:
            for take in h36m.TAKES:
                path = folder / who / f'{action}_{take}.txt'
                np.savetxt(path, rows(who, action, take), '%.7f', delimiter=',')
    return folder


def write_3dpw(folder: Path, people: dict[str, list[np.ndarray]]) -> Path:
    """Write sequences named 'train/a_00' and the like, each with its people [time, 24, 3]."""
    for name, positions in people.items():
        path = folder / 'sequenceFiles' / f'{name}.pkl'
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = [position.reshape(len(position), 72).astype(np.float64) for position in positions]
        path.write_bytes(python2_pickle({'sequence': path.stem, 'jointPositions': rows}))
    return folder


def python2_pickle(content: object) -> bytes:
    """Pickle as Python 2 did: protocol 2, arrays from numpy.core, their bytes as 8-bit strings."""
    if isinstance(content, dict):
        items = b''.join(python2_pickle(part)[2:-1] for pair in content.items() for part in pair)
        return b'\x80\x02}(' + items + b'u.'
    if isinstance(content, list):
        return b'\x80\x02](' + b''.join(python2_pickle(part)[2:-1] for part in content) + b'e.'
    if isinstance(content, str):
        return b'\x80\x02U' + bytes([len(content)]) + content.encode('latin1') + b'.'
    assert isinstance(content, np.ndarray) and content.dtype == np.float64
    unset = b'J\xff\xff\xff\xff'
    dtype = b'cnumpy\ndtype\n(U\x02f8K\x00K\x01tR(K\x03U\x01<NNN' + 2 * unset + b'K\x00tb'
    raw = content.tobytes()
    return (
        b'\x80\x02cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR(K\x01('
        + b''.join(b'J' + size.to_bytes(4, 'little') for size in content.shape)
        + b't'
        + dtype
        + b'\x89T'
        + len(raw).to_bytes(4, 'little')
        + raw
        + b'tb.'
    )


def body_of(frames: int, seed: int, shift: float = 0.3) -> np.ndarray:
    """Draw a person of 3DPW with moving joints and pelvis [time, 24, 3] [m]."""
    offsets = REST.copy()
    offsets[1:] -= REST[list(smpl.PARENTS[1:])]
    path = np.random.default_rng(seed).normal(scale=shift, size=(frames, 1, 3)).cumsum(0)
    return place_joints(offsets, smpl.PARENTS, swing(frames, 24, seed)) + path


def write_body_model(path: Path, grow: float = 0.1) -> Path:
    """Write a body model of 26 vertices: joint j lies at vertex j; the first beta stretches it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    template = np.vstack([REST, [[5.0, 5.0, 5.0], [6.0, 6.0, 6.0]]])
    shapes = np.zeros((26, 3, 20))
    shapes[..., 0] = grow * template
    np.savez(path, v_template=template, shapedirs=shapes, J_regressor=np.eye(52, 26))
    return path


def write_amass(path: Path, turns: np.ndarray, fps: float, **changes: object) -> Path:
    """Write a motion of AMASS with rotation vectors of 22 joints [rad]; hands are at rest."""
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = len(turns)
    poses = np.hstack([turns.reshape(frames, 66), np.zeros((frames, 90))])
    content = {
        'poses': poses,
        'trans': np.tile([1.0, 2.0, 0.9], (frames, 1)),
        'betas': np.zeros(16),
        'gender': np.array('male'),
        'mocap_framerate': np.array(fps),
    } | changes
    np.savez(path, **{name: item for name, item in content.items() if item is not None})
    return path


def write_h36m_positions(path: Path, subjects: object) -> Path:
    """Write `data_3d_h36m.npz` as its authors do: a pickled dict in an object array."""
    np.savez_compressed(path, positions_3d=np.array(subjects, dtype=object))
    return path


class Evil:
    """Unpickling this calls a function."""

    def __init__(self, call: Callable[..., object], *arguments: object) -> None:
        self._call = (call, arguments)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self._call
