# SPDX-License-Identifier: Apache-2.0
"""People who are mirrored or upside down are recognised; people who move oddly are not."""

import dataclasses

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from skeleton.sources.test_sources import BODY, INDEX, POSE

from motion_predictor_ros.skeleton.frame import Window
from motion_predictor_ros.skeleton.plausibility import Plausibility

MIRROR = list(BODY.mirror)
ALONG_Y = np.array([1.0, -1.0, 1.0])


def window(
    poses: np.ndarray, unseen: tuple[str, ...] = (), inferred: tuple[str, ...] = ()
) -> Window:
    frames = np.broadcast_to(poses, (25, 18, 3)).copy()
    observed = np.ones((25, 18), dtype=bool)
    observed[:, [INDEX[name] for name in unseen]] = False
    put_in = np.zeros(18, dtype=bool)
    put_in[[INDEX[name] for name in inferred]] = True
    sure = observed.astype(np.float32)
    return Window('a', 1, frames, observed, sure, restarted=False, inferred=put_in)


def reason(seen: Window, up: str = 'z') -> str:
    fault = Plausibility(BODY, up).fault(seen)
    return '' if fault is None else fault[0]


def test_somebody_who_stands_is_a_person_whichever_way_they_face() -> None:
    for angle in (0.0, 1.0, 3.0, 5.0):
        turn = Rotation.from_euler('z', angle)
        assert reason(window(turn.apply(POSE.reshape(-1, 3)).reshape(18, 3))) == ''


def test_swapped_names_and_a_left_handed_frame_are_both_mirrored() -> None:
    assert reason(window(POSE[MIRROR])) == 'mirrored'
    assert reason(window(POSE * ALONG_Y)) == 'mirrored'
    assert reason(window((POSE * ALONG_Y)[MIRROR])) == ''  # the control: a person in a mirror


def test_mirrored_people_are_found_without_feet_but_not_without_knees() -> None:
    feet = ('l_foot', 'r_foot')
    crouched = POSE.copy()
    crouched[[INDEX['l_knee'], INDEX['r_knee']], 0] += 0.1
    assert reason(window(crouched[MIRROR], unseen=feet)) == 'mirrored'
    assert reason(window(crouched[MIRROR], inferred=feet)) == 'mirrored'
    assert reason(window(crouched, inferred=feet)) == ''
    assert reason(window(crouched[MIRROR], unseen=('l_knee',))) == ''


@pytest.mark.parametrize(('up', 'expected'), [('z', 'upside_down'), ('-z', ''), ('unknown', '')])
def test_upside_down_depends_on_what_is_up(up: str, expected: str) -> None:
    standing_on_the_head = POSE * [1.0, -1.0, -1.0]  # turned about x: left stays left
    assert reason(window(standing_on_the_head), up) == expected


def test_a_cartwheel_and_somebody_who_bends_down_are_people() -> None:
    angles = np.linspace(0.0, 2 * np.pi, 25)
    wheel = np.stack([Rotation.from_euler('x', angle).apply(POSE) for angle in angles])
    assert reason(window(wheel)) == ''
    bent = POSE.copy()
    upper = [joint for name, joint in INDEX.items() if name[2:] in ('shoulder', 'elbow', 'wrist')]
    upper += [INDEX[name] for name in ('chest', 'neck', 'head')]
    bent[upper] = Rotation.from_euler('y', 2.4).apply(POSE[upper] - POSE[0]) + POSE[0]
    assert bent[INDEX['head'], 2] < bent[INDEX['pelvis'], 2]
    assert reason(window(bent)) == ''


def test_what_is_built_like_nobody_is_not_judged() -> None:
    odd = POSE.copy()
    odd[INDEX['l_wrist']] += [0.0, 0.0, 1.0]
    assert reason(window(odd[MIRROR])) == ''


def bone_ratios(seen: Window) -> np.ndarray:
    """Return each bone's length at the end of a window, over its own; NaN without both ends."""
    bones = np.array(BODY.bones)
    own = np.linalg.norm(POSE[bones[:, 0]] - POSE[bones[:, 1]], axis=-1)
    pose = np.where(seen.seen[:, None], seen.positions[-1], np.nan)
    return np.asarray(np.linalg.norm(pose[bones[:, 0]] - pose[bones[:, 1]], axis=-1) / own)


def test_whatever_joints_were_filled_no_bone_is_longer_than_1_5_times_its_own_length() -> None:
    random, plausibility = np.random.default_rng(0), Plausibility(BODY, 'z')
    too_long, refused = 0, 0
    for _ in range(300):
        full = window(POSE)
        observed, positions = full.observed.copy(), full.positions.copy()
        filled = random.choice(18, random.integers(1, 12), replace=False)
        observed[random.integers(6, 25) :, filled] = False
        observed[:, random.choice(18, random.integers(0, 3), replace=False)] = False
        positions[~observed] += random.normal(size=3, scale=0.4)
        positions += random.normal(size=positions.shape, scale=0.002)
        hostile = dataclasses.replace(full, observed=observed, positions=positions)
        too_long += bool((bone_ratios(hostile) > 1.5).any())
        limited = plausibility.limit_filled(hostile)
        if isinstance(limited, Window):
            ratios = bone_ratios(limited)
            assert not (ratios > 1.5 * 1.05).any()  # its own length is measured with noise
            np.testing.assert_array_equal(limited.positions[observed], positions[observed])
        else:
            refused += 1
    assert too_long > 100  # the control: they were too long before
    assert refused < 30


@pytest.mark.parametrize(('factor', 'accepted'), [(1.4, True), (1.6, False)])
def test_a_bone_too_long_between_observed_joints_is_no_prediction(
    factor: float, accepted: bool
) -> None:
    stretched, (elbow, wrist) = window(POSE), (INDEX['l_elbow'], INDEX['l_wrist'])
    bone = POSE[wrist] - POSE[elbow]
    stretched.positions[-1, wrist] = POSE[elbow] + factor * bone
    limited = Plausibility(BODY, 'z').limit_filled(stretched)
    assert isinstance(limited, Window) == accepted
    assert accepted or limited == ('l_elbow', 'l_wrist')
