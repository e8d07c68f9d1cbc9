# SPDX-License-Identifier: Apache-2.0
"""Play a bag of skeletons into the predictor, in the bag's own time.

ros2 launch motion_predictor_ros replay.launch.py bag:=walk.mcap rviz:=true
"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.conditions import IfCondition, UnlessCondition
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

PACKAGE = 'motion_predictor_ros'


def play_bag(*arguments: str, condition: IfCondition) -> Node:
    return Node(
        package=PACKAGE,
        executable='play_bag',
        output='screen',
        arguments=[
            LaunchConfiguration('bag'),
            '--rate',
            LaunchConfiguration('rate'),
            *arguments,
        ],
        condition=condition,
    )


def generate_launch_description() -> LaunchDescription:
    share = FindPackageShare(PACKAGE)
    loop = LaunchConfiguration('loop')
    return LaunchDescription(
        [
            DeclareLaunchArgument('bag', description='rosbag2 folder, .mcap or .db3'),
            DeclareLaunchArgument('rate', default_value='1.0', description='faster or slower'),
            DeclareLaunchArgument(
                'loop', default_value='false', description='begin again at the end'
            ),
            DeclareLaunchArgument(
                'params_file',
                default_value=PathJoinSubstitution([share, 'config', 'predictor.yaml']),
                description='parameters of the predictor',
            ),
            DeclareLaunchArgument(
                'input', default_value='/skeletons', description='topic of the skeletons'
            ),
            DeclareLaunchArgument('rviz', default_value='false', description='show it in RViz'),
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(
                    PathJoinSubstitution([share, 'launch', 'predictor.launch.py'])
                ),
                launch_arguments=[
                    ('params_file', LaunchConfiguration('params_file')),
                    ('input', LaunchConfiguration('input')),
                    ('rviz', LaunchConfiguration('rviz')),
                    ('use_sim_time', 'true'),
                ],
            ),
            play_bag(condition=UnlessCondition(loop)),
            play_bag('--loop', condition=IfCondition(loop)),
        ]
    )
