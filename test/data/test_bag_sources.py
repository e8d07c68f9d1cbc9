# SPDX-License-Identifier: Apache-2.0
"""Bags of every source are replayed as they were recorded, in the fixed frame if there is one."""

from pathlib import Path
from typing import Any

import foreign_messages as foreign
import numpy as np
import pytest
from models import write_weights
from rosbags.rosbag2 import StoragePlugin, Writer
from scipy.spatial.transform import Rotation
from skeleton.sources.test_sources import BODY, INDEX, POSE, config_for, joints_of

from motion_predictor_ros.config import SOURCES, PipelineConfig, PredictionConfig
from motion_predictor_ros.data.bag_sources import find_source, open_source
from motion_predictor_ros.errors import BagError
from motion_predictor_ros.evaluation.report.bag import evaluate_bag
from motion_predictor_ros.skeleton.layout import SkeletonLayout

START_NS = 1_700_000_000_000_000_000
STEPS = 66
CASES = [(source, layouts[0]) for source, layouts in foreign.LAYOUTS.items()]

Said = tuple[str, str, int, Any]
"""Topic, type, when recorded [ns], message."""


@pytest.fixture(scope='module')
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_weights(tmp_path_factory.mktemp('weights') / 'tiny.safetensors', masked=True)


def pose(time_s: float) -> np.ndarray:
    """Somebody walks and swings arms and feet [m]."""
    body = POSE + time_s * np.array([0.8, 0.2, 0.0])
    swings = {0.0: ('l_wrist', 'r_ankle', 'r_foot'), 3.0: ('r_wrist', 'l_ankle', 'l_foot')}
    for phase, names in swings.items():
        for name in names:
            body[INDEX[name], 0] += 0.1 * np.sin(6.0 * time_s + phase)
    return body


def record(path: Path, said: list[Said]) -> Path:
    """Write a bag with the types of other packages, as a recorder would."""
    connections: dict[str, Any] = {}
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        for topic, kind, stamp_ns, message in said:
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=foreign.types())
            raw = foreign.types().serialize_cdr(message, kind)
            writer.write(connections[topic], stamp_ns, bytes(raw))
    return path


def camera_at(time_s: float) -> tuple[np.ndarray, Rotation]:
    """A camera that drives along and turns."""
    return np.array([0.3 * time_s, -1.0, 1.2]), Rotation.from_euler('z', 0.5 * time_s)


def walk(source: str, layout: str, ride: bool = False) -> list[Said]:
    """Somebody walks for some seconds, seen by a camera that stands, or rides along."""
    names = SkeletonLayout.load(layout).joint_names
    said: list[Said] = []
    for step in range(STEPS):
        stamp_ns = START_NS + round(step / 30 * 1e9)
        body = pose(step / 30)
        place, turn = camera_at(step / 30)
        if ride:
            body = turn.inv().apply(body - place)
            moved = foreign.transform(stamp_ns, 'map', 'camera', place, turn.as_quat())
            tf = foreign.make('tf2_msgs/TFMessage', transforms=[moved])
            # Recorded later than the observation it belongs to, as on a busy robot.
            said.append(('/tf', 'tf2_msgs/msg/TFMessage', stamp_ns + 30_000_000, tf))
        message = foreign.MAKERS[source](stamp_ns, 'camera', {'7': joints_of(layout, body)}, names)
        topic = '/tf' if source == 'tf' else '/people'
        said.append((topic, SOURCES[source].msgtype, stamp_ns + 20_000_000, message))
    return sorted(said, key=lambda each: each[2])


def config(weights: Path, source: str, layout: str, **changes: Any) -> PipelineConfig:
    prediction = PredictionConfig(weights=str(weights), device='cpu')
    return PipelineConfig(config_for(source, layout), prediction, **changes)


@pytest.mark.parametrize(('source', 'layout'), CASES)
def test_a_bag_of_any_source_is_replayed_and_scored(
    source: str, layout: str, weights: Path, tmp_path: Path
) -> None:
    bag = record(tmp_path / 'bag', walk(source, layout))
    asked = 'tf' if source == 'tf' else ''
    evaluation = evaluate_bag(bag, '', config(weights, source, layout), asked)
    assert not evaluation.run.drops
    assert len(evaluation.run.scenes) == STEPS
    assert evaluation.cases
    prediction = evaluation.cases[0].prediction
    absent = [
        name for name, given in zip(BODY.joint_names, _given(layout), strict=True) if not given
    ]
    assert prediction.reason == (
        f'not in the source, inferred: {", ".join(absent)}' if absent else ''
    )
    seen = prediction.window.positions[-1] if prediction.window else None
    at_s = (prediction.stamp_ns - START_NS) / 1e9
    np.testing.assert_allclose(seen[_given(layout)], pose(at_s)[_given(layout)], atol=1e-6)


def _given(layout: str) -> np.ndarray:
    from motion_predictor_ros.skeleton.layout import load_joint_map

    return load_joint_map(layout, BODY).given


