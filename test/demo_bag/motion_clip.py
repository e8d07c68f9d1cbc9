# SPDX-License-Identifier: Apache-2.0
"""DeepMimic motion clips: reading, joining, and the positions of body18's joints.

For `deepmimic.py`. A clip holds joint rotations of the humanoid of
[DeepMimic] (Peng et al. 2018), y up; here everything is turned to z up on reading, facing +x with
left at +y. Offsets are those of pybullet_data/humanoid/humanoid.urdf, which is drawn 4 : 1. Its
ball of the foot and centre of the skull are not joints: they are placed on its foot box and head.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64
from scipy.spatial.transform import Rotation, Slerp

from motion_predictor_ros.errors import DataError

RATE_HZ = 30
SOLE_M = 0.02
"""Height of the ball of a standing foot [m]."""
EASE_S = 0.4
"""How long a seam between clips is smoothed [s]."""

# name: (parent, offset from it [m], z up, columns in a clip's frame)
_LINKS: dict[str, tuple[str, tuple[float, float, float], slice]] = {
    'root': ('', (0.0, 0.0, 0.0), slice(4, 8)),
    'chest': ('root', (0.0, 0.0, 0.236151), slice(8, 12)),
    'neck': ('chest', (0.0, 0.0, 0.223894), slice(12, 16)),
    'r_hip': ('root', (0.0, -0.084887, 0.0), slice(16, 20)),
    'r_knee': ('r_hip', (0.0, 0.0, -0.421546), slice(20, 21)),
    'r_ankle': ('r_knee', (0.0, 0.0, -0.40987), slice(21, 25)),
    'r_shoulder': ('chest', (-0.02405, -0.18311, 0.2435), slice(25, 29)),
    'r_elbow': ('r_shoulder', (0.0, 0.0, -0.274788), slice(29, 30)),
    'l_hip': ('root', (0.0, 0.084887, 0.0), slice(30, 34)),
    'l_knee': ('l_hip', (0.0, 0.0, -0.421546), slice(34, 35)),
    'l_ankle': ('l_knee', (0.0, 0.0, -0.40987), slice(35, 39)),
    'l_shoulder': ('chest', (-0.02405, 0.18311, 0.2435), slice(39, 43)),
    'l_elbow': ('l_shoulder', (0.0, 0.0, -0.274788), slice(43, 44)),
}
_COLUMNS = 44
_INDEX = {name: index for index, name in enumerate(_LINKS)}

# joint of body18, in its order: (link, place on it [m])
_JOINTS: dict[str, tuple[str, tuple[float, float, float]]] = {
    'pelvis': ('root', (0.0, 0.0, 0.0)),
    'l_hip': ('l_hip', (0.0, 0.0, 0.0)),
    'l_knee': ('l_knee', (0.0, 0.0, 0.0)),
    'l_ankle': ('l_ankle', (0.0, 0.0, 0.0)),
    'l_foot': ('l_ankle', (0.12, 0.0, -0.03)),
    'r_hip': ('r_hip', (0.0, 0.0, 0.0)),
    'r_knee': ('r_knee', (0.0, 0.0, 0.0)),
    'r_ankle': ('r_ankle', (0.0, 0.0, 0.0)),
    'r_foot': ('r_ankle', (0.12, 0.0, -0.03)),
    'chest': ('chest', (0.0, 0.0, 0.0)),
    'neck': ('neck', (0.0, 0.0, 0.0)),
    'head': ('neck', (0.0, 0.0, 0.175)),
    'l_shoulder': ('l_shoulder', (0.0, 0.0, 0.0)),
    'l_elbow': ('l_elbow', (0.0, 0.0, 0.0)),
    'l_wrist': ('l_elbow', (0.0, 0.0, -0.258947)),
    'r_shoulder': ('r_shoulder', (0.0, 0.0, 0.0)),
    'r_elbow': ('r_elbow', (0.0, 0.0, 0.0)),
    'r_wrist': ('r_elbow', (0.0, 0.0, -0.258947)),
}
JOINT_NAMES = tuple(_JOINTS)


@dataclass(frozen=True)
class MotionClip:
    """A motion at `RATE_HZ`, z up.

    Attributes:
        root: Position of the pelvis [m].
        quats_xyzw: The root's rotation in the world, each other link's relative to its parent.
    """

    root: Float64[np.ndarray, 'time xyz=3']
    quats_xyzw: Float64[np.ndarray, 'time link quat=4']


def read_clip(path: Path) -> MotionClip:
    """Read one clip and put it on the floor at the origin.

    It is played up to 2 % slower or faster, so that it lasts a whole number of frames and a cycle
    can follow itself without a hitch.

    Raises:
        DataError: It is missing or is no DeepMimic humanoid clip.
    """
    rows = _read_rows(path)
    times = np.concatenate([[0.0], np.cumsum(rows[:-1, 0])])
    at = np.linspace(0.0, times[-1], max(round(times[-1] * RATE_HZ), 1) + 1)
    root = _z_up(rows[:, 1:4] - rows[0, 1:4] * [1, 0, 1])
    root = np.stack([np.interp(at, times, axis) for axis in root.T], axis=-1)
    links = [_rotations(rows[:, columns]) for _, _, columns in _LINKS.values()]
    quats = np.stack([Slerp(times, link)(at).as_quat() for link in links], axis=1)
    return _on_floor(MotionClip(root, quats))


def _read_rows(path: Path) -> Float64[np.ndarray, 'frame column']:
    try:
        content: Any = json.loads(path.read_text(encoding='utf-8'))
        rows = np.array(content['Frames'], dtype=np.float64)
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise DataError(
            f'{path}: no motion clip ({type(error).__name__}: {error}); expected JSON with '
            '"Frames", as in pybullet_data/data/motions'
        ) from error
    if rows.ndim != 2 or rows.shape[1] != _COLUMNS or len(rows) < 2:
        raise DataError(f'{path}: frames of shape {rows.shape}; expected 2 or more of {_COLUMNS}')
    quats = [rows[:, columns] for _, _, columns in _LINKS.values()]
    if not (
        np.isfinite(rows).all()
        and (rows[:-1, 0] > 0).all()
        and all((np.linalg.norm(quat, axis=1) > 0.5).all() for quat in quats if quat.shape[1] == 4)
    ):
        raise DataError(f'{path}: frames must be finite, last longer than 0 s and hold unit wxyz')
    return rows


def _z_up(
    vectors: Float64[np.ndarray, '*batch xyz=3'],
) -> Float64[np.ndarray, '*batch xyz=3']:
    return np.stack([vectors[..., 0], -vectors[..., 2], vectors[..., 1]], axis=-1)


def _rotations(columns: Float64[np.ndarray, 'frame column']) -> Rotation:
    """Turn a link's columns, wxyz or one angle about the clip's z axis, to z up."""
    if columns.shape[1] == 1:
        return Rotation.from_rotvec(columns * _z_up(np.array([0.0, 0.0, 1.0])))
    return Rotation.from_quat(np.concatenate([_z_up(columns[:, 1:]), columns[:, :1]], axis=1))


def joint_positions(clip: MotionClip) -> Float64[np.ndarray, 'time joint xyz=3']:
    """Return where the joints of body18 are [m], in the order of `JOINT_NAMES`."""
    turns: dict[str, Rotation] = {}
    places: dict[str, Float64[np.ndarray, 'time xyz=3']] = {}
    for index, (name, (parent, offset, _)) in enumerate(_LINKS.items()):
        rotation = Rotation.from_quat(clip.quats_xyzw[:, index])
        turns[name] = turns[parent] * rotation if parent else rotation
        places[name] = places[parent] + turns[parent].apply(offset) if parent else clip.root
    return np.stack(
        [places[link] + turns[link].apply(place) for link, place in _JOINTS.values()], axis=1
    )


def _on_floor(clip: MotionClip) -> MotionClip:
    feet = [JOINT_NAMES.index('l_foot'), JOINT_NAMES.index('r_foot')]
    lowest = np.percentile(joint_positions(clip)[:, feet, 2].min(axis=1), 1)
    lift = np.array([0.0, 0.0, SOLE_M - lowest])
    return MotionClip(clip.root + lift, clip.quats_xyzw)


def placed(clip: MotionClip, x_m: float, y_m: float, yaw_rad: float) -> MotionClip:
    """Turn a clip about the vertical and let it start at a place on the ground."""
    turn = Rotation.from_rotvec([0.0, 0.0, yaw_rad])
    start = clip.root[0] * [1.0, 1.0, 0.0]
    root = turn.apply(clip.root - start) + np.array([x_m, y_m, 0.0])
    quats = clip.quats_xyzw.copy()
    quats[:, 0] = (turn * Rotation.from_quat(quats[:, 0])).as_quat()
    return MotionClip(root, quats)


def followed(first: MotionClip, second: MotionClip) -> MotionClip:
    """Let a clip, or the next cycle, begin where another ends: same place, same heading.

    Other differences (joint angles, height, velocities) fade out over `EASE_S`.
    """
    turn = _rotation(first, -1)[0] * _rotation(second, 0)[0].inv()
    heading = 2.0 * np.arctan2(*turn.as_quat()[2:])  # the part of it about the vertical
    second = placed(second, first.root[-1, 0], first.root[-1, 1], heading)
    return MotionClip(
        np.concatenate([first.root, _eased_root(first, second)[1:]]),
        np.concatenate([first.quats_xyzw, _eased_quats(first, second)[1:]]),
    )


def _rotation(clip: MotionClip, frame: int) -> Rotation:
    return Rotation.from_quat(clip.quats_xyzw[frame])


def _eased_root(first: MotionClip, second: MotionClip) -> Float64[np.ndarray, 'time xyz=3']:
    """Keep the pelvis' velocity at first; the resulting displacement stays."""
    ease = _fade(len(second.root))[:, None]
    surplus = (first.root[-1] - first.root[-2]) - (second.root[1] - second.root[0])
    root: Float64[np.ndarray, 'time xyz=3']
    root = second.root + (first.root[-1] - second.root[0]) * ease
    root[:, :2] += surplus[:2] * (np.cumsum(ease, axis=0) - ease[0])
    root[:, 2:] += surplus[2:] * ease * np.arange(len(ease))[:, None]
    return root


def _eased_quats(first: MotionClip, second: MotionClip) -> Float64[np.ndarray, 'time link quat=4']:
    ease = _fade(len(second.root))
    gap = _rotation(second, 0).inv() * _rotation(first, -1)
    before = (_rotation(first, -2).inv() * _rotation(first, -1)).as_rotvec()
    after = (_rotation(second, 0).inv() * _rotation(second, 1)).as_rotvec()
    surplus = before - gap.inv().apply(after)
    frames = [
        _rotation(second, frame)
        * Rotation.from_rotvec(ease[frame] * gap.as_rotvec())
        * Rotation.from_rotvec(ease[frame] * frame * surplus)
        for frame in range(len(ease))
    ]
    return np.stack([frame.as_quat() for frame in frames])


def _fade(length: int) -> Float64[np.ndarray, ' time']:
    """Return a weight that falls smoothly from 1 to 0 in `EASE_S`."""
    s = np.clip(np.arange(length) / (EASE_S * RATE_HZ), 0.0, 1.0)
    return 1.0 - s * s * (3.0 - 2.0 * s)
