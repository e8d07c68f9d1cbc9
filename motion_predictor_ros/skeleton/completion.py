# SPDX-License-Identifier: Apache-2.0
"""Put in place the joints that a source never gives: chest, neck, head and feet.

Stage: skeleton. From the joints seen in the same frame and the proportions of bodies alone, so it
turns and shifts with the room and keeps bone lengths. What was put in place is marked.
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
from motion_predictor_ros.skeleton.layout import SkeletonLayout


class StandIns:
    """For each joint of a layout, who stands in for it."""

    def __init__(self, layout: SkeletonLayout) -> None:
        apart = _bones_apart(layout)
        self._nearest: Int64[np.ndarray, 'joint joint'] = apart.argsort(axis=1, kind='stable')

    def choose(self, seen: Bool[np.ndarray, '*batch joint']) -> Int64[np.ndarray, '*batch joint']:
        """Return the nearest seen joint of each joint; its own index where it is seen itself.

        At least one joint must be seen.
        """
        first = seen[..., self._nearest].argmax(axis=-1)
        chosen: Int64[np.ndarray, '*batch joint']
        chosen = self._nearest[np.arange(len(self._nearest)), first]
        return chosen


def _bones_apart(layout: SkeletonLayout) -> Int64[np.ndarray, 'joint joint']:
    """Return how many bones lie between each two joints."""
    count = len(layout.joint_names)
    apart = np.full((count, count), count, dtype=np.int64)
    np.fill_diagonal(apart, 0)
    for parent, child in layout.bones:
        apart[parent, child] = apart[child, parent] = 1
    for via in range(count):
        apart = np.minimum(apart, apart[:, via, None] + apart[None, via])
    return apart


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
"""The bones that make up the ruler."""


@dataclass(frozen=True)
class Proportions:
    """A body in units of the ruler.

    Attributes:
        limbs: Length of each of `LIMBS`; they sum to one.
        neck: From the middle of the shoulders to the neck: ahead, left, up in the chest's frame.
        head: From the neck to the head, in the same frame.
        foot: From the ankle to the foot: ahead, outwards, up along the shank.
        chest: From the pelvis to the chest: ahead, left, up along the line from pelvis to neck, in
            units of that line's length: a bent spine is short, and its chest near the pelvis.
    """

    limbs: Float64[np.ndarray, ' bone']
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

FEWEST_LIMBS = 3
"""Bones of the ruler that must be seen to know how large a person is."""


class Inference:
    """Puts joints in place that are missing in the body18 layout; others know no such joints."""

    def __init__(self, layout: SkeletonLayout, proportions: Proportions) -> None:
        self._index = {name: joint for joint, name in enumerate(layout.joint_names)}
        self._possible = {'pelvis', 'chest', 'neck', 'head', 'l_foot', 'r_foot'} <= set(
            self._index
        ) and all(name in self._index for bone in LIMBS for name in bone)
        self._proportions = proportions

    def fill(
        self,
        positions: Float64[np.ndarray, 'joint xyz=3'],
        wanted: Bool[np.ndarray, ' joint'],
    ) -> Bool[np.ndarray, ' joint']:
        """Fill the wanted joints in, in place, where what is seen allows it; return which."""
        filled = np.zeros(len(positions), dtype=bool)
        if not (self._possible and wanted.any()):
            return filled
        pose = _Pose(self._index, positions, self._proportions)
        if np.isnan(pose.ruler):
            return filled
        # The neck first: chest and head hang on it.
        for name in ('neck', 'head', 'chest', 'l_foot', 'r_foot'):
            joint = self._index[name]
            if wanted[joint]:
                positions[joint] = pose.place(name)
                filled[joint] = not np.isnan(positions[joint]).any()
        return filled


class _Pose:
    """One person's joints by name."""

    def __init__(
        self,
        index: dict[str, int],
        positions: Float64[np.ndarray, 'joint xyz=3'],
        proportions: Proportions,
    ) -> None:
        self._index, self._positions, self._proportions = index, positions, proportions
        self.ruler = self._ruler()

    def place(self, name: str) -> Point:
        """Return where a joint should be; NaN if what it hangs on is not seen."""
        if name == 'chest':
            return self._chest()
        if name.endswith('foot'):
            return self._foot(name[0])
        axes = self._chest_axes()
        if name == 'neck':
            shoulders = (self['l_shoulder'] + self['r_shoulder']) / 2
            return shoulders + self.ruler * axes @ self._proportions.neck
        return self['neck'] + self.ruler * axes @ self._proportions.head

    def __getitem__(self, name: str) -> Point:
        return self._positions[self._index[name]]

    def _ruler(self) -> float:
        """Return how large the person is [m], from the limbs that are seen; NaN for too few."""
        lengths = np.array([np.linalg.norm(self[a] - self[b]) for a, b in LIMBS])
        seen = ~np.isnan(lengths)
        if seen.sum() < FEWEST_LIMBS:
            return float('nan')
        return float(lengths[seen].sum() / self._proportions.limbs[seen].sum())

    def _chest_axes(self) -> Axes:
        hips = (self['l_hip'] + self['r_hip']) / 2
        shoulders = (self['l_shoulder'] + self['r_shoulder']) / 2
        return axes_of(self['l_shoulder'] - self['r_shoulder'], shoulders - hips, keep_up=False)

    def _foot(self, side: str) -> Point:
        knee, ankle = self[f'{side}_knee'], self[f'{side}_ankle']
        axes = axes_of(self['l_hip'] - self['r_hip'], knee - ankle, keep_up=True)
        outwards = 1.0 if side == 'l' else -1.0
        return ankle + self.ruler * axes @ (self._proportions.foot * [1.0, outwards, 1.0])

    def _chest(self) -> Point:
        pelvis, spine = self['pelvis'], self['neck'] - self['pelvis']
        axes = axes_of(self['l_shoulder'] - self['r_shoulder'], spine, keep_up=True)
        return pelvis + np.sqrt(spine @ spine) * axes @ self._proportions.chest


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
