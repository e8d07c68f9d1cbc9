# SPDX-License-Identifier: Apache-2.0
"""Play the shipped recording into the predictor, over and over; RViz shows it if installed.

ros2 launch motion_predictor_ros demo.launch.py
"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.substitutions import FindPackageShare

from motion_predictor_ros.resources import share_file

PACKAGE = 'motion_predictor_ros'


def generate_launch_description() -> LaunchDescription:
    replay = PathJoinSubstitution([FindPackageShare(PACKAGE), 'launch', 'replay.launch.py'])
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                'bag',
                default_value=str(share_file('demo', 'demo.mcap')),
                description='the shipped recording: four animated people',
            ),
            DeclareLaunchArgument(
                'rate', default_value='1.0', description='play faster or slower'
            ),
            DeclareLaunchArgument(
                'loop', default_value='true', description='begin again at the end'
            ),
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(replay),
                launch_arguments=[
                    (name, LaunchConfiguration(name)) for name in ('bag', 'rate', 'loop')
                ],
            ),
        ]
    )
