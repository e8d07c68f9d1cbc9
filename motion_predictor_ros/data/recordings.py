# SPDX-License-Identifier: Apache-2.0
"""Motion capture clips in one flat array, with subject and split.

File format: one float32 array [time, joint, 3] per clip in metres, z up, and `__meta__`, a JSON
string with `joint_names`, `fps` and `clips` {key: {subject, split, description, kind, ...}}; also
`parents`, the index of each joint's parent. Clips of rates of their own have `knot_fps`, and the
file no `fps`. What is not at a multiple of 25 Hz is brought to 50 Hz by cubic splines.

A clip's `kind` is a rough class of motion. Where the file has none, words of the description
decide; docs/data.md lists the classes.
"""

import json
import logging
import math
import re
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile, is_zipfile

import numpy as np
from jaxtyping import Float32
from scipy.interpolate import CubicSpline

from motion_predictor_ros.errors import DataError

_LOG = logging.getLogger(__name__)
_MODEL_FPS, _FPS = 25.0, 50.0
_LARGEST_BODY_M = 3.0

UNLABELLED = 'various / unlabelled'
"""Kind of a clip whose description matches no class of motion."""

_KINDS = (
    ('animal / pantomime', r'human subject|chicken|zombie|vacation|nursery rhyme'),
    (
        'dance / sport / fight / acrobatics',
        r'danc|basketball -|box|cartwheel|acrobat|kick|balance on|jumping jacks|playground|'
        r'empi|geri|gedan|heian|oiduki|syuto',
    ),
    ('work / household', r'wash|wipe|mop|drink|unscrew|broom|hammer'),
    ('carry / lift / push objects', r'carry|lift|push|pull|pick'),
    ('sit / stand up / lie / kneel', r'\bsit\b|lying|lay|kneel|get up'),
    ('reach / bend / give / throw', r'reach|bend|tiptoe|throw|catch|shake hands'),
    ('turn / step / navigate', r'climb|step|navigate|terrain|veer|turn|side ?step|duck'),
    ('run / jump', r'run|jog|jump|\bhop|leap'),
    ('gesture / talk / stand', r'laugh|traffic|wave|signal|hello|motorcycle|range of motion|dab'),
    ('walk', r'walk'),
)


def kind_of(description: str) -> str:
    """Return the class of motion of the first matching word of a description."""
    for kind, words in _KINDS:
        if re.search(words, description, re.IGNORECASE):
            return kind
    return UNLABELLED


@dataclass(frozen=True)
class Clip:
    """The range of one clip in the flat array, and its metadata.

    Attributes:
        action: Description of the motion by the source; may be empty.
        kind: Class of motion, such as 'walk'.
        pair: Key of the clip of the person beside, on the same clock and in the same frame; empty
            without one.
    """

    key: str
    subject: str
    split: str
    retargeted: bool
    start: int
    length: int
    action: str = ''
    kind: str = UNLABELLED
    pair: str = ''


@dataclass(frozen=True)
class Recordings:
    """All clips, one after the other.

    Attributes:
        positions: [m], z up.
    """

    joint_names: tuple[str, ...]
    fps: float
    positions: Float32[np.ndarray, 'time joint xyz=3']
    clips: tuple[Clip, ...]
    attribution: tuple[str, ...]

    def select(self, keep: Callable[[Clip], bool]) -> 'Recordings':
        """Return the same recordings with only the clips that `keep` accepts."""
        clips = tuple(clip for clip in self.clips if keep(clip))
        return Recordings(self.joint_names, self.fps, self.positions, clips, self.attribution)

    def check_joints(self, joint_names: tuple[str, ...], owner: str = 'the model') -> None:
        """Check that the recordings have the joints of a model or a layout.

        Raises:
            DataError: They have not.
        """
        if self.joint_names != joint_names:
            raise DataError(f'recordings have joints {self.joint_names}, {owner} {joint_names}')

    def of_split(self, split: str) -> 'Recordings':
        """Return the same recordings with only the clips of one split; '': all.

        Raises:
            DataError: No clip is of that split.
        """
        known = sorted({clip.split for clip in self.clips})
        if split and split not in known:
            raise DataError(f'no clip of split {split!r}; the file has {known}')
        return self.select(lambda clip: split in ('', clip.split))


class Piece(NamedTuple):
    """One clip of a data set, with its own positions [m, or the set's unit]."""

    key: str
    subject: str
    split: str
    positions: np.ndarray
    action: str = ''

    def fed(self, joints: np.ndarray, units_per_m: float = 1.0) -> 'Piece':
        """Return the joints that models are given [m]."""
        return self._replace(positions=self.positions[:, joints] / np.float32(units_per_m))


def join_clips(
    joint_names: tuple[str, ...], fps: float, pieces: Iterable[Piece], attribution: tuple[str, ...]
) -> Recordings:
    """Lay clips one after the other; none was retargeted."""
    clips, kept, start = [], [], 0
    for piece in pieces:
        length = len(piece.positions)
        clips.append(Clip(piece.key, piece.subject, piece.split, False, start, length))
        kept.append(piece.positions.astype(np.float32, copy=False))
        start += length
    return Recordings(joint_names, fps, np.concatenate(kept), tuple(clips), attribution)


