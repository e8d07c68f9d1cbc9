# SPDX-License-Identifier: Apache-2.0
"""Write nav2_msgs/SpeedLimit by the distance to the nearest space to keep free.

0.0 means `no limit` there, never `stop`: it is not sent. Full speed is 100 percent, and where
nothing is known the robot goes as slowly as was asked. Not a stop function.
"""

from typing import Any

import numpy as np
from jaxtyping import Float64

from motion_predictor_ros.ros.encode import encode_header
from motion_predictor_ros.volume.footprint import Footprint

FULL_PERCENT = 100.0
LEAST_PERCENT = 1.0


def distance_m(seen: Footprint, robot: Float64[np.ndarray, 'xy=2']) -> float:
    """Return how far the robot's origin is from the nearest covered cell; infinite without one."""
    centres = seen.centres()
    if not len(centres):
        return np.inf
    off = np.maximum(np.abs(centres - robot) - 0.5 * seen.cell_m, 0.0)
    return float(np.linalg.norm(off, axis=-1).min())


def speed_percent(distance: float, near_m: float, far_m: float, slow_percent: float) -> float:
    """Return the limit: slow within `near_m`, full beyond `far_m`, straight in between [%]."""
    slow = max(slow_percent, LEAST_PERCENT)
    if not distance > near_m:  # NaN too
        return slow
    if distance >= far_m:
        return FULL_PERCENT
    return slow + (FULL_PERCENT - slow) * (distance - near_m) / (far_m - near_m)


def speed_limit_to_ros(kind: type[Any], percent: float, stamp_ns: int, frame_id: str) -> Any:
    """Write a limit in percent of the robot's full speed.

    Args:
        kind: nav2_msgs.msg.SpeedLimit.
    """
    assert LEAST_PERCENT <= percent <= FULL_PERCENT, percent
    return kind(
        header=encode_header(stamp_ns, frame_id), percentage=True, speed_limit=float(percent)
    )
