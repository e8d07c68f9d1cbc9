# SPDX-License-Identifier: Apache-2.0
"""Publish nav2_msgs/SpeedLimit by the distance from the robot to the nearest keep-out volume.

In that message 0.0 means `no limit`, never `stop`: it is not sent. Full speed is 100 percent.
Where nothing is known the limit is `slow_percent`. This is not a stop function.

This output has a clock of its own: its reader keeps the last limit, so silence must be replaced by
`slow_percent`, while readers of the other outputs notice silence by themselves.
"""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

from motion_predictor_ros.config import param
from motion_predictor_ros.errors import SkeletonFormatError
from motion_predictor_ros.ros.encode import encode_header
from motion_predictor_ros.ros.outputs.base import OUTPUTS, FootprintConfig, Output, VolumeScene
from motion_predictor_ros.ros.process import steady_timer
from motion_predictor_ros.ros.throttled_log import ThrottledLog
from motion_predictor_ros.ros.topics import message_class
from motion_predictor_ros.ros.transforms import LiveTransforms
from motion_predictor_ros.volume.footprint import Footprint, footprint

FULL_PERCENT = 100.0
MIN_PERCENT = 1.0
_CHECK_S = 0.1
_CELL_M = 0.05


@dataclass(frozen=True)
class SpeedLimitConfig(FootprintConfig):
    """Parameters of `speed_limit`."""

    enabled: bool = param(
        False, "publish speed_limit, for Nav2's controllers; needs nav2_msgs and TF [-]"
    )
    robot_frame: str = param('base_link', 'frame whose origin is the robot [-]')
    near_m: float = param(0.5, 'closer to a keep-out volume the robot is slow [m]', 0.0, 100.0)
    far_m: float = param(2.0, 'farther from it it may go at full speed [m]', 0.0, 100.0)
    slow_percent: float = param(
        20.0, 'limit where close, and where nothing is known [%]', 1.0, 100.0
    )


@OUTPUTS.register('speed_limit', SpeedLimitConfig)
class SpeedLimitOutput(Output[SpeedLimitConfig]):
    """nav2_msgs/SpeedLimit on `speed_limit`."""

    def open(self) -> None:
        """Create the publisher."""
        node = self.context.node
        self._message_type = message_class(
            'nav2_msgs/msg/SpeedLimit', 'parameter "outputs.speed_limit.enabled"'
        )
        self._lookup = self.context.lookup
        if self._lookup is None:
            transforms = LiveTransforms.listen(node)
            self.on_close(transforms.close)
            self._lookup = transforms.lookup_newest
        self._frame_id, self._fresh_s = self.config.robot_frame, -np.inf
        self._warnings = ThrottledLog(node.get_logger())
        self._publisher = self.create_publisher(self._message_type, 'speed_limit')
        timer = steady_timer(node, _CHECK_S, self._slow_down_if_stale)
        self.on_close(lambda: node.destroy_timer(timer))

    def update(self, scene: VolumeScene) -> None:
        """Note when the input was fresh, and publish the limit if it is due."""
        self._frame_id = scene.frame_id
        if not scene.stale:
            self._fresh_s = time.monotonic()
        super().update(scene)

    def publish(self, scene: VolumeScene) -> None:
        """Publish the limit; it is slow without a transform, and if the observation is old."""
        config, percent = self.config, self.config.slow_percent
        assert self._lookup is not None
        try:
            robot = self._lookup(scene.frame_id, config.robot_frame, scene.stamp_ns).shift[:2]
        except SkeletonFormatError as error:
            self._warnings.warn('no_transform', f'speed_limit stays slow: {error}')
        else:
            if scene.age_s <= self.context.stale_after_s:
                distance = distance_m(footprint(scene.volumes, config.band, _CELL_M), robot)
                percent = speed_percent(distance, config.near_m, config.far_m, percent)
        self._send(percent, scene.stamp_ns)

    def _slow_down_if_stale(self) -> None:
        now_ns = self.context.node.get_clock().now().nanoseconds  # 0: no simulated time yet
        if now_ns and time.monotonic() - self._fresh_s > self.context.stale_after_s:
            self._send(self.config.slow_percent, now_ns)

    def _send(self, percent: float, stamp_ns: int) -> None:
        message_type, frame_id = self._message_type, self._frame_id
        self._publisher.publish(encode_speed_limit(message_type, percent, stamp_ns, frame_id))


def distance_m(cells: Footprint, robot: Float64[np.ndarray, 'xy=2']) -> float:
    """Return how far the robot's origin is from the nearest covered cell; infinite without one."""
    centres = cells.centres()
    if not len(centres):
        return np.inf
    gap = np.maximum(np.abs(centres - robot) - 0.5 * cells.cell_m, 0.0)
    return float(np.linalg.norm(gap, axis=-1).min())


def speed_percent(distance: float, near_m: float, far_m: float, slow_percent: float) -> float:
    """Return the limit: slow within `near_m`, full beyond `far_m`, straight in between [%]."""
    slow = max(slow_percent, MIN_PERCENT)
    if not distance > near_m:  # NaN too
        return slow
    if distance >= far_m:
        return FULL_PERCENT
    return slow + (FULL_PERCENT - slow) * (distance - near_m) / (far_m - near_m)


def encode_speed_limit(
    message_type: type[Any], percent: float, stamp_ns: int, frame_id: str
) -> Any:
    """Encode a limit in percent of the robot's full speed.

    Args:
        message_type: nav2_msgs.msg.SpeedLimit.
    """
    assert MIN_PERCENT <= percent <= FULL_PERCENT, percent
    return message_type(
        header=encode_header(stamp_ns, frame_id), percentage=True, speed_limit=float(percent)
    )
