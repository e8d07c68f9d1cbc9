# SPDX-License-Identifier: Apache-2.0
"""People who are there are observed, whatever their class, their lag or the names around them."""

from types import SimpleNamespace
from typing import Any

import foreign_messages as foreign
import numpy as np
import pytest
from skeleton.sources.test_sources import (
    ASIDE,
    BODY,
    POSE,
    STAMP_NS,
    config_for,
    decoded,
    joints_of,
    message,
)

from motion_predictor_ros.config import InputConfig, SkeletonConfig
from motion_predictor_ros.errors import ConfigError, SkeletonFormatError
from motion_predictor_ros.skeleton.frame import Observation
from motion_predictor_ros.skeleton.layout import SkeletonLayout
from motion_predictor_ros.skeleton.sources.base import make_source
from motion_predictor_ros.skeleton.stage import Intake

MS = 1_000_000
REP155 = SkeletonLayout.load('rep155').joint_names


def ids(observation: Observation | None) -> list[str]:
    assert observation is not None
    return [frame.person_id for frame in observation.people]


def filtered(observation: Observation) -> list[str]:
    return [each.reason for each in observation.filtered]


def yolo(class_name: str, with_skeleton: bool = True, **changes: Any) -> Observation:
    msg = message('yolo', 'coco17', POSE)
    msg.detections[0].class_name = class_name
    if not with_skeleton:
        msg.detections[0].keypoints3d.data = []
    answer = make_source('yolo', BODY, config_for('yolo', 'coco17', **changes)).decode(msg)
    assert answer is not None
    return answer


@pytest.mark.parametrize('name', ['person', 'Person', 'human', 'worker', 'HUMAN ', '', 'chair'])
def test_a_detection_with_a_human_skeleton_is_a_person_of_any_class(name: str) -> None:
    assert ids(yolo(name)) == ['7']


@pytest.mark.parametrize(
    ('name', 'is_person'), [('Worker', True), ('worker', True), ('person', False), ('', True)]
)
def test_the_classes_can_be_narrowed_in_any_case(name: str, is_person: bool) -> None:
    observation = yolo(name, classes='worker, Visitor')
    assert bool(observation.people) == is_person and not observation.rejected
    assert filtered(observation) == ([] if is_person else ['class_filtered'])


@pytest.mark.parametrize(
    ('name', 'is_there'),
    [
        *[('chair', False), ('Person', True), ('', True), ('persons', True), ('0', True)],
        *[('PERSON_HEAD', True), ('human-body', True), ('person 0.93', True), ('dog', False)],
    ],
)
def test_without_a_skeleton_the_class_says_whether_somebody_is_there(
    name: str, is_there: bool
) -> None:
    observation = yolo(name, with_skeleton=False)
    assert not observation.people
    assert [each.reason for each in observation.rejected] == (['no_joints'] if is_there else [])
    assert filtered(observation) == ([] if is_there else ['other_class'])


def test_a_zed_vehicle_is_no_person_and_a_person_without_a_skeleton_is_one_without_a_place() -> (
    None
):
    for label, reasons in (('Vehicle', []), ('Person', ['no_skeleton'])):
        msg = message('zed', 'zed38', POSE)
        msg.objects[0].label, msg.objects[0].skeleton_available = label, False
        assert [each.reason for each in decoded('zed', 'zed38', msg).rejected] == reasons


@pytest.mark.parametrize('source', ['zed', 'hiros'])
def test_a_negative_id_is_none(source: str) -> None:
    layout = 'zed38' if source == 'zed' else 'azure_kinect32'
    msg = message(source, layout, POSE)
    if source == 'zed':
        msg.objects[0].label_id = -1
    else:
        msg.skeletons[0].id = -1
    (rejection,) = decoded(source, layout, msg).rejected
    assert (rejection.person_id, rejection.reason) == ('', 'empty_id')


@pytest.mark.parametrize('latency_ns', [0, 250 * MS, 1100 * MS])
def test_an_empty_azure_kinect_array_a_second_costs_nothing(latency_ns: int) -> None:
    intake = Intake(InputConfig(SkeletonConfig(), source='azure_kinect'), BODY)
    names = SkeletonLayout.load('azure_kinect32').joint_names
    joints, accepted = joints_of('azure_kinect32', POSE), 0
    for step in range(90):
        stamp_ns = STAMP_NS + step * 33 * MS
        jitter_ns = (step * 7 % 5 - 2) * 4 * MS
        received_ns = stamp_ns + latency_ns + jitter_ns
        msg = foreign.azure_kinect(stamp_ns, 'world', {'1': joints}, names)
        if step % 30 == 0:
            msg = SimpleNamespace(markers=[])
        observation = intake.decode(msg, received_ns)
        assert observation is not None
        assert abs(observation.stamp_ns - stamp_ns) <= 16 * MS or step == 0
        result = intake.accept(observation)
        assert result is not None and not result.anew
        accepted += bool(result.observation.people)
    assert accepted == 87
    assert not intake.presence.held


