# SPDX-License-Identifier: Apache-2.0
"""What a window covers, in a few capsules: one per body part, around all futures and times.

Stage: volume. For planners that take shapes, not voxels. A part's capsules run from A_i to B_i;
with A and B the middles of both ends' boxes, the capsule from A to B of radius max(|A_i - A|,
|B_i - B|) + r_i contains them all: at the same share of the way no point is farther off.
"""

import numpy as np
from jaxtyping import Float64

from motion_predictor_ros.volume.capsules import Bodies

Swept = tuple[
    Float64[np.ndarray, 'part xyz=3'],
    Float64[np.ndarray, 'part xyz=3'],
    Float64[np.ndarray, ' part'],
]


def swept_capsules(bodies: Bodies) -> Swept:
    """Return starts, ends and radii of one capsule per part [m]."""
    parts = bodies.radii.shape[-1]
    starts = bodies.starts.reshape(-1, parts, 3)
    ends = bodies.ends.reshape(-1, parts, 3)
    start = 0.5 * (starts.min(axis=0) + starts.max(axis=0))
    end = 0.5 * (ends.min(axis=0) + ends.max(axis=0))
    away = np.maximum(np.linalg.norm(starts - start, axis=-1), np.linalg.norm(ends - end, axis=-1))
    return start, end, (away + bodies.radii.reshape(-1, parts)).max(axis=0)
