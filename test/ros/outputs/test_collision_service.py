# SPDX-License-Identifier: Apache-2.0
"""Requests are read as they are meant, or refused with what is wrong."""

from typing import Any

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from motion_predictor_ros.srv import CollisionProbability
from safety_volumes import STAMP_NS, volume
from std_msgs.msg import Header

from motion_predictor_ros.errors import DataError
from motion_predictor_ros.ros.outputs.base import VolumeScene
from motion_predictor_ros.ros.outputs.collision_service import answer, decode_request

SCENE = VolumeScene((volume(),), STAMP_NS, 'map')
NOW_NS = STAMP_NS + 100_000_000


def request(**changes: Any) -> CollisionProbability.Request:
    plain: dict[str, Any] = {
        'header': Header(frame_id='map'),
        'configurations': 2,
        'times': [0.0, 0.5],
        'starts': np.arange(12.0).tolist(),
        'radii': [0.1],
    }
    return CollisionProbability.Request(**plain | changes)


def respond(asked: CollisionProbability.Request, scene: VolumeScene = SCENE) -> Any:
    response = CollisionProbability.Response()
    answer(asked, response, scene, NOW_NS, 0.5)
    return response


def test_numbers_are_read_configuration_by_configuration() -> None:
    asked = decode_request(request(), STAMP_NS)
    np.testing.assert_array_equal(asked.starts[1, 0, 0], [6.0, 7.0, 8.0])
    np.testing.assert_array_equal(asked.ends, asked.starts)  # spheres
    np.testing.assert_array_equal(asked.times_s, [0.0, 0.5])


def test_times_count_from_the_stamp_of_the_request() -> None:
    late_ns = STAMP_NS + 250_000_000
    stamp = Time(sec=late_ns // 10**9, nanosec=late_ns % 10**9)
    asked = decode_request(request(header=Header(stamp=stamp, frame_id='map')), STAMP_NS)
    np.testing.assert_allclose(asked.times_s, [0.25, 0.75])


@pytest.mark.parametrize(
    ('changes', 'said'),
    [
        ({'header': Header(frame_id='odom')}, "frame_id 'odom', but people are in 'map'"),
        ({'starts': [0.0] * 11}, 'need 12 numbers'),
        ({'ends': [0.0] * 3}, 'need 12 numbers'),
        ({'configurations': 0, 'starts': []}, 'at least one of each'),
        ({'radii': []}, 'at least one of each'),
        ({'times': [0.5, 0.5]}, 'must increase'),
        ({'starts': [float('nan')] * 12}, 'finite'),
        ({'radii': [-0.1]}, 'radii must be >= 0'),
        ({'times': [0.5], 'starts': [0.0] * 6, 'radii': [-0.1]}, 'radii must be >= 0'),
    ],
)
def test_malformed_requests_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=said):
        respond(request(**changes))


def test_an_old_observation_answers_nothing() -> None:
    old = VolumeScene((volume(),), NOW_NS - 600_000_000, 'map')
    with pytest.raises(DataError, match=r'0\.60 s old'):
        respond(request(), old)


def test_nobody_is_met_where_nobody_is() -> None:
    found = respond(request(), VolumeScene((), STAMP_NS, 'map'))
    assert found.success and list(found.any) == [0.0, 0.0] and not found.person_ids
