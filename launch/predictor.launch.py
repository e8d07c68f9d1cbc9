# SPDX-License-Identifier: Apache-2.0
"""Predict live, from any source: skeletons in, predicted motion and markers out.

ros2 launch motion_predictor_ros predictor.launch.py source:=zed fixed_frame:=map \
    input:=/zed/zed_node/body_trk/skeletons
"""

import os
from pathlib import Path

from ament_index_python.packages import PackageNotFoundError, get_package_prefix
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from motion_predictor_ros.config import sections_of_our_nodes

PACKAGE = 'motion_predictor_ros'
CONFIG = [FindPackageShare(PACKAGE), 'config']
KEPT = 'empty: as params_file says'

# Launch arguments that set a parameter of the nodes: its name, type and description.
# Written by `make params`.
PARAMETERS = {
    'source': (
        'source',
        str,
        'source of skeletons, see docs/sources.md: azure_kinect, hiros, mocap4r2, native, '
        'pose_array, tf, yolo, zed',
    ),
    'layout': (
        'skeleton.source_layout',
        str,
        "layout of the source's joints; empty: its default, else `layout`",
    ),
    'name_pattern': (
        'skeleton.name_pattern',
        str,
        'names of TF frames and markers',
    ),
    'associate': (
        'associate',
        bool,
        "assign ids by motion instead of the tracker's ids",
    ),
    'fixed_frame': (
        'fixed_frame',
        str,
        'frame of everything published; empty: the frame of the source',
    ),
    'extrinsic': (
        'extrinsic',
        str,
        "pose of the source in fixed_frame, 'x y z qx qy qz qw'; empty: from TF",
    ),
}
# End of what `make params` writes.


def nodes(context: LaunchContext) -> list[Node]:
    """Check all arguments before a process starts; empty ones leave params_file alone."""
    file = parameter_file(context)
    parameters = {'use_sim_time': argument('use_sim_time', bool)}
    for name, (parameter, kind, _) in PARAMETERS.items():
        if LaunchConfiguration(name).perform(context):
            parameters[parameter] = argument(name, kind)
    common = {
        'package': PACKAGE,
        'namespace': LaunchConfiguration('namespace'),
        'output': 'screen',
        'remappings': [('skeletons', LaunchConfiguration('input'))],
    }
    predictor = Node(
        executable='predictor_node',
        name='motion_predictor',
        parameters=[file, parameters],
        **common,
    )
    monitor = Node(
        executable='monitor_node',
        name='motion_monitor',
        parameters=[PathJoinSubstitution([*CONFIG, 'monitor.yaml']), file, parameters],
        condition=IfCondition(LaunchConfiguration('monitor')),
        **common,
    )
    return [predictor, monitor, *rviz(context)]


def argument(name: str, kind: type) -> ParameterValue:
    """Give a launch argument, which is text, the type of its parameter."""
    return ParameterValue(LaunchConfiguration(name), value_type=kind)


def parameter_file(context: LaunchContext) -> str:
    """Refuse a file that is not there, which launch_ros only warns of, or that sets nothing."""
    path = LaunchConfiguration('params_file').perform(context)
    if not os.path.isfile(path):
        raise RuntimeError(f'params_file: no file {path!r} (from {os.getcwd()})')
    sections_of_our_nodes(Path(path))
    return path


def rviz(context: LaunchContext) -> list[Node]:
    """Show our view of the topics in the namespace, in `fixed_frame` or the view's own frame."""
    if not IfCondition(LaunchConfiguration('rviz')).evaluate(context):
        return []
    try:
        get_package_prefix('rviz2')
    except PackageNotFoundError as error:
        raise RuntimeError(
            'rviz:=true, but rviz2 is not installed: apt install ros-$ROS_DISTRO-rviz2'
        ) from error
    fixed_frame = LaunchConfiguration('fixed_frame').perform(context)
    return [
        Node(
            package='rviz2',
            executable='rviz2',
            name='rviz',
            namespace=LaunchConfiguration('namespace'),
            arguments=[
                '-d',
                PathJoinSubstitution([*CONFIG, 'view.rviz']),
                *(['-f', fixed_frame] if fixed_frame else []),
            ],
            parameters=[{'use_sim_time': argument('use_sim_time', bool)}],
            remappings=[('/markers', 'markers'), ('/volume_markers', 'volume_markers')],
        )
    ]


def generate_launch_description() -> LaunchDescription:
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
                'input',
                default_value='skeletons',
                description='topic of the observations; source tf reads /tf',
            ),
            *[
                DeclareLaunchArgument(name, default_value='', description=description)
                for name, (_, _, description) in PARAMETERS.items()
            ],
            DeclareLaunchArgument(
                'use_sim_time', default_value='false', description='take the time from /clock'
            ),
            DeclareLaunchArgument('rviz', default_value='false', description='show it in RViz'),
            DeclareLaunchArgument(
                'monitor',
                default_value='false',
                description='score predictions by later observations: live_score, /diagnostics',
            ),
            OpaqueFunction(function=nodes),
        ]
    )