def test_hiros_people_keep_their_own_stamps_up_to_a_second() -> None:
    names = SkeletonLayout.load('azure_kinect32').joint_names
    people = {str(who): joints_of('azure_kinect32', POSE + who * ASIDE) for who in range(4)}
    msg = foreign.hiros(STAMP_NS, 'world', people, names)
    for who, lag_ms in enumerate((0, 25, 1000, 1001)):
        msg.skeletons[who].src_time = foreign.stamp(STAMP_NS - lag_ms * MS)
    observation = decoded('hiros', 'azure_kinect32', msg)
    stamps = {frame.person_id: STAMP_NS - frame.stamp_ns for frame in observation.people}
    assert stamps == {'0': 0, '1': 25 * MS, '2': 1000 * MS}
    assert [(each.person_id, each.reason) for each in observation.rejected] == [('3', 'old_track')]


def test_a_hiros_person_of_the_future_is_refused_alone() -> None:
    names = SkeletonLayout.load('azure_kinect32').joint_names
    people = {str(who): joints_of('azure_kinect32', POSE + who * ASIDE) for who in range(2)}
    msg = foreign.hiros(STAMP_NS, 'world', people, names)
    msg.skeletons[1].src_time = foreign.stamp(STAMP_NS + 5000 * MS)
    observation = decoded('hiros', 'azure_kinect32', msg)
    assert (observation.stamp_ns, ids(observation)) == (STAMP_NS, ['0'])
    assert [each.reason for each in observation.rejected] == ['bad_stamp']


class TfStream:
    """People and other frames on /tf, at 30 Hz."""

    def __init__(self, **changes: Any) -> None:
        self._source, self._step = make_source('tf', BODY, SkeletonConfig(**changes)), 0
        self.last: Observation | None = None
        self.filtered: list[str] = []

    def send(self, lags_ms: dict[str, int], extra: list[Any] | None = None) -> None:
        """Send each person with a lag, then the other frames."""
        self._step += 1
        now_ns = STAMP_NS + self._step * 33 * MS
        for number, (who, lag_ms) in enumerate(lags_ms.items()):
            joints = {who: joints_of('rep155', POSE + number * ASIDE)}
            self._take(foreign.tf(now_ns - lag_ms * MS, 'world', joints, REP155), now_ns)
        for parent, child in extra or []:
            moved = foreign.transform(now_ns, parent, child, np.zeros(3))
            self._take(foreign.make('tf2_msgs/TFMessage', transforms=[moved]), now_ns)

    def _take(self, msg: Any, now_ns: int) -> None:
        try:
            observation = self._source.decode(msg, now_ns)
        except SkeletonFormatError as error:
            self.filtered.append(error.reason)
            return
        if observation is not None:
            self.last = observation
            self.filtered += filtered(observation)


@pytest.mark.parametrize(
    ('lag_ms', 'is_there'), [(60, True), (180, True), (950, True), (1100, False)]
)
def test_a_tf_person_who_lags_is_observed_at_their_own_time(lag_ms: int, is_there: bool) -> None:
    stream = TfStream()
    for _ in range(20):
        stream.send({'anna': 0, 'ben': lag_ms})
    assert ids(stream.last) == (['anna', 'ben'] if is_there else ['anna'])
    assert stream.last is not None
    refused = [(each.person_id, each.reason) for each in stream.last.rejected]
    assert refused == ([] if is_there else [('ben', 'old_track')])


def test_a_tf_person_who_left_is_never_refused() -> None:
    """Their frames are as old as those of a person who lags, but none comes any more."""
    stream = TfStream()
    for step in range(80):
        stream.send({'anna': 0, 'ben': 40} if step < 20 else {'anna': 0})
        assert stream.last is None or not stream.last.rejected
    assert ids(stream.last) == ['anna']


def test_a_tf_person_ahead_of_the_others_is_refused_alone() -> None:
    stream = TfStream()
    for step in range(20):
        stream.send({'anna': 0, 'ben': 0 if step < 5 else -3000})
    assert stream.last is not None
    assert ids(stream.last) == ['anna'] and stream.last.stamp_ns > STAMP_NS + 18 * 33 * MS
    assert [(each.person_id, each.reason) for each in stream.last.rejected] == [
        ('ben', 'bad_stamp')
    ]


