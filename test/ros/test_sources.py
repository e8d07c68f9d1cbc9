# SPDX-License-Identifier: Apache-2.0
"""Sources live: real messages over DDS, and a clear word where their package is missing."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from evaluation.test_bag_sources import STEPS, Said, camera_at, config, pose, record, walk
from foreign_messages import LAYOUTS
from motion_predictor_ros.msg import PredictedMotionArray
from ros.foreign_packages import build
from ros.graph import Graph, Process, stamp_ns
from skeleton.test_sources import BODY

from motion_predictor_ros.config import iterate_params
from motion_predictor_ros.skeleton.joint_map import load_joint_map

START_NS = 1_700_000_000_000_000_000
Launch = Callable[..., Process]


def live(
    source: str,
    said: list[Said],
    graph: Graph,
    launch: Launch,
    model: Path,
    folder: Path,
    **changes: str,
) -> list[PredictedMotionArray]:
    """Play a bag into a node and return what it said of people whose history sufficed."""
    bag = record(folder / 'bag', said)
    chosen = config(model, source, LAYOUTS[source][0], **changes)
    values = {name: value for name, _, value in iterate_params(chosen)}
    topics = {'use_sim_time': True, 'input_topic': '/people'}
    path = folder / 'parameters.yaml'
    path.write_text(yaml.safe_dump({'/**': {'ros__parameters': {**values, **topics}}}))
    received = graph.collect(PredictedMotionArray, '/predicted_motion')
    node = launch('predictor_node', '--ros-args', '--params-file', str(path))
    node.wait_for('predicting from', timeout_s=120.0)
    player = launch('play_bag', str(bag), '--rate', '0.5')
    last_ns = START_NS + round((STEPS - 1) / 30 * 1e9)
    graph.until(lambda: received and stamp_ns(received[-1]) >= last_ns - 10**8, 120.0, source)
    player.wait()
    node.stop()
    return [each for each in received if len(each.persons) and len(each.persons[0].observed)]


def worst_gap_m(answers: list[PredictedMotionArray], source: str) -> float:
    """Return how far people are from where they were, at the joints that the source has."""
    given = load_joint_map(LAYOUTS[source][0], BODY).given
    gaps = [
        np.array(each.persons[0].observed).reshape(18, 3) - pose((stamp_ns(each) - START_NS) / 1e9)
        for each in answers
    ]
    return float(np.abs(np.array(gaps)[:, given]).max())


@pytest.mark.parametrize('source', ['azure_kinect', 'pose_array'])
def test_a_source_whose_package_is_installed_is_predicted_live(
    source: str, graph: Graph, launch: Launch, model: Path, tmp_path: Path
) -> None:
    answers = live(source, walk(source, LAYOUTS[source][0]), graph, launch, model, tmp_path)
    assert answers and answers[-1].header.frame_id == 'camera'
    assert worst_gap_m(answers, source) < 1e-5


@pytest.mark.slow
def test_a_riding_camera_is_brought_into_the_fixed_frame_by_tf_live(
    graph: Graph, launch: Launch, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / 'packages'
    for package in ('tf2_msgs', 'yolo_msgs'):
        for name, value in build(package, folder).items():
            monkeypatch.setenv(name, os.pathsep.join([value, os.environ.get(name, '')]))
    answers = live(
        'yolo',
        walk('yolo', 'coco17', ride=True),
        graph,
        launch,
        model,
        tmp_path,
        fixed_frame='map',
    )
    assert answers and {each.header.frame_id for each in answers} == {'map'}
    assert worst_gap_m(answers, 'yolo') < 1e-4
    assert np.linalg.norm(camera_at(2.0)[0]) > 1.0  # the control: the camera was elsewhere


@pytest.mark.parametrize(
    ('source', 'changes', 'says'),
    [
        ('zed', {}, 'ros-jazzy-zed-msgs'),
        ('hiros', {}, 'ros-jazzy-hiros-skeleton-msgs'),
        ('azure_kinect', {'fixed_frame': 'map'}, 'ros-jazzy-tf2-msgs'),
        ('pose_array', {}, 'skeleton.source_layout'),
    ],
)
def test_what_is_missing_is_said_at_configure(
    source: str, changes: dict[str, str], says: str, launch: Launch, model: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv('ROS_DISTRO', 'jazzy')
    given = {'source': source, 'prediction.weights': str(model), **changes}
    words = [word for name, value in given.items() for word in ('-p', f'{name}:={value}')]
    node = launch('predictor_node', '--ros-args', *words)
    node.wait_for('cannot configure', timeout_s=120.0)
    assert says in node.output
    assert node.alive
    node.stop()
