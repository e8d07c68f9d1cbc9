# SPDX-License-Identifier: Apache-2.0
"""Every source by name: which message it is, and who reads it.

Stage: skeleton.
"""

from dataclasses import dataclass

from motion_predictor_ros.config import SkeletonConfig
from motion_predictor_ros.skeleton.layout import SkeletonLayout
from motion_predictor_ros.skeleton.sources.base import Source
from motion_predictor_ros.skeleton.sources.cameras import AzureKinect, Yolo, Zed
from motion_predictor_ros.skeleton.sources.mocap import Hiros, Mocap4r2, PoseArray
from motion_predictor_ros.skeleton.sources.native import Native
from motion_predictor_ros.skeleton.sources.tf import TfPeople


@dataclass(frozen=True)
class SourceKind:
    """One kind of source.

    Attributes:
        msgtype: As bags name it.
    """

    msgtype: str
    reader: type[Source]

    @property
    def package(self) -> str:
        """The ROS package that defines the message."""
        return self.msgtype.partition('/')[0]


SOURCES = {
    'native': SourceKind('motion_predictor_ros/msg/SkeletonArray', Native),
    'azure_kinect': SourceKind('visualization_msgs/msg/MarkerArray', AzureKinect),
    'zed': SourceKind('zed_msgs/msg/ObjectsStamped', Zed),
    'yolo': SourceKind('yolo_msgs/msg/DetectionArray', Yolo),
    'pose_array': SourceKind('geometry_msgs/msg/PoseArray', PoseArray),
    'hiros': SourceKind('hiros_skeleton_msgs/msg/SkeletonGroup', Hiros),
    'mocap4r2': SourceKind('mocap4r2_msgs/msg/Markers', Mocap4r2),
    'tf': SourceKind('tf2_msgs/msg/TFMessage', TfPeople),
}


def make_source(name: str, layout: SkeletonLayout, config: SkeletonConfig) -> Source:
    """Return the reader of a source.

    Args:
        name: One of `SOURCES`; the configuration lets no other through.

    Raises:
        ConfigError: The configuration does not say what this source needs.
    """
    return SOURCES[name].reader(layout, config)
