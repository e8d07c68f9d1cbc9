# SPDX-License-Identifier: Apache-2.0
"""What planners are told: each output on or off, at its own rate. docs/planners.md explains."""

from dataclasses import dataclass, field

from motion_predictor_ros.config import param


@dataclass(frozen=True)
class ProbabilityVolumeConfig:
    """ProbabilityVolumeArray: everything, for planners written for it."""

    enabled: bool = param(True, 'publish probability_volumes [-]')
    rate_hz: float = param(10.0, 'at most so often, in stamps [Hz]', low=0.1, high=100.0)
    most_voxels: int = param(
        50_000, 'more of all people together are joined to larger ones [-]', low=100, high=10**7
    )
    least_probability: float = param(
        0.01, 'voxels outside the volume below this are left out [-]', low=0.0, high=1.0
    )


@dataclass(frozen=True)
class ProbabilityCloudConfig:
    """PointCloud2 of x, y, z, probability, time, rgba."""

    enabled: bool = param(False, 'publish probability_cloud [-]')
    rate_hz: float = param(5.0, 'at most so often, in stamps [Hz]', low=0.1, high=100.0)
    most_points: int = param(
        20_000, 'more of all people together are joined to larger voxels [-]', low=100, high=10**7
    )
    least_probability: float = param(
        0.01, 'voxels outside the volume below this are left out [-]', low=0.0, high=1.0
    )


@dataclass(frozen=True)
class OccupancyGridConfig:
    """OccupancyGrid for Nav2's StaticLayer, in a rolling costmap."""

    enabled: bool = param(False, 'publish occupancy_grid [-]')
    rate_hz: float = param(5.0, 'at most so often, in stamps [Hz]', low=0.1, high=100.0)
    cell_m: float = param(0.05, 'edge of a cell [m]', low=0.01, high=1.0)
    until_s: float = param(2.0, 'windows that begin before then are in it [s]', low=0.0, high=10.0)
    low_m: float = param(0.0, 'lowest height that is in the way [m]', low=-100.0, high=100.0)
    high_m: float = param(2.0, 'greatest height that is in the way [m]', low=-100.0, high=100.0)


@dataclass(frozen=True)
class ObstacleCloudConfig:
    """PointCloud2 for Nav2's collision monitor, or an obstacle layer."""

    enabled: bool = param(False, 'publish obstacle_cloud [-]')
    rate_hz: float = param(10.0, 'at most so often, in stamps [Hz]', low=0.1, high=100.0)
    cell_m: float = param(0.05, 'distance between points [m]', low=0.01, high=1.0)
    until_s: float = param(0.5, 'windows that begin before then are in it [s]', low=0.0, high=10.0)
    low_m: float = param(0.0, 'lowest height that is in the way [m]', low=-100.0, high=100.0)
    high_m: float = param(2.0, 'greatest height that is in the way [m]', low=-100.0, high=100.0)
    height_m: float = param(
        0.25, "where points are put; in the reader's height band [m]", low=-100.0, high=100.0
    )


@dataclass(frozen=True)
class VolumeMarkersConfig:
    """MarkerArray for RViz."""

    enabled: bool = param(True, 'publish volume_markers while somebody subscribes [-]')
    rate_hz: float = param(5.0, 'at most so often, in stamps [Hz]', low=0.1, high=100.0)
    most_voxels: int = param(
        4000, 'more of all people together are joined to larger ones [-]', low=100, high=10**6
    )


@dataclass(frozen=True)
class CollisionObjectsConfig:
    """moveit_msgs/CollisionObject for MoveIt 2."""

    enabled: bool = param(False, 'publish collision_object; needs moveit_msgs [-]')
    rate_hz: float = param(5.0, 'at most so often, in stamps [Hz]', low=0.1, high=100.0)
    until_s: float = param(
        1.0, 'windows that begin before then become objects [s]', low=0.0, high=10.0
    )


@dataclass(frozen=True)
class SpeedLimitConfig:
    """nav2_msgs/SpeedLimit for Nav2's controllers."""

    enabled: bool = param(False, 'publish speed_limit; needs nav2_msgs and TF [-]')
    rate_hz: float = param(5.0, 'at most so often, in stamps [Hz]', low=0.1, high=100.0)
    robot_frame: str = param('base_link', 'where the robot is [-]')
    near_m: float = param(
        0.5, 'closer to the space to keep free the robot is slow [m]', low=0.0, high=100.0
    )
    far_m: float = param(2.0, 'farther from it it may go at full speed [m]', low=0.0, high=100.0)
    slow_percent: float = param(
        20.0, 'of full speed where close, and where nothing is known [%]', low=1.0, high=100.0
    )
    until_s: float = param(1.0, 'windows that begin before then count [s]', low=0.0, high=10.0)
    low_m: float = param(0.0, 'lowest height that counts [m]', low=-100.0, high=100.0)
    high_m: float = param(2.0, 'greatest height that counts [m]', low=-100.0, high=100.0)


@dataclass(frozen=True)
class CollisionServiceConfig:
    """The service CollisionProbability."""

    enabled: bool = param(True, 'serve collision_probability [-]')


@dataclass(frozen=True)
class PlannerConfig:
    """All outputs of the space to keep free."""

    probability_volumes: ProbabilityVolumeConfig = field(default_factory=ProbabilityVolumeConfig)
    probability_cloud: ProbabilityCloudConfig = field(default_factory=ProbabilityCloudConfig)
    occupancy_grid: OccupancyGridConfig = field(default_factory=OccupancyGridConfig)
    obstacle_cloud: ObstacleCloudConfig = field(default_factory=ObstacleCloudConfig)
    volume_markers: VolumeMarkersConfig = field(default_factory=VolumeMarkersConfig)
    collision_objects: CollisionObjectsConfig = field(default_factory=CollisionObjectsConfig)
    speed_limit: SpeedLimitConfig = field(default_factory=SpeedLimitConfig)
    collision_service: CollisionServiceConfig = field(default_factory=CollisionServiceConfig)
