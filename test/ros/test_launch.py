# SPDX-License-Identifier: Apache-2.0
"""The launch files start the right programs with the right parameters, and these really run."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml
from ament_index_python.packages import get_package_share_directory
from motion_predictor_ros.msg import LiveScore, PredictedMotionArray
from rclpy.serialization import serialize_message
from ros.graph import PERIOD_NS, START_NS, Graph, Process, skeletons, stamp_ns
from ros.launch_stand_in import failure, resolve

from motion_predictor_ros.config import SOURCES
from motion_predictor_ros.data.bags import BagWriter, skeleton_messages
from motion_predictor_ros.resources import share_file

PREDICTOR = share_file('launch', 'predictor.launch.py')
REPLAY = share_file('launch', 'replay.launch.py')
DEMO = share_file('launch', 'demo.launch.py')
TWO_CAMERAS = share_file('launch', 'two_cameras.launch.py')
ALL = [PREDICTOR, REPLAY, DEMO, TWO_CAMERAS]
EXTRINSIC = '0 -1 1.2 0 0 0 1'
BAG, SHIPPED = share_file('demo', 'demo.mcap'), share_file('config', 'predictor.yaml')
STAMPS_NS = [START_NS + index * PERIOD_NS for index in range(30)]


def installed(*parts: str) -> Path:
    """Return a file of the package as launch finds it, which a sourced workspace decides."""
    return Path(get_package_share_directory('motion_predictor_ros'), *parts)


def test_the_predictor_starts_with_the_shipped_parameters() -> None:
    (command,) = resolve(PREDICTOR).commands
    assert (command.package, command.executable) == ('motion_predictor_ros', 'predictor_node')
    assert (command.name, command.namespace) == ('motion_predictor', '')
    shipped, clock = command.parameters
    assert Path(shipped) == installed('config', 'predictor.yaml')
    assert clock == {'use_sim_time': False}
    assert command.remappings == [('skeletons', 'skeletons')]


def test_the_predictor_takes_a_namespace_an_input_and_simulated_time() -> None:
    given = {'namespace': 'robot', 'input': '/tracker/people', 'use_sim_time': 'true'}
    (command,) = resolve(PREDICTOR, **given).commands
    assert command.namespace == 'robot'
    assert command.remappings == [('skeletons', '/tracker/people')]
    assert command.parameters[1] == {'use_sim_time': True}


@pytest.fixture
def rviz2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Be a workspace in which rviz2 is installed."""
    index = tmp_path / 'prefix' / 'share' / 'ament_index' / 'resource_index' / 'packages'
    index.mkdir(parents=True)
    (index / 'rviz2').touch()
    prefixes = f'{tmp_path / "prefix"}:{os.environ["AMENT_PREFIX_PATH"]}'
    monkeypatch.setenv('AMENT_PREFIX_PATH', prefixes)


@pytest.mark.parametrize('file', [PREDICTOR, REPLAY], ids=lambda path: path.name)
def test_rviz_that_is_not_installed_is_an_error_before_anything_starts(file: Path) -> None:
    error, started = failure(file, rviz='true', bag=str(BAG))
    assert 'rviz2 is not installed' in error and not started


@pytest.mark.parametrize('file', ALL, ids=lambda path: path.name)
def test_a_params_file_that_does_not_exist_is_an_error_before_anything_starts(file: Path) -> None:
    error, started = failure(file, params_file='typo.yaml', bag=str(BAG))
    assert "no file 'typo.yaml'" in error and not started
    assert failure(file, params_file=str(SHIPPED), bag=str(BAG))[0] == ''


@pytest.mark.parametrize('file', [PREDICTOR, REPLAY], ids=lambda path: path.name)
@pytest.mark.parametrize(
    ('text', 'fault'),
    [
        ('', 'is no ROS parameter file'),
        ('a: [b', 'cannot be read as YAML'),
        ('motion_predictor: {associate: true}', 'is no ROS parameter file'),
        ('predictor: {ros__parameters: {associate: true}}', "sets nothing for 'motion_predictor'"),
        ('/**: {ros__parameters: {associate: true}}', ''),
        ('/robot/motion_predictor: {ros__parameters: {associate: true}}', ''),
        ('robot: {motion_predictor: {ros__parameters: {associate: true}}}', ''),
    ],
)
def test_a_params_file_that_sets_nothing_is_an_error_before_anything_starts(
    file: Path, text: str, fault: str, tmp_path: Path
) -> None:
    (tmp_path / 'mine.yaml').write_text(text)
    error, started = failure(file, params_file=str(tmp_path / 'mine.yaml'), bag=str(BAG))
    assert (fault in error and not started) if fault else not error


