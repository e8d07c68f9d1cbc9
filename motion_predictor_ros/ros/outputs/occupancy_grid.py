# SPDX-License-Identifier: Apache-2.0
"""Publish the footprint of the volumes as OccupancyGrid, for Nav2's StaticLayer.

100 is the keep-out volume. Outside, cells hold their probability in percent, rounded up, at most
98: releases of Nav2 with `inscribed_obstacle_cost_value` read 99 as `inscribed`. No cell is
unknown.
"""

from array import array
from dataclasses import dataclass

import numpy as np
from nav_msgs.msg import MapMetaData, OccupancyGrid

from motion_predictor_ros.config import param
from motion_predictor_ros.ros.encode import encode_header
from motion_predictor_ros.ros.outputs.base import OUTPUTS, FootprintConfig, Output, VolumeScene
from motion_predictor_ros.volume.footprint import Footprint, footprint

_COVERED_PERCENT = 100
_MAX_OUTSIDE_PERCENT = 98


@dataclass(frozen=True)
class OccupancyGridConfig(FootprintConfig):
    """Parameters of `occupancy_grid`."""

    enabled: bool = param(False, "publish occupancy_grid, for Nav2's StaticLayer [-]")
    cell_m: float = param(0.05, 'edge of a cell [m]', 0.01, 1.0)
    until_s: float = param(2.0, 'windows that begin before then count [s]', 0.0, 10.0)


@OUTPUTS.register('occupancy_grid', OccupancyGridConfig)
class OccupancyGridOutput(Output[OccupancyGridConfig]):
    """Latched OccupancyGrid on `occupancy_grid`."""

    def open(self) -> None:
        """Create the publisher."""
        self._publisher = self.create_publisher(OccupancyGrid, 'occupancy_grid', latched=True)

    def publish(self, scene: VolumeScene) -> None:
        """Publish the whole grid."""
        cells = footprint(scene.volumes, self.config.band, self.config.cell_m)
        self._publisher.publish(encode_occupancy_grid(cells, scene.stamp_ns, scene.frame_id))


def encode_occupancy_grid(cells: Footprint, stamp_ns: int, frame_id: str) -> OccupancyGrid:
    """Encode cells of the plane, at height 0 of the frame."""
    header = encode_header(stamp_ns, frame_id)
    percent = np.minimum(np.ceil(100.0 * cells.probability - 1e-3), _MAX_OUTSIDE_PERCENT)
    values = np.where(cells.covered, _COVERED_PERCENT, percent).astype(np.int8)
    width, height = values.shape
    info = MapMetaData(
        map_load_time=header.stamp, resolution=cells.cell_m, width=width, height=height
    )
    info.origin.position.x, info.origin.position.y = cells.origin
    info.origin.orientation.w = 1.0
    data = array('b')
    data.frombytes(values.T.tobytes())  # rows along x
    return OccupancyGrid(header=header, info=info, data=data)
