# SPDX-License-Identifier: Apache-2.0
"""Which sources are tried over DDS, where, and with whom."""

from foreign_messages import Joints
from skeleton.test_sources import POSE, joints_of

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

FRAME = 'room'


def person(layout: str) -> dict[str, Joints]:
    """Return somebody who raises the left arm, as the source sees them."""
    return {'7': joints_of(layout, POSE)}


def topic(source: str) -> str:
    return '/tf' if source == 'tf' else f'/{source}/skeletons'
