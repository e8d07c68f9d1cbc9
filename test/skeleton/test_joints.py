# SPDX-License-Identifier: Apache-2.0
"""Single joints that no body has are not seen; they never cost their person."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from scenes import decode
from skeleton.sources.test_native import CONFIG, LAYOUT, message, person

from motion_predictor_ros.data.synthetic import Walker
from motion_predictor_ros.errors import SkeletonFormatError
from motion_predictor_ros.skeleton.frame import Observation, SkeletonFrame
from motion_predictor_ros.skeleton.plausibility import BodyCheck, JointFilter

INDEX = {name: joint for joint, name in enumerate(LAYOUT.joint_names)}
WRIST, ELBOW = INDEX['l_wrist'], INDEX['l_elbow']
HIPS = [INDEX['l_hip'], INDEX['r_hip']]
PERIOD_NS = 33_333_333
AT = np.array([3.0, 2.0, 0.0])
NAN, INF = float('nan'), float('inf')


def pose(time_s: float = 0.4) -> np.ndarray:
    return Walker(3).pose(time_s) + AT


def moved(joints: Any, value: Any, time_s: float = 0.4) -> np.ndarray:
    body = pose(time_s)
    body[joints] = value
    return body


def stretched(factor: float, time_s: float = 0.4) -> np.ndarray:
    """The lower arm, longer by a factor."""
    body = pose(time_s)
    body[WRIST] = body[ELBOW] + factor * (body[WRIST] - body[ELBOW])
    return body


def read(**changes: Any) -> Observation:
    return decode(message(person(**changes)), LAYOUT, CONFIG)


def unseen(frame: SkeletonFrame) -> list[int]:
    return np.flatnonzero(np.isnan(frame.positions[:, 0])).tolist()


def filtered(observation: Observation) -> list[str]:
    return [each.reason for each in observation.filtered]


@pytest.mark.parametrize(
    ('joints', 'value', 'reason'),
    [
        (WRIST, 0.0, 'joint_at_origin'),
        (HIPS, 0.0, 'joint_at_origin'),
        (WRIST, [3.0, -3.0, 2.0], 'joint_bone_length'),  # where the camera is
        (WRIST, [9.0, 6.0, 1.0], 'joint_bone_length'),  # on the wall behind
        ([ELBOW, WRIST], [[9.0, 6.0, 1.0], [9.0, 6.0, 1.2]], 'joint_bone_length'),
        (WRIST, [NAN, 1.0, 1.0], ''),
        (WRIST, [INF, 1.0, 1.0], 'joint_non_finite'),
        (WRIST, 1e30, 'joint_bone_length'),
    ],
)
def test_a_joint_where_no_body_has_it_is_not_seen_and_its_person_stays(
    joints: Any, value: Any, reason: str
) -> None:
    observation = read(pose=moved(joints, value))
    (frame,) = observation.people
    assert unseen(frame) == np.atleast_1d(joints).tolist()
    assert (frame.confidences[joints] == 0).all() and not observation.rejected
    assert filtered(observation) == ([reason] if reason else [])
    assert all('l_' in each.message for each in observation.filtered)


@pytest.mark.parametrize(('apart_m', 'is_seen'), [(0.0, False), (0.001, True)])
def test_joints_at_one_place_are_not_seen_but_the_one_nearest_to_the_root(
    apart_m: float, is_seen: bool
) -> None:
    joints = [ELBOW, WRIST, INDEX['r_elbow']]
    body = pose()
    body[joints] = body[INDEX['pelvis']] + apart_m * np.arange(1, 4)[:, None]
    observation = read(pose=body)
    assert unseen(observation.people[0]) == ([] if is_seen else sorted(joints))
    assert filtered(observation) == ([] if is_seen else ['joint_same_place'])


def test_a_body_without_a_fault_loses_nothing() -> None:
    assert not filtered(read(pose=pose())) and not unseen(read(pose=pose()).people[0])


@pytest.mark.parametrize(
    ('value', 'is_seen', 'confidence'),
    [
        (NAN, False, 0.0),
        (1.04, False, 0.0),
        (-0.2, False, 0.0),
        (1.0000001, True, 1.0),
        (1.0, True, 1.0),
        (-1e-7, False, 0.0),  # rounded to 0, which means not seen
        (1e-3, True, 1e-3),
    ],
)
def test_a_confidence_judges_its_joint_alone(
    value: float, is_seen: bool, confidence: float
) -> None:
    sure = [1.0] * 18
    sure[WRIST] = value
    (frame,) = read(pose=pose(), confidences=sure).people
    assert unseen(frame) == ([] if is_seen else [WRIST])
    assert frame.confidences[WRIST] == pytest.approx(confidence)


def test_a_source_whose_confidences_are_all_nan_states_none() -> None:
    (frame,) = read(pose=pose(), confidences=[NAN] * 18).people
    assert not unseen(frame) and (frame.confidences == 1).all()


@pytest.mark.parametrize('height_m', [0.5, 1.0, 2.2])
def test_people_of_any_height_are_read_even_curled_up(height_m: float) -> None:
    body = height_m / 1.75 * Walker(3).pose(0.4) + AT
    curled = body.copy()
    pelvis, knees = INDEX['pelvis'], [INDEX[f'{side}_knee'] for side in 'lr']
    for side, knee in zip('lr', knees, strict=True):
        shank = body[INDEX[f'{side}_ankle']] - body[knee]
        curled[INDEX[f'{side}_ankle']] = curled[knee] - 0.95 * shank
        curled[INDEX[f'{side}_foot']] += (
            curled[INDEX[f'{side}_ankle']] - body[INDEX[f'{side}_ankle']]
        )
    reach = np.linalg.norm(curled - np.median(curled, axis=0), axis=1).max()
    assert reach < 0.6 * height_m and pelvis == 0
    for each in (body, curled):
        observation = read(pose=each)
        assert observation.people and not observation.rejected and not filtered(observation)


@pytest.mark.parametrize(
    ('scale', 'is_human'),
    [(1000.0, False), (100.0, False), (3.28, False), (1.6, True), (0.2, True), (0.15, False)],
)
def test_units_are_judged_by_most_bones_and_not_by_one_joint(scale: float, is_human: bool) -> None:
    body = scale * Walker(3).pose(0.4)
    body[WRIST] += 7.0
    observation = read(pose=body)
    assert bool(observation.people) == is_human
    reasons = [each.reason for each in observation.rejected]
    assert reasons == ([] if is_human else ['implausible_size'])


def test_few_joints_with_one_far_away_are_no_reason_to_refuse_a_person() -> None:
    body = np.full((18, 3), NAN)
    keep = [INDEX['l_shoulder'], ELBOW, WRIST]
    body[keep] = pose()[keep]
    body[WRIST] += 6.0
    observation = read(pose=body)
    assert unseen(observation.people[0]) == sorted(set(range(18)) - set(keep[:2]))


def test_of_two_joints_that_contradict_each_other_none_is_believed() -> None:
    body = np.full((18, 3), NAN)
    body[[ELBOW, WRIST]] = pose()[[ELBOW, WRIST]]
    body[WRIST] += 6.0
    (rejection,) = read(pose=body).rejected
    assert rejection.reason == 'no_joints'


def test_a_body_of_a_layout_without_lengths_is_judged_by_its_extent() -> None:
    layout = dataclasses.replace(LAYOUT, lengths=())
    check = BodyCheck(layout, 0.3, 3.0)
    body = pose()
    assert not check.impossible(body, 'anna').any()
    body[WRIST] += 6.0
    assert np.flatnonzero(check.impossible(body, 'anna')).tolist() == [WRIST]
    with pytest.raises(SkeletonFormatError, match='millimetres'):
        check.impossible(1000 * pose(), 'anna')


class Filter:
    """Feeds one person to a `JointFilter` at 30 Hz."""

    def __init__(self) -> None:
        self._filter, self._step = JointFilter(LAYOUT, 1.0), 0

    def __call__(self, body: np.ndarray) -> Observation:
        self._step += 1
        stamp_ns = 10**9 + self._step * PERIOD_NS
        frame = SkeletonFrame('anna', stamp_ns, body, np.ones(18, dtype=np.float32))
        return self._filter.apply(Observation(stamp_ns, 'world', (frame,)))


@pytest.mark.parametrize(('factor', 'is_seen'), [(1.49, True), (1.51, False)])
def test_a_bone_may_be_half_longer_than_its_own_length_and_no_more(
    factor: float, is_seen: bool
) -> None:
    feed = Filter()
    for _ in range(10):
        assert not filtered(feed(pose()))
    observation = feed(stretched(factor))
    assert unseen(observation.people[0]) == ([] if is_seen else [WRIST])
    assert filtered(observation) == ([] if is_seen else ['joint_bone_length'])
    assert not unseen(feed(pose()).people[0])


def test_a_bone_that_is_wrong_now_and_then_does_not_become_its_own_length() -> None:
    feed = Filter()
    for step in range(70):
        bad = step % 7 == 6
        observation = feed(stretched(1.8) if bad and step > 6 else pose())
        assert bool(filtered(observation)) == (bad and step > 6)


@pytest.mark.parametrize(('jump_m', 'is_seen'), [(0.3, True), (0.45, False)])
def test_a_joint_that_leaves_its_body_for_one_frame_is_not_seen(
    jump_m: float, is_seen: bool
) -> None:
    """The foot swings about the ankle's bone: longer bones are judged elsewhere."""
    feed, knee = Filter(), INDEX['l_knee']
    for _ in range(4):
        feed(pose())  # too few for its own lengths
    body = pose()
    body[knee] += [jump_m, 0.0, 0.0]
    observation = feed(body)
    assert unseen(observation.people[0]) == ([] if is_seen else [knee])
    assert not unseen(feed(pose()).people[0])


