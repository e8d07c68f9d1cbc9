# SPDX-License-Identifier: Apache-2.0
"""Put a joint that is seen in the place of one that is not: the nearest along the tree.

Stage: skeleton. A place near the body is all that is claimed; a model that was trained with
missing joints is told which ones they are.
"""

import numpy as np
from jaxtyping import Bool, Int64

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
