# SPDX-License-Identifier: Apache-2.0
"""Put one person's observations, whatever their rate, on the clock the model was made for.

Stage: skeleton. The clock is anchored at the newest stamp, so the newest observation enters the
model as it was seen, without delay. What was filled rather than seen is marked; what cannot be
filled (a long gap, a jump to somewhere else) starts the history anew.
"""

from collections import deque

import numpy as np
from jaxtyping import Bool, Float64, Int64

from motion_predictor_ros.config import SkeletonConfig
from motion_predictor_ros.conventions import NS_PER_S
from motion_predictor_ros.skeleton.completion import NearestJoints
from motion_predictor_ros.skeleton.frame import (
    JointMask,
    NotReady,
    SkeletonFrame,
    Validity,
    Window,
)
from motion_predictor_ros.skeleton.layout import SkeletonLayout
from motion_predictor_ros.skeleton.resample import SAME_TIME_S, Resampled, resample

MIN_SPACING_S = 0.004
"""Samples closer than this count as one: a slope between them would be noise over nothing [s]."""

_MARGIN_S = 0.1

Joints = Int64[np.ndarray, ' some']


class PersonBuffer:
    """The recent history of one person.

    The same calls give the same windows: no clock is read but the stamps.

    Args:
        length: Frames of a window.
        max_missing: Joints that may be out of sight; the root may not.
    """

    def __init__(
        self,
        layout: SkeletonLayout,
        length: int,
        period_s: float,
        config: SkeletonConfig,
        max_missing: int = 0,
    ) -> None:
        assert length >= 2 and period_s > 0
        self._max_missing = max_missing
        self._nearest = NearestJoints(layout)
        self._layout = layout
        self._config = config
        self._period_s = period_s
        self._times_s = period_s * np.arange(1 - length, 1)  # relative to the newest stamp
        self._keep_ns = _nanoseconds(length * period_s + config.max_gap_s + _MARGIN_S)
        self._frames: deque[SkeletonFrame] = deque()
        self._restarted = True
        self.restart = ''

    @property
    def newest_stamp_ns(self) -> int | None:
        """Stamp of the last accepted frame; None before the first."""
        return self._frames[-1].stamp_ns if self._frames else None

    def add(self, frame: SkeletonFrame) -> str | None:
        """Take one observation in.

        `restart` says why the history began anew with it: `gap`, `jump`, or '' if it did not.

        Returns:
            None, or the reason it was dropped: `stamp_repeated` or `stamp_backwards`.
        """
        self.restart = ''
        if self._frames:
            step_ns = frame.stamp_ns - self._frames[-1].stamp_ns
            if step_ns <= 0:
                return 'stamp_backwards' if step_ns else 'stamp_repeated'
            if self._jumps(frame):
                self.begin_anew('jump')
            elif step_ns > _nanoseconds(self._config.max_gap_s):
                self.begin_anew('gap')
        self._append(frame)
        return None

    def begin_anew(self, reason: str) -> None:
        """Forget everything: it was not this person, or is too long ago."""
        self._frames.clear()
        self._restarted, self.restart = True, reason

    def keep_restart(self) -> None:
        """Mark the next window as `restarted`: the last one was not used."""
        self._restarted = True

    def window(self, stamp_ns: int | None = None) -> Window | NotReady:
        """Return the model's input, or why there is none yet.

        Consumes the restart: the first window of a history is `restarted`, later ones are not. A
        `NotReady` consumes nothing. At least one frame must have been added.

        Args:
            stamp_ns: End of the window; default: the newest frame. What comes after the newest
                frame is filled, for `max_gap_s`.
        """
        assert self._frames, 'window() before add()'
        frames = self._spaced_frames()
        newest = frames[-1]
        end_ns = newest.stamp_ns if stamp_ns is None else max(stamp_ns, newest.stamp_ns)
        stamps_s = np.array([frame.stamp_ns - end_ns for frame in frames]) / NS_PER_S
        positions = np.array([frame.positions for frame in frames])
        seen = ~np.isnan(positions[..., 0])
        missing = self._missing_joints(stamps_s, seen)
        not_ready = self._not_ready(newest.person_id, end_ns, stamps_s, missing)
        if not_ready is not None:
            return not_ready
        confidences = np.array([frame.confidences for frame in frames])
        there = np.flatnonzero(~missing)
        resampled = resample(stamps_s, positions[:, there], confidences[:, there], self._times_s)
        self._carry_along(resampled.positions, there, stamps_s, seen)
        restarted, self._restarted = self._restarted, False
        whole = self._whole(missing, resampled)
        return Window(
            newest.person_id, end_ns, *whole, restarted, newest.inferred, newest.bone_lengths
        )

    def _whole(self, missing: JointMask, there: Resampled) -> Resampled:
        """Return missing joints at the places of the nearest seen ones, marked as not seen."""
        if not missing.any():
            return there
        place = np.cumsum(~missing) - 1
        taken = place[self._nearest.choose(~missing)]
        unsure = np.where(missing, np.float32(0), there.confidences[:, taken])
        seen = there.observed[:, taken] & ~missing
        return Resampled(there.positions[:, taken], seen, unsure)

    def _carry_along(
        self,
        positions: Float64[np.ndarray, 'time some xyz=3'],
        there: Joints,
        stamps_s: Float64[np.ndarray, ' sample'],
        seen: Bool[np.ndarray, 'sample joint'],
    ) -> None:
        """Let joints that were not seen lately move on with the nearest joint that was, in place.

        Otherwise they would stay behind, and their bones would grow:
        x_j(t) = x_j(t_0) + x_k(t) - x_k(t_0), with t_0 the last time that j was seen.
        """
        newest = seen[-1]
        if newest[there].all() or not newest.any():
            return
        place = {int(joint): index for index, joint in enumerate(there)}
        carriers = self._nearest.choose(newest & np.isin(np.arange(len(newest)), there))
        for joint in there[~newest[there]]:
            last_s = stamps_s[seen[:, joint]].max()
            after = self._times_s > last_s
            anchor = max(int(np.flatnonzero(~after)[-1]), 0)
            carrier = positions[:, place[int(carriers[joint])]]
            own = positions[:, place[int(joint)]]
            own[after] = own[anchor] + carrier[after] - carrier[anchor]

    def _append(self, frame: SkeletonFrame) -> None:
        """Append, letting a frame too close to the one before it give way to the newer one."""
        if len(self._frames) > 1 and _apart_s(self._frames[-2], self._frames[-1]) < MIN_SPACING_S:
            self._frames.pop()
        self._frames.append(frame)
        while frame.stamp_ns - self._frames[0].stamp_ns > self._keep_ns:
            self._frames.popleft()

    def _spaced_frames(self) -> list[SkeletonFrame]:
        """List the history without the frame that is too close to the newest, if there is one."""
        frames = list(self._frames)
        if len(frames) > 2 and _apart_s(frames[-2], frames[-1]) < MIN_SPACING_S:
            del frames[-2]
        return frames

    def _jumps(self, frame: SkeletonFrame) -> bool:
        """Compare the root with where it was last seen; without it, the joints seen twice."""
        root, last = self._layout.root, self._frames[-1]
        if _sees(frame, root):
            before = next((f for f in reversed(self._frames) if _sees(f, root)), None)
            if before is not None and self._too_fast(before, frame, np.array([root])):
                return True
            if before is last:
                return False
        common = np.flatnonzero(~np.isnan(last.positions[:, 0] + frame.positions[:, 0]))
        return len(common) > 0 and self._too_fast(last, frame, common)

    def _too_fast(self, before: SkeletonFrame, after: SkeletonFrame, joints: Joints) -> bool:
        moved = (after.positions[joints] - before.positions[joints]).mean(axis=0)
        # Close stamps would turn the tracker's noise into speed.
        time_s = max(_apart_s(before, after), MIN_SPACING_S)
        return float(np.sqrt(moved @ moved)) > self._config.max_speed_m_s * time_s

    def _not_ready(
        self,
        person_id: str,
        end_ns: int,
        stamps_s: Float64[np.ndarray, ' sample'],
        missing: JointMask,
    ) -> NotReady | None:
        """Return why no window can be made of these samples; None if one can.

        Args:
            stamps_s: Before the end of the window [s].
        """
        needed_s, had_s = -self._times_s[0], abs(stamps_s[0])
        if had_s < needed_s - self._period_s / 2 - SAME_TIME_S:
            reason = f'observed {had_s:.2f} s of {needed_s:.2f} s'
            return NotReady(person_id, end_ns, Validity.WARMING_UP, reason)
        if missing.sum() > self._max_missing or missing[self._layout.root]:
            names = ', '.join(self._layout.joint_names[joint] for joint in np.flatnonzero(missing))
            reason = f'not observed for over {self._config.max_gap_s:g} s: {names}'
            return NotReady(person_id, end_ns, Validity.INCOMPLETE, reason)
        return None

    def _missing_joints(
        self, stamps_s: Float64[np.ndarray, ' sample'], seen: Bool[np.ndarray, 'sample joint']
    ) -> JointMask:
        """Find the joints unseen for too long at either end of the window."""
        first_s = np.where(seen, stamps_s[:, None], np.inf).min(axis=0)
        last_s = np.where(seen, stamps_s[:, None], -np.inf).max(axis=0)
        longest_s = self._config.max_gap_s + SAME_TIME_S
        late: JointMask
        late = (first_s > self._times_s[0] + longest_s) | (last_s < -longest_s)
        return late


def _sees(frame: SkeletonFrame, joint: int) -> bool:
    return not np.isnan(frame.positions[joint, 0])


def _apart_s(before: SkeletonFrame, after: SkeletonFrame) -> float:
    return (after.stamp_ns - before.stamp_ns) / NS_PER_S


def _nanoseconds(duration_s: float) -> int:
    return round(duration_s * NS_PER_S)