def test_a_joint_that_stays_where_it_jumped_to_is_believed_with_the_next_frame() -> None:
    feed, knee = Filter(), INDEX['l_knee']
    for _ in range(4):
        feed(pose())
    body = pose()
    body[knee] += [0.45, 0.0, 0.0]
    assert unseen(feed(body).people[0]) == [knee]
    assert not unseen(feed(body).people[0])


def test_a_whole_body_that_jumps_is_left_to_tracking() -> None:
    feed = Filter()
    feed(pose())
    assert not filtered(feed(pose() + 5.0))


def test_a_person_who_loses_all_joints_is_refused_and_not_left_out() -> None:
    feed, body = Filter(), np.full((18, 3), NAN)
    for _ in range(10):
        feed(pose())
    body[[ELBOW, WRIST]] = stretched(2.0)[[ELBOW, WRIST]]
    observation = feed(body)
    assert not observation.people
    assert [each.reason for each in observation.rejected] == ['no_joints']


@pytest.mark.parametrize('scale', [0.5, 2.0])
def test_another_body_with_the_same_id_is_measured_anew_after_five_observations(
    scale: float,
) -> None:
    feed = Filter()
    for _ in range(10):
        feed(pose())
    faults = [bool(filtered(feed(scale * pose()))) for _ in range(20)]
    if scale > 1:
        assert faults == [True] * 4 + [False] * 16
    assert not any(faults[4:])
    feed(scale * pose())
    assert filtered(feed(scale * stretched(1.6))) == ['joint_bone_length']  # the control


def test_a_joint_that_stays_too_far_from_its_body_is_never_believed() -> None:
    feed = Filter()
    for _ in range(10):
        feed(pose())
    assert all(filtered(feed(stretched(1.8))) == ['joint_bone_length'] for _ in range(60))


@pytest.mark.parametrize('factor', [0.01, 0.5, 0.6])
def test_a_joint_that_hid_behind_another_is_seen_again_once_it_was_out_as_long(
    factor: float,
) -> None:
    """Its bone looked short for so long that this became its own length."""
    feed = Filter()
    for body in (*[pose()] * 10, *[stretched(factor)] * 40):
        feed(body)
    missed = [unseen(feed(pose()).people[0]) for _ in range(60)]
    assert missed == [[WRIST]] * 31 + [[]] * 29
    assert filtered(feed(stretched(1.6))) == ['joint_bone_length']  # the control