def test_a_tf_person_of_the_future_who_is_not_heard_of_any_more_is_not_listed_for_ever() -> None:
    stream = TfStream()
    for step in range(60):
        stream.send({'anna': 0, 'ben': -(10**9)} if step < 5 else {'anna': 0})
        if step == 10:
            assert stream.last is not None
            assert [each.person_id for each in stream.last.rejected] == ['ben']
    assert ids(stream.last) == ['anna'] and stream.last is not None and not stream.last.rejected


ROBOT = [
    ('base_link', 'torso_lift_link'),
    ('torso_lift_link', 'head_1_link'),
    ('head_1_link', 'head_2_link'),
    ('torso_lift_link', 'l_shoulder_pan_link'),
    ('l_shoulder_pan_link', 'l_elbow_flex_link'),
    ('l_elbow_flex_link', 'l_wrist_roll_link'),
    ('base_link', 'r_wrist_tool'),
]
HUMANOID = [
    ('base', 'torso_nao'),
    ('torso_nao', 'head_nao2'),
    ('torso_nao', 'l_wrist_nao3'),
    ('base', 'head_spot'),
]


@pytest.mark.parametrize('robot', [ROBOT, HUMANOID])
def test_links_of_a_robot_are_no_people(robot: list[Any]) -> None:
    stream = TfStream()
    for _ in range(10):
        stream.send({'anna': 0}, robot)
    assert ids(stream.last) == ['anna'] and stream.last is not None
    assert not stream.last.rejected and stream.last.frame_id == 'world'
    assert stream.filtered == ['robot_frame'] * len(stream.filtered)
    assert 1 <= len(stream.filtered) <= len(robot)  # once each


def test_a_person_with_a_number_for_an_id_is_no_link_of_a_robot_with_the_same_word() -> None:
    stream = TfStream()
    for _ in range(10):
        stream.send({'1': 0}, [('base_link', 'head_1_link'), ('base_link', 'l_wrist_1_link')])
    assert 'head_1' in stream._source._tree.frames()
    assert ids(stream.last) == ['1']  # head_1 and its like are a person, head_1_link is not


def test_a_person_whose_id_is_a_word_of_robots_is_left_out_and_the_parameter_is_named() -> None:
    person = foreign.tf(STAMP_NS, 'world', {'camera_1': joints_of('rep155', POSE)}, REP155)
    source = make_source('tf', BODY, SkeletonConfig())
    with pytest.raises(SkeletonFormatError, match=r'camera_1.*"skeleton\.id_pattern"') as caught:
        source.decode(person, STAMP_NS)
    assert caught.value.reason == 'robot_frame'
    assert source.decode(person, STAMP_NS) is None  # once
    patterned = make_source('tf', BODY, SkeletonConfig(id_pattern='camera_[0-9]+'))
    assert ids(patterned.decode(person, STAMP_NS)) == ['camera_1']


def test_ids_can_be_given_as_a_pattern() -> None:
    stream = TfStream(id_pattern='w[0-9]+')
    for _ in range(5):
        stream.send({'w12': 0, 'anna': 0})
    assert ids(stream.last) == ['w12']
    with pytest.raises(ConfigError, match='id_pattern'):
        TfStream(id_pattern='(')


def test_a_person_in_a_frame_that_is_not_connected_is_refused_alone() -> None:
    stream = TfStream()
    source = stream._source
    for step in range(5):
        stamp_ns = STAMP_NS + step * 33 * MS
        both = []
        for who, frame in (('anna', 'world'), ('ben', 'island'), ('cleo', 'world')):
            joints = {who: joints_of('rep155', POSE)}
            both += foreign.tf(stamp_ns, frame, joints, REP155).transforms
        last = source.decode(foreign.make('tf2_msgs/TFMessage', transforms=both), stamp_ns)
    assert ids(last) == ['anna', 'cleo'] and last is not None
    assert [(each.person_id, each.reason) for each in last.rejected] == [('ben', 'unknown_frame')]


def test_a_message_without_a_frame_is_in_the_configured_one_and_a_slash_is_none() -> None:
    for given, frame, expected in (
        ('', 'world', 'world'),
        ('/world', 'world', 'world'),
        ('/a', '', 'a'),
    ):
        msg = message('hiros', 'azure_kinect32', POSE)
        msg.header.frame_id = given
        config = config_for('hiros', 'azure_kinect32', frame=frame)
        observation = make_source('hiros', BODY, config).decode(msg)
        assert observation is not None and observation.frame_id == expected
    msg.header.frame_id = ''
    with pytest.raises(SkeletonFormatError, match=r'set parameter "skeleton\.frame"'):
        decoded('hiros', 'azure_kinect32', msg)