@pytest.mark.usefixtures('rviz2')
@pytest.mark.parametrize('namespace', ['', 'robot'])
def test_rviz_reads_the_topics_of_the_namespace(namespace: str) -> None:
    _, rviz = resolve(PREDICTOR, rviz='true', namespace=namespace).commands
    shown = dict(rviz.remappings)
    assert rviz.namespace == namespace and set(shown) == set(topics_of_the_view())
    assert all(target == topic.lstrip('/') for topic, target in shown.items())  # relative


@pytest.mark.usefixtures('rviz2')
def test_a_replay_shows_rviz_where_it_is_installed() -> None:
    """Where it is not, the replay below starts three programs."""
    commands = resolve(REPLAY, bag=str(BAG)).commands
    assert 'rviz2' in [command.package for command in commands]
    commands = resolve(REPLAY, bag=str(BAG), rviz='false').commands
    assert 'rviz2' not in [command.package for command in commands]


@pytest.mark.usefixtures('rviz2')
def test_rviz_shows_our_view_of_our_topics() -> None:
    _, rviz = resolve(PREDICTOR, rviz='true').commands
    assert (rviz.package, rviz.executable) == ('rviz2', 'rviz2')
    assert '-f' not in rviz.arguments  # the view's own
    view = yaml.safe_load(Path(rviz.arguments[1]).read_text(encoding='utf-8'))
    assert topics_of_the_view() == ['/markers', '/volume_markers']
    assert view['Visualization Manager']['Global Options']['Fixed Frame'] == 'world'


@dataclass(frozen=True)
class Camera:
    """An orbit of RViz: it looks at the focal point from `distance_m` away."""

    distance_m: float
    yaw: float
    pitch: float
    focus: tuple[float, float, float]

    def sees(self, points: np.ndarray) -> np.ndarray:
        """Return which points [point xyz] are in an image of 45 degrees by 53 (6 : 5)."""
        lever = np.array(
            [
                np.cos(self.yaw) * np.cos(self.pitch),
                np.sin(self.yaw) * np.cos(self.pitch),
                np.sin(self.pitch),
            ]
        )
        right = np.cross(-lever, [0.0, 0.0, 1.0])
        right /= np.linalg.norm(right)
        up = np.cross(right, -lever)
        rays = points - (np.array(self.focus) + self.distance_m * lever)
        half = np.tan(np.pi / 8) * (rays @ -lever)
        return (abs(rays @ up) < half) & (abs(rays @ right) < 1.2 * half)


def shipped_camera() -> Camera:
    view = yaml.safe_load(share_file('config', 'view.rviz').read_text(encoding='utf-8'))
    orbit = view['Visualization Manager']['Views']['Current']
    assert orbit['Class'] == 'rviz_default_plugins/Orbit'
    focus = orbit['Focal Point']
    return Camera(
        orbit['Distance'], orbit['Yaw'], orbit['Pitch'], (focus['X'], focus['Y'], focus['Z'])
    )


def share_in_view(camera: Camera) -> float:
    """Return how often all joints of a person of the demo are in the image."""
    seen = []
    for message in skeleton_messages(BAG):
        for person in message.message.persons:
            joints = np.asarray(person.positions, dtype=float).reshape(-1, 3)
            seen.append(camera.sees(joints[np.isfinite(joints).all(axis=1)]).all())
    return float(np.mean(seen))


def test_the_view_shows_the_people_of_the_demo_from_outside_their_volumes() -> None:
    """Control: the view as it was, from 5 m, had a third of them outside the image."""
    camera = shipped_camera()
    assert share_in_view(camera) > 0.98 and 12.0 <= camera.distance_m <= 14.0
    assert share_in_view(Camera(5.2, 5.2, 0.35, (0.3, -0.6, 0.85))) < 0.75


