# SPDX-License-Identifier: Apache-2.0
"""Capsules fit the person, and contain what sweeps between given times."""

from pathlib import Path

import numpy as np
import pytest
from volume_scenes import SHAPE, STANDING, wandering

from motion_predictor_ros.errors import ConfigError
from motion_predictor_ros.resources import share_file
from motion_predictor_ros.volume.body import SCALES, BodyShape
from motion_predictor_ros.volume.capsules import Bodies, bodies

POINT_NAMES = (*SHAPE.layout.joint_names, 'l_wrist_tip', 'r_wrist_tip')


def test_every_bone_and_both_hands_have_a_capsule() -> None:
    names = SHAPE.layout.joint_names
    assert len(SHAPE.capsules) == len(SHAPE.layout.bones) + 2
    assert [names[joint] for _, joint in SHAPE.tips] == ['l_wrist', 'r_wrist']
    assert len(SHAPE.points(STANDING)) == len(POINT_NAMES)
    upper = {POINT_NAMES[index] for index in np.flatnonzero(SHAPE.upper)}
    assert upper == {
        f'{side}_{part}' for side in 'lr' for part in ('shoulder', 'elbow', 'wrist', 'wrist_tip')
    }


def test_a_person_of_other_size_has_capsules_of_that_size() -> None:
    assert SHAPE.scale(STANDING) == pytest.approx(1.0, abs=0.1)
    assert SHAPE.scale(1.2 * STANDING) == pytest.approx(1.2 * SHAPE.scale(STANDING))
    assert SHAPE.scale(100.0 * STANDING) == SCALES[1]
    unseen = STANDING.copy()
    unseen[5:] = np.nan
    assert SHAPE.scale(unseen) == pytest.approx(SHAPE.scale(STANDING), abs=0.1)
    assert SHAPE.scale(np.full_like(STANDING, np.nan)) == 1.0


def test_hands_go_on_in_line_with_the_lower_arm() -> None:
    points = SHAPE.points(STANDING)
    elbow, wrist, tip = (
        points[POINT_NAMES.index(f'l_{n}')] for n in ('elbow', 'wrist', 'wrist_tip')
    )
    np.testing.assert_allclose(np.cross(wrist - elbow, tip - wrist), 0.0, atol=1e-12)
    assert np.linalg.norm(tip - wrist) == pytest.approx(0.16)
    assert float((wrist - elbow) @ (tip - wrist)) > 0.0


@pytest.mark.parametrize(
    ('before', 'after', 'fault'),
    [
        ('  head: {radius: 0.13, length: 0.15}\n', '', 'expected an entry for each'),
        ('radius: 0.13', 'radius: -0.13', 'must be above 0'),
        ('radius: 0.13', 'width: 0.13', 'expected radius and length'),
    ],
)
def test_a_body_that_cannot_be_is_refused(
    tmp_path: Path, before: str, after: str, fault: str
) -> None:
    text = share_file('config', 'skeletons', 'body18.yaml').read_text()
    assert before in text
    path = tmp_path / 'other.yaml'
    path.write_text(text.replace(before, after))
    with pytest.raises(ConfigError, match=fault):
        BodyShape.load(str(path))


def test_a_layout_without_a_body_is_refused() -> None:
    with pytest.raises(ConfigError, match='body'):
        BodyShape.load('cmu25')


def inside(point: np.ndarray, found: Bodies, future: int) -> bool:
    """Whether a point lies in any capsule at any of its times."""
    a, b = found.starts[future], found.ends[future]
    d = b - a
    square = np.maximum((d**2).sum(-1), 1e-18)
    u = np.clip(((point - a) * d).sum(-1) / square, 0.0, 1.0)[..., None]
    return bool((np.linalg.norm(point - a - u * d, axis=-1) <= found.radii[future] + 1e-9).any())


def swept_points(points: np.ndarray, inflation: np.ndarray, seed: int = 0) -> np.ndarray:
    """Draw points of the true capsules at times between the given ones."""
    random = np.random.default_rng(seed)
    drawn = []
    for _ in range(300):
        time = random.uniform(0, len(points) - 1)
        low, part = int(time), time - int(time)
        pose = (1 - part) * points[low] + part * points[low + 1]
        more = (1 - part) * inflation[low] + part * inflation[low + 1]
        index = random.integers(len(SHAPE.capsules))
        first, last = SHAPE.capsules[index]
        u = random.uniform()
        direction = random.normal(size=3)
        direction /= np.linalg.norm(direction)
        reach = SHAPE.radii[index] + (1 - u) * more[first] + u * more[last]
        drawn.append((1 - u) * pose[first] + u * pose[last] + reach * direction)
    return np.array(drawn)


@pytest.mark.parametrize('every', [1, 3, 4])
def test_what_is_swept_between_times_is_inside(every: int) -> None:
    points, times_s = wandering(1, 11, speed=3.0)
    inflation = np.linspace(0.01, 0.2, 11)[:, None] * np.ones(points.shape[2])
    found = bodies(SHAPE, points, np.ones(1), times_s, inflation=inflation, every=every)
    assert len(found.times_s) == -(-11 // every)
    assert all(inside(point, found, 0) for point in swept_points(points[0], inflation))


def test_capsules_that_do_not_sweep_are_caught() -> None:
    points, times_s = wandering(1, 11, speed=3.0)
    still = np.zeros((11, points.shape[2]))
    found = bodies(SHAPE, points, np.ones(1), times_s)
    bare = Bodies(found.starts, found.ends, 0.0 * found.radii + SHAPE.radii, np.ones(1), times_s)
    assert not all(inside(point, bare, 0) for point in swept_points(points[0], still))
