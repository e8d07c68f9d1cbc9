# SPDX-License-Identifier: Apache-2.0
"""Answer CollisionProbability from the latest volumes, or say why not."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64
from rclpy.node import Node

from motion_predictor_ros.conventions import NS_PER_S
from motion_predictor_ros.errors import DataError
from motion_predictor_ros.ros.encode import encode_header
from motion_predictor_ros.srv import CollisionProbability
from motion_predictor_ros.volume.capsules import Bodies
from motion_predictor_ros.volume.collision import (
    RobotMotion,
    collision_probability,
    robot_collision_probability,
)
from motion_predictor_ros.volume.types import SafetyVolume

NAME = 'collision_probability'


@dataclass(frozen=True)
class Latest:
    """What was said last.

    Attributes:
        volumes: Everybody's.
        stamp_ns: Of the observation.
    """

    volumes: tuple[SafetyVolume, ...]
    stamp_ns: int
    frame_id: str


@dataclass(frozen=True)
class Asked:
    """A request, checked.

    Attributes:
        starts, ends: [m] of links.
        radii: [m].
        times_s: After the observation.
    """

    starts: Float64[np.ndarray, 'robot given link xyz=3']
    ends: Float64[np.ndarray, 'robot given link xyz=3']
    radii: Float64[np.ndarray, ' link']
    times_s: Float64[np.ndarray, ' given']


class CollisionService:
    """Serves while it is open."""

    def __init__(
        self, node: Node, latest: Callable[[], Latest | None], stale_after_s: float
    ) -> None:
        """Compile what is needed, so that the first request does not wait, and serve.

        Args:
            latest: Gives what was said last; None while nothing was.
        """
        self._node, self._latest, self._stale_after_s = node, latest, stale_after_s
        _warm_up()
        self._service = node.create_service(CollisionProbability, NAME, self._on_request)

    def close(self) -> None:
        """Serve no more."""
        self._node.destroy_service(self._service)

    def _on_request(self, request: Any, response: Any) -> Any:
        try:
            answer(request, response, self._latest(), self._now_ns(), self._stale_after_s)
        except DataError as error:
            response.success, response.message = False, str(error)
        return response

    def _now_ns(self) -> int:
        return int(self._node.get_clock().now().nanoseconds)


def answer(
    request: Any, response: Any, latest: Latest | None, now_ns: int, stale_after_s: float
) -> None:
    """Fill in the response.

    Raises:
        DataError: Nothing can be said, or the request is malformed: says which.
    """
    if latest is None:
        raise DataError('nobody was observed yet: is anything publishing skeletons?')
    age_s = (now_ns - latest.stamp_ns) / NS_PER_S
    if age_s > stale_after_s:
        raise DataError(f'the latest observation is {age_s:.2f} s old, at most {stale_after_s} s')
    if request.header.frame_id != latest.frame_id:
        raise DataError(
            f'frame_id {request.header.frame_id!r}, but people are in {latest.frame_id!r}: give '
            'positions in that frame, or set parameter "fixed_frame"'
        )
    asked = decode_request(request, latest.stamp_ns)
    people = [
        robot_collision_probability(volume, asked.starts, asked.ends, asked.radii, asked.times_s)
        for volume in latest.volumes
    ]
    each = np.stack(people, axis=1) if people else np.zeros((len(asked.starts), 0))
    response.success, response.message = True, ''
    response.header = encode_header(latest.stamp_ns, latest.frame_id)
    response.age_s = age_s
    response.horizon = min((volume.horizon_s for volume in latest.volumes), default=0.0)
    response.person_ids = [volume.person_id for volume in latest.volumes]
    response.validities = bytes(int(volume.validity) for volume in latest.volumes)
    response.probabilities = each.ravel().tolist()
    response.any = (1.0 - np.prod(1.0 - each, axis=1)).tolist()


def _warm_up() -> None:
    one = np.zeros((1, 1, 1, 3))
    bodies = Bodies(one, one, np.ones((1, 1, 1)), np.ones(1), np.zeros(1))
    collision_probability(bodies, RobotMotion(one, one, np.ones((1, 1, 1))))


def decode_request(request: Any, stamp_ns: int) -> Asked:
    """Check and read a request.

    Args:
        stamp_ns: Of the volumes, from which times are to count.

    Raises:
        DataError: Lengths do not fit.
    """
    robots, given, links = request.configurations, len(request.times), len(request.radii)
    wanted = robots * given * links * 3
    starts = np.asarray(request.starts, dtype=np.float64)
    ends = np.asarray(request.ends, dtype=np.float64) if len(request.ends) else starts
    if not wanted or len(starts) != wanted or len(ends) != wanted:
        raise DataError(
            f'{robots} configurations x {given} times x {links} radii x 3 need {wanted} numbers '
            f'(at least one of each) in starts and ends, got {len(starts)} and {len(ends)}'
        )
    shape = (robots, given, links, 3)
    stamp = request.header.stamp
    asked_ns = stamp.sec * NS_PER_S + stamp.nanosec
    later_s = (asked_ns - stamp_ns) / NS_PER_S if asked_ns else 0.0
    return Asked(
        starts.reshape(shape),
        ends.reshape(shape),
        np.asarray(request.radii, dtype=np.float64),
        np.asarray(request.times, dtype=np.float64) + later_s,
    )
