# SPDX-License-Identifier: Apache-2.0
"""Each TF frame has a time of its own: odd stamps of one do not affect others."""

import foreign_messages as foreign
import numpy as np
import pytest

from motion_predictor_ros.errors import SkeletonFormatError
from motion_predictor_ros.skeleton.transforms import TransformTree

S = 10**9
NOW = 1_700_000_000 * S


def add(tree: TransformTree, stamp_ns: int, child: str = 'camera', x: float = 0.0) -> None:
    at = np.array([x, 0.0, 0.0])
    moved = foreign.transform(stamp_ns, 'map', child, at)
    tree.add(foreign.make('tf2_msgs/TFMessage', transforms=[moved]))


def camera_x(tree: TransformTree, stamp_ns: int) -> float:
    return float(tree.lookup('map', 'camera', stamp_ns).shift[0])


@pytest.mark.parametrize('odd_ns', [0, NOW - 3 * S // 2, NOW + S, NOW + 1000 * S, 1])
def test_another_frame_with_an_odd_stamp_changes_nothing(odd_ns: int) -> None:
    tree = TransformTree()
    for step in range(100):
        stamp_ns = NOW + step * S // 20
        add(tree, stamp_ns, x=step)
        add(tree, odd_ns + step * S // 20 if odd_ns > S else odd_ns, 'odom')
        tree.forget_gone()
        assert camera_x(tree, stamp_ns) == step
    assert camera_x(tree, NOW + 90 * S // 20 + S // 40) == 90.5


@pytest.mark.parametrize('odd_ns', [0, NOW - 3 * S // 2, NOW - 1000 * S])
def test_a_single_odd_stamp_of_the_frame_itself_is_ignored(odd_ns: int) -> None:
    tree = TransformTree()
    for step in range(20):
        add(tree, NOW + step * S // 20, x=step)
        add(tree, odd_ns, x=-1.0)
    assert camera_x(tree, NOW + 19 * S // 20) == 19.0
    assert camera_x(tree, NOW + S // 40) == 0.5


def test_a_transform_that_comes_late_is_sorted_in() -> None:
    tree = TransformTree()
    for tick in (0, 2, 1, 3):
        add(tree, NOW + tick * S // 20, x=tick)
    assert camera_x(tree, NOW + S // 20 + S // 40) == 1.5


def test_time_that_jumps_back_is_followed_with_the_second_transform() -> None:
    tree = TransformTree()
    for step in range(100):
        add(tree, NOW + step * S // 20, x=step)
    add(tree, NOW, x=500.0)
    assert camera_x(tree, NOW + 99 * S // 20) == 99.0
    add(tree, NOW + S // 20, x=501.0)
    assert camera_x(tree, NOW + S // 20) == 501.0
    with pytest.raises(SkeletonFormatError, match='not known at the time'):
        camera_x(tree, NOW + 99 * S // 20)


def test_clearing_forgets_what_moves_and_keeps_what_stands_still() -> None:
    tree = TransformTree()
    fixed = foreign.transform(0, 'map', 'camera', np.ones(3))
    tree.add(foreign.make('tf2_msgs/TFMessage', transforms=[fixed]), static=True)
    add(tree, NOW, 'base')
    tree.clear()
    assert camera_x(tree, NOW) == 1.0
    with pytest.raises(SkeletonFormatError):
        tree.lookup('map', 'base', NOW)


def test_a_leading_slash_and_the_newest_time_are_understood() -> None:
    tree = TransformTree()
    add(tree, NOW, x=3.0)
    assert tree.lookup('/map', '/camera', 0).shift[0] == 3.0


def test_memory_is_bounded_and_a_frame_far_ahead_does_not_make_others_old() -> None:
    tree = TransformTree()
    add(tree, NOW + 1000 * S, 'ahead')
    for number in range(1000):
        add(tree, NOW + number * S // 10, f'id{number}')
        add(tree, NOW + number * S // 10, x=number)
        tree.forget_gone()
    assert len(tree.frames()) < 520
    assert camera_x(tree, NOW + 999 * S // 10) == 999.0
