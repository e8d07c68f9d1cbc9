# SPDX-License-Identifier: Apache-2.0
"""The body around the bones: capsules, as thick as the person is large.

Stage: volume. A layout's entry `body` says how thick each part is in a person of known bones
(config/skeletons); the person in view is larger or smaller by the median ratio of bone lengths.
A hand goes on beyond the wrist, in line with the lower arm: its tip is one more point, so that
what is said of points (that they stay within a distance of a future's) holds for hands too.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from statistics import median
from typing import Any

import numpy as np
import yaml
from jaxtyping import Bool, Float, Float64, Int64

from motion_predictor_ros.errors import ConfigError
from motion_predictor_ros.resources import resolve_file
from motion_predictor_ros.skeleton.layout import SkeletonLayout
from motion_predictor_ros.volume import kernels

SCALES = (0.5, 1.5)
"""People smaller or larger than this, relative to the layout's body, are taken at these ends."""


@dataclass(frozen=True)
class BodyShape:
    """Capsules around the bones of one layout, and the points they end at.

    Points are the joints in the layout's order, then the tips.

    Attributes:
        capsules: (from, to) indices of points.
        radii: [m] of each capsule in the layout's body.
        tips: (parent, joint) indices of joints that go on beyond themselves.
        tip_lengths: [m] how far.
        lengths: [m] of the layout's bones, as `layout.bones`; what a person is measured against.
        upper: Which points reach out as fast as an arm.
    """

    layout: SkeletonLayout
    capsules: Int64[np.ndarray, 'capsule 2']
    radii: Float64[np.ndarray, ' capsule']
    tips: Int64[np.ndarray, 'tip 2']
    tip_lengths: Float64[np.ndarray, ' tip']
    lengths: Float64[np.ndarray, ' bone']
    upper: Bool[np.ndarray, ' point']

    @classmethod
    def load(cls, layout: str) -> 'BodyShape':
        """Read the body of a shipped layout or a YAML file.

        Raises:
            ConfigError: There is no such layout, or it does not say how thick the body is.
        """
        skeleton = SkeletonLayout.load(layout)
        path = resolve_file(layout, 'config/skeletons', '.yaml')
        body = yaml.safe_load(path.read_text(encoding='utf-8')).get('body')
        try:
            return _shape(skeleton, body)
        except ConfigError as error:
            raise ConfigError(f'skeleton layout {path}: body: {error}') from error

    def scale(self, pose: Float64[np.ndarray, 'joint xyz=3']) -> float:
        """Return how much larger this person is than the layout's body; NaN joints do not count.

        A person without an observed bone is taken as large as the layout's body.
        """
        measured = np.linalg.norm(pose[self._bones[:, 0]] - pose[self._bones[:, 1]], axis=-1)
        ratios = (measured / self.lengths)[np.isfinite(measured)].tolist()
        return min(max(median(ratios), SCALES[0]), SCALES[1]) if ratios else 1.0

    @cached_property
    def _bones(self) -> Int64[np.ndarray, 'bone 2']:
        return np.array(self.layout.bones)

    def points(
        self, positions: Float[np.ndarray, '*batch joint xyz=3'], scale: float = 1.0
    ) -> Float[np.ndarray, '*batch point xyz=3']:
        """Append the tips to joints [m]."""
        return np.concatenate([positions, self.tip_points(positions, scale)], axis=-2)

    def tip_points(
        self, positions: Float[np.ndarray, '*batch joint xyz=3'], scale: float = 1.0
    ) -> Float[np.ndarray, '*batch tip xyz=3']:
        """Return where the tips are [m]."""
        flat = positions.reshape(-1, *positions.shape[-2:])
        tips = np.empty((len(flat), len(self.tips), 3), positions.dtype)
        kernels.tip_points(flat, self.tips, scale * self.tip_lengths, tips)
        return tips.reshape(*positions.shape[:-2], *tips.shape[1:])

    def of_points(
        self, joints: Float64[np.ndarray, '*batch joint']
    ) -> Float64[np.ndarray, '*batch point']:
        """Let tips have what their joints have."""
        return np.concatenate([joints, joints[..., self.tips[:, 1]]], axis=-1)


def _shape(layout: SkeletonLayout, body: Any) -> BodyShape:
    names = layout.joint_names
    children = [names[child] for _, child in layout.bones]
    if not isinstance(body, Mapping) or set(body) != set(children):
        given = sorted(map(str, body)) if isinstance(body, Mapping) else body
        raise ConfigError(f'expected an entry for each of {sorted(children)}, got {given}')
    capsules: list[tuple[int, int]] = []
    tips: list[tuple[int, int]] = []
    radii, tip_lengths = [], []
    for parent, child in layout.bones:
        part = _part(names[child], body[names[child]])
        capsules.append((parent, child))
        radii.append(part['radius'])
        if 'tip' in part:
            capsules.append((child, len(names) + len(tips)))
            radii.append(part['end'])
            tips.append((parent, child))
            tip_lengths.append(part['tip'])
    upper = [bool(body.get(name, {}).get('upper', False)) for name in names]
    upper += [upper[joint] for _, joint in tips]
    return BodyShape(
        layout=layout,
        capsules=np.array(capsules, dtype=np.int64),
        radii=np.array(radii),
        tips=np.array(tips, dtype=np.int64).reshape(-1, 2),
        tip_lengths=np.array(tip_lengths, dtype=np.float64),
        lengths=np.array([float(body[child]['length']) for child in children]),
        upper=np.array(upper),
    )


def _part(name: str, part: Any) -> Mapping[str, float]:
    keys = set(part) - {'upper'} if isinstance(part, Mapping) else set()
    if keys not in ({'radius', 'length'}, {'radius', 'length', 'tip', 'end'}):
        raise ConfigError(
            f'{name}: expected radius and length, perhaps tip and end, upper; got {part!r}'
        )
    wrong = [key for key in sorted(keys) if not _is_length(part[key])]
    if wrong:
        raise ConfigError(f'{name}: {wrong} must be above 0 and at most 2 [m], got {part!r}')
    return {key: float(part[key]) for key in keys}


def _is_length(value: Any) -> bool:
    return isinstance(value, int | float) and 0.0 < value <= 2.0
