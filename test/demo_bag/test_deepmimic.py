# SPDX-License-Identifier: Apache-2.0
"""People of motion clips keep their bones, their left and their pace; the demo bag holds them."""

import json
from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from demo_bag import deepmimic
from demo_bag.deepmimic import SCENES, convert_deepmimic
from demo_bag.motion_clip import (
    JOINT_NAMES,
    RATE_HZ,
    SOLE_M,
    MotionClip,
    followed,
    joint_positions,
    placed,
    read_clip,
)
from jaxtyping import Float64
from scipy.spatial.transform import Rotation

from motion_predictor_ros.data.bags import skeleton_messages
from motion_predictor_ros.errors import DataError
from motion_predictor_ros.resources import share_file

LAYOUT = yaml.safe_load(share_file('config', 'skeletons', 'body18.yaml').read_text())
PARENTS = [JOINT_NAMES.index(parent) if parent else 0 for parent in LAYOUT['joints'].values()]
CLIPS = sorted({clip for scene in SCENES for actor in scene for clip in actor.clips})
DEMO = Path(__file__).parents[2] / 'demo' / 'demo.mcap'
Positions = Float64[np.ndarray, 'time joint xyz=3']


def at(positions: Positions, name: str) -> Float64[np.ndarray, 'time xyz=3']:
    return positions[:, JOINT_NAMES.index(name)]


def identity_row(duration_s: float = 0.0, x_m: float = 0.0) -> list[float]:
    """A frame of the clip format in which nothing is turned."""
    turn, angle = [1.0, 0.0, 0.0, 0.0], [0.0]
    side = [*turn, *angle, *turn, *turn, *angle]  # hip, knee, ankle, shoulder, elbow
    return [duration_s, x_m, 0.9, 0.0, *turn, *turn, *turn, *side, *side]


def stroll(frames: int = 41, turn_deg: float = 12.0) -> list[list[float]]:
    """A step of a made-up walk, 60 Hz: forward, to the left, with swinging limbs."""
    rows = []
    for index in range(frames):
        phase = index / (frames - 1)
        row = identity_row(1 / 60, 0.8 * phase)
        swing = np.sin(2 * np.pi * phase)
        row[4:8] = quat_wxyz([0.0, np.deg2rad(turn_deg) * phase, 0.0])
        for column, sign in ((16, 1), (30, -1), (25, -1), (39, 1)):
            row[column : column + 4] = quat_wxyz([0.0, 0.0, 0.6 * sign * swing])
        row[20], row[34] = -0.3 + 0.2 * swing, -0.3 - 0.2 * swing
        rows.append(row)
    return rows


def quat_wxyz(rotvec: list[float]) -> list[float]:
    return Rotation.from_rotvec(rotvec).as_quat(scalar_first=True).tolist()


def clip_of(folder: Path, rows: list[list[float]], name: str = 'clip') -> MotionClip:
    path = folder / f'humanoid3d_{name}.txt'
    path.write_text(json.dumps({'Loop': 'wrap', 'Frames': rows}))
    return read_clip(path)


@pytest.fixture
def walk(tmp_path: Path) -> MotionClip:
    return clip_of(tmp_path, stroll())


@pytest.fixture(params=CLIPS)
def shipped(request: pytest.FixtureRequest) -> tuple[str, MotionClip]:
    pytest.importorskip('pybullet_data')
    folder = deepmimic._installed_clips()
    return request.param, read_clip(folder / f'humanoid3d_{request.param}.txt')


def worst_jump(positions: Positions) -> float:
    """Return the fastest any joint moves [m/s]."""
    return float(np.linalg.norm(np.diff(positions, axis=0), axis=-1).max() * RATE_HZ)


def worst_kick(positions: Positions) -> float:
    """Return the largest change of a joint's velocity from frame to frame [m/s]."""
    return float(np.linalg.norm(np.diff(positions, n=2, axis=0), axis=-1).max() * RATE_HZ)


def bone_spread(positions: Positions) -> float:
    """Return by how much the length of a bone varies over time [m]."""
    lengths = np.linalg.norm(positions - positions[:, PARENTS], axis=-1)
    return float(np.ptp(lengths, axis=0).max())


def test_joints_are_those_of_body18_in_its_order() -> None:
    assert list(LAYOUT['joints']) == list(JOINT_NAMES)


