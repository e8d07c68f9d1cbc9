# SPDX-License-Identifier: Apache-2.0
"""The buffer: true to the motion at any rate, honest about what it filled."""

import math
from collections.abc import Callable, Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from motion_predictor_ros.config import SkeletonConfig
from motion_predictor_ros.skeleton import buffer as buffer_module
from motion_predictor_ros.skeleton import resample as resample_module
from motion_predictor_ros.skeleton.buffer import PersonBuffer
from motion_predictor_ros.skeleton.frame import NotReady, SkeletonFrame, Validity, Window
from motion_predictor_ros.skeleton.layout import SkeletonLayout

LAYOUT = SkeletonLayout.load('body18')
WRIST = LAYOUT.joint_names.index('r_wrist')
POSE = np.random.default_rng(0).normal(scale=0.4, size=(18, 3))
DRIFT = np.random.default_rng(1).normal(scale=0.5, size=(18, 3))  # [m/s]
START_NS = 1_700_000_000_123_456_789  # as large as on a robot: float64 would round it by 256 ns
LENGTH, PERIOD_S = 25, 0.04
CLOCK_S = PERIOD_S * np.arange(1 - LENGTH, 1)

Motion = Callable[[float], np.ndarray]


def drifting(time_s: float) -> np.ndarray:
    return POSE + DRIFT * time_s


def swinging(time_s: float) -> np.ndarray:
    aside = np.array([0.3 * math.sin(2 * math.pi * time_s), 0.0, 0.0])
    return np.asarray(POSE + aside)


def stamps(rate_hz: float, jitter: float = 0.0, until_s: float = 2.0) -> list[float]:
    rng = np.random.default_rng(2)
    even = np.arange(0, until_s, 1 / rate_hz)
    return list(even + rng.uniform(-jitter, jitter, len(even)) / rate_hz)


def frame(time_s: float, positions: np.ndarray, confidence: float = 1.0) -> SkeletonFrame:
    sure = np.where(np.isnan(positions[:, 0]), 0, confidence).astype(np.float32)
    return SkeletonFrame('anna', START_NS + round(time_s * 1e9), positions, sure)


def without(positions: np.ndarray, *joints: int) -> np.ndarray:
    positions = positions.copy()
    positions[list(joints)] = np.nan
    return positions


def fresh() -> PersonBuffer:
    return PersonBuffer(LAYOUT, LENGTH, PERIOD_S, SkeletonConfig())


def fed(frames: Iterable[SkeletonFrame]) -> PersonBuffer:
    buffer = fresh()
    for item in frames:
        assert buffer.add(item) is None
    return buffer


def watched(motion: Motion, times_s: Iterable[float]) -> Window:
    window = fed(frame(time_s, motion(time_s)) for time_s in times_s).window()
    assert isinstance(window, Window)
    return window


def expected(motion: Motion, window: Window) -> np.ndarray:
    newest_s = (window.stamp_ns - START_NS) / 1e9
    return np.array([motion(newest_s + clock_s) for clock_s in CLOCK_S])


def error(motion: Motion, window: Window) -> float:
    return float(np.abs(window.positions - expected(motion, window)).max())


@pytest.mark.parametrize('rate_hz', [10, 15, 25, 30, 60, 120])
@pytest.mark.parametrize('jitter', [0.0, 0.4])
def test_a_steady_motion_is_reproduced_at_any_rate(rate_hz: float, jitter: float) -> None:
    times_s = [round(time_s, 9) for time_s in stamps(rate_hz, jitter)]
    assert error(drifting, watched(drifting, times_s)) < 1e-9


def test_stamps_held_in_float64_would_not_reproduce_it() -> None:
    times_s = [round(time_s, 9) for time_s in stamps(30, 0.4)]
    rounded = [(float(START_NS + round(time_s * 1e9)) - START_NS) / 1e9 for time_s in times_s]
    frames = (frame(b, drifting(a)) for a, b in zip(times_s, rounded, strict=True))
    window = fed(frames).window()
    assert isinstance(window, Window)
    assert error(drifting, window) > 1e-9


def trembling(hide: bool) -> list[SkeletonFrame]:
    """A swing with noise and a gap, with or without a wrist that is hidden now and then."""
    rng = np.random.default_rng(3)
    times_s = [time_s for time_s in stamps(30, 0.3) if not 1.4 < time_s < 1.55]
    poses = [swinging(time_s) + rng.normal(scale=0.01, size=(18, 3)) for time_s in times_s]
    if hide:
        poses = [without(pose, WRIST) if i % 7 < 3 else pose for i, pose in enumerate(poses)]
    return [frame(time_s, pose) for time_s, pose in zip(times_s, poses, strict=True)]


