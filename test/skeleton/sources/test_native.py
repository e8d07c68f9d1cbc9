# SPDX-License-Identifier: Apache-2.0
"""Messages: the same people however they arrive, and one counted reason for each refusal."""

import array
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from scenes import decode

from motion_predictor_ros.config import SkeletonConfig
from motion_predictor_ros.data.synthetic import Walker
from motion_predictor_ros.errors import SkeletonFormatError
from motion_predictor_ros.resources import share_file
from motion_predictor_ros.skeleton.frame import Observation, TrackingState
from motion_predictor_ros.skeleton.layout import SkeletonLayout

LAYOUT = SkeletonLayout.load('body18')
CONFIG = SkeletonConfig()
POSE = Walker(3).pose(0.4).astype(np.float32)
NAN, INF = float('nan'), float('inf')


def person(person_id: str = 'anna', pose: Any = POSE, **changes: Any) -> SimpleNamespace:
    fields = {'tracking_state': 1, 'positions': array.array('f', np.ravel(pose).tolist())}
    fields['confidences'] = array.array('f', np.linspace(0.5, 1.0, 18).tolist())
    return SimpleNamespace(**{'person_id': person_id, **fields, **changes})


def message(*persons: Any, **changes: Any) -> SimpleNamespace:
    stamp = SimpleNamespace(sec=12, nanosec=345)
    fields = {
        'header': SimpleNamespace(stamp=stamp, frame_id='map'),
        'layout': '',
        'joint_names': list(LAYOUT.joint_names),
        'persons': list(persons or [person()]),
    }
    return SimpleNamespace(**{**fields, **changes})


def header(sec: int = 12, nanosec: int = 345, frame_id: str = 'map') -> SimpleNamespace:
    return SimpleNamespace(stamp=SimpleNamespace(sec=sec, nanosec=nanosec), frame_id=frame_id)


def changed(joint: int, value: Any) -> np.ndarray:
    """Return the pose with one joint elsewhere."""
    pose: np.ndarray = np.array(POSE)
    pose[joint] = value
    return pose


def confidences(value: float) -> list[float]:
    return [value] + [1.0] * 17


def reasons(observation: Observation) -> list[str]:
    return [rejection.reason for rejection in observation.rejected]


def assert_same(one: Observation, other: Observation) -> None:
    assert (one.stamp_ns, one.frame_id) == (other.stamp_ns, other.frame_id)
    assert one.rejected == other.rejected
    assert len(one.people) == len(other.people)
    for a, b in zip(one.people, other.people, strict=True):
        assert (a.person_id, a.stamp_ns, a.tracking) == (b.person_id, b.stamp_ns, b.tracking)
        assert np.array_equal(a.positions, b.positions, equal_nan=True)
        assert np.array_equal(a.confidences, b.confidences)


def test_a_good_message_is_read_as_it_was_sent() -> None:
    observation = decode(message(), LAYOUT, CONFIG)
    assert (observation.stamp_ns, observation.frame_id) == (12_000_000_345, 'map')
    (frame,) = observation.people
    assert (frame.person_id, frame.stamp_ns) == ('anna', 12_000_000_345)
    assert frame.tracking is TrackingState.TRACKED
    assert frame.positions.dtype == np.float64
    assert frame.confidences.dtype == np.float32
    assert np.array_equal(frame.positions, POSE)
    assert not observation.rejected


def test_nobody_is_an_observation_too() -> None:
    observation = decode(message(persons=[]), LAYOUT, CONFIG)
    assert observation.people == ()
    assert observation.rejected == ()


def test_the_order_of_joints_and_extra_ones_change_nothing() -> None:
    shuffle = np.random.default_rng(1).permutation(18)
    names = [LAYOUT.joint_names[joint] for joint in shuffle] + ['nose']
    sure = np.linspace(0.5, 1.0, 18, dtype=np.float32)
    shuffled = person(
        pose=np.vstack([POSE[shuffle], np.full((1, 3), INF)]),
        confidences=array.array('f', [*sure[shuffle].tolist(), 7.0]),
    )
    expected = decode(message(), LAYOUT, CONFIG)
    assert_same(decode(message(shuffled, joint_names=names), LAYOUT, CONFIG), expected)
    unshuffled = decode(
        message(shuffled, joint_names=[*LAYOUT.joint_names, 'nose']), LAYOUT, CONFIG
    )
    with pytest.raises(AssertionError):
        assert_same(unshuffled, expected)


