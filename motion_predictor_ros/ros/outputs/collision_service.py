# SPDX-License-Identifier: Apache-2.0
"""Serve CollisionProbability from the latest volumes, or answer why that is not possible."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

from motion_predictor_ros.config import param
from motion_predictor_ros.conventions import NS_PER_S
from motion_predictor_ros.errors import DataError
from motion_predictor_ros.ros.encode import encode_header
from motion_predictor_ros.ros.outputs.base import OUTPUTS, Output, OutputConfig, VolumeScene
from motion_predictor_ros.srv import CollisionProbability
from motion_predictor_ros.volume.capsules import Bodies
from motion_predictor_ros.volume.collision import (
    RobotMotion,
    clearances,
    collision_probability,
    robot_collision_probability,
)

SERVICE_NAME = 'collision_probability'


@dataclass(frozen=True)
class CollisionServiceConfig(OutputConfig):
    """Parameters of the service."""

    enabled: bool = param(True, 'serve collision_probability [-]')


@dataclass(frozen=True)
class Request:
    """A request, checked.

    Attributes:
        starts, ends: [m] of links.
        radii: [m].
        times_s: After the observation.
    """

    starts: Float64[np.ndarray, 'configuration time link xyz=3']
    ends: Float64[np.ndarray, 'configuration time link xyz=3']
    radii: Float64[np.ndarray, ' link']
    times_s: Float64[np.ndarray, ' time']


@OUTPUTS.register('collision_service', CollisionServiceConfig)
class CollisionService(Output[CollisionServiceConfig]):
    """The service `collision_probability`."""

    def open(self) -> None:
        """Create the service."""
        self._scene: VolumeScene | None = None
        self._reason = 'nothing was observed yet: does a source publish skeletons?'
        _warm_up()
        node = self.context.node
        service = node.create_service(CollisionProbability, SERVICE_NAME, self._on_request)
        self.on_close(lambda: node.destroy_service(service))

    def publish(self, scene: VolumeScene) -> None:
        """Answer requests from this scene until the next one."""
        self._scene = scene

    def withhold(self, reason: str) -> None:
        """Refuse requests, with this reason, until the next scene."""
        self._scene, self._reason = None, reason

    def _on_request(self, request: Any, response: Any) -> Any:
        now_ns = int(self.context.node.get_clock().now().nanoseconds)
        try:
            if self._scene is None:
                raise DataError(self._reason)
            answer(request, response, self._scene, now_ns, self.context.stale_after_s)
        except DataError as error:
            response.success, response.message = False, str(error)
        return response


def answer(
    request: Any, response: Any, scene: VolumeScene, now_ns: int, stale_after_s: float
) -> None:
    """Fill in the response.

    Raises:
        DataError: The observation is too old, or the request is malformed.
    """
    age_s = (now_ns - scene.stamp_ns) / NS_PER_S
    if age_s > stale_after_s:
        raise DataError(f'the latest observation is {age_s:.2f} s old, at most {stale_after_s} s')
    if request.header.frame_id != scene.frame_id:
        raise DataError(
            f'frame_id {request.header.frame_id!r}, but people are in {scene.frame_id!r}: give '
            'positions in that frame, or set parameter "fixed_frame"'
        )
    asked = decode_request(request, scene.stamp_ns)
    people = [
        robot_collision_probability(volume, asked.starts, asked.ends, asked.radii, asked.times_s)
        for volume in scene.volumes
    ]
    probabilities = np.stack(people, axis=1) if people else np.zeros((len(asked.starts), 0))
    response.success, response.message = True, ''
    response.header = encode_header(scene.stamp_ns, scene.frame_id)
    response.age_s = age_s
    response.horizon = min((volume.horizon_s for volume in scene.volumes), default=0.0)
    response.person_ids = [volume.person_id for volume in scene.volumes]
    response.validities = bytes(int(volume.validity) for volume in scene.volumes)
    response.probabilities = probabilities.ravel().tolist()
    response.any = (1.0 - np.prod(1.0 - probabilities, axis=1)).tolist()


def _warm_up() -> None:
    one = np.zeros((1, 1, 1, 3))
    bodies = Bodies(one, one, np.ones((1, 1, 1)), np.ones(1), np.zeros(1))
    robot = RobotMotion(one, one, np.ones((1, 1, 1)))
    collision_probability(bodies, robot)
    clearances(bodies, robot)


def decode_request(request: Any, stamp_ns: int) -> Request:
    """Check and read a request.

    Args:
        stamp_ns: Of the volumes, from which times are to count.

    Raises:
        DataError: Lengths do not fit.
    """
    shape = (request.configurations, len(request.times), len(request.radii), 3)
    expected = math.prod(shape)
    starts = np.asarray(request.starts, dtype=np.float64)
    ends = np.asarray(request.ends, dtype=np.float64) if len(request.ends) else starts
    if not expected or len(starts) != expected or len(ends) != expected:
        raise DataError(
            f'{shape[0]} configurations x {shape[1]} times x {shape[2]} radii x 3 need {expected} '
            f'numbers (at least one of each) in starts and ends, got {len(starts)} and {len(ends)}'
        )
    stamp = request.header.stamp
    asked_ns = stamp.sec * NS_PER_S + stamp.nanosec
    later_s = (asked_ns - stamp_ns) / NS_PER_S if asked_ns else 0.0
    return Request(
        starts.reshape(shape),
        ends.reshape(shape),
        np.asarray(request.radii, dtype=np.float64),
        np.asarray(request.times, dtype=np.float64) + later_s,
    )
