# SPDX-License-Identifier: Apache-2.0
"""Predict live: skeletons in, predicted motion and markers out.

ros2 launch motion_predictor_ros predictor.launch.py input:=/tracker/skeletons rviz:=true
"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

PACKAGE = 'motion_predictor_ros'
CONFIG = [FindPackageShare(PACKAGE), 'config']


def generate_launch_description() -> LaunchDescription:
    use_sim_time = {'use_sim_time': LaunchConfiguration('use_sim_time')}
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                'params_file',
                default_value=PathJoinSubstitution([*CONFIG, 'predictor.yaml']),
                description='parameters of the node',
            ),
            DeclareLaunchArgument(
                'namespace', default_value='', description='namespace of the node and its topics'
            ),
            DeclareLaunchArgument(
                'input', default_value='skeletons', description='topic of the observations'
            ),
            DeclareLaunchArgument(
                'use_sim_time', default_value='false', description='take the time from /clock'
            ),
            DeclareLaunchArgument('rviz', default_value='false', description='show it in RViz'),
            Node(
                package=PACKAGE,
                executable='predictor_node',
                name='motion_predictor',
                namespace=LaunchConfiguration('namespace'),
                output='screen',
                parameters=[LaunchConfiguration('params_file'), use_sim_time],
                remappings=[('skeletons', LaunchConfiguration('input'))],
            ),
            Node(
                package='rviz2',
                executable='rviz2',
                name='rviz',
                arguments=['-d', PathJoinSubstitution([*CONFIG, 'view.rviz'])],
                parameters=[use_sim_time],
                condition=IfCondition(LaunchConfiguration('rviz')),
            ),
        ]
    )