@pytest.mark.parametrize('layout', ['', 'body18'])
def test_without_joint_names_the_order_is_that_of_the_layout(layout: str) -> None:
    nameless = message(joint_names=[], layout=layout)
    assert_same(decode(nameless, LAYOUT, CONFIG), decode(message(), LAYOUT, CONFIG))


def test_with_joint_names_the_layout_of_the_source_does_not_matter() -> None:
    foreign = message(layout='tracker9')
    assert_same(decode(foreign, LAYOUT, CONFIG), decode(message(), LAYOUT, CONFIG))


def test_a_message_read_from_real_cdr_bytes_decodes_the_same() -> None:
    people = [
        person(pose=changed(4, NAN)),
        person('ben', confidences=array.array('f')),
        person('carl', pose=1000 * POSE),
    ]
    sent = message(*people)
    received = through_cdr(sent)
    assert isinstance(received.persons[0].positions, np.ndarray)
    assert_same(decode(received, LAYOUT, CONFIG), decode(sent, LAYOUT, CONFIG))
    assert reasons(decode(received, LAYOUT, CONFIG)) == ['implausible_size']


def through_cdr(sent: SimpleNamespace) -> Any:
    """Serialise and read back with the definitions we ship, as a bag would."""
    store = get_typestore(Stores.ROS2_JAZZY)
    package = 'motion_predictor_ros/msg'
    for name in ('Skeleton', 'SkeletonArray'):
        text = Path(share_file('msg', f'{name}.msg')).read_text()
        store.register(get_types_from_msg(text, f'{package}/{name}'))
    types = store.types
    stamp = types['builtin_interfaces/msg/Time'](**vars(sent.header.stamp))
    persons = [
        types[f'{package}/Skeleton'](
            person_id=who.person_id,
            tracking_state=who.tracking_state,
            positions=np.array(who.positions, dtype=np.float32),
            confidences=np.array(who.confidences, dtype=np.float32),
        )
        for who in sent.persons
    ]
    typed = types[f'{package}/SkeletonArray'](
        header=types['std_msgs/msg/Header'](stamp=stamp, frame_id=sent.header.frame_id),
        layout=sent.layout,
        joint_names=sent.joint_names,
        persons=persons,
    )
    raw = store.serialize_cdr(typed, f'{package}/SkeletonArray')
    return store.deserialize_cdr(raw, f'{package}/SkeletonArray')


def test_joints_left_out_have_no_position_and_no_confidence() -> None:
    half_nan = changed(2, [NAN, 0.0, INF])
    (frame,) = decode(message(person(pose=half_nan)), LAYOUT, CONFIG).people
    assert np.isnan(frame.positions[2]).all()
    assert frame.confidences[2] == 0
    (frame,) = decode(message(person(confidences=confidences(0.0))), LAYOUT, CONFIG).people
    assert np.isnan(frame.positions[0]).all()
    assert np.isfinite(frame.positions[1:]).all()


def test_confidences_may_be_left_out_and_mean_one() -> None:
    silent = person(pose=changed(2, NAN), confidences=[])
    (frame,) = decode(message(silent), LAYOUT, CONFIG).people
    assert frame.confidences.tolist() == [1.0 if joint != 2 else 0.0 for joint in range(18)]


def test_the_message_is_not_written_to() -> None:
    positions = np.array(changed(2, [NAN, 1.0, 1.0]), dtype=np.float64).ravel()
    given = positions.copy()
    decode(message(person(positions=positions)), LAYOUT, CONFIG)
    assert np.array_equal(positions, given, equal_nan=True)