def test_a_short_gap_is_bridged_straight_and_marked() -> None:
    times_s = [*np.arange(0, 1.0001, 1 / 30), *np.arange(1.15, 1.5, 1 / 30)]
    window = watched(swinging, times_s)
    at_s = (window.stamp_ns - START_NS) / 1e9 + CLOCK_S
    filled = (at_s > 1.0) & (at_s < 1.15)
    assert filled.sum() in (3, 4)
    assert np.array_equal(window.observed, np.broadcast_to(~filled[:, None], (LENGTH, 18)))
    assert np.array_equal(window.confidences, window.observed.astype(np.float32))
    part = (at_s[filled, None, None] - 1.0) / 0.15
    line = (1 - part) * swinging(1.0) + part * swinging(1.15)
    assert np.abs(window.positions[filled] - line).max() < 1e-9


def test_the_marks_of_a_gap_come_from_its_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resample_module, 'BRIDGE_S', 0.16)
    times_s = [*np.arange(0, 1.0001, 1 / 30), *np.arange(1.15, 1.5, 1 / 30)]
    assert watched(swinging, times_s).observed.all()


def test_a_long_gap_starts_the_person_anew() -> None:
    buffer = fed(frame(time_s, drifting(time_s)) for time_s in stamps(30))
    assert isinstance(buffer.window(), Window)
    later_s = stamps(30)[-1] + 0.25
    assert buffer.add(frame(later_s, drifting(later_s))) is None
    shortfall = buffer.window()
    assert isinstance(shortfall, NotReady)
    assert shortfall.validity is Validity.WARMING_UP
    assert shortfall.reason == 'observed 0.00 s of 0.96 s'


def test_a_gap_of_exactly_the_limit_is_still_filled() -> None:
    times_s = [*np.arange(0, 1.5001, 0.05), 1.7]
    assert isinstance(fed(frame(t, drifting(t)) for t in times_s).window(), Window)


def step(size_m: float, *hidden: int) -> Window | NotReady:
    """Feed a person that stands, then stands `size_m` beside, 1/30 s later."""
    pose = without(POSE, *hidden)
    frames = [frame(time_s, pose) for time_s in stamps(30)]
    submit = frame(stamps(30)[-1] + 1 / 30, pose + np.array([size_m, 0.0, 0.0]))
    return fed([*frames, submit]).window()


def test_a_jump_starts_the_person_anew_and_a_leap_does_not() -> None:
    assert isinstance(step(0.6), NotReady)  # 18 m/s
    assert isinstance(step(0.4), Window)  # 12 m/s


@pytest.mark.parametrize('size_m, validity', [(0.6, 'WARMING_UP'), (0.4, 'INCOMPLETE')])
def test_without_the_root_the_other_joints_tell_a_jump(size_m: float, validity: str) -> None:
    result = step(size_m, LAYOUT.root)
    assert isinstance(result, NotReady)
    assert result.validity is Validity[validity]


def test_one_wild_joint_is_not_a_jump_of_the_person() -> None:
    wild = POSE.copy()
    wild[WRIST] += 5.0
    frames = [frame(time_s, POSE) for time_s in stamps(30)]
    assert isinstance(fed([*frames, frame(2.0, wild)]).window(), Window)


def test_a_root_hidden_for_a_while_may_have_gone_further() -> None:
    """1 m in 0.15 s is 7 m/s, though it would be 30 m/s if it had been seen one frame ago."""
    root = LAYOUT.root
    frames = [frame(time_s, POSE) for time_s in np.arange(0, 1.5, 1 / 30)]
    hidden = [frame(1.5 + i / 30, without(POSE, root)) for i in range(4)]
    moved = POSE.copy()
    moved[root] += [1.0, 0.0, 0.0]
    assert isinstance(fed([*frames, *hidden, frame(1.5 + 4 / 30, moved)]).window(), Window)
    assert isinstance(fed([*frames, frame(1.5, moved)]).window(), NotReady)


@pytest.mark.parametrize('size_m, kind', [(0.6, NotReady), (0.4, Window)])
def test_a_root_that_comes_back_does_not_hide_a_jump_of_the_rest(
    size_m: float, kind: type
) -> None:
    """The root had 0.1 s to get there, the other joints 1/30 s."""
    frames = [frame(time_s, POSE) for time_s in np.arange(0, 1.5, 1 / 30)]
    hidden = [frame(1.5 + i / 30, without(POSE, LAYOUT.root)) for i in range(2)]
    back = frame(1.5 + 2 / 30, POSE + np.array([size_m, 0.0, 0.0]))
    assert isinstance(fed([*frames, *hidden, back]).window(), kind)