def topics_of_the_view() -> list[str]:
    view = yaml.safe_load(share_file('config', 'view.rviz').read_text(encoding='utf-8'))
    displays = view['Visualization Manager']['Displays']
    return [display['Topic']['Value'] for display in displays if 'Topic' in display]


@pytest.mark.usefixtures('rviz2')
def test_rviz_looks_in_the_frame_of_what_is_published() -> None:
    for file, given in ((PREDICTOR, {}), (REPLAY, {'bag': str(BAG)})):
        *_, rviz = [
            each
            for each in resolve(file, rviz='true', fixed_frame='map', **given).commands
            if each.package == 'rviz2'
        ]
        assert rviz.arguments[2:] == ['-f', 'map']


@pytest.mark.parametrize(('loop', 'words'), [('false', []), ('true', ['--loop'])])
def test_a_replay_predicts_and_judges_in_the_time_of_the_bag(loop: str, words: list[str]) -> None:
    predictor, monitor, player = resolve(REPLAY, bag=str(BAG), rate='2.0', loop=loop).commands
    assert (predictor.executable, monitor.executable) == ('predictor_node', 'monitor_node')
    for node in (predictor, monitor):
        assert node.parameters[-1] == {'use_sim_time': True}
        assert node.remappings == [('skeletons', '/skeletons')]
    assert player.executable == 'play_bag'
    waits = ['--wait-for-active', '/motion_predictor', '--wait-for-subscribers', '2']
    assert player.arguments == [str(BAG), '--rate', '2.0', *waits, *words]


def test_a_replay_without_a_monitor_waits_for_the_predictor_alone() -> None:
    _, player = resolve(REPLAY, bag=str(BAG), monitor='false', namespace='robot').commands
    waits = ['--wait-for-active', '/robot/motion_predictor', '--wait-for-subscribers', '1']
    assert player.arguments[-4:] == waits


def test_a_replay_ends_with_its_player_and_with_nothing_else() -> None:
    commands = resolve(REPLAY, bag=str(BAG)).commands
    assert [command.executable for command in commands if command.ends_launch] == ['play_bag']


def test_a_replay_of_a_bag_that_is_not_there_is_an_error_before_anything_starts() -> None:
    error, started = failure(REPLAY, bag='nowhere.mcap')
    assert "no file or folder 'nowhere.mcap'" in error and not started


def test_a_monitor_hears_what_the_predictor_hears() -> None:
    given = {'source': 'zed', 'fixed_frame': 'map', 'namespace': 'robot', 'input': '/zed/bodies'}
    predictor, monitor = resolve(PREDICTOR, **given, monitor='true').commands
    own, *common = monitor.parameters
    assert Path(own) == installed('config', 'monitor.yaml')
    assert common == predictor.parameters
    assert (monitor.name, monitor.namespace) == ('motion_monitor', 'robot')
    assert monitor.remappings == predictor.remappings


def test_a_replay_without_a_bag_is_refused() -> None:
    with pytest.raises(RuntimeError, match='bag'):
        resolve(REPLAY)


def test_what_a_replay_resolves_to_really_runs(
    graph: Graph, processes: Callable[..., Process], model: Path, tmp_path: Path
) -> None:
    bag, parameters = tmp_path / 'walk.mcap', tmp_path / 'tiny.yaml'
    tiny = {'/**': {'ros__parameters': {'prediction': {'weights': str(model)}}}}
    parameters.write_text(yaml.safe_dump(tiny), encoding='utf-8')
    with BagWriter(bag) as writer:
        for each in STAMPS_NS:
            raw = serialize_message(skeletons(each))
            writer.write('/skeletons', 'motion_predictor_ros/msg/SkeletonArray', each, raw)
    received = graph.collect(PredictedMotionArray, '/predicted_motion')
    scores = graph.collect(LiveScore, '/live_score')
    given = {'bag': str(bag), 'params_file': str(parameters), 'rate': '2.0', 'loop': 'true'}
    for command in resolve(REPLAY, **given).commands:
        processes(command.line(tmp_path))

    def predicted() -> bool:
        return any(len(each.persons[0].positions) for each in received)

    graph.until(predicted, what='a prediction')
    graph.until(lambda: scores, what='a score')
    assert {stamp_ns(each) for each in received} <= set(STAMPS_NS)
    # Wall time would be years.
    graph.until(lambda: any(0 <= each.age_s < 1.0 for each in received), what='an age')


