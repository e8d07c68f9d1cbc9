# SPDX-License-Identifier: Apache-2.0
"""Flips and swaps are noticed, and ids survive what trackers do to them when asked to."""

import numpy as np
import pytest
from skeleton.sources.test_sources import BODY, POSE

from motion_predictor_ros.skeleton.frame import Observation, SkeletonFrame
from motion_predictor_ros.skeleton.tracking import Identities

SURE = np.ones(18, dtype=np.float32)
ASIDE = np.array([0.0, 0.6, 0.0])
AHEAD = np.array([1.0, 0.0, 0.0])  # [m/s]


def seen(time_s: float, people: dict[str, np.ndarray]) -> Observation:
    stamp_ns = 10**9 + round(time_s * 1e9)
    frames = tuple(SkeletonFrame(who, stamp_ns, pose, SURE) for who, pose in people.items())
    return Observation(stamp_ns, 'world', frames)


def pair(time_s: float, first: str = 'a', second: str = 'b') -> Observation:
    """Two people walk past each other, 0.6 m apart."""
    moved = time_s * AHEAD
    return seen(time_s, {first: POSE + moved, second: POSE + ASIDE + 2 * AHEAD - moved})


def identities(associate: bool = False) -> Identities:
    return Identities(BODY, associate, 1.0)


def reasons(by: Identities, *observations: Observation) -> list[list[str]]:
    return [[each.reason for each in by.follow(one)[1]] for one in observations]


def test_people_who_walk_on_keep_their_ids_in_silence() -> None:
    assert reasons(identities(), *[pair(step / 30) for step in range(60)]) == [[]] * 60


def test_two_who_exchange_their_ids_are_both_begun_anew_once() -> None:
    by = identities()
    before = [pair(step / 30) for step in range(30)]
    after = [pair(step / 30, 'b', 'a') for step in range(30, 60)]
    said = reasons(by, *before, *after)
    assert said == [[]] * 30 + [['swap', 'swap']] + [[]] * 29


def test_a_body_turned_by_half_a_turn_at_once_is_a_flip_and_a_turning_one_is_not() -> None:
    def turned(angle: float) -> np.ndarray:
        cos, sin = np.cos(angle), np.sin(angle)
        return POSE @ np.array([[cos, sin, 0.0], [-sin, cos, 0.0], [0.0, 0.0, 1.0]])

    frames = [
        seen(0.0, {'a': POSE}),
        seen(0.03, {'a': POSE}),
        seen(0.06, {'a': POSE[list(BODY.mirror)]}),
    ]
    assert reasons(identities(), *frames) == [[], [], ['flip']]
    spin = [seen(step / 30, {'a': turned(6.0 * step / 30)}) for step in range(40)]
    assert reasons(identities(), *spin) == [[]] * 40


@pytest.mark.parametrize('ids', [('c', 'd'), ('b', 'a')])
def test_association_mends_new_and_exchanged_ids(ids: tuple[str, str]) -> None:
    by = identities(associate=True)
    names = []
    for step in range(60):
        if 30 <= step < 40:
            continue  # nobody is seen for a third of a second
        observation, restarts = by.follow(pair(step / 30, *(ids if step >= 40 else ('a', 'b'))))
        names.append([each.person_id for each in observation.people])
        assert restarts == []
    assert names == [['a', 'b']] * 50


def test_a_newcomer_with_an_id_in_use_gets_another() -> None:
    by = identities(associate=True)
    by.follow(seen(0.0, {'a': POSE, 'b': POSE + ASIDE}))
    far = POSE + 5 * ASIDE
    observation, _ = by.follow(seen(0.04, {'c': POSE, 'a': far}))
    assert [each.person_id for each in observation.people] == ['a', 'a#2']


def test_a_newcomer_elsewhere_is_nobody_who_left() -> None:
    by = identities(associate=True)
    by.follow(seen(0.0, {'a': POSE}))
    observation, _ = by.follow(seen(0.3, {'b': POSE + 4 * ASIDE}))
    assert [each.person_id for each in observation.people] == ['b']


def test_joints_in_common_suffice() -> None:
    half = POSE.copy()
    half[:9] = np.nan
    other = POSE.copy()
    other[9:] = np.nan
    by = identities(associate=True)
    for step, pose in enumerate((POSE, half, POSE, other)):
        observation, _ = by.follow(seen(step / 30, {str(step): pose}))
        assert observation.people[0].person_id == '0'


def id_switches(associate: bool) -> int:
    """Count id switches of pairs that cross and are lost for 0.4 s while they are close."""
    switches, random = 0, np.random.default_rng(0)
    for _ in range(6):
        by, last = identities(associate), ['', '']
        after = (('3', '4'), ('2', '1'), ('1', '2'))[int(random.integers(3))]
        speeds_m_s = random.choice([1.0, 1.2, 1.4], 2, replace=False)
        angle = random.uniform(0.5, np.pi)
        ways = [AHEAD, np.array([np.cos(angle), np.sin(angle), 0.0])]
        for step in range(100):
            time_s = step / 25 - 2.0  # they pass at arm's length in the middle
            if -0.2 <= time_s < 0.2:
                continue
            ids = ('1', '2') if time_s < 0.0 else after
            poses = [
                POSE + place + speed * time_s * way
                for place, speed, way in zip(
                    (0 * ASIDE, ASIDE * 2 / 3), speeds_m_s, ways, strict=True
                )
            ]
            observation, _ = by.follow(seen(time_s + 2.0, dict(zip(ids, poses, strict=True))))
            for place, person in enumerate(observation.people):
                switches += last[place] not in ('', person.person_id)
                last[place] = person.person_id
    return switches


def test_association_saves_most_ids_of_crossing_people() -> None:
    assert id_switches(associate=False) >= 4
    assert id_switches(associate=True) == 0
