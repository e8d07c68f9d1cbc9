# SPDX-License-Identifier: Apache-2.0
"""Bags of every storage and compression give the same messages, whatever the source."""

import json
import sqlite3
from pathlib import Path
from typing import Any

import foreign_messages as foreign
import lz4.frame
import numpy as np
import pytest
from models import write_weights
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from scenes import message, stream
from skeleton.sources.test_sources import POSE, config_for, joints_of

from motion_predictor_ros.cli.main import main
from motion_predictor_ros.config import SOURCES
from motion_predictor_ros.data.bag_sources import find_source
from motion_predictor_ros.data.bags import (
    SKELETON_ARRAY,
    read_messages,
    skeleton_messages,
    typestore,
)
from motion_predictor_ros.errors import BagError
from motion_predictor_ros.skeleton.layout import SkeletonLayout
from motion_predictor_ros.skeleton.sources.base import make_source

STAMP_NS = 1_700_000_000_000_000_000
FORMATS = [
    (StoragePlugin.SQLITE3, None),
    (StoragePlugin.SQLITE3, CompressionMode.FILE),
    (StoragePlugin.SQLITE3, CompressionMode.MESSAGE),
    (StoragePlugin.MCAP, None),
    (StoragePlugin.MCAP, CompressionMode.FILE),
    (StoragePlugin.MCAP, CompressionMode.MESSAGE),
    (StoragePlugin.MCAP, CompressionMode.STORAGE),
    (StoragePlugin.MCAP, 'lz4'),
]


def write(path: Path, kind: tuple[StoragePlugin, Any], said: list[tuple[str, str, Any]]) -> Path:
    """Write (topic, type, message) as a recorder of this storage and compression would."""
    storage, compression = kind
    writer = Writer(path, version=9, storage_plugin=storage)
    if isinstance(compression, CompressionMode):
        writer.set_compression(compression, CompressionFormat.ZSTD)
    connections: dict[str, Any] = {}
    with writer:
        if compression == 'lz4':
            writer.storage.compression, writer.storage.compressor = 'lz4', lz4.frame.compress
        for index, (topic, msgtype, each) in enumerate(said):
            types = typestore() if msgtype == SKELETON_ARRAY else foreign.types()
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, msgtype, typestore=types)
            raw = bytes(types.serialize_cdr(each, msgtype))
            writer.write(connections[topic], STAMP_NS + 33_000_000 * index, raw)
    return path


def ours(time_s: float) -> Any:
    """Our own message, in rosbags' types."""
    types = typestore().types
    made = message(time_s, 'ann')
    stamp = types['builtin_interfaces/msg/Time'](made.header.stamp.sec, made.header.stamp.nanosec)
    people = [types['motion_predictor_ros/msg/Skeleton'](**vars(each)) for each in made.persons]
    header = types['std_msgs/msg/Header'](stamp, 'world')
    return types[SKELETON_ARRAY](header, made.layout, made.joint_names, people)


def everything() -> list[tuple[str, str, Any]]:
    """One message of every source, each on a topic of its own."""
    said: list[tuple[str, str, Any]] = [('/native', SKELETON_ARRAY, ours(0.0))]
    for source, layouts in foreign.LAYOUTS.items():
        names, joints = SkeletonLayout.load(layouts[0]).joint_names, joints_of(layouts[0], POSE)
        made = foreign.MAKERS[source](STAMP_NS, 'camera', {'7': joints}, names)
        topic = '/tf' if source == 'tf' else f'/{source}'
        said.append((topic, SOURCES[source].msgtype, made))
    return said


@pytest.mark.parametrize('kind', FORMATS, ids=lambda each: f'{each[0].name}-{each[1]}')
def test_every_source_is_read_from_every_kind_of_bag(kind: Any, tmp_path: Path) -> None:
    bag = write(tmp_path / 'bag', kind, everything())
    assert [each.topic for each in read_messages(bag)] == [topic for topic, *_ in everything()]
    for source, layouts in {'native': ('body18',), **foreign.LAYOUTS}.items():
        topic = '/tf' if source == 'tf' else f'/{source}'
        assert find_source(bag, topic, 'tf' if source == 'tf' else '') == (source, topic)
        (read,) = skeleton_messages(bag, topic, SOURCES[source].msgtype)
        config = config_for(source, layouts[0])
        seen = make_source(source, SkeletonLayout.load('body18'), config).decode(read.message, 0)
        if source == 'tf':  # one observation lags behind, until its stamp is complete
            continue
        assert seen is not None and len(seen.people) == 1
        assert np.isfinite(seen.people[0].positions).sum() >= 3 * 12


def test_a_compressed_bag_is_evaluated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = str(write_weights(tmp_path / 'tiny.safetensors'))
    count = len(stream(0.0, 2.3, 'ann', rate_hz=15.0))
    said = [('/skeletons', SKELETON_ARRAY, ours(index / 15.0)) for index in range(count)]
    bag = write(tmp_path / 'bag', FORMATS[1], said)
    command = ['evaluate', 'bag', str(bag), '--weights', weights, '--no-volumes', '--json']
    assert main(command) == 0
    report = json.loads(capsys.readouterr().out)
    assert report['frames'] == count and report['scored'] > 0


def without_definitions(bag: Path) -> Path:
    """Make a sqlite3 bag as older releases wrote them."""
    (file,) = bag.glob('*.db3')
    with sqlite3.connect(file) as database:
        database.execute('DELETE FROM message_definitions')
    return bag


def test_our_message_needs_no_definition_and_a_strange_one_is_said(tmp_path: Path) -> None:
    bag = without_definitions(write(tmp_path / 'bag', FORMATS[0], everything()))
    (read,) = skeleton_messages(bag, '/native')
    assert read.message.persons[0].person_id == 'ann'
    with pytest.raises(BagError, match=r'zed_msgs.*does not hold.*ros2 bag convert'):
        list(skeleton_messages(bag, '/zed', SOURCES['zed'].msgtype))
