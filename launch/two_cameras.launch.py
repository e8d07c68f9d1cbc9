# SPDX-License-Identifier: Apache-2.0
"""Two cameras, one predictor each, in one fixed frame.

A person in both images is predicted twice, under /left and under /right: nothing is fused.

ros2 launch motion_predictor_ros two_cameras.launch.py source:=zed fixed_frame:=cell \
    left_input:=/zed_left/zed_node/body_trk/skeletons \
    right_input:=/zed_right/zed_node/body_trk/skeletons
"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.substitutions import FindPackageShare

SHARE = FindPackageShare('motion_predictor_ros')
SIDES = ('left', 'right')

# The same for both cameras; passed on to predictor.launch.py, which describes them.
COMMON = {
    'source': 'native',
    'layout': '',
    'name_pattern': '',
    'associate': '',
    'fixed_frame': '',
    'use_sim_time': 'false',
}


def camera(side: str) -> IncludeLaunchDescription:
    """Start one predictor. Sets every argument: the next include would inherit the values."""
    return IncludeLaunchDescription(
        PythonLaunchDescriptionSource(
            PathJoinSubstitution([SHARE, 'launch', 'predictor.launch.py'])
        ),
        launch_arguments=[
            ('namespace', side),
            ('input', LaunchConfiguration(f'{side}_input')),
            ('extrinsic', LaunchConfiguration(f'{side}_extrinsic')),
            ('params_file', LaunchConfiguration('params_file')),
            ('rviz', 'false'),
            *[(name, LaunchConfiguration(name)) for name in COMMON],
        ],
    )


def generate_launch_description() -> LaunchDescription:
    per_camera = [
        argument
        for side in SIDES
        for argument in (
            DeclareLaunchArgument(
                f'{side}_input',
                default_value=f'/{side}/skeletons',
                description=f'topic of the {side} camera',
            ),
            DeclareLaunchArgument(
                f'{side}_extrinsic',
                default_value='',
                description=f"{side} camera in fixed_frame: 'x y z qx qy qz qw'; empty asks TF",
            ),
        )
    ]
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                'params_file',
                default_value=PathJoinSubstitution([SHARE, 'config', 'predictor.yaml']),
                description='parameters of both predictors',
            ),
            *[
                DeclareLaunchArgument(
                    name, default_value=value, description='see predictor.launch.py'
                )
                for name, value in COMMON.items()
            ],
            *per_camera,
            *[camera(side) for side in SIDES],
        ]
    )
