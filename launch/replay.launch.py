# SPDX-License-Identifier: Apache-2.0
"""Play a bag of any source into predictor and monitor, in the bag's time; RViz if installed.

ros2 launch motion_predictor_ros replay.launch.py bag:=walk.mcap source:=zed input:=/zed/bodies
"""

from ament_index_python.packages import PackageNotFoundError, get_package_prefix
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

PACKAGE = 'motion_predictor_ros'
SHARE = FindPackageShare(PACKAGE)

# Handed on to predictor.launch.py, which says what they are.
HANDED_ON = ('source', 'layout', 'name_pattern', 'associate', 'fixed_frame', 'extrinsic')


def installed(package: str) -> str:
    try:
        get_package_prefix(package)
    except PackageNotFoundError:
        return 'false'
    return 'true'


def player(context: LaunchContext) -> list[Node]:
    """Play once everybody who is started here listens."""
    given = {name: LaunchConfiguration(name).perform(context) for name in ('loop', 'monitor')}
    listeners = 2 if given['monitor'] == 'true' else 1
    return [
        Node(
            package=PACKAGE,
            executable='play_bag',
            output='screen',
            arguments=[
                LaunchConfiguration('bag'),
                '--rate',
                LaunchConfiguration('rate'),
                '--wait-for-subscribers',
                str(listeners),
                *(['--loop'] if given['loop'] == 'true' else []),
            ],
        )
    ]


def arguments() -> list[DeclareLaunchArgument]:
    return [
        DeclareLaunchArgument('bag', description='rosbag2 folder, .mcap or .db3'),
        DeclareLaunchArgument('rate', default_value='1.0', description='faster or slower'),
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
            for name in HANDED_ON
        ],
        DeclareLaunchArgument(
            'monitor',
            default_value='true',
            description='judge predictions by what the bag says later: live_score',
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
                for name in ('params_file', 'input', 'monitor', 'rviz', *HANDED_ON)
            ],
            ('use_sim_time', 'true'),
        ],
    )
    return LaunchDescription([*arguments(), predictor, OpaqueFunction(function=player)])
