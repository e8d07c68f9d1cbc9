# SPDX-License-Identifier: Apache-2.0
"""Each planner file holds what it rests on: topic names, heights, ranges, time-outs.

The rules of Nav2 and STVL that are applied here are those of their sources: the collision monitor
takes points with min_height <= z <= max_height in its base frame (some releases: in the frame of
the cloud), a costmap's layers resolve relative topics in the costmap's namespace, and their range
and heights are parameters of each source, not of the layer.
"""

from typing import Any

import pytest
import yaml

from motion_predictor_ros.resources import share_file
from motion_predictor_ros.ros.outputs.obstacle_cloud import ObstacleCloudConfig

BASE_HEIGHTS_M = (0.0, 0.1, 0.22, 0.5, 1.0)
"""Of the base frame above the floor: base_footprint, base_link of small and of large robots."""

DEFAULT_BAND_M = 0.05, 0.5
"""The collision monitor's own min_height and max_height."""


def read(name: str) -> Any:
    return yaml.safe_load(share_file('config', 'planners', name).read_text(encoding='utf-8'))


def costmap(name: str) -> Any:
    return read(name)['local_costmap']['local_costmap']['ros__parameters']


def collision_monitor() -> Any:
    return read('nav2_collision_monitor.yaml')['collision_monitor']['ros__parameters']


def passes(band_m: tuple[float, float], base_height_m: float) -> bool:
    """Return whether a point of our cloud is within the band, in either frame of reference."""
    height_m = ObstacleCloudConfig().height_m
    return all(band_m[0] <= z <= band_m[1] for z in (height_m, height_m - base_height_m))


def resolved(topic: str, namespace: str) -> str:
    return topic if topic.startswith('/') else f'{namespace}/{topic}'


@pytest.mark.parametrize('base_height_m', BASE_HEIGHTS_M)
def test_the_collision_monitor_sees_people_from_a_base_of_any_height(base_height_m: float) -> None:
    people = collision_monitor()['people']
    assert passes((people['min_height'], people['max_height']), base_height_m)


def test_its_default_band_does_not_see_people_from_a_base_above_the_floor() -> None:
    assert passes(DEFAULT_BAND_M, 0.0)
    assert not passes(DEFAULT_BAND_M, 0.22)


def test_the_collision_monitor_stops_on_one_point_and_on_silence() -> None:
    monitor, ours = collision_monitor(), ObstacleCloudConfig()
    assert {monitor[name]['min_points'] for name in monitor['polygons']} == {1}
    assert 1.0 / ours.rate_hz < monitor['source_timeout'] <= 1.0  # 0 would wait for ever
    for source in monitor['observation_sources']:
        assert resolved(monitor[source]['topic'], '/any') == '/obstacle_cloud'


def test_stvl_reads_our_topic_from_within_the_namespace_of_its_costmap() -> None:
    layer = costmap('nav2_stvl.yaml')['people_layer']
    source = layer[layer['observation_sources']]
    assert resolved(source['topic'], '/local_costmap') == '/obstacle_cloud'
    assert resolved('obstacle_cloud', '/local_costmap') != '/obstacle_cloud'  # as it was


def test_stvl_marks_what_is_in_range_and_forgets_it() -> None:
    layer = costmap('nav2_stvl.yaml')['people_layer']
    source = layer[layer['observation_sources']]
    assert layer['voxel_decay'] > 0
    assert 'obstacle_range' not in layer and source['obstacle_range'] >= 10.0
    assert passes((source['min_obstacle_height'], source['max_obstacle_height']), 1.0)


def test_the_static_layer_reads_our_topic_and_keeps_probabilities() -> None:
    static = costmap('nav2_static_layer.yaml')
    layer = static['people_layer']
    assert resolved(layer['map_topic'], '/local_costmap') == '/occupancy_grid'
    assert static['rolling_window'] and static['use_maximum'] and not static['trinary_costmap']
    assert static['lethal_cost_threshold'] == 100 and layer['map_subscribe_transient_local']


@pytest.mark.parametrize('name', ['nav2_stvl.yaml', 'nav2_static_layer.yaml'])
def test_people_are_inflated_like_other_obstacles(name: str) -> None:
    plugins = costmap(name)['plugins']
    assert plugins.index('people_layer') < plugins.index('inflation_layer')