def test_without_rotations_the_person_is_in_the_rest_pose(tmp_path: Path) -> None:
    clip = clip_of(tmp_path, [identity_row(0.1), identity_row()])
    pose = joint_positions(clip)
    sole = at(pose, 'l_foot')[0, 2]
    assert sole == pytest.approx(SOLE_M)
    expected = {
        'pelvis': (0, 0, 0.8314 + 0.03),
        'l_knee': (0, 0.0849, 0.4399),
        'r_ankle': (0, -0.0849, 0.03),
        'l_foot': (0.12, 0.0849, 0.0),
        'neck': (0, 0, 1.3215),
        'head': (0, 0, 1.4965),
        'l_shoulder': (-0.0241, 0.1831, 1.3411),
        'r_wrist': (-0.0241, -0.1831, 0.8073),
    }
    for name, place in expected.items():
        np.testing.assert_allclose(at(pose, name)[0] - [0, 0, SOLE_M], place, atol=1e-4)


def test_knees_bend_back_and_elbows_forward(tmp_path: Path) -> None:
    row = identity_row()
    row[20] = row[34] = -0.5
    row[29] = row[43] = 0.5
    pose = joint_positions(clip_of(tmp_path, [[0.1, *row[1:]], row]))
    for side in 'lr':
        assert at(pose, f'{side}_ankle')[0, 0] < at(pose, f'{side}_knee')[0, 0] - 0.1
        assert at(pose, f'{side}_wrist')[0, 0] > at(pose, f'{side}_elbow')[0, 0] + 0.1


def test_turning_the_root_turns_everything(walk: MotionClip) -> None:
    turn = Rotation.from_rotvec([0.4, -1.2, 2.0])
    quats = walk.quats_xyzw.copy()
    quats[:, 0] = (turn * Rotation.from_quat(quats[:, 0])).as_quat()
    turned = joint_positions(MotionClip(turn.apply(walk.root), quats))
    still = joint_positions(walk)
    np.testing.assert_allclose(
        turned, turn.apply(still.reshape(-1, 3)).reshape(still.shape), atol=1e-12
    )
    assert np.abs(turned - still).max() > 0.5


def test_placing_moves_the_person_over_the_ground_only(walk: MotionClip) -> None:
    there, here = joint_positions(placed(walk, 2.0, -1.0, np.pi / 2)), joint_positions(walk)
    np.testing.assert_allclose(at(there, 'pelvis')[0, :2], [2.0, -1.0], atol=1e-12)
    np.testing.assert_allclose(there[..., 2], here[..., 2], atol=1e-12)
    left = at(there, 'l_hip')[0] - at(there, 'r_hip')[0]
    assert left[0] < -0.1 and abs(left[1]) < 1e-9  # facing +y, left is -x


def test_bones_keep_their_length(walk: MotionClip) -> None:
    assert bone_spread(joint_positions(followed(walk, walk))) < 1e-6


def test_the_bone_check_sees_a_stretched_arm(walk: MotionClip) -> None:
    pose = joint_positions(walk)
    pose[3, JOINT_NAMES.index('l_wrist')] += [0.0, 0.0, 0.01]
    assert bone_spread(pose) > 1e-3


def test_a_cycle_continues_where_the_last_one_ended(walk: MotionClip) -> None:
    once, five = joint_positions(walk), walk
    for _ in range(4):
        five = followed(five, walk)
    assert len(five.root) == 5 * (len(walk.root) - 1) + 1
    assert worst_jump(joint_positions(five)) < 1.1 * worst_jump(once)
    facing = Rotation.from_quat(five.quats_xyzw[-1, 0]).apply([1.0, 0.0, 0.0])
    np.testing.assert_allclose(np.arctan2(facing[1], facing[0]), np.deg2rad(60), atol=1e-3)


def test_the_seam_check_sees_cycles_that_are_not_joined(walk: MotionClip) -> None:
    stamped = MotionClip(
        np.concatenate([walk.root, walk.root]),
        np.concatenate([walk.quats_xyzw, walk.quats_xyzw]),
    )
    assert worst_jump(joint_positions(stamped)) > 3 * worst_jump(joint_positions(walk))