@pytest.mark.parametrize('word', ['true', 'True', 'false'])
def test_associate_is_a_bool_to_the_node(word: str) -> None:
    (command,) = resolve(PREDICTOR, associate=word).commands
    assert command.parameters[1]['associate'] is (word.lower() == 'true')
    error, started = failure(PREDICTOR, associate='maybe')
    assert "'maybe' to bool" in error and not started


def test_an_argument_that_looks_like_a_number_stays_a_string() -> None:
    (command,) = resolve(PREDICTOR, fixed_frame='12', name_pattern='true').commands
    assert command.parameters[1]['fixed_frame'] == '12'
    assert command.parameters[1]['skeleton.name_pattern'] == 'true'


@pytest.mark.parametrize('source', SOURCES)
def test_any_source_can_be_asked_for(source: str) -> None:
    given = {'source': source, 'layout': 'coco17', 'fixed_frame': 'map', 'associate': 'true'}
    (command,) = resolve(PREDICTOR, **given).commands
    assert command.parameters[1] == {
        'use_sim_time': False,
        'source': source,
        'skeleton.source_layout': 'coco17',
        'fixed_frame': 'map',
        'associate': True,
    }


def test_a_replay_hands_the_source_on() -> None:
    given = {
        'bag': str(BAG),
        'source': 'yolo',
        'input': '/yolo/detections_3d',
        'extrinsic': EXTRINSIC,
    }
    predictor, *_ = resolve(REPLAY, **given).commands
    assert predictor.parameters[1] == {
        'use_sim_time': True, 'source': 'yolo', 'extrinsic': EXTRINSIC,
    }  # fmt: skip
    assert predictor.remappings == [('skeletons', '/yolo/detections_3d')]


def test_the_demo_plays_the_shipped_bag_over_and_over() -> None:
    predictor, monitor, player = resolve(DEMO).commands
    assert monitor.executable == 'monitor_node'
    assert predictor.parameters[1] == {'use_sim_time': True}
    assert Path(player.arguments[0]).samefile(share_file('demo', 'demo.mcap'))
    assert player.arguments[1:3] == ['--rate', '1.0'] and '--loop' in player.arguments


def test_two_cameras_have_a_namespace_an_input_and_an_extrinsic_each() -> None:
    given = {'source': 'zed', 'fixed_frame': 'cell', 'left_extrinsic': EXTRINSIC}
    left, right = resolve(TWO_CAMERAS, **given, right_input='/right_zed/bodies').commands
    assert (left.namespace, right.namespace) == ('left', 'right')
    common = {'use_sim_time': False, 'source': 'zed', 'fixed_frame': 'cell'}
    assert left.parameters[1] == {**common, 'extrinsic': EXTRINSIC}
    assert right.parameters[1] == common
    assert left.remappings == [('skeletons', '/left/skeletons')]
    assert right.remappings == [('skeletons', '/right_zed/bodies')]


@pytest.mark.parametrize('path', ALL, ids=lambda path: path.name)
def test_every_argument_says_what_it_is(path: Path) -> None:
    assert all(each for each in resolve(path, bag=str(BAG)).described.values())


@pytest.mark.parametrize('path', ALL, ids=lambda path: path.name)
def test_the_real_launch_reads_the_same_arguments(path: Path) -> None:
    pytest.importorskip('launch_ros', reason='launch_ros is not installed')
    from launch import LaunchContext
    from launch.launch_description_sources import PythonLaunchDescriptionSource

    source = PythonLaunchDescriptionSource(str(path))
    description = source.get_launch_description(LaunchContext())
    real = {each.name for each in description.get_launch_arguments()}
    assert real <= set(resolve(path, bag=str(BAG)).declared)
