# SPDX-License-Identifier: Apache-2.0
"""From one skeleton's joints to another's, by name, as the layout files say under `to`.

Stage: skeleton. Each joint is a weighted mean of joints of the source (weights sum to one, so it
turns and shifts with the room). A joint that the source does not have stays out.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64

from motion_predictor_ros.errors import ConfigError
from motion_predictor_ros.resources import resolve_file
from motion_predictor_ros.skeleton.layout import SkeletonLayout, read_layout_file


@dataclass(frozen=True)
class JointMap:
    """How a source's joints become another layout's.

    Attributes:
        weights: Rows of joints that the source does not have are zero.
    """

    source: SkeletonLayout
    weights: Float64[np.ndarray, 'joint seen']

    @property
    def given(self) -> Bool[np.ndarray, ' joint']:
        """Which joints the source has."""
        return np.asarray(self.weights.any(axis=1))

    def apply(
        self,
        positions: Float64[np.ndarray, 'seen xyz=3'],
        confidences: Float32[np.ndarray, ' seen'],
    ) -> tuple[Float64[np.ndarray, 'joint xyz=3'], Float32[np.ndarray, ' joint']]:
        """Return positions, NaN unless all that a joint is made of was seen, and confidences.

        Args:
            positions: NaN where a joint was not seen.
        """
        used = self.weights != 0
        unseen = np.isnan(positions).any(axis=1)
        missing = (used & unseen).any(axis=1) | ~self.given
        ignored = unseen | ~used.any(axis=0)
        mapped = self.weights @ np.where(ignored[:, None], 0.0, positions)
        mapped[missing] = np.nan
        sure = np.where(used, confidences, np.inf).min(axis=1)
        return mapped, np.where(missing, 0.0, sure).astype(np.float32)


@lru_cache(maxsize=64)
def load_joint_map(name_or_path: str, target: SkeletonLayout) -> JointMap:
    """Read how the joints of a layout, a shipped name or a YAML file, become those of `target`.

    Raises:
        ConfigError: There is no such layout, or it does not say how.
    """
    source = SkeletonLayout.load(name_or_path)
    path = resolve_file(name_or_path, 'config/skeletons', '.yaml')
    entries = (read_layout_file(path).get('to') or {}).get(target.name)
    if source.joint_names == target.joint_names:
        entries = {name: name for name in target.joint_names}
    if not isinstance(entries, Mapping):
        raise ConfigError(
            f'skeleton layout {path}: does not say how its joints become those of '
            f'{target.name!r}; add an entry "to: {target.name}:" like that of coco17'
        )
    weights = np.zeros((len(target.joint_names), len(source.joint_names)))
    for name, made_of in entries.items():
        try:
            row = target.joint_names.index(name)
            for joint, weight in _parts(made_of).items():
                weights[row, source.joint_names.index(joint)] = weight
        except (ValueError, TypeError, AttributeError) as error:
            raise ConfigError(f'skeleton layout {path}: to: {name}: {error}') from error
    weights.setflags(write=False)  # shared by every caller through the cache
    return JointMap(source, weights)


def _parts(made_of: Any) -> dict[str, float]:
    """Return the weight of each joint that an entry names."""
    if isinstance(made_of, str):
        return {made_of: 1.0}
    if isinstance(made_of, list):
        return {joint: 1.0 / len(made_of) for joint in made_of}
    parts = {joint: float(weight) for joint, weight in made_of.items()}
    if abs(sum(parts.values()) - 1.0) > 1e-6:
        raise ValueError(f'weights {parts} do not sum to 1')
    return parts
