# SPDX-License-Identifier: Apache-2.0
"""The parameter files for planners say what is true of our topics and parameters."""

from typing import Any

import yaml

from motion_predictor_ros.resources import share_file
from motion_predictor_ros.ros.outputs.obstacle_cloud import ObstacleCloudConfig


def read(name: str) -> Any:
    return yaml.safe_load(share_file('config', 'planners', name).read_text(encoding='utf-8'))


def test_the_collision_monitor_sees_our_points_and_notices_silence() -> None:
    monitor = read('nav2_collision_monitor.yaml')['collision_monitor']['ros__parameters']
    people, ours = monitor['people'], ObstacleCloudConfig()
    assert people['topic'] == 'obstacle_cloud'
    assert people['min_height'] < ours.height_m < people['max_height']
    assert 1.0 / ours.rate_hz < monitor['source_timeout'] <= 1.0
    assert {monitor[name]['min_points'] for name in monitor['polygons']} == {1}


def test_costmap_layers_are_set_so_that_nothing_is_lost_or_left() -> None:
    stvl = read('nav2_stvl.yaml')['local_costmap']['local_costmap']['ros__parameters']
    layer = stvl['people_layer']
    source = layer[layer['observation_sources']]
    ours = ObstacleCloudConfig()
    assert source['topic'] == 'obstacle_cloud' and layer['voxel_decay'] > 0
    assert source['min_obstacle_height'] < ours.height_m < source['max_obstacle_height']
    static = read('nav2_static_layer.yaml')['local_costmap']['local_costmap']['ros__parameters']
    assert static['rolling_window'] and static['use_maximum'] and not static['trinary_costmap']
    assert static['people_layer']['map_subscribe_transient_local']
    for costmap in (stvl, static):
        assert costmap['plugins'].index('people_layer') < costmap['plugins'].index(
            'inflation_layer'
        )
