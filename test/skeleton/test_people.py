# SPDX-License-Identifier: Apache-2.0
"""An empty scene is earned: people who are refused or missing are held, then unplaced."""

import numpy as np
import pytest

from motion_predictor_ros.data.synthetic import Walker
from motion_predictor_ros.skeleton.frame import Observation, Rejection, SkeletonFrame
from motion_predictor_ros.skeleton.people import Presence, PresenceTracker

S = 10**9
POSE = Walker(0).pose(0.0)


def frame(person_id: str, stamp_ns: int) -> SkeletonFrame:
    return SkeletonFrame(person_id, stamp_ns, POSE, np.ones(18, dtype=np.float32))


def observation(
    stamp_ns: int,
    *people: str,
    refused: tuple[str, ...] = (),
    lag_ns: int = 0,
    reason: str = 'searching',
) -> Observation:
    frames = tuple(frame(person_id, stamp_ns - lag_ns) for person_id in people)
    rejections = tuple(Rejection(person_id, reason, 'not seen') for person_id in refused)
    return Observation(stamp_ns, 'world', frames, rejections)


def tracker(refused_people: str = 'unknown', hold_s: float = 1.0) -> PresenceTracker:
    return PresenceTracker(hold_s, refused_people, max_lag_s=0.2)


def held(presence: Presence) -> list[str]:
    return [person.frame.person_id for person in presence.held]


def test_a_source_that_lists_nobody_is_believed_when_nobody_was_there() -> None:
    presence = tracker().update(observation(S))
    assert presence == Presence() and not presence.withheld


@pytest.mark.parametrize('refused', [('anna',), ()])
def test_a_person_refused_or_missing_is_held_until_the_hold_is_over(
    refused: tuple[str, ...],
) -> None:
    people = tracker()
    people.update(observation(S, 'anna'))
    last = people.update(observation(2 * S, refused=refused))
    assert held(last) == ['anna'] and not last.withheld and '1.00 s ago' in last.held[0].reason
    after = people.update(observation(2 * S + 1, refused=refused))
    assert held(after) == []
    assert bool(after.withheld) == bool(refused)  # refused: somebody is there; missing: gone
    assert ('searching' in after.withheld) == bool(refused)


