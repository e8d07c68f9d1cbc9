# SPDX-License-Identifier: Apache-2.0
"""Body frames: nothing is lost on the way in, and the room does not matter."""

import math

import pytest
import torch
from models import MotionDEQConfig, people
from torch import Tensor

from motion_predictor_ros.density.body_frame import BodyFrame, body_frame, leave
from motion_predictor_ros.errors import ConfigError
from motion_predictor_ros.skeleton.layout import SkeletonLayout

NAMES = SkeletonLayout.load('body18').joint_names
POSITIONS = people(3, MotionDEQConfig(joints=18, past=7))


def turn_about_z(angle: float) -> Tensor:
    cos, sin = math.cos(angle), math.sin(angle)
    return torch.tensor([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])


def entered(frame: BodyFrame, positions: Tensor) -> Tensor:
    return frame.enter(positions, frame.place(positions[:, 4]))


def moved(positions: Tensor) -> Tensor:
    return positions @ turn_about_z(2.0).T + torch.tensor([3.0, -8.0, 0.0])


def test_leaving_undoes_entering() -> None:
    frame = body_frame(NAMES)
    placement = frame.place(POSITIONS[:, 4])
    back = leave(frame, frame.enter(POSITIONS, placement), placement)
    torch.testing.assert_close(back, POSITIONS, atol=1e-12, rtol=0)


def test_the_person_is_at_the_origin_and_faces_x() -> None:
    frame = body_frame(NAMES)
    last = entered(frame, POSITIONS)[:, 4]
    hips = last[:, NAMES.index('l_hip')] - last[:, NAMES.index('r_hip')]
    torch.testing.assert_close(hips[:, 0], torch.zeros(3), atol=1e-12, rtol=0)
    assert bool((hips[:, 1] > 0).all())
    root = last[:, NAMES.index('pelvis')]
    torch.testing.assert_close(root[:, :2], torch.zeros(3, 2), atol=1e-12, rtol=0)
    height = POSITIONS[:, 4, NAMES.index('pelvis'), 2]
    torch.testing.assert_close(root[:, 2], height)


def test_turning_and_shifting_the_room_changes_no_pose() -> None:
    frame = body_frame(NAMES)
    gap = entered(frame, moved(POSITIONS)) - entered(frame, POSITIONS)
    assert float(gap.abs().max()) < 1e-12


def test_positions_themselves_change_when_the_room_turns() -> None:
    """Control of the test above."""
    offsets = POSITIONS - POSITIONS[:, :, :1]
    turned = moved(POSITIONS) - moved(POSITIONS)[:, :, :1]
    assert float((turned - offsets).abs().max()) > 0.1


def test_joints_that_are_needed_are_named() -> None:
    with pytest.raises(ConfigError, match='l_hip'):
        body_frame(('pelvis', 'head'))


def test_numpy_enters_as_torch_does() -> None:
    frame, positions = body_frame(NAMES), POSITIONS.numpy()
    placement = frame.place(positions[:, 4])
    poses = torch.from_numpy(frame.enter(positions, placement))
    torch.testing.assert_close(poses, entered(frame, POSITIONS), atol=1e-12, rtol=0)
    plain = frame.place(POSITIONS[:, 4])
    torch.testing.assert_close(torch.from_numpy(placement.origin), plain.origin)
    torch.testing.assert_close(torch.from_numpy(placement.rotation), plain.rotation)
