# SPDX-License-Identifier: Apache-2.0
"""Play a bag of any source into predictor and monitor, in the bag's time; RViz if installed.

ros2 launch motion_predictor_ros replay.launch.py bag:=walk.mcap source:=zed input:=/zed/bodies

The launch ends with the bag.
"""

import os

from ament_index_python.packages import PackageNotFoundError, get_package_prefix
from launch import LaunchContext, LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    IncludeLaunchDescription,
    OpaqueFunction,
    Shutdown,
)
from launch.conditions import IfCondition
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

PACKAGE = 'motion_predictor_ros'
SHARE = FindPackageShare(PACKAGE)

# Passed on to predictor.launch.py, which describes them.
PASSED_ON = ('source', 'layout', 'name_pattern', 'associate', 'fixed_frame', 'extrinsic')


def installed(package: str) -> str:
    try:
        get_package_prefix(package)
    except PackageNotFoundError:
        return 'false'
    return 'true'


def check_bag(context: LaunchContext) -> None:
    """Refuse a bag that is not there, before any process starts."""
    path = LaunchConfiguration('bag').perform(context)
    if not os.path.exists(path):
        raise RuntimeError(f'bag: no file or folder {path!r} (from {os.getcwd()})')


def player(context: LaunchContext) -> list[Node]:
    """Play once the predictor is active, however long its first start compiles."""
    loop, monitor = (
        IfCondition(LaunchConfiguration(name)).evaluate(context) for name in ('loop', 'monitor')
    )
    namespace = LaunchConfiguration('namespace').perform(context).strip('/')
    predictor = f'/{namespace}/motion_predictor' if namespace else '/motion_predictor'
    return [
        Node(
            package=PACKAGE,
            executable='play_bag',
            output='screen',
            arguments=[
                LaunchConfiguration('bag'),
                '--rate',
                LaunchConfiguration('rate'),
                '--wait-for-active',
                predictor,
                '--wait-for-subscribers',
                '2' if monitor else '1',
                *(['--loop'] if loop else []),
            ],
            on_exit=Shutdown(reason='the bag was played, or cannot be'),
        )
    ]


def arguments() -> list[DeclareLaunchArgument]:
    return [
        DeclareLaunchArgument('bag', description='rosbag2 folder, .mcap or .db3'),
        DeclareLaunchArgument('rate', default_value='1.0', description='play faster or slower'),
        DeclareLaunchArgument('loop', default_value='false', description='begin again at the end'),
        DeclareLaunchArgument(
            'params_file',
            default_value=PathJoinSubstitution([SHARE, 'config', 'predictor.yaml']),
            description='parameters of the predictor',
        ),
        DeclareLaunchArgument(
            'input', default_value='/skeletons', description='topic of the skeletons'
        ),
        *[
            DeclareLaunchArgument(name, default_value='', description='see predictor.launch.py')
            for name in PASSED_ON
        ],
        DeclareLaunchArgument(
            'monitor',
            default_value='true',
            description='score predictions by later observations: live_score, /diagnostics',
        ),
        DeclareLaunchArgument(
            'rviz',
            default_value=installed('rviz2'),
            description='show it in RViz; default: if it is installed',
        ),
    ]


def generate_launch_description() -> LaunchDescription:
    predictor = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(
            PathJoinSubstitution([SHARE, 'launch', 'predictor.launch.py'])
        ),
        launch_arguments=[
            *[
                (name, LaunchConfiguration(name))
                for name in ('params_file', 'input', 'monitor', 'rviz', *PASSED_ON)
            ],
            ('use_sim_time', 'true'),
        ],
    )
    return LaunchDescription(
        [
            *arguments(),
            OpaqueFunction(function=check_bag),
            predictor,
            OpaqueFunction(function=player),
        ]
    )
