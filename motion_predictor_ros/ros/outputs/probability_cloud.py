# SPDX-License-Identifier: Apache-2.0
"""Publish voxels as PointCloud2 of x, y, z, probability, time and colour."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sensor_msgs.msg import PointCloud2

from motion_predictor_ros.config import param
from motion_predictor_ros.ros.encode import XYZ_FIELDS, encode_cloud
from motion_predictor_ros.ros.outputs.base import OUTPUTS, Output, OutputConfig, VolumeScene
from motion_predictor_ros.ros.outputs.markers import ramp
from motion_predictor_ros.volume.sparse import SparseWindow, sparse

VOXEL = np.dtype([*XYZ_FIELDS, ('probability', '<f4'), ('time', '<f4'), ('rgba', '<u4')])
_MIN_ALPHA, _MAX_ALPHA = 25, 230


@dataclass(frozen=True)
class ProbabilityCloudConfig(OutputConfig):
    """Parameters of `probability_cloud`."""

    enabled: bool = param(False, 'publish probability_cloud [-]')
    rate_hz: float = param(5.0, 'maximum rate, by stamps [Hz]', 0.1, 100.0)
    max_points: int = param(
        20_000, 'points of all people together; beyond, voxels are merged [-]', 100, 10**7
    )
    min_probability: float = param(
        0.01, 'less likely voxels outside the volume are left out [-]', 0.0, 1.0
    )


@OUTPUTS.register('probability_cloud', ProbabilityCloudConfig)
class ProbabilityCloud(Output[ProbabilityCloudConfig]):
    """PointCloud2 on `probability_cloud`."""

    def open(self) -> None:
        """Create the publisher."""
        self._publisher = self.create_publisher(PointCloud2, 'probability_cloud')

    def publish(self, scene: VolumeScene) -> None:
        """Publish the voxels."""
        limits = self.config.max_points, self.config.min_probability
        self._publisher.publish(encode_probability_cloud(scene, *limits))


def encode_probability_cloud(
    scene: VolumeScene, max_points: int, min_probability: float
) -> PointCloud2:
    """Encode a point at the centre of each voxel, once for each window.

    `time` is the window's start after the stamp [s]. `rgba` goes from orange to purple with time,
    grey in a reachable set; alpha rises with probability.

    Args:
        max_points: Points of all people together; beyond, voxels are merged into larger ones.
        min_probability: Less likely voxels outside the volume are left out.
    """
    share = max_points // max(len(scene.volumes), 1)
    parts = [np.zeros(0, dtype=VOXEL)]
    for volume in scene.volumes:
        windows = sparse(volume, share, min_probability)
        colours = ramp(len(windows), volume.validity)
        for window, colour in zip(windows, colours, strict=True):
            rgb = [round(255 * channel) for channel in (colour.r, colour.g, colour.b)]
            parts.append(_points(window, rgb))
    return encode_cloud(np.concatenate(parts), scene.stamp_ns, scene.frame_id)


def _points(window: SparseWindow, rgb: Sequence[int]) -> np.ndarray:
    points = np.zeros(len(window.voxels), dtype=VOXEL)
    points['x'], points['y'], points['z'] = window.centres.T
    points['probability'] = np.minimum(window.probability, 1.0)
    points['time'] = window.start_s
    red, green, blue = rgb
    alpha = _MIN_ALPHA + (_MAX_ALPHA - _MIN_ALPHA) * points['probability']
    points['rgba'] = (alpha.astype(np.uint32) << 24) | (red << 16) | (green << 8) | blue
    return points
