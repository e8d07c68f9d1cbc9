# SPDX-License-Identifier: Apache-2.0
"""Predict live, from any source: skeletons in, predicted motion and markers out.

ros2 launch motion_predictor_ros predictor.launch.py source:=zed fixed_frame:=map \
    input:=/zed/zed_node/body_trk/skeletons
"""

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

PACKAGE = 'motion_predictor_ros'
CONFIG = [FindPackageShare(PACKAGE), 'config']
KEPT = 'empty: as params_file says'

# Launch arguments that set a parameter of the nodes.
PARAMETERS = {
    'source': (
        'source',
        f'native, azure_kinect, zed, yolo, pose_array, hiros, mocap4r2, tf; {KEPT}',
    ),
    'layout': ('skeleton.source_layout', f"layout of the source's joints; {KEPT}"),
    'name_pattern': ('skeleton.name_pattern', f'names of TF frames and markers; {KEPT}'),
    'associate': ('associate', f'true tells people apart by their motion; {KEPT}'),
    'fixed_frame': ('fixed_frame', f'frame of all that is published; {KEPT}'),
    'extrinsic': ('extrinsic', f"the source's frame in fixed_frame: 'x y z qx qy qz qw'; {KEPT}"),
}


def nodes(context: LaunchContext) -> list[Node]:
    """Start what is asked for; arguments that were not given leave params_file alone."""
    given = {
        parameter: LaunchConfiguration(argument).perform(context)
        for argument, (parameter, _) in PARAMETERS.items()
    }
    chosen = {parameter: value for parameter, value in given.items() if value}
    common = {
        'package': PACKAGE,
        'namespace': LaunchConfiguration('namespace'),
        'output': 'screen',
        'remappings': [('skeletons', LaunchConfiguration('input'))],
    }
    file = LaunchConfiguration('params_file')
    given = {'use_sim_time': LaunchConfiguration('use_sim_time'), **chosen}
    predictor = Node(
        executable='predictor_node', name='motion_predictor', parameters=[file, given], **common
    )
    monitor = Node(
        executable='monitor_node',
        name='motion_monitor',
        parameters=[PathJoinSubstitution([*CONFIG, 'monitor.yaml']), file, given],
        condition=IfCondition(LaunchConfiguration('monitor')),
        **common,
    )
    return [predictor, monitor, rviz(chosen.get('fixed_frame', ''))]


def rviz(fixed_frame: str) -> Node:
    """Show our view; without a frame in that of the view, which is the demo's."""
    return Node(
        package='rviz2',
        executable='rviz2',
        name='rviz',
        arguments=[
            '-d',
            PathJoinSubstitution([*CONFIG, 'view.rviz']),
            *(['-f', fixed_frame] if fixed_frame else []),
        ],
        parameters=[{'use_sim_time': LaunchConfiguration('use_sim_time')}],
        condition=IfCondition(LaunchConfiguration('rviz')),
    )


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
                description='topic of the observations; source tf hears /tf',
            ),
            *[
                DeclareLaunchArgument(argument, default_value='', description=description)
                for argument, (_, description) in PARAMETERS.items()
            ],
            DeclareLaunchArgument(
                'use_sim_time', default_value='false', description='take the time from /clock'
            ),
            DeclareLaunchArgument('rviz', default_value='false', description='show it in RViz'),
            DeclareLaunchArgument(
                'monitor',
                default_value='false',
                description='judge predictions by what comes after: live_score, /diagnostics',
            ),
            OpaqueFunction(function=nodes),
        ]
    )
