# SPDX-License-Identifier: Apache-2.0
"""Which sources are tried over DDS, where, and with whom."""

from typing import Any

import foreign_messages as foreign
import numpy as np
from foreign_messages import Joints
from skeleton.sources.test_sources import POSE, joints_of
from transforms3d import quaternions

from motion_predictor_ros.skeleton.transforms import Rigid

CASES = {
    'azure_kinect': 'azure_kinect32',
    'zed': 'zed38',
    'yolo': 'coco17',
    'pose_array': 'xsens23',
    'hiros': 'azure_kinect32',
    'mocap4r2': 'cmu38',
    'tf': 'rep155',
}
"""Sources, and the layout each speaks in."""

FRAME, BASE, FIXED = 'room', 'base', 'map'
"""The camera's frame stands still on a robot, which drives about in the map."""

_HALF = 0.5**0.5
MOUNTED = Rigid.from_quaternion((0.4, 0.1, 0.5), (0.0, 0.0, _HALF, _HALF))
DEPTH = 1000
"""However slow this machine is now, nothing that is published is lost."""

ROBOT = 'robot1'
"""A namespace with transforms of its own, whose static ones wait for a subscriber of MOUNT."""
MOUNT = '/robot1/mount'

LISTENERS = ('own_frames', ROBOT, 'tf2_frames')
"""Nodes that ask TF: by themselves, in a namespace, and through tf2_ros."""


def person(layout: str) -> dict[str, Joints]:
    """Return somebody who raises the left arm, as the source sees them."""
    return {'7': joints_of(layout, POSE)}


def base_at(stamp_ns: int) -> Rigid:
    """Return how the robot stands in the map; it goes and comes."""
    time_s = (stamp_ns % 10**11) / 1e9
    return Rigid(np.eye(3), np.array([0.5 * np.sin(0.6 * time_s), 2.0, 0.0]))


def transforms(parent: str, child: str, motion: Rigid, stamp_ns: int) -> Any:
    """Return a TFMessage."""
    w, x, y, z = quaternions.mat2quat(motion.turn)
    told = foreign.transform(stamp_ns, parent, child, motion.shift, (x, y, z, w))
    return foreign.make('tf2_msgs/TFMessage', transforms=[told])


def topic(source: str) -> str:
    return '/tf' if source == 'tf' else f'/{source}/skeletons'