def test_a_different_clip_is_eased_into(tmp_path: Path, walk: MotionClip) -> None:
    crouch = identity_row()
    crouch[16:20] = crouch[30:34] = quat_wxyz([0.0, 0.0, 0.9])
    crouch[20] = crouch[34] = -1.8
    still = clip_of(tmp_path, [[1.0, *crouch[1:]], crouch], 'crouch')
    downsampled = joint_positions(followed(walk, still))
    abrupt = joint_positions(placed(still, *walk.root[-1, :2], np.deg2rad(12)))
    control = np.concatenate([joint_positions(walk), abrupt[1:]])
    assert worst_kick(downsampled) < 3.0 < 9.0 < worst_kick(control)
    assert abs(at(downsampled, 'pelvis')[-1, 2] - still.root[-1, 2]) < 1e-6


def test_shipped_people_are_plausible(shipped: tuple[str, MotionClip]) -> None:
    name, clip = shipped
    pose = joint_positions(clip)
    assert np.isfinite(pose).all()
    assert bone_spread(pose) < 1e-6
    lowest = np.minimum(at(pose, 'l_foot')[:, 2], at(pose, 'r_foot')[:, 2])
    assert np.percentile(lowest, 1) == pytest.approx(SOLE_M)
    assert pose[..., 2].min() > -0.06
    assert worst_jump(pose) < 15.0
    if name != 'getup_facedown':
        assert 1.2 < at(pose, 'head')[0, 2] < 1.6


def test_walking_is_forward_and_left_is_left(shipped: tuple[str, MotionClip]) -> None:
    name, clip = shipped
    if name not in ('walk', 'run'):
        pytest.skip('only what goes somewhere')
    pose = joint_positions(clip)
    assert at(pose, 'pelvis')[-1, 0] > 1.0
    assert abs(at(pose, 'pelvis')[-1, 1]) < 0.2
    toes = at(pose, 'l_foot') + at(pose, 'r_foot') - at(pose, 'l_ankle') - at(pose, 'r_ankle')
    assert toes[:, 0].mean() > 0.1
    for joint in ('hip', 'shoulder'):
        assert (at(pose, f'l_{joint}') - at(pose, f'r_{joint}'))[:, 1].min() > 0.1


def seams(clip: MotionClip, cycles: int) -> tuple[float, float]:
    """Return the largest change of velocity at the seams and inside the clip [m/s]."""
    whole = clip
    for _ in range(cycles - 1):
        whole = followed(whole, clip)
    period = len(clip.root) - 1
    inside = np.diff(joint_positions(clip), n=2, axis=0)
    at_seams = np.diff(joint_positions(whole), n=2, axis=0)[period - 1 :: period]
    return tuple(
        float(np.linalg.norm(each, axis=-1).max()) * RATE_HZ for each in (at_seams, inside)
    )


@pytest.mark.parametrize('name', ['walk', 'run', 'jump', 'dance_b'])
def test_seams_are_no_rougher_than_the_motion_itself(name: str) -> None:
    pytest.importorskip('pybullet_data')
    clip = read_clip(deepmimic._installed_clips() / f'humanoid3d_{name}.txt')
    seam, inside = seams(clip, 4)
    assert seam < 0.2 * inside


@pytest.mark.parametrize(
    'content',
    [
        '',
        '{',
        '[1]',
        '{"Frames": 3}',
        '{"Frames": [[1, 2], [3, 4]]}',
        '{"Frames": [[1], [2, 3]]}',
        json.dumps({'Frames': [identity_row()]}),
        json.dumps({'Frames': [identity_row(0.0), identity_row()]}),
        json.dumps({'Frames': [[0.1, float('nan'), *identity_row()[2:]], identity_row()]}),
        json.dumps({'Frames': [[0.1] + [0.0] * 43, identity_row()]}),
    ],
)
def test_a_malformed_clip_is_a_data_error(tmp_path: Path, content: str) -> None:
    path = tmp_path / 'clip.txt'
    path.write_text(content)
    with pytest.raises(DataError, match=r'clip\.txt'):
        read_clip(path)


def test_a_missing_clip_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match='humanoid3d_'):
        convert_deepmimic(tmp_path, tmp_path / 'out.mcap')
    assert not list(tmp_path.iterdir())


def test_without_pybullet_the_error_names_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deepmimic, 'find_spec', lambda name: None)
    with pytest.raises(DataError, match='pip install pybullet'):
        convert_deepmimic(None, tmp_path / 'out.mcap')