def test_a_person_who_was_refused_while_held_is_not_gone_with_the_hold() -> None:
    people = tracker()
    people.update(observation(S, 'anna'))
    people.update(observation(2 * S - S // 4, refused=('anna',)))
    assert held(people.update(observation(2 * S))) == ['anna']
    assert people.update(observation(2 * S + 1)).withheld  # refused 0.25 s ago
    assert people.update(observation(3 * S - S // 4)).withheld
    assert people.update(observation(3 * S - S // 4 + 1)) == Presence()


def test_a_person_who_was_never_accepted_silences_planners_at_once() -> None:
    people = tracker()
    presence = people.update(observation(S, 'anna', refused=('ben',)))
    assert [person.person_id for person in presence.observed] == ['anna']
    assert [each.person_id for each in presence.unplaced] == ['ben'] and presence.withheld
    assert people.update(observation(2 * S, 'anna')).withheld  # not listed now: not gone
    assert not people.update(observation(2 * S + 1, 'anna')).withheld


def test_the_hold_counts_from_the_last_accepted_observation() -> None:
    people = tracker(hold_s=0.5)
    people.update(observation(S, 'anna'))
    people.update(observation(S + S // 4, refused=('anna',)))
    people.update(observation(S + S // 3, 'anna'))
    late = S + S // 3 + S // 2
    assert held(people.update(observation(late, refused=('anna',)))) == ['anna']
    assert people.update(observation(late + 1, refused=('anna',))).withheld


def test_refused_people_can_be_ignored_but_who_was_seen_is_still_held() -> None:
    people = tracker('ignored')
    assert not people.update(observation(S, refused=('ghost',))).withheld
    people.update(observation(S + 1, 'anna'))
    assert held(people.update(observation(S + 2, refused=('anna',)))) == ['anna']
    assert people.update(observation(3 * S, refused=('anna',))) == Presence()


def test_a_person_without_an_id_may_be_the_one_who_is_missing() -> None:
    people = tracker()
    people.update(observation(S, 'anna'))
    presence = people.update(observation(S + 1, refused=('',), reason='empty_id'))
    assert held(presence) == ['anna'] and not presence.withheld
    two = people.update(observation(S + 2, refused=('', ''), reason='empty_id'))
    assert len(two.unplaced) == 1  # only one of them can be


def test_a_person_without_an_id_may_be_the_one_who_is_observed_next() -> None:
    people = tracker()
    assert people.update(observation(S, refused=('',), reason='empty_id')).withheld
    assert people.update(observation(S + 1)).withheld
    assert not people.update(observation(S + 2, 'anna')).withheld


def test_a_second_person_with_the_same_id_has_no_place() -> None:
    presence = tracker().update(observation(S, 'anna', refused=('anna',), reason='duplicate_id'))
    assert 'duplicate_id' in presence.withheld


@pytest.mark.parametrize(('lag_ns', 'is_observed'), [(S // 5, True), (S // 5 + 1, False)])
def test_a_person_who_lags_is_observed_up_to_the_longest_gap(
    lag_ns: int, is_observed: bool
) -> None:
    presence = tracker().update(observation(2 * S, 'anna', lag_ns=lag_ns))
    assert bool(presence.observed) == is_observed
    assert held(presence) == ([] if is_observed else ['anna'])


def test_a_jump_back_in_time_does_not_make_people_disappear() -> None:
    people = tracker()
    people.update(observation(100 * S, 'anna'))
    people.move_to(S)
    assert held(people.update(observation(S))) == ['anna']
    assert held(people.update(observation(2 * S + 1))) == []


def test_a_single_wrong_stamp_does_not_make_people_disappear() -> None:
    people = tracker()
    people.update(observation(100 * S, 'anna'))
    people.move_to(S)
    people.update(observation(S))
    assert held(people.update(observation(100 * S + S // 30))) == ['anna']


def test_a_reset_forgets_all_people() -> None:
    people = tracker()
    people.update(observation(S, 'anna'))
    people.reset()
    assert people.update(observation(S + 1)) == Presence()


def test_people_of_a_refused_message_are_there_without_a_place_for_the_hold() -> None:
    people = tracker()
    people.refuse(observation(S, refused=('anna',), reason='no_transform'))
    assert 'no_transform' in people.update(observation(2 * S)).withheld
    assert not people.update(observation(2 * S + 1)).withheld  # not listed any more
    people.update(observation(3 * S, 'anna'))
    people.refuse(observation(3 * S + 1, refused=('anna',), reason='no_transform'))
    known = people.update(observation(3 * S + 2))
    assert held(known) == ['anna'] and not known.withheld  # the control: her place is known


def test_a_message_that_cannot_be_read_makes_no_scene_empty_within_the_hold() -> None:
    people = tracker()
    people.refuse_unread('bad_stamp')
    assert 'bad_stamp' in people.update(observation(S)).withheld
    assert not people.update(observation(S + 1, 'anna')).withheld  # the control: not empty
    people = tracker()
    people.refuse_unread('bad_stamp')
    people.update(observation(S))
    assert people.update(observation(2 * S)).withheld
    assert not people.update(observation(2 * S + 1)).withheld


@pytest.mark.parametrize(('step_ns', 'is_jump'), [(S, False), (S + 1, True), (10**6 * S, True)])
def test_a_jump_ahead_in_time_does_not_make_people_disappear(step_ns: int, is_jump: bool) -> None:
    people = tracker()
    people.update(observation(S, 'anna'))
    after = people.update(observation(S + step_ns))
    assert held(after) == ([] if is_jump else ['anna']) and bool(after.withheld) == is_jump
    if is_jump:
        assert people.update(observation(2 * S + step_ns)).withheld
        assert people.update(observation(2 * S + step_ns + 1)) == Presence()


def test_refused_messages_are_ignored_with_refused_people() -> None:
    people = tracker('ignored')
    people.refuse(observation(S, refused=('anna',), reason='no_transform'))
    people.refuse_unread('bad_stamp')
    assert people.update(observation(S + 1)) == Presence()


def test_jumps_there_and_back_do_not_make_people_disappear() -> None:
    people = tracker()
    people.update(observation(100 * S, 'anna'))
    assert people.update(observation(105 * S)).withheld
    people.move_to(100 * S + 1)
    assert people.update(observation(100 * S + 1)).withheld
    assert people.update(observation(101 * S + 1)).withheld
    assert people.update(observation(101 * S + 2)) == Presence()


@pytest.mark.parametrize('behind_ns', [S // 2, S])
def test_a_jump_back_and_on_to_a_little_before_its_start_makes_nobody_disappear_sooner(
    behind_ns: int,
) -> None:
    people = tracker()
    people.update(observation(100 * S, 'anna'))
    people.move_to(S)
    people.update(observation(S))
    for stamp_ns in range(100 * S - behind_ns, 101 * S + 1, S // 2):
        assert people.update(observation(stamp_ns)).withheld  # from when she was last observed
    assert people.update(observation(101 * S + 1)) == Presence()


def test_a_jump_on_to_another_time_counts_the_hold_from_there() -> None:
    people = tracker()
    people.update(observation(100 * S, 'anna'))
    people.move_to(S)
    people.update(observation(S))
    for stamp_ns in range(50 * S, 51 * S + 1, S // 2):
        assert people.update(observation(stamp_ns)).withheld
    assert people.update(observation(51 * S + 1)) == Presence()


def test_a_jump_ahead_and_back_to_just_before_its_start_makes_nobody_disappear_sooner() -> None:
    people = tracker()
    people.update(observation(100 * S, 'anna'))
    assert people.update(observation(10**8 * S)).withheld
    people.move_to(100 * S - 8 * S // 10)
    for tenths in range(-8, 11):
        assert people.update(observation(100 * S + tenths * S // 10)).withheld
    assert people.update(observation(101 * S + 1)) == Presence()
