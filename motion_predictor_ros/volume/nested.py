# SPDX-License-Identifier: Apache-2.0
"""Leave out capsules that lie within another one: a union is the same without them.

Stage: volume. Bodies that were made thicker by a calibrated radius overlap so much that few
capsules are left. A capsule is the hull of the balls at its ends, and what it is compared with is
convex: it lies within if both balls do.
"""

import numpy as np
from jaxtyping import Float32, Int64

from motion_predictor_ros.compiled import compiled


def outermost(
    starts: Float32[np.ndarray, 'capsule xyz=3'],
    ends: Float32[np.ndarray, 'capsule xyz=3'],
    radii: Float32[np.ndarray, ' capsule'],
    margin: float,
) -> Int64[np.ndarray, ' outer']:
    """Return the capsules that lie in none of those returned before them, thickest first.

    Args:
        margin: Those that come closer to the surface than this stay, in the unit of the places.
    """
    return _outermost(starts, ends, radii, np.argsort(-radii, kind='stable'), margin)


@compiled
def _outermost(
    starts: Float32[np.ndarray, 'capsule xyz=3'],
    ends: Float32[np.ndarray, 'capsule xyz=3'],
    radii: Float32[np.ndarray, ' capsule'],
    order: Int64[np.ndarray, ' capsule'],
    margin: float,
) -> Int64[np.ndarray, ' outer']:
    kept, count = np.empty(len(radii), np.int64), 0
    for index in order:
        hidden = False
        for place in range(count):
            other = kept[place]
            left = radii[other] - radii[index] - margin
            if (
                left >= 0.0
                and _distance2(starts[index], starts[other], ends[other]) <= left * left
                and _distance2(ends[index], starts[other], ends[other]) <= left * left
            ):
                hidden = True
                break
        if not hidden:
            kept[count] = index
            count += 1
    return kept[:count]


@compiled
def _distance2(point, start, end):  # type: ignore[no-untyped-def]
    """Return the squared distance of a point from a segment."""
    dx, dy, dz = end[0] - start[0], end[1] - start[1], end[2] - start[2]
    px, py, pz = point[0] - start[0], point[1] - start[1], point[2] - start[2]
    length2 = max(dx * dx + dy * dy + dz * dz, np.float32(1e-12))
    u = min(max((px * dx + py * dy + pz * dz) / length2, np.float32(0.0)), np.float32(1.0))
    ex, ey, ez = px - u * dx, py - u * dy, pz - u * dz
    return ex * ex + ey * ey + ez * ez
