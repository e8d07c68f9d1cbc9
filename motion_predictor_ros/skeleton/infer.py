# SPDX-License-Identifier: Apache-2.0
"""Put in place the joints that a source never gives: chest, neck, head and feet.

Stage: skeleton. From the joints seen in the same frame and the proportions of bodies alone, so it
turns and shifts with the room and keeps bone lengths. What was put in place is marked.
"""

import numpy as np
from jaxtyping import Bool, Float64

from motion_predictor_ros.skeleton.layout import SkeletonLayout
from motion_predictor_ros.skeleton.proportions import LIMBS, Proportions

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