def test_stamps_that_do_not_advance_are_dropped_and_leave_no_trace() -> None:
    buffer = fed(frame(time_s, drifting(time_s)) for time_s in stamps(30))
    before = buffer.window()
    assert buffer.add(frame(1.0, POSE + 9)) == 'stamp_backwards'
    assert buffer.add(frame(stamps(30)[-1], POSE + 9)) == 'stamp_repeated'
    after = buffer.window()
    assert isinstance(before, Window)
    assert isinstance(after, Window)
    assert np.array_equal(before.positions, after.positions)
    assert buffer.newest_stamp_ns == after.stamp_ns


def hidden_between(first_s: float, last_s: float) -> Window | NotReady:
    """Watch 2 s at 25 Hz with the wrist hidden for a while; the window covers 1.00..1.96 s."""
    times_s = np.round(np.arange(0, 2.0, 0.04), 9)
    poses = [without(drifting(t), WRIST) if first_s < t < last_s else drifting(t) for t in times_s]
    return fed(frame(t, pose, 0.5) for t, pose in zip(times_s, poses, strict=True)).window()


@pytest.mark.parametrize(
    'first_s, last_s, filled, held',
    [
        (1.30, 1.62, slice(8, 16), ''),  # in the middle, longer than max_gap_s
        (1.30, 1.34, slice(0), ''),  # one missing frame: its neighbours still tell
        (1.78, 2.00, slice(20, 25), 'moves with the elbow'),  # the newest ones
        (0.00, 1.15, slice(0, 4), 'stays'),  # the oldest ones
    ],
)
def test_a_joint_hidden_for_a_while_is_filled_and_marked(
    first_s: float, last_s: float, filled: slice, held: str
) -> None:
    window = hidden_between(first_s, last_s)
    assert isinstance(window, Window)
    marked = np.zeros((LENGTH, 18), dtype=bool)
    marked[filled, WRIST] = True
    assert np.array_equal(~window.observed, marked)
    assert np.all(window.confidences[~window.observed] == 0)
    assert np.allclose(window.confidences[window.observed], 0.5)
    wrist, elbow = (window.positions[filled, joint] for joint in (WRIST, WRIST - 1))
    if held == 'stays':
        assert np.ptp(wrist, axis=0).max() == 0
    if held == 'moves with the elbow':
        assert np.ptp(wrist - elbow, axis=0).max() < 1e-9
        assert np.ptp(wrist, axis=0).max() > 1e-3  # control: the elbow moves
    visible = np.arange(18) != WRIST
    assert np.abs(window.positions - expected(drifting, window))[:, visible].max() < 1e-9


@pytest.mark.parametrize('first_s, last_s', [(1.74, 2.0), (-1.0, 1.23), (-1.0, 2.0)])
def test_a_joint_hidden_too_long_at_an_end_is_named(first_s: float, last_s: float) -> None:
    shortfall = hidden_between(first_s, last_s)
    assert isinstance(shortfall, NotReady)
    assert shortfall.validity is Validity.INCOMPLETE
    assert shortfall.reason == 'not observed for over 0.2 s: r_wrist'
    assert shortfall.person_id == 'anna'


def test_a_joint_first_seen_once_the_window_has_begun_is_held_back_to_its_start() -> None:
    window = hidden_between(-1.0, 1.19)
    assert isinstance(window, Window)
    assert np.flatnonzero(~window.observed[:, WRIST]).tolist() == [0, 1, 2, 3, 4]
    assert np.array_equal(window.positions[:5, WRIST], window.positions[[5] * 5, WRIST])


def test_the_window_opens_half_a_period_early() -> None:
    buffer = fresh()
    spans_s = []
    for time_s in stamps(120):
        buffer.add(frame(time_s, drifting(time_s)))
        if isinstance(buffer.window(), Window):
            spans_s.append(time_s)
    assert spans_s[0] == pytest.approx(0.94, abs=1 / 120)
    assert spans_s[0] >= 0.94


def test_what_is_missing_at_an_early_start_is_held_and_marked() -> None:
    times_s = [*np.arange(0.0, 0.95, 0.05), 0.945]
    window = watched(drifting, times_s)
    assert window.observed[:, 0].tolist() == [False] + [True] * 24
    assert np.array_equal(window.positions[0], drifting(0.0))


def test_a_restart_is_told_once_and_only_with_a_window() -> None:
    buffer, told = fresh(), []
    gap_s = 3.0
    for time_s in [*stamps(30), *(gap_s + t for t in stamps(30))]:
        buffer.add(frame(time_s, drifting(time_s)))
        result = buffer.window()
        if isinstance(result, Window) and result.restarted:
            told.append(time_s)
    assert told == pytest.approx([0.96, gap_s + 0.96], abs=1 / 30)