@pytest.mark.parametrize('source', ['yolo', 'zed'])
def test_a_camera_that_rides_sees_people_where_they_are(
    source: str, weights: Path, tmp_path: Path
) -> None:
    layout = foreign.LAYOUTS[source][0]
    bag = record(tmp_path / 'bag', walk(source, layout, ride=True))
    recorded = open_source(bag, '', config(weights, source, layout, fixed_frame='map'))
    worst = 0.0
    for index, each in enumerate(recorded.messages):
        scene = recorded.pipeline.step(each.message, each.stamp_ns)
        assert scene is not None and scene.prediction.frame_id == 'map'
        latest = recorded.pipeline.skeleton.latest
        assert latest is not None
        given = _given(layout)
        gap = latest.people[0].positions[given] - pose(index / 30)[given]
        worst = max(worst, float(np.abs(gap).max()))
    assert worst < 1e-5  # [m] float32 of the message

    standing = open_source(
        bag, '', config(weights, source, layout, extrinsic='0 -1 1.2 0 0 0 1', fixed_frame='map')
    )
    for each in standing.messages:
        standing.pipeline.observe(each.message, each.stamp_ns)
    latest = standing.pipeline.skeleton.latest
    assert latest is not None  # the control: without the motion it would be far off
    assert np.abs(latest.people[0].positions[given] - pose((STEPS - 1) / 30)[given]).max() > 0.5


def test_without_a_transform_nothing_is_predicted(weights: Path, tmp_path: Path) -> None:
    bag = record(tmp_path / 'bag', walk('yolo', 'coco17'))
    evaluated = open_source(bag, '', config(weights, 'yolo', 'coco17', fixed_frame='map'))
    assert not any(evaluated.pipeline.observe(each.message) for each in evaluated.messages)
    assert evaluated.pipeline.skeleton.drops == {'no_transform': STEPS}


def in_namespaces(said: list[Said], people: str, *transforms: str) -> list[Said]:
    """Move people to a topic, and transforms to one namespace, or the same ones to several."""
    moved: list[Said] = []
    for topic, *rest in said:
        topics = [f'{name}/tf' for name in transforms] if topic == '/tf' else [people]
        moved += [(name, *rest) for name in topics]
    return moved


@pytest.mark.parametrize(
    ('people', 'namespaces'),
    [
        ('/people', ('/robot1',)),
        ('/robot1/people', ('/robot1',)),
        ('/robot1/people', ('/robot1', '/robot2')),
        ('/robot1/front/people', ('', '/robot2')),
    ],
)
def test_transforms_of_a_namespace_are_used(
    people: str, namespaces: tuple[str, ...], weights: Path, tmp_path: Path
) -> None:
    said = in_namespaces(walk('yolo', 'coco17', ride=True), people, *namespaces)
    bag = record(tmp_path / 'bag', said)
    recorded = open_source(bag, people, config(weights, 'yolo', 'coco17', fixed_frame='map'))
    accepted = [recorded.pipeline.observe(each.message) for each in recorded.messages]
    # The first and the last observation may lie outside the transforms.
    assert sum(accepted) >= STEPS - 2 and len(accepted) == STEPS


@pytest.mark.parametrize('people', ['/people', '/robot3/people'])
def test_transforms_of_several_robots_that_are_not_the_cameras_are_refused_with_a_way_out(
    people: str, weights: Path, tmp_path: Path
) -> None:
    said = in_namespaces(walk('yolo', 'coco17', ride=True), people, '/robot1', '/robot2')
    bag = record(tmp_path / 'bag', said)
    with pytest.raises(BagError, match=r'/robot1/tf.*/robot2/tf.*set parameter "extrinsic"'):
        open_source(bag, people, config(weights, 'yolo', 'coco17', fixed_frame='map'))
    given = config(weights, 'yolo', 'coco17', extrinsic='0 -1 1.2 0 0 0 1', fixed_frame='map')
    recorded = open_source(bag, people, given)
    assert sum(recorded.pipeline.observe(each.message) for each in recorded.messages) == STEPS


def test_which_source_is_meant_is_found_by_type_or_asked_for(tmp_path: Path) -> None:
    markers = walk('azure_kinect', 'azure_kinect32')[:2]
    riding = walk('yolo', 'coco17', ride=True)[:4]
    alone = record(tmp_path / 'alone', markers)
    assert find_source(alone) == ('azure_kinect', '/people')
    drawn = [('/detections', *each[1:]) for each in riding if each[0] == '/people']
    both = record(
        tmp_path / 'both', markers + [each for each in riding if each[0] == '/tf'] + drawn
    )
    assert find_source(both) == ('yolo', '/detections')
    assert find_source(both, source='azure_kinect') == ('azure_kinect', '/people')
    assert find_source(both, topic='/people') == ('azure_kinect', '/people')
    assert find_source(both, source='tf') == ('tf', '/tf')
    two = record(tmp_path / 'two', markers + [('/other', *each[1:]) for each in markers])
    with pytest.raises(BagError, match=r"several skeleton topics \['/other', '/people'\]"):
        find_source(two)
    with pytest.raises(BagError, match='zed_msgs/msg/ObjectsStamped; it holds /people'):
        find_source(alone, source='zed')
