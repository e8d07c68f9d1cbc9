# SPDX-License-Identifier: Apache-2.0
"""Publish the footprint of the volumes as PointCloud2: Nav2's collision monitor, STVL.

An empty cloud says that no person is there. Silence says that nothing is known: then the reader's
`source_timeout` trips.
"""

from dataclasses import dataclass

import numpy as np
from sensor_msgs.msg import PointCloud2

from motion_predictor_ros.config import param
from motion_predictor_ros.ros.encode import XYZ_FIELDS, encode_cloud
from motion_predictor_ros.ros.outputs.base import OUTPUTS, FootprintConfig, Output, VolumeScene
from motion_predictor_ros.volume.footprint import Footprint, footprint

POINT = np.dtype(XYZ_FIELDS)


@dataclass(frozen=True)
class ObstacleCloudConfig(FootprintConfig):
    """Parameters of `obstacle_cloud`."""

    enabled: bool = param(False, "publish obstacle_cloud, for Nav2's collision monitor [-]")
    rate_hz: float = param(10.0, 'maximum rate, by stamps [Hz]', 0.1, 100.0)
    cell_m: float = param(0.05, 'distance between points [m]', 0.01, 1.0)
    until_s: float = param(0.5, 'windows that begin before then count [s]', 0.0, 10.0)
    height_m: float = param(
        0.25, "height of all points, in the reader's height band [m]", -100.0, 100.0
    )


@OUTPUTS.register('obstacle_cloud', ObstacleCloudConfig)
class ObstacleCloud(Output[ObstacleCloudConfig]):
    """PointCloud2 on `obstacle_cloud`; silent while the input is stale."""

    def open(self) -> None:
        """Create the publisher."""
        self._publisher = self.create_publisher(PointCloud2, 'obstacle_cloud')

    def publish(self, scene: VolumeScene) -> None:
        """Publish the covered cells, unless the scene is stale."""
        if not scene.stale:
            cells = footprint(scene.volumes, self.config.band, self.config.cell_m)
            self._publisher.publish(
                encode_obstacle_cloud(cells, self.config.height_m, scene.stamp_ns, scene.frame_id)
            )


def encode_obstacle_cloud(
    cells: Footprint, height_m: float, stamp_ns: int, frame_id: str
) -> PointCloud2:
    """Encode a point on each covered cell of the plane, at `height_m`."""
    centres = cells.centres()
    points = np.zeros(len(centres), dtype=POINT)
    points['x'], points['y'] = centres.T
    points['z'] = height_m
    return encode_cloud(points, stamp_ns, frame_id)