def test_looking_at_the_window_often_or_once_gives_the_same() -> None:
    often, once = fresh(), fresh()
    for item in trembling(hide=True):
        often.add(item)
        once.add(item)
        last = often.window()
    only = once.window()
    assert isinstance(last, Window)
    assert isinstance(only, Window)
    assert np.array_equal(last.positions, only.positions)
    assert (last.restarted, only.restarted) == (False, True)


def doubled_frames_error(rate_hz: float) -> float:
    """Feed each frame twice, a microsecond apart, one millimetre of noise between the two."""
    rng = np.random.default_rng(4)
    times_s = sorted(t + late for t in stamps(rate_hz) for late in (0.0, 1e-6))
    noise = rng.normal(scale=1e-3, size=(len(times_s), 18, 3))
    noise[:, LAYOUT.root] = 0
    frames = [frame(t, drifting(t) + n) for t, n in zip(times_s, noise, strict=True)]
    window = fed(frames).window()
    assert isinstance(window, Window)
    return error(drifting, window)


@pytest.mark.parametrize('rate_hz', [20, 30])
def test_frames_a_microsecond_apart_do_not_blow_noise_up(
    rate_hz: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert doubled_frames_error(rate_hz) < 0.01
    monkeypatch.setattr(buffer_module, 'MIN_SPACING_S', 0.0)
    assert doubled_frames_error(rate_hz) > 1.0


def test_a_source_far_too_fast_does_not_fill_the_memory() -> None:
    buffer = fresh()
    for i in range(5000):
        buffer.add(frame(i / 5000, drifting(i / 5000)))
    assert len(buffer._frames) < 300
    window = buffer.window()
    assert isinstance(window, Window)
    assert error(drifting, window) < 1e-9


@settings(max_examples=60, deadline=None)
@given(
    rate_hz=st.floats(10, 120),
    jitter=st.floats(0, 0.45),
    lost_frames=st.floats(0, 0.5),
    lost_joints=st.floats(0, 0.5),
    seed=st.integers(0, 2**32 - 1),
)
def test_whatever_comes_in_the_window_is_finite_and_ends_with_the_newest_observation(
    rate_hz: float, jitter: float, lost_frames: float, lost_joints: float, seed: int
) -> None:
    rng, buffer = np.random.default_rng(seed), fresh()
    for time_s in stamps(rate_hz, jitter):
        if rng.random() < lost_frames:
            continue
        hidden = np.flatnonzero(rng.random(18) < lost_joints)
        newest = frame(time_s, without(swinging(time_s), *hidden), rng.uniform(0.1, 1.0))
        assert buffer.add(newest) is None
        assert_sound(buffer.window(), newest)


def assert_sound(result: Window | NotReady, newest: SkeletonFrame) -> None:
    assert result.stamp_ns == newest.stamp_ns
    if isinstance(result, NotReady):
        return
    seen = ~np.isnan(newest.positions[:, 0])
    assert np.isfinite(result.positions).all()
    assert np.array_equal(result.positions[-1][seen], newest.positions[seen])
    assert np.array_equal(result.observed[-1], seen)
    assert np.array_equal(result.confidences > 0, result.observed)
    assert result.confidences.max() <= 1
    assert np.ptp(result.positions[:, :, 0], axis=0).max() < 1.0  # the swing is 0.6 m wide


def hiding(*joints: int, max_missing: int) -> Window | NotReady:
    buffer = PersonBuffer(LAYOUT, LENGTH, PERIOD_S, SkeletonConfig(), max_missing)
    for time_s in stamps(30.0):
        assert buffer.add(frame(time_s, without(drifting(time_s), *joints))) is None
    return buffer.window()


def test_a_joint_out_of_sight_stands_where_its_nearest_seen_neighbour_is() -> None:
    elbow = LAYOUT.joint_names.index('r_elbow')
    window = hiding(WRIST, max_missing=1)
    assert isinstance(window, Window)
    assert window.seen.tolist() == [joint != WRIST for joint in range(18)]
    assert np.array_equal(window.positions[:, WRIST], window.positions[:, elbow])
    assert not window.confidences[:, WRIST].any()
    whole = hiding(max_missing=1)
    assert isinstance(whole, Window)
    others = np.arange(18) != WRIST
    assert np.array_equal(window.positions[:, others], whole.positions[:, others])
    assert whole.seen.all()


@pytest.mark.parametrize('joints', [(WRIST, 3), (LAYOUT.root,)])
def test_too_many_joints_out_of_sight_or_the_root_leave_the_person_incomplete(
    joints: tuple[int, ...],
) -> None:
    shortfall = hiding(*joints, max_missing=1)
    assert isinstance(shortfall, NotReady)
    assert shortfall.validity is Validity.INCOMPLETE
