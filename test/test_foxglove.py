# SPDX-License-Identifier: Apache-2.0
"""The Foxglove layout names topics and fields that exist, and recordings explain themselves."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from rosbags.rosbag2 import Reader
from rosbags.typesys import get_types_from_msg

from motion_predictor_ros.data.bags import BagWriter, typestore
from motion_predictor_ros.resources import share_file

TOPICS = {
    '/predicted_motion': 'motion_predictor_ros/msg/PredictedMotionArray',
    '/weighted_futures': 'motion_predictor_ros/msg/WeightedFuturesArray',
    '/markers': 'visualization_msgs/msg/MarkerArray',
    '/volume_markers': 'visualization_msgs/msg/MarkerArray',
    '/obstacle_cloud': 'sensor_msgs/msg/PointCloud2',
    '/probability_cloud': 'sensor_msgs/msg/PointCloud2',
    '/occupancy_grid': 'nav_msgs/msg/OccupancyGrid',
    '/diagnostics': 'diagnostic_msgs/msg/DiagnosticArray',
}


def layout() -> Any:
    return json.loads(share_file('config', 'foxglove.json').read_text(encoding='utf-8'))


def has_field(path: str) -> bool:
    """Return whether a message path, such as '/topic.persons[:].validity', names a field."""
    topic, *names = re.sub(r'\[[^]]*\]', '', path).split('.')
    kind: Any = TOPICS.get(topic)
    for name in names:
        fields = dict(typestore().fielddefs[kind][1]) if kind in typestore().fielddefs else {}
        if name not in fields:
            return False
        description: Any = fields[name]
        while not isinstance(description[1], str):  # arrays and sequences hold another description
            description = description[1][0] if len(description[1]) else ('', '')
            if isinstance(description, str):
                description = ('', description)
        kind = description[1]
    return topic in TOPICS


def test_the_layout_shows_our_topics_and_their_fields() -> None:
    panels = layout()['configById']
    shown = set(panels['3D!people']['topics']) | {
        panels['DiagnosticSummary!state']['topicToRender']
    }
    assert shown <= set(TOPICS) and {'/markers', '/volume_markers'} <= shown
    paths = [line['value'] for line in panels['Plot!age']['paths']]
    assert all(has_field(path) for path in [*paths, panels['RawMessages!motion']['topicPath']])


@pytest.mark.parametrize('path', ['/predicted_motion.ages', '/motion.age_s', '/markers.a.b'])
def test_the_check_of_fields_sees_a_wrong_path(path: str) -> None:
    assert not has_field(path)


def test_each_panel_of_the_layout_is_defined() -> None:
    def panels(node: Any) -> set[str]:
        if isinstance(node, str):
            return {node}
        return panels(node['first']) | panels(node['second'])

    assert panels(layout()['layout']) == set(layout()['configById'])


@pytest.mark.parametrize('topic', sorted(TOPICS))
def test_a_recording_defines_each_type_and_all_that_it_holds(topic: str, tmp_path: Path) -> None:
    """Foxglove, PlotJuggler and others know our messages from the file alone."""
    path = tmp_path / 'live.mcap'
    with BagWriter(path) as bag:
        bag.write(topic, TOPICS[topic], 1, bytes(12))
    with Reader(path) as reader:
        (connection,) = reader.connections
        defined = get_types_from_msg(connection.msgdef.data, connection.msgtype)
    known = typestore().fielddefs
    needed, queue = set[str](), [TOPICS[topic]]
    while queue:
        kind = queue.pop()
        needed.add(kind)
        for _, field in known[kind][1]:
            names = re.findall(r"'(\w+/msg/\w+)'", str(field))
            queue += [name for name in names if name not in needed]
    assert set(defined) == needed
