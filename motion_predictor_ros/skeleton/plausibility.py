# SPDX-License-Identifier: Apache-2.0
"""Recognise people who stand on their heads, or whose left and right are swapped.

Stage: skeleton. A frame whose z points down, a left-handed one or a mirrored image turn people
into what no person is. A single odd frame is a cartwheel or noise; a whole window of them is a
mistake in the set-up, and its predictions would be wrong without looking wrong.
"""

import numpy as np
from jaxtyping import Bool, Float64

from motion_predictor_ros.skeleton.completion import LIMBS, shipped_proportions
from motion_predictor_ros.skeleton.frame import Window
from motion_predictor_ros.skeleton.layout import SkeletonLayout

UPWARDS = {
    f'{sign}{name}': factor * axis
    for name, axis in zip('xyz', np.eye(3), strict=True)
    for sign, factor in (('', 1.0), ('-', -1.0))
}

_CLEARLY_M = 0.1
"""Hips below ankles, and neck below hips, by this much is upside down [m]."""

_BACKWARDS_M = {True: 0.05, False: 0.08}
"""Mirrored if knees, feet and head together point back by this much [m]; less is known of those
whose feet are not seen. `motion-predictor evaluate sources` says how often that errs."""

_IN_LINE = 0.3
"""Cosine between trunk and legs above which somebody is not bent over."""

_ODD_LIMB = 1.6
"""Limbs longer or shorter than usual by this factor are no person's, so nothing is concluded."""

_NEEDED = ('pelvis', 'head', 'neck', *(name for bone in LIMBS for name in bone))


class Plausibility:
    """Looks at whole windows of the body18 layout; of others it knows nothing."""

    def __init__(self, layout: SkeletonLayout, up: str) -> None:
        """Remember where joints stand.

        Args:
            up: Which axis points up, such as 'z' or '-y'; 'unknown' judges only left and right.
        """
        self._index = {name: joint for joint, name in enumerate(layout.joint_names)}
        self._able = set(_NEEDED) | {'l_foot', 'r_foot'} <= set(self._index)
        self._name = up
        self._up = UPWARDS.get(up)

    def fault(self, window: Window) -> tuple[str, str] | None:
        """Return the reason and a message if this cannot be a person as they are; else None."""
        if not self._able or not self._sees(window, _NEEDED) or not self._has_limbs(window):
            return None
        if self._up is not None and self.inverted(window.positions).all():
            return 'upside_down', (
                f'feet above hips above neck for a whole window, along {self._name} of the frame; '
                f'expected {self._name} to point up: set parameters "fixed_frame" and '
                '"extrinsic", or "skeleton.up"'
            )
        if not self.upright(window.positions).all():
            return None
        feet = self._sees(window, ('l_foot', 'r_foot'))
        if self.ahead(window.positions, feet).mean() < -_BACKWARDS_M[feet]:
            return 'mirrored', (
                'knees, feet and head point backwards, so left and right are swapped: does the '
                'camera mirror its image, is "extrinsic" or TF left-handed, does '
                '"skeleton.source_layout" match the tracker?'
            )
        return None

    def upright(
        self, positions: Float64[np.ndarray, 'time joint xyz=3']
    ) -> Bool[np.ndarray, ' time']:
        """Return when trunk and legs are about in line; of who bends down, front is unclear."""
        at = {name: positions[:, joint] for name, joint in self._index.items()}
        trunk = (at['l_shoulder'] + at['r_shoulder']) / 2 - at['pelvis']
        legs = at['pelvis'] - (at['l_ankle'] + at['r_ankle']) / 2
        lengths = np.linalg.norm(trunk, axis=-1) * np.linalg.norm(legs, axis=-1)
        return np.asarray((trunk * legs).sum(axis=-1) > _IN_LINE * lengths)

    def ahead(
        self, positions: Float64[np.ndarray, 'time joint xyz=3'], feet: bool
    ) -> Float64[np.ndarray, ' time']:
        """Return how far knees, head and, if asked, feet stand ahead of the body [m]."""
        at = {name: positions[:, joint] for name, joint in self._index.items()}
        shoulders = (at['l_shoulder'] + at['r_shoulder']) / 2
        left = at['l_hip'] - at['r_hip'] + at['l_shoulder'] - at['r_shoulder']
        facing = np.cross(left, shoulders - at['pelvis'])
        facing /= np.maximum(np.linalg.norm(facing, axis=-1, keepdims=True), 1e-9)
        parts = at['head'] - shoulders
        for side in 'lr':
            knee, ankle = at[f'{side}_knee'], at[f'{side}_ankle']
            parts = parts + (knee - (at[f'{side}_hip'] + ankle) / 2) / 2
            if feet:
                parts = parts + (at[f'{side}_foot'] - ankle) / 2
        forwards: Float64[np.ndarray, ' time'] = (parts * facing).sum(axis=-1)
        return forwards

    def inverted(
        self, positions: Float64[np.ndarray, 'time joint xyz=3']
    ) -> Bool[np.ndarray, ' time']:
        """Return when a person is upside down."""
        assert self._up is not None
        height = {name: positions[:, joint] @ self._up for name, joint in self._index.items()}
        hips = (height['l_hip'] + height['r_hip']) / 2
        ankles = (height['l_ankle'] + height['r_ankle']) / 2
        return np.asarray(
            (hips < ankles - _CLEARLY_M) & (height['neck'] < height['pelvis'] - _CLEARLY_M)
        )

    def _sees(self, window: Window, names: tuple[str, ...]) -> bool:
        """Tell whether joints were seen themselves; a neck may be inferred, feet may not."""
        seen = window.seen
        if window.inferred is not None and 'l_foot' in names:
            seen = seen & ~window.inferred
        return bool(seen[[self._index[name] for name in names]].all())

    def _has_limbs(self, window: Window) -> bool:
        pose = window.positions[-1]
        ends = [(pose[self._index[a]], pose[self._index[b]]) for a, b in LIMBS]
        lengths = np.array([np.linalg.norm(a - b) for a, b in ends])
        odd = lengths / max(lengths.sum(), 1e-9) / shipped_proportions().limbs
        return bool((odd < _ODD_LIMB).all() and (odd > 1 / _ODD_LIMB).all())
