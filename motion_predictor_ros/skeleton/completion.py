# SPDX-License-Identifier: Apache-2.0
"""Infer the joints that a source never gives: chest, neck, head and feet.

Stage: skeleton. From the joints seen in the same frame and the proportions of bodies alone, so it
turns and shifts with the room and keeps bone lengths. Inferred joints are marked.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import yaml
from jaxtyping import Bool, Float64, Int64

from motion_predictor_ros.errors import ConfigError
from motion_predictor_ros.resources import share_file
from motion_predictor_ros.skeleton.frame import BoneLengths, JointMask, Pose
from motion_predictor_ros.skeleton.layout import SkeletonLayout


class NearestJoints:
    """For each joint of a layout, the others by the number of bones in between."""

    def __init__(self, layout: SkeletonLayout) -> None:
        bones = layout.bones_between().sum(axis=-1)
        self._order: Int64[np.ndarray, 'joint joint'] = bones.argsort(axis=1, kind='stable')

    def choose(self, seen: Bool[np.ndarray, '*batch joint']) -> Int64[np.ndarray, '*batch joint']:
        """Return the nearest seen joint of each joint; its own index where it is seen itself.

        At least one joint must be seen.
        """
        first = seen[..., self._order].argmax(axis=-1)
        return np.asarray(self._order[np.arange(len(self._order)), first])


LIMBS = tuple(
    (f'{side}_{upper}', f'{side}_{lower}')
    for side in 'lr'
    for upper, lower in (
        ('hip', 'knee'),
        ('knee', 'ankle'),
        ('shoulder', 'elbow'),
        ('elbow', 'wrist'),
    )
)
"""The bones whose length, all together, is a person's size."""

_INFERRED = ('neck', 'head', 'chest', 'l_foot', 'r_foot')  # chest and head hang on the neck


@dataclass(frozen=True)
class Proportions:
    """A body in units of its size, the length of all `LIMBS` together.

    Attributes:
        limbs: Length of each of `LIMBS`; they sum to one.
        neck: From the middle of the shoulders to the neck: ahead, left, up in the chest's frame.
        head: From the neck to the head, in the same frame.
        foot: From the ankle to the foot: ahead, outwards, up along the shank.
        chest: From the pelvis to the chest: ahead, left, up along the line from pelvis to neck, in
            units of that line's length: a bent spine is short, and its chest near the pelvis.
    """

    limbs: BoneLengths
    neck: Float64[np.ndarray, ' xyz=3']
    head: Float64[np.ndarray, ' xyz=3']
    foot: Float64[np.ndarray, ' xyz=3']
    chest: Float64[np.ndarray, ' xyz=3']


def load_proportions(path: Path) -> Proportions:
    """Read a file of proportions.

    Raises:
        ConfigError: It is missing or malformed.
    """
    sizes = {'limbs': len(LIMBS), 'neck': 3, 'head': 3, 'foot': 3, 'chest': 3}
    try:
        content = yaml.safe_load(path.read_text(encoding='utf-8'))
        assert isinstance(content, Mapping) and set(content) == set(sizes), f'expected {sizes}'
        values = {name: np.array(content[name], dtype=np.float64) for name in sizes}
        assert all(values[name].shape == (size,) for name, size in sizes.items()), sizes
    except (OSError, AssertionError, ValueError, TypeError, yaml.YAMLError) as error:
        raise ConfigError(f'{path} is no file of proportions: {error}') from error
    return Proportions(**values)


@cache
def shipped_proportions() -> Proportions:
    """Return the proportions of the people the shipped models learnt from."""
    return load_proportions(share_file('config', 'proportions.yaml'))


Point = Float64[np.ndarray, ' xyz=3']
Axes = Float64[np.ndarray, 'xyz=3 axis=3']

_MIN_LIMBS = 3
"""Limbs that must be seen to know how large a person is."""


class Inference:
    """Infers joints of the body18 layout from the others; other layouts stay as they are."""

    def __init__(self, layout: SkeletonLayout, proportions: Proportions) -> None:
        self._index = {name: joint for joint, name in enumerate(layout.joint_names)}
        limb_ends = (name for limb in LIMBS for name in limb)
        self._possible = {'pelvis', *_INFERRED, *limb_ends} <= set(self._index)
        self._proportions = proportions

    def fill(self, positions: Pose, wanted: JointMask) -> JointMask:
        """Fill the wanted joints in, in place, where what is seen allows it; return which."""
        filled = np.zeros(len(positions), dtype=bool)
        if not (self._possible and wanted.any()):
            return filled
        at = {name: positions[joint] for name, joint in self._index.items()}
        size_m = self._size_m(at)
        if np.isnan(size_m):
            return filled
        for name in _INFERRED:
            joint = self._index[name]
            if wanted[joint]:
                at[name][:] = self._place(name, at, size_m)
                filled[joint] = not np.isnan(positions[joint]).any()
        return filled

    def _size_m(self, at: Mapping[str, Point]) -> float:
        """Return the length of all limbs together, from those seen; NaN for too few [m]."""
        lengths = np.array([np.linalg.norm(at[a] - at[b]) for a, b in LIMBS])
        seen = ~np.isnan(lengths)
        if seen.sum() < _MIN_LIMBS:
            return float('nan')
        return float(lengths[seen].sum() / self._proportions.limbs[seen].sum())

    def _place(self, name: str, at: Mapping[str, Point], size_m: float) -> Point:
        """Return where a joint should be; NaN if what it hangs on is not seen."""
        proportions = self._proportions
        if name.endswith('foot'):
            side, outwards = (name[0], 1.0 if name[0] == 'l' else -1.0)
            ankle, shank = at[f'{side}_ankle'], at[f'{side}_knee'] - at[f'{side}_ankle']
            axes = axes_of(at['l_hip'] - at['r_hip'], shank, keep_up=True)
            return ankle + size_m * axes @ (proportions.foot * [1.0, outwards, 1.0])
        across = at['l_shoulder'] - at['r_shoulder']
        if name == 'chest':
            spine = at['neck'] - at['pelvis']
            axes = axes_of(across, spine, keep_up=True)
            return at['pelvis'] + np.sqrt(spine @ spine) * axes @ proportions.chest
        hips = (at['l_hip'] + at['r_hip']) / 2
        shoulders = (at['l_shoulder'] + at['r_shoulder']) / 2
        axes = axes_of(across, shoulders - hips, keep_up=False)
        if name == 'neck':
            return shoulders + size_m * axes @ proportions.neck
        return at['neck'] + size_m * axes @ proportions.head


def axes_of(left: Point, up: Point, *, keep_up: bool) -> Axes:
    """Return the directions ahead, left and up as columns; one of the two given is kept as is."""
    if keep_up:
        up = up / np.sqrt(up @ up)
        left = left - (left @ up) * up
        left = left / np.sqrt(left @ left)
    else:
        left = left / np.sqrt(left @ left)
        up = up - (up @ left) * left
        up = up / np.sqrt(up @ up)
    return np.stack([np.cross(left, up), left, up], axis=1)
