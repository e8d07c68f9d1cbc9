# SPDX-License-Identifier: Apache-2.0
"""Write what is in the way in the plane as OccupancyGrid, for Nav2's StaticLayer.

100 is the space to keep free. Outside, cells hold their probability in percent, rounded up, at
most 98: StaticLayer takes 99 for `inscribed`. Nothing is unknown, so that nothing is overwritten
by it.
"""

from array import array

import numpy as np
from nav_msgs.msg import MapMetaData, OccupancyGrid

from motion_predictor_ros.ros.encode import encode_header
from motion_predictor_ros.volume.footprint import Footprint

_KEEP_FREE = 100
_LIKELIEST_OUTSIDE = 98


def occupancy_to_ros(seen: Footprint, stamp_ns: int, frame_id: str) -> OccupancyGrid:
    """Write cells of the plane, at the height 0 of the frame."""
    header = encode_header(stamp_ns, frame_id)
    percent = np.minimum(np.ceil(100.0 * seen.probability - 1e-3), _LIKELIEST_OUTSIDE)
    values = np.where(seen.covered, _KEEP_FREE, percent).astype(np.int8)
    width, height = values.shape
    info = MapMetaData(
        map_load_time=header.stamp, resolution=seen.cell_m, width=width, height=height
    )
    info.origin.position.x, info.origin.position.y = seen.origin
    info.origin.orientation.w = 1.0
    data = array('b')
    data.frombytes(values.T.tobytes())  # rows along x
    return OccupancyGrid(header=header, info=info, data=data)