def test_converting_twice_gives_the_same_bag(tmp_path: Path) -> None:
    for name in CLIPS:
        clip_of(tmp_path, stroll(turn_deg=float(len(name))), name)
    first = convert_deepmimic(tmp_path, tmp_path / 'a.mcap')
    assert convert_deepmimic(tmp_path, tmp_path / 'b.mcap') == first
    one, two = (list(skeleton_messages(tmp_path / name)) for name in ('a.mcap', 'b.mcap'))
    assert one == two
    assert len(one) == first.messages and first.bytes == (tmp_path / 'a.mcap').stat().st_size
    assert convert_deepmimic(tmp_path, tmp_path / 'a.mcap') == first  # it may be replaced


def test_the_committed_demo_equals_the_converted_clips(tmp_path: Path) -> None:
    pytest.importorskip('pybullet_data')
    convert_deepmimic(None, tmp_path / 'demo.mcap')
    for new, old in zip(
        skeleton_messages(tmp_path / 'demo.mcap'), skeleton_messages(DEMO), strict=True
    ):
        assert (new.stamp_ns, new.message.header) == (old.stamp_ns, old.message.header)
        for a, b in zip(new.message.persons, old.message.persons, strict=True):
            assert a.person_id == b.person_id
            np.testing.assert_allclose(a.positions, b.positions, atol=1e-5)


@pytest.fixture(scope='module')
def demo() -> list[Any]:
    return [each.message for each in skeleton_messages(DEMO)]


def parts(demo: list[Any]) -> Iterator[list[Any]]:
    """Split the demo where nobody is there."""
    part: list[Any] = []
    for message in demo:
        if message.persons:
            part.append(message)
        elif part:
            yield part
            part = []
    if part:
        yield part


def test_the_demo_is_small_and_steady(demo: list[Any]) -> None:
    assert DEMO.stat().st_size < 3e6
    stamps = [m.header.stamp.sec * 10**9 + m.header.stamp.nanosec for m in demo]
    assert {later - sooner for sooner, later in pairwise(stamps)} <= {33333333, 33333334}
    assert 40 < len(demo) / RATE_HZ < 61
    logged = [each.stamp_ns for each in skeleton_messages(DEMO)]
    assert {log - stamp for log, stamp in zip(logged, stamps, strict=True)} == {5_000_000}


def test_every_message_of_the_demo_is_whole(demo: list[Any]) -> None:
    for message in demo:
        assert message.header.frame_id == 'world' and message.layout == 'body18'
        assert message.joint_names == list(JOINT_NAMES)
        assert len({person.person_id for person in message.persons}) == len(message.persons)
        for person in message.persons:
            assert person.positions.shape == (54,) and np.isfinite(person.positions).all()
            assert person.tracking_state == 1 and (person.confidences == 1).all()


def test_every_part_of_the_demo_is_long_and_has_people_of_its_own(demo: list[Any]) -> None:
    seen: set[str] = set()
    for part in parts(demo):
        people = [{person.person_id for person in message.persons} for message in part]
        assert len(part) >= 8 * RATE_HZ
        assert all(each == people[0] for each in people)
        assert not seen & people[0]
        seen |= people[0]
    nobody = sum(not message.persons for message in demo)
    assert nobody > 0.5 * RATE_HZ * len(list(parts(demo)))


def test_the_demo_has_two_people_who_pass_each_other(demo: list[Any]) -> None:
    both = [message for message in demo if len(message.persons) == 2]
    assert len(both) >= 8 * RATE_HZ
    first, second = (np.stack([m.persons[i].positions[:2] for m in both]) for i in (0, 1))
    assert 1.5 < np.linalg.norm(first - second, axis=-1).min() < 2.5


def test_no_person_in_the_demo_teleports_or_leaves_the_scene(demo: list[Any]) -> None:
    tracks = defaultdict(list)
    for message in demo:
        for person in message.persons:
            tracks[person.person_id].append(person.positions.reshape(-1, 3).astype(float))
    for track in map(np.stack, tracks.values()):
        assert worst_jump(track) < 15.0
        assert bone_spread(track) < 1e-5  # float32
        assert np.abs(track[..., :2]).max() < 8.0