MESSAGE_FAULTS: dict[str, tuple[str, Callable[[], Any], str]] = {
    'joint names of another tracker': (
        'layout_mismatch', lambda: message(joint_names=['nose']), r'skeleton\.layout',
    ),
    'another layout and no joint names': (
        'layout_mismatch', lambda: message(joint_names=[], layout='tracker9'), 'tracker9.*body18',
    ),
    'a layout too long for a name': (
        'layout_mismatch', lambda: message(layout='x' * 10_000), 'is no name',
    ),
    'no frame': ('unknown_frame', lambda: message(header=header(frame_id='')), 'frame_id'),
    'stamp zero': ('bad_stamp', lambda: message(header=header(0, 0)), 'fill the stamp'),
    'stamp negative': ('bad_stamp', lambda: message(header=header(-1)), '-1 s'),
    'a second too many': ('bad_stamp', lambda: message(header=header(1, 10**9)), 'below 1e9'),
}  # fmt: skip


@pytest.mark.parametrize('fault', MESSAGE_FAULTS)
def test_a_fault_of_the_message_raises_its_reason(fault: str) -> None:
    reason, make, says = MESSAGE_FAULTS[fault]
    with pytest.raises(SkeletonFormatError, match=says) as caught:
        decode(make(), LAYOUT, CONFIG)
    assert caught.value.reason == reason


def test_only_the_configured_frame_is_accepted_if_there_is_one() -> None:
    assert decode(message(), LAYOUT, SkeletonConfig(frame='map')).people
    with pytest.raises(SkeletonFormatError, match="'map', expected 'odom'") as caught:
        decode(message(), LAYOUT, SkeletonConfig(frame='odom'))
    assert caught.value.reason == 'unknown_frame'


PERSON_FAULTS: dict[str, tuple[str, Callable[[], Any], str]] = {
    'too few positions': (
        'wrong_length', lambda: person(positions=[0.0] * 53), r'53 position.*3 x 18',
    ),
    'too few confidences': ('wrong_length', lambda: person(confidences=[1.0] * 17), 'none or 18'),
    'infinite': ('non_finite', lambda: person(pose=INF * POSE), 'infinite'),
    'percent': ('bad_confidence', lambda: person(confidences=[99.0] * 18), r'percent\?'),
    'no id': ('empty_id', lambda: person(''), 'no person_id'),
    'nothing seen': ('no_joints', lambda: person(pose=NAN * POSE), 'not one joint'),
    'gone': ('lost', lambda: person(tracking_state=3), 'gone'),
    'guessed': ('searching', lambda: person(tracking_state=2), 'guess'),
    'unknown state': ('bad_tracking_state', lambda: person(tracking_state=4), '1 TRACKED'),
    'millimetres': ('implausible_size', lambda: person(pose=1000 * POSE), r'in millimetres\?'),
    'a point': ('implausible_size', lambda: person(pose=0.01 * POSE), 'min_extent_m'),
    'all at the origin': ('no_joints', lambda: person(pose=0 * POSE), 'not one joint'),
}  # fmt: skip


@pytest.mark.parametrize('fault', PERSON_FAULTS)
def test_a_fault_of_a_person_drops_that_person_only(fault: str) -> None:
    reason, make, says = PERSON_FAULTS[fault]
    good = (person('ben'), person('carl'))
    observation = decode(message(good[0], make(), good[1]), LAYOUT, CONFIG)
    assert [frame.person_id for frame in observation.people] == ['ben', 'carl']
    (rejection,) = observation.rejected
    assert rejection.reason == reason
    assert rejection.person_id == make().person_id
    assert re.search(says, rejection.message)


def test_of_two_people_with_one_id_the_second_is_dropped() -> None:
    observation = decode(message(person(), person(pose=POSE + 1)), LAYOUT, CONFIG)
    assert reasons(observation) == ['duplicate_id']
    assert np.array_equal(observation.people[0].positions, POSE)


def test_people_beyond_the_limit_are_dropped_and_the_lost_do_not_count() -> None:
    crowd = [person('gone', tracking_state=3), *(person(str(i)) for i in range(4))]
    observation = decode(message(*crowd), LAYOUT, SkeletonConfig(max_people=3))
    assert [frame.person_id for frame in observation.people] == ['0', '1', '2']
    assert reasons(observation) == ['lost', 'too_many_people']


def test_a_tracker_that_does_not_say_its_state_is_believed() -> None:
    (frame,) = decode(message(person(tracking_state=0)), LAYOUT, CONFIG).people
    assert frame.tracking is TrackingState.UNKNOWN
