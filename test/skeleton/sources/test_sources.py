# SPDX-License-Identifier: Apache-2.0
"""Every source: left is left, what it leaves out is put in place, its traps are known."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import foreign_messages as foreign
import numpy as np
import pytest
from foreign_messages import LAYOUTS, MAKERS, Joints

from motion_predictor_ros.config import SOURCES, SkeletonConfig
from motion_predictor_ros.errors import ConfigError, SkeletonFormatError
from motion_predictor_ros.resources import share_file
from motion_predictor_ros.skeleton.frame import Observation
from motion_predictor_ros.skeleton.layout import SkeletonLayout, load_joint_map
from motion_predictor_ros.skeleton.sources.base import make_source

BODY = SkeletonLayout.load('body18')
INDEX = {name: joint for joint, name in enumerate(BODY.joint_names)}
STAMP_NS = 1_700_000_000_000_000_000
NAN = float('nan')

# Facing +x with z up, left arm raised, right foot forward: no two joints share a height and side.
STANDING = {
    'pelvis': (0, 0, 0.95),
    'l_hip': (0, 0.09, 0.95), 'l_knee': (0.05, 0.1, 0.52),
    'l_ankle': (0, 0.1, 0.1), 'l_foot': (0.12, 0.11, 0.05),
    'r_hip': (0, -0.09, 0.95), 'r_knee': (0.2, -0.1, 0.55),
    'r_ankle': (0.25, -0.1, 0.13), 'r_foot': (0.37, -0.12, 0.1),
    'chest': (-0.02, 0, 1.26), 'neck': (0, 0, 1.48), 'head': (0.02, 0, 1.63),
    'l_shoulder': (0, 0.18, 1.45), 'l_elbow': (0.1, 0.25, 1.7), 'l_wrist': (0.15, 0.2, 1.95),
    'r_shoulder': (0, -0.18, 1.45), 'r_elbow': (-0.03, -0.22, 1.15), 'r_wrist': (0.05, -0.2, 0.9),
}  # fmt: skip
POSE = np.array([STANDING[name] for name in BODY.joint_names], dtype=np.float64)
ASIDE = np.array([0.0, 2.0, 0.0])

# Where the documentation of each source has its joints, apart from our files.
DOCUMENTED = {
    'azure_kinect32': {'l_wrist': 7, 'r_wrist': 14, 'l_ankle': 20, 'r_ankle': 24, 'r_elbow': 13},
    'zed18': {'l_wrist': 7, 'r_wrist': 4, 'l_ankle': 13, 'r_ankle': 10, 'r_hip': 8},
    'zed34': {'l_wrist': 7, 'r_wrist': 14, 'l_ankle': 20, 'r_ankle': 24, 'r_foot': 25},
    'zed38': {'l_wrist': 16, 'r_wrist': 17, 'l_ankle': 22, 'r_ankle': 23, 'l_hip': 18},
    'coco17': {'l_wrist': 9, 'r_wrist': 10, 'l_ankle': 15, 'r_ankle': 16, 'l_shoulder': 5},
    'xsens23': {'l_wrist': 14, 'r_wrist': 10, 'l_ankle': 21, 'r_ankle': 17, 'r_elbow': 9},
    'cmu38': {'l_wrist': 23, 'r_wrist': 32, 'l_ankle': 4, 'r_ankle': 10, 'l_hip': 2},
    'cmu_asf31': {'l_wrist': 19, 'r_wrist': 26, 'l_ankle': 3, 'r_ankle': 8, 'l_knee': 2},
    'rep155': {'l_wrist': 6, 'r_wrist': 9, 'l_ankle': 12, 'r_ankle': 15, 'r_knee': 14},
}  # fmt: skip
MAPPED = [*DOCUMENTED, 'body18']
CASES = [(source, layout) for source, layouts in LAYOUTS.items() for layout in layouts]


def as_seen_by(layout: str, pose: np.ndarray) -> np.ndarray:
    """Undo the map: joints of the source that would give this pose; others stay unseen."""
    joints = load_joint_map(layout, BODY)
    weights = joints.weights
    out = np.full((weights.shape[1], 3), NAN)
    used = weights.any(axis=0)
    # The least deviation from what the joints themselves give serves for means of two.
    out[used] = np.linalg.pinv(weights[:, used]) @ np.where(
        joints.given[:, None], np.nan_to_num(pose), 0.0
    )
    return out


def joints_of(layout: str, pose: np.ndarray) -> Joints:
    names = SkeletonLayout.load(layout).joint_names
    seen = as_seen_by(layout, pose)
    return {name: at for name, at in zip(names, seen, strict=True) if not np.isnan(at[0])}


def config_for(source: str, layout: str, **changes: Any) -> SkeletonConfig:
    wanted = '' if source in ('zed', 'azure_kinect') else layout
    return SkeletonConfig(source_layout=wanted, **changes)


def message(source: str, layout: str, pose: np.ndarray, who: str = '7') -> Any:
    names = SkeletonLayout.load(layout).joint_names
    return MAKERS[source](STAMP_NS, 'world', {who: joints_of(layout, pose)}, names)


def decoded(source: str, layout: str, msg: Any, received_ns: int = 0) -> Observation:
    answer = make_source(source, BODY, config_for(source, layout)).decode(msg, received_ns)
    assert answer is not None
    return answer


def test_every_shipped_source_is_found_without_a_list_of_them() -> None:
    assert set(SOURCES) == {source for source, _ in CASES} | {'native'}


@pytest.mark.parametrize('layout', DOCUMENTED)
def test_left_and_right_stand_where_the_documentation_has_them(layout: str) -> None:
    joints = load_joint_map(layout, BODY)
    for name, place in DOCUMENTED[layout].items():
        assert joints.weights[INDEX[name], place] == 1.0, name


@pytest.mark.parametrize('layout', MAPPED)
def test_a_mirrored_person_is_mapped_to_the_mirrored_pose(layout: str) -> None:
    joints = load_joint_map(layout, BODY)
    swap = list(joints.source.mirror)
    seen = as_seen_by(layout, POSE)
    sure = np.ones(len(seen), dtype=np.float32)
    there, _ = joints.apply((seen * [1, -1, 1])[swap], sure)
    np.testing.assert_allclose(
        there, (joints.apply(seen, sure)[0] * [1, -1, 1])[list(BODY.mirror)]
    )
    forgotten, _ = joints.apply(seen * [1, -1, 1], sure)
    assert np.nanmax(np.abs(forgotten - there)) > 0.3  # the control: names not swapped


@pytest.mark.parametrize('layout', MAPPED)
def test_layouts_mirror_bones_onto_bones(layout: str) -> None:
    source = SkeletonLayout.load(layout)
    if layout == 'coco17':
        pytest.skip('its tree hangs from the nose, and is symmetric by the next assertion alone')
    mirrored = {(source.mirror[a], source.mirror[b]) for a, b in source.bones}
    assert mirrored == set(source.bones)


@pytest.mark.parametrize(('source', 'layout'), CASES)
def test_a_person_arrives_whole_through_real_bytes(source: str, layout: str) -> None:
    msg = message(source, layout, POSE)
    kind = SOURCES[source].msgtype
    received = foreign.types().deserialize_cdr(foreign.types().serialize_cdr(msg, kind), kind)
    observation = decoded(source, layout, received)
    assert (observation.stamp_ns, observation.frame_id) == (STAMP_NS, 'world')
    assert observation.rejected == ()
    (frame,) = observation.people
    assert frame.person_id == ('person' if source == 'pose_array' else '7')
    given = load_joint_map(layout, BODY).given
    np.testing.assert_allclose(
        frame.positions[given], POSE[given], atol=2e-7 if source == 'zed' else 1e-9
    )
    assert (frame.confidences[given] > 0).all()
    inferred = np.zeros(18, bool) if frame.inferred is None else frame.inferred
    assert np.array_equal(inferred, ~given)
    assert (frame.confidences[~given] == 0).all()
    errors = np.linalg.norm(frame.positions - POSE, axis=1)
    assert errors.max() < 0.08  # [m] chest, neck and feet of this person are put in place


@pytest.mark.parametrize(('source', 'layout'), CASES)
def test_what_is_inferred_turns_and_shifts_with_the_person(source: str, layout: str) -> None:
    turn = np.array([[0.0, -1.0, 0.0], [0.6, 0.0, -0.8], [0.8, 0.0, 0.6]])
    here = decoded(source, layout, message(source, layout, POSE)).people[0].positions
    there = decoded(source, layout, message(source, layout, POSE @ turn.T + 3.0)).people[0]
    np.testing.assert_allclose(there.positions, here @ turn.T + 3.0, atol=1e-5)


def test_inferred_bones_keep_their_length_whatever_the_legs_do() -> None:
    bent = POSE.copy()
    for name, shift in (('l_ankle', (-0.3, 0.0, 0.35)), ('l_foot', (-0.5, 0.0, 0.4))):
        bent[INDEX[name]] += shift
    knee, ankle = bent[INDEX['l_knee']], bent[INDEX['l_ankle']]
    shank = np.linalg.norm(POSE[INDEX['l_knee']] - POSE[INDEX['l_ankle']])
    bent[INDEX['l_ankle']] = knee + (ankle - knee) * shank / np.linalg.norm(ankle - knee)
    lengths = []
    for pose in (POSE, bent):
        frame = decoded('yolo', 'coco17', message('yolo', 'coco17', pose)).people[0]
        at = frame.positions
        lengths.append(np.linalg.norm(at[INDEX['l_ankle']] - at[INDEX['l_foot']]))
    assert abs(lengths[0] - lengths[1]) < 1e-6
    assert 0.08 < lengths[0] < 0.18


def test_a_joint_that_is_only_hidden_is_not_inferred() -> None:
    pose = joints_of('azure_kinect32', POSE)
    del pose['FOOT_LEFT'], pose['SPINE_CHEST']
    names = SkeletonLayout.load('azure_kinect32').joint_names
    msg = foreign.azure_kinect(STAMP_NS, 'world', {'1': pose}, names)
    (frame,) = decoded('azure_kinect', 'azure_kinect32', msg).people
    assert frame.inferred is None
    assert np.isnan(frame.positions[[INDEX['l_foot'], INDEX['chest']]]).all()


@pytest.mark.parametrize('source', ['azure_kinect', 'zed', 'yolo', 'hiros', 'mocap4r2', 'tf'])
def test_two_people_are_told_apart(source: str) -> None:
    layout = LAYOUTS[source][0]
    names = SkeletonLayout.load(layout).joint_names
    people = {'3': joints_of(layout, POSE), '12': joints_of(layout, POSE + ASIDE)}
    observation = decoded(source, layout, MAKERS[source](STAMP_NS, 'world', people, names))
    place = {frame.person_id: frame.positions[0, 1] for frame in observation.people}
    assert place == pytest.approx({'3': 0.0, '12': 2.0})


def test_nobody_before_an_azure_kinect_is_an_empty_array_without_a_stamp() -> None:
    empty = SimpleNamespace(markers=[])
    observation = decoded('azure_kinect', 'azure_kinect32', empty, received_ns=STAMP_NS)
    assert (observation.stamp_ns, observation.frame_id, observation.people) == (STAMP_NS, '', ())


def test_a_zed_that_searches_or_has_no_skeleton_shows_nobody() -> None:
    for change, reason in (
        ({'tracking_state': 2}, 'searching'),
        ({'tracking_state': 3}, 'lost'),
        ({'tracking_state': 0}, 'lost'),
        ({'tracking_state': 9}, 'bad_tracking_state'),
        ({'skeleton_available': False}, 'no_skeleton'),
        ({'body_format': 3}, 'layout_mismatch'),
    ):
        msg = message('zed', 'zed38', POSE)
        vars(msg.objects[0]).update(change)
        observation = decoded('zed', 'zed38', msg)
        assert [each.reason for each in observation.rejected] == [reason]
        assert not observation.people


def test_a_zed_keypoint_at_zero_was_not_seen() -> None:
    msg = message('zed', 'zed34', POSE)
    names = SkeletonLayout.load('zed34').joint_names
    msg.objects[0].skeleton_3d.keypoints[names.index('LEFT_WRIST')].kp[:] = 0
    (frame,) = decoded('zed', 'zed34', msg).people
    assert np.isnan(frame.positions[INDEX['l_wrist']]).all()


def test_zed_confidences_are_percent_where_there_are_any() -> None:
    msg = message('zed', 'zed34', POSE)
    msg.objects[0].skeleton_keypoint_confidence[:34] = 80.0
    msg.objects[0].skeleton_keypoint_confidence[7] = NAN
    (frame,) = decoded('zed', 'zed34', msg).people
    assert frame.confidences[INDEX['r_wrist']] == pytest.approx(0.8)
    assert frame.confidences[INDEX['l_wrist']] == 0


def test_yolo_joints_below_the_threshold_are_left_out_and_others_are_no_people() -> None:
    msg = message('yolo', 'coco17', POSE)
    data = msg.detections[0].keypoints3d.data
    msg.detections[0].keypoints3d.data = [each for each in data if each.id != 10]  # left wrist
    nothing = foreign.make('yolo_msgs/KeyPoint3DArray', data=[], frame_id='')
    dog = foreign.make(
        'yolo_msgs/Detection',
        class_id=16,
        class_name='dog',
        score=0.9,
        id='2',
        keypoints3d=nothing,
    )
    msg.detections.append(dog)
    (frame,) = decoded('yolo', 'coco17', msg).people
    assert np.isnan(frame.positions[INDEX['l_wrist']]).all()
    assert np.isfinite(frame.positions[INDEX['r_wrist']]).all()


def test_yolo_without_tracking_has_no_ids_and_says_so() -> None:
    observation = decoded('yolo', 'coco17', message('yolo', 'coco17', POSE, who=''))
    (rejection,) = observation.rejected
    assert rejection.reason == 'empty_id' and 'track' in rejection.message


def test_yolo_keypoints_of_a_larger_network_are_refused() -> None:
    msg = message('yolo', 'coco17', POSE)
    msg.detections[0].keypoints3d.data[0].id = 18
    (rejection,) = decoded('yolo', 'coco17', msg).rejected
    assert rejection.reason == 'layout_mismatch' and 'source_layout' in rejection.message


def test_a_hiros_track_whose_input_is_old_was_not_seen_now() -> None:
    names = SkeletonLayout.load('azure_kinect32').joint_names
    people = {str(who): joints_of('azure_kinect32', POSE) for who in (1, 2)}
    msg = foreign.hiros(STAMP_NS, 'world', people, names)
    msg.skeletons[0].src_time = foreign.stamp(STAMP_NS - 1_000_000_001)
    observation = decoded('hiros', 'azure_kinect32', msg)
    assert [each.reason for each in observation.rejected] == ['old_track']
    assert [frame.person_id for frame in observation.people] == ['2']


@pytest.mark.parametrize('source', ['pose_array', 'hiros', 'mocap4r2'])
def test_joints_without_names_need_a_layout(source: str) -> None:
    with pytest.raises(ConfigError, match=r'skeleton\.source_layout'):
        make_source(source, BODY, SkeletonConfig())


def test_a_layout_that_says_nothing_of_the_model_is_refused() -> None:
    with pytest.raises(ConfigError, match='"to: body18:"'):
        make_source('pose_array', BODY, SkeletonConfig(source_layout='cmu25'))


@pytest.mark.parametrize('entry', ['{a: 0.5, b: 0.2}', '[a, c]', '7'])
def test_a_wrong_map_is_refused_with_file_and_joint(tmp_path: Path, entry: str) -> None:
    path = tmp_path / 'mine.yaml'
    path.write_text(f'joints: {{a: "", b: a}}\nto:\n  body18:\n    pelvis: {entry}\n')
    with pytest.raises(ConfigError, match=r'mine\.yaml: to: pelvis'):
        load_joint_map(str(path), BODY)


def test_poses_of_two_people_or_of_another_layout_are_refused() -> None:
    msg = message('pose_array', 'coco17', POSE)
    msg.poses.extend(msg.poses[:3])
    (rejection,) = decoded('pose_array', 'coco17', msg).rejected
    assert rejection.reason == 'wrong_length' and 'one person per PoseArray' in rejection.message


def test_markers_that_name_no_joint_are_refused() -> None:
    msg = message('mocap4r2', 'cmu38', POSE)
    for marker in msg.markers:
        marker.marker_name = 'RIGID_1'
    with pytest.raises(SkeletonFormatError, match=r'Hips_\{id\}.*name_pattern'):
        decoded('mocap4r2', 'cmu38', msg)


def test_names_without_an_id_belong_to_the_configured_person() -> None:
    config = SkeletonConfig(source_layout='xsens23', name_pattern='mvn/{joint}', person_id='eve')
    names = SkeletonLayout.load('xsens23').joint_names
    source = make_source('tf', BODY, config)
    transforms = [
        foreign.transform(STAMP_NS, 'mvn', f'mvn/{name}', at)
        for name, at in joints_of('xsens23', POSE).items()
        if name in names
    ]
    observation = source.decode(foreign.make('tf2_msgs/TFMessage', transforms=transforms))
    assert observation is not None
    assert [frame.person_id for frame in observation.people] == ['eve']


def test_tf_waits_until_everybody_has_reached_a_time() -> None:
    source = make_source('tf', BODY, SkeletonConfig())
    names = SkeletonLayout.load('rep155').joint_names
    ann = {'a': joints_of('rep155', POSE)}
    bob = {'b': joints_of('rep155', POSE + ASIDE)}
    period_ns = 33_000_000

    def say(step: int, people: dict[str, Joints]) -> Observation | None:
        return source.decode(foreign.tf(STAMP_NS + step * period_ns, 'world', people, names))

    say(0, ann)
    say(0, bob)
    for step in (1, 2):
        assert say(step, ann) is None
        both = say(step, bob)
        assert both is not None and both.stamp_ns == STAMP_NS + step * period_ns
        assert [frame.person_id for frame in both.people] == ['a', 'b']
    last_ns = STAMP_NS + 2 * period_ns  # then Bob leaves
    answers = [say(step, ann) for step in range(3, 34)]
    for answer in (answer for answer in answers if answer is not None):
        stamps_ns = {frame.person_id: frame.stamp_ns for frame in answer.people}
        assert stamps_ns['a'] == answer.stamp_ns
        late = answer.stamp_ns > last_ns
        assert stamps_ns.get('b') == (last_ns if answer.stamp_ns - last_ns < 10**9 else None)
    assert late and 'b' not in stamps_ns
    assert answers[-1] is not None and answers[-1].stamp_ns == STAMP_NS + 33 * period_ns


def test_tf_joints_hang_in_chains_and_stand_still_relative_to_each_other() -> None:
    """REP-155's URDF: wrist in elbow in shoulder; the head is fixed to the torso."""
    source = make_source('tf', BODY, SkeletonConfig())
    layout = SkeletonLayout.load('rep155')
    at = dict(zip(layout.joint_names, as_seen_by('rep155', POSE), strict=True))
    at |= {'body': POSE[0], 'waist': POSE[0], 'torso': POSE[INDEX['chest']]}
    links = [
        foreign.transform(
            STAMP_NS,
            'camera' if parent < 0 else f'{layout.joint_names[parent]}_x',
            f'{name}_x',
            at[name] - (0.0 if parent < 0 else at[layout.joint_names[parent]]),
        )
        for name, parent in zip(layout.joint_names, layout.parents, strict=True)
    ]
    source.update_static_transforms(foreign.make('tf2_msgs/TFMessage', transforms=[links[3]]))
    moving = [link for place, link in enumerate(links) if place != 3]
    observation = source.decode(foreign.make('tf2_msgs/TFMessage', transforms=moving))
    assert observation is not None and observation.frame_id == 'camera'
    given = load_joint_map('rep155', BODY).given
    np.testing.assert_allclose(observation.people[0].positions[given], POSE[given], atol=1e-9)