def load_recordings(path: Path) -> Recordings:
    """Read a file of clips; those with missing joints are left out, and logged.

    Raises:
        DataError: The file is missing, not of the form above, or not in metres.
    """
    try:
        if path.is_file() and not is_zipfile(path):
            raise ValueError('not a zip of arrays')
        with np.load(path, allow_pickle=False) as file:
            meta = json.loads(str(file['__meta__']))
            arrays = {key: np.asarray(file[key], np.float32) for key in meta['clips']}
            return _assemble(meta, arrays)
    except FileNotFoundError as error:
        raise DataError(f'no recordings at {path}') from error
    except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile, zlib.error) as error:
        raise DataError(
            f'{path} is not a file of motion clips (npz of [time, joint, 3] float32 arrays and '
            f'__meta__ JSON with joint_names, fps, clips): {error!r}'
        ) from error


def _pair_of(info: Mapping[str, Any], keys: Iterable[str]) -> str:
    """Return the key of a clip's partner, before which a merged file may have put a prefix."""
    pair = str(info.get('pair') or '')
    partners = (key for key in keys if key == pair or key.endswith(f'/{pair}'))
    return next(partners, '') if pair else ''


def resample(
    poses: np.ndarray, fps: float, new_fps: float, parents: Sequence[int] | None = None
) -> np.ndarray:
    """Bring `[time, joint, xyz]` [m] to another rate by cubic splines.

    With `parents`, the root and the unit directions of bones follow the splines, and bones keep
    their length: at 12 Hz a mean error of 1.1 mm. A parent stands before its children.
    """
    times_s = np.arange(len(poses)) / fps
    new_s = np.arange(int(np.floor(times_s[-1] * new_fps + 1e-6)) + 1) / new_fps
    if parents is None:
        return CubicSpline(times_s, poses, axis=0)(new_s)
    bones = poses[:, 1:] - poses[:, np.array(parents[1:])]
    lengths = np.linalg.norm(bones, axis=-1, keepdims=True)
    directions = CubicSpline(times_s, bones / np.maximum(lengths, 1e-9), axis=0)(new_s)
    directions /= np.maximum(np.linalg.norm(directions, axis=-1, keepdims=True), 1e-9)
    before = np.minimum((new_s * fps).astype(int), len(times_s) - 2)
    share = (new_s * fps - before)[:, None, None]
    bones = directions * (lengths[before] * (1.0 - share) + lengths[before + 1] * share)
    resampled = np.empty((len(new_s), *poses.shape[1:]))
    resampled[:, 0] = CubicSpline(times_s, poses[:, 0], axis=0)(new_s)
    for joint, parent in enumerate(parents[1:], start=1):
        resampled[:, joint] = resampled[:, parent] + bones[:, joint - 1]
    return resampled


def _common_rate(
    meta: dict[str, Any], arrays: dict[str, np.ndarray]
) -> tuple[float, dict[str, np.ndarray]]:
    """Return one rate for all clips, and the clips at that rate."""
    clips, known = meta['clips'], meta.get('fps')
    rates = {
        key: float(clips[key].get('knot_fps', 0.0) if known is None else known) for key in arrays
    }
    if wrong := sorted(key for key, rate in rates.items() if not 0.0 < rate < math.inf):
        raise ValueError(f'clips {wrong} have no rate above 0: give fps, or knot_fps of each clip')
    rate = next(iter(rates.values()), _FPS)
    if len(set(rates.values())) == 1 and (rate / _MODEL_FPS).is_integer():
        return rate, arrays
    return _FPS, {
        key: resample(array, rates[key], _FPS, meta.get('parents')).astype(np.float32)
        for key, array in arrays.items()
        if len(array) > 1
    }


def _check_metres(arrays: Mapping[str, np.ndarray]) -> None:
    """Raise DataError if the median extent of bodies is larger than any body."""
    extents_m = [np.ptp(array, axis=1).max(axis=-1) for array in arrays.values() if array.size]
    if extents_m and (extent_m := float(np.median(np.concatenate(extents_m)))) > _LARGEST_BODY_M:
        raise DataError(
            f'bodies have a median extent of {extent_m:.4g} m: is the file in millimetres?'
        )


def _assemble(meta: dict[str, Any], arrays: dict[str, np.ndarray]) -> Recordings:
    names = tuple(meta['joint_names'])
    kept, clips, start = [], [], 0
    for key, array in arrays.items():
        if array.ndim != 3 or array.shape[1:] != (len(names), 3):
            raise ValueError(f'clip {key!r} has shape {array.shape}')
    whole = {key: array for key, array in arrays.items() if np.isfinite(array).all()}
    if left_out := [key for key in arrays if key not in whole]:
        _LOG.warning(
            f'{len(left_out)} of {len(arrays)} clips are left out, joints are missing (NaN or '
            f'infinite) in them; the first: {left_out[0]}'
        )
    _check_metres(whole)
    fps, whole = _common_rate(meta, whole)
    for key, array in whole.items():
        info = meta['clips'][key]
        clips.append(
            Clip(
                key=key,
                subject=str(info['subject']),
                split=str(info['split']),
                retargeted=bool(info.get('retargeted', False)),
                start=start,
                length=len(array),
                action=str(info.get('description', '')),
                kind=str(info.get('kind') or kind_of(str(info.get('description', '')))),
                pair=_pair_of(info, whole),
            )
        )
        kept.append(array)
        start += len(array)
    if not kept:
        raise ValueError('no clip without missing joints')
    attribution = tuple(str(line) for line in meta.get('attribution', ()))
    return Recordings(names, fps, np.concatenate(kept), tuple(clips), attribution)
