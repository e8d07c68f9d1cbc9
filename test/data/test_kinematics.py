# SPDX-License-Identifier: Apache-2.0
"""Forward kinematics on skeletons made by hand."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from motion_predictor_ros.data.smpl import place_joints

QUARTER = np.pi / 2
OFFSETS = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [0.0, 2.0, 0.0], [3.0, 0.0, 0.0]])
PARENTS = (-1, 0, 1, 1)  # an upright rod, bent on by one rod, with another to the side


def placed(**turns: tuple[float, float, float]) -> np.ndarray:
    """Turn joints 'a', 'b', ... and return where all of them are."""
    vectors = np.zeros((1, 4, 3))
    for name, turn in turns.items():
        vectors[0, ord(name) - ord('a')] = turn
    return place_joints(OFFSETS, PARENTS, vectors)[0]


def test_nothing_turned_adds_up_the_offsets() -> None:
    np.testing.assert_array_equal(placed(), [[0, 0, 1], [0, 1, 1], [0, 3, 1], [3, 1, 1]])


@pytest.mark.parametrize(
    ('turns', 'expected'),
    [
        ({'b': (0, 0, QUARTER)}, [[0, 0, 1], [0, 1, 1], [-2, 1, 1], [0, 4, 1]]),
        ({'a': (QUARTER, 0, 0)}, [[0, 0, 1], [0, 0, 2], [0, 0, 4], [3, 0, 2]]),
        ({'c': (1, 2, 3), 'd': (3, 2, 1)}, [[0, 0, 1], [0, 1, 1], [0, 3, 1], [3, 1, 1]]),
        (
            {'a': (QUARTER, 0, 0), 'b': (0, 0, QUARTER)},
            [[0, 0, 1], [0, 0, 2], [-2, 0, 2], [0, 0, 5]],
        ),
    ],
    ids=['one joint', 'the root', 'ends turn nothing', 'one after the other'],
)
def test_a_quarter_turn_carries_all_that_hangs_below(
    turns: dict[str, tuple[float, float, float]], expected: list[list[float]]
) -> None:
    np.testing.assert_allclose(placed(**turns), expected, atol=1e-12)


def test_the_opposite_rotation_gives_another_pose() -> None:
    assert np.abs(placed(b=(0, 0, -QUARTER)) - placed(b=(0, 0, QUARTER))).max() == pytest.approx(6)


def test_bones_keep_their_lengths_and_a_root_rotation_rotates_all_joints() -> None:
    turns = np.random.default_rng(0).normal(size=(50, 4, 3))
    places = place_joints(OFFSETS, PARENTS, turns)
    for joint, parent in list(enumerate(PARENTS))[1:]:
        lengths = np.linalg.norm(places[:, joint] - places[:, parent], axis=-1)
        np.testing.assert_allclose(lengths, np.linalg.norm(OFFSETS[joint]), rtol=1e-12)
    extra = Rotation.random(random_state=1)
    turned = turns.copy()
    turned[:, 0] = (extra * Rotation.from_rotvec(turns[:, 0])).as_rotvec()
    around = (places - OFFSETS[0]) @ extra.as_matrix().T + OFFSETS[0]
    np.testing.assert_allclose(place_joints(OFFSETS, PARENTS, turned), around, atol=1e-12)
    assert np.abs(around - places).max() > 0.1