def test_a_native_message_may_name_the_layout_of_its_tracker() -> None:
    names = SkeletonLayout.load('coco17').joint_names
    seen = as_seen_by('coco17', POSE)
    person = SimpleNamespace(
        person_id='a', tracking_state=1, positions=seen.ravel(), confidences=[]
    )
    for said in (list(names), []):
        msg = SimpleNamespace(
            header=foreign.header(STAMP_NS, 'world'), layout='coco17', joint_names=said,
            persons=[person],
        )  # fmt: skip
        (frame,) = decoded('native', '', msg).people
        np.testing.assert_allclose(frame.positions[INDEX['l_wrist']], POSE[INDEX['l_wrist']])


def test_a_message_cannot_name_a_file() -> None:
    msg = SimpleNamespace(
        header=foreign.header(STAMP_NS, 'world'), layout='/etc/passwd', joint_names=[], persons=[]
    )
    with pytest.raises(SkeletonFormatError, match='is no name'):
        decoded('native', '', msg)


def test_every_shipped_layout_that_maps_is_tested() -> None:
    found = []
    for path in share_file('config', 'skeletons').glob('*.yaml'):
        try:
            load_joint_map(path.stem, BODY)
        except ConfigError:
            continue
        found.append(path.stem)
    assert sorted(found) == sorted(MAPPED)
