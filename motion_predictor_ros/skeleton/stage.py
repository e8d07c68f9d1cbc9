# SPDX-License-Identifier: Apache-2.0
"""The skeleton stage: messages of a source go in, windows for the models come out.

    message -> decode -> accept -> PersonBuffer of each person -> Plausibility -> Window

Stage: skeleton. Next stage: prediction. `Intake` yields observations in one frame, in order of
time, with lasting ids; predictor and monitor share it, so both work on the same people. `decode`
reads one message and needs no transform; `accept` needs that of its frame. In between, a live node
may wait for it. `SkeletonStage` adds the histories of people.
"""

import dataclasses
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from motion_predictor_ros.config import InputConfig
from motion_predictor_ros.conventions import NS_PER_S
from motion_predictor_ros.errors import SkeletonFormatError
from motion_predictor_ros.skeleton.buffer import PersonBuffer
from motion_predictor_ros.skeleton.frame import NotReady, Observation, Rejection, Validity, Window
from motion_predictor_ros.skeleton.layout import SkeletonLayout
from motion_predictor_ros.skeleton.people import Presence, PresenceTracker
from motion_predictor_ros.skeleton.plausibility import JointFilter, Plausibility
from motion_predictor_ros.skeleton.sources.base import make_source
from motion_predictor_ros.skeleton.sources.native import skeleton_array
from motion_predictor_ros.skeleton.tracking import Identities, Restart
from motion_predictor_ros.skeleton.transforms import (
    FixedFrame,
    Lookup,
    TransformQuery,
    TransformTree,
)

_TIME_JUMP_NS = NS_PER_S
"""Stamps that go back by more than this are a new time, not a late message."""


@dataclass(frozen=True)
class IntakeResult:
    """One message that was accepted.

    Attributes:
        restarts: Histories that are void, and why.
        anew: Whether time jumped back: everything known before is of another time.
        left: Ids of people who were not seen for `skeleton.forget_after_s`, if histories are kept.
    """

    observation: Observation
    restarts: tuple[Restart, ...]
    anew: bool
    left: tuple[str, ...] = ()


class Intake:
    """Reads one source.

    Args:
        layout: The model's.
        lookup: Looks up transforms; default: there are none.

    Raises:
        ConfigError: Source or frames do not fit.

    Attributes:
        config: The source, its frame and how people are tracked.
        latest: The last observation that was accepted.
        presence: The people in the room by that observation.
        drops: Number of rejected messages, people and joints, by reason.
    """

    def __init__(
        self,
        config: InputConfig,
        layout: SkeletonLayout,
        lookup: Lookup | None = None,
        on_drop: Callable[[Rejection], None] = lambda rejection: None,
    ) -> None:
        self.drops, self._on_drop = Counter[str](), on_drop
        self.config, self._layout = config, layout
        self._source = make_source(config.source, layout, config.skeleton, config.sources)
        self._arrays = make_source('native', layout, config.skeleton)
        lookup = lookup or TransformTree().lookup
        self._fixed = FixedFrame(config.fixed_frame, config.extrinsic, lookup)
        self._presence_tracker = PresenceTracker(
            config.person_hold_s, config.refused_people, config.skeleton.max_gap_s
        )
        self._takes_arrays = False
        self.reset()

    def reset(self) -> None:
        """Forget all people, and in which frame they were; counters stay."""
        self._presence_tracker.reset()
        self._start()

    def _start(self) -> None:
        forget_after_s = self.config.skeleton.forget_after_s
        self._identities = Identities(self._layout, self.config.associate, forget_after_s)
        self._joints = JointFilter(self._layout, forget_after_s)
        fixed_frame = self.config.fixed_frame or self.config.skeleton.frame
        self._frame_id = fixed_frame.lstrip('/')
        self._stated_ns: int | None = None
        self.latest: Observation | None = None
        self.presence = Presence()

    def update_static_transforms(self, message: Any) -> None:
        """Update the source by a message beside its observations, such as /tf_static."""
        self._source.update_static_transforms(message)

    def decode(self, message: Any, received_ns: int = 0) -> Observation | Rejection | None:
        """Read one message, or an `Observation` of arrays, in the source's own frame.

        None if it says nothing about people yet, a rejection if nothing in it can be used.

        Args:
            received_ns: Time of reception, for empty messages without a stamp.

        Raises:
            TypeError: `message` has other fields than a message of the source.
        """
        self._takes_arrays = isinstance(message, Observation)
        try:
            if isinstance(message, Observation):  # checked as a message is
                return self._arrays.decode(skeleton_array(message))
            return self._source.decode(message, received_ns)
        except SkeletonFormatError as error:
            return Rejection('', error.reason, str(error))
        except AttributeError as error:
            raise TypeError(
                f'expected an Observation or a message with the fields of {self._source.msgtype}, '
                f'got {type(message).__name__}: {error}'
            ) from error

    def transform_query(self, decoded: Observation | Rejection) -> TransformQuery | None:
        """Return which transform `accept` will look up; None if it needs none."""
        return None if isinstance(decoded, Rejection) else self._fixed.query(decoded)

    def accept(self, decoded: Observation | Rejection) -> IntakeResult | None:
        """Take in a decoded message; None if it is rejected.

        An observation is rejected without its transform, in another frame than those before, or
        with a stamp that is not newer.
        """
        if isinstance(decoded, Rejection):
            self._presence_tracker.refuse_unread(decoded.reason)
            self.drop(decoded)
            return None
        observation = decoded
        try:
            observation = self._in_fixed_frame(observation)
            anew = self._is_anew(observation)
        except SkeletonFormatError as error:
            ids = [person.person_id for person in observation.people]
            ids += [rejection.person_id for rejection in observation.rejected]
            text = f'its message is refused: {error}'
            refused = tuple(Rejection(person_id, error.reason, text) for person_id in ids)
            observation = dataclasses.replace(observation, rejected=refused)
            self._presence_tracker.refuse(self._identities.rename_rejected(observation))
            self.drop(Rejection('', error.reason, str(error)))
            return None
        if anew:
            self._start()
            self._presence_tracker.move_to(observation.stamp_ns)
        self._frame_id = observation.frame_id
        if not observation.estimated:
            self._stated_ns = observation.stamp_ns
        observation = self._joints.apply(observation)
        observation, restarts = self._identities.follow(observation)
        self.presence = self._presence_tracker.update(observation)
        self.latest = observation
        return IntakeResult(observation, tuple(restarts), anew)

    def drop(self, rejection: Rejection) -> None:
        """Count and report a rejection."""
        self.drops[rejection.reason] += 1
        self._on_drop(rejection)

    def _in_fixed_frame(self, observation: Observation) -> Observation:
        """Move an observation to the stream's frame; raises as `accept` does."""
        observation = self._fixed.move(observation)
        if not observation.frame_id:  # no people, and the message cannot say where
            observation = dataclasses.replace(observation, frame_id=self._frame_id)
        frame_id = observation.frame_id
        if self._frame_id and frame_id != self._frame_id:
            raise SkeletonFormatError(
                'unknown_frame',
                f'frame_id {frame_id!r}, but this stream began in {self._frame_id!r}; '
                'one predictor serves one frame: set parameter "fixed_frame" or "skeleton.frame", '
                'or remap',
            )
        return observation

    def _is_anew(self, observation: Observation) -> bool:
        """Whether time jumped back. An estimated stamp gives way to one that is stated.

        Raises:
            SkeletonFormatError: It went back by less, or not on.
        """
        if self.latest is None:
            return False
        before_ns = self.latest.stamp_ns
        if self.latest.estimated and not observation.estimated:
            if self._stated_ns is None:
                return False
            before_ns = self._stated_ns
        back_ns = before_ns - observation.stamp_ns
        if back_ns > _TIME_JUMP_NS and not observation.estimated:
            return True
        if back_ns >= 0:
            raise SkeletonFormatError(
                'stamp_backwards' if back_ns else 'stamp_repeated',
                f'stamp is {back_ns / NS_PER_S:.3f} s behind the previous message',
            )
        return False


class SkeletonStage(Intake):
    """An intake that keeps the recent history of every person.

    Args:
        length: Frames of a window.
        period_s: Time between them [s].
        infers_missing_joints: Whether the predictor accepts windows with joints out of sight.

    Attributes:
        restarts: Number of histories dropped, by reason: `gap`, `jump`, `flip`, `swap`.
        resets: Number of jumps back in time.
        plausibility: Checks whole windows.
    """

    def __init__(
        self,
        config: InputConfig,
        layout: SkeletonLayout,
        length: int,
        period_s: float,
        infers_missing_joints: bool,
        lookup: Lookup | None = None,
        on_drop: Callable[[Rejection], None] = lambda rejection: None,
        on_restart: Callable[[Restart], None] = lambda restart: None,
    ) -> None:
        skeleton = config.skeleton
        missing = skeleton.max_missing_joints if infers_missing_joints else 0
        self._new_buffer = partial(PersonBuffer, layout, length, period_s, skeleton, missing)
        self._buffers: dict[str, PersonBuffer] = {}
        super().__init__(config, layout, lookup, on_drop)
        self.restarts, self.resets, self._on_restart = Counter[str](), 0, on_restart
        self.plausibility = Plausibility(layout, skeleton.up)
        self._keep_ns = round(skeleton.forget_after_s * NS_PER_S)

    def accept(self, decoded: Observation | Rejection) -> IntakeResult | None:
        """Append a decoded message to the histories; None if it was rejected."""
        result = super().accept(decoded)
        if result is None:
            return None
        if result.anew:
            self.resets += 1
            self._buffers.clear()
        observation = result.observation
        for rejection in (*observation.rejected, *observation.filtered):
            self.drop(rejection)
        self._append(result)
        return dataclasses.replace(result, left=self._remove_absent(observation.stamp_ns))

    def windows(self) -> tuple[list[Window], list[NotReady]]:
        """Return the windows of all observed people, and why others have none.

        Windows end at the stamp of the latest observation. Implausible ones are refused.
        """
        windows: list[Window] = []
        not_ready: list[NotReady] = []
        for frame in self.presence.observed:
            assert self.latest is not None
            window = self._buffers[frame.person_id].window(self.latest.stamp_ns)
            if isinstance(window, Window):
                window = self._checked(window)
            if isinstance(window, Window):
                windows.append(window)
            else:
                not_ready.append(window)
        return windows, not_ready

    def reset(self) -> None:
        """Forget all people; counters stay."""
        super().reset()
        self._buffers.clear()

    def _append(self, result: IntakeResult) -> None:
        """Append each person's frame to their buffer; report histories that start anew."""
        void = {restart.person_id: restart for restart in reversed(result.restarts)}
        for frame in result.observation.people:
            if frame.person_id not in self._buffers:
                self._buffers[frame.person_id] = self._new_buffer()
            buffer, restart = self._buffers[frame.person_id], void.get(frame.person_id)
            if restart is not None:
                buffer.begin_anew(restart.reason)
            buffer.add(frame)  # refuses a stamp that a lagging tracker repeats
            if restart is None and buffer.restart:
                restart = self._restart_of(frame.person_id, buffer.restart)
            if restart is not None:
                self.restarts[restart.reason] += 1
                self._on_restart(restart)

    def _restart_of(self, person_id: str, reason: str) -> Restart:
        skeleton = self.config.skeleton
        if reason == 'gap':
            cause = f'not seen for longer than "skeleton.max_gap_s" ({skeleton.max_gap_s:g} s)'
            cause += '; are stamps in seconds?' if self._takes_arrays else ''
        else:
            cause = f'faster than "skeleton.max_speed_m_s" ({skeleton.max_speed_m_s:g} m/s): '
            cause += 'another person with this id?'
        message = f'person {person_id!r}: {cause}; history and warm start dropped'
        return Restart(person_id, reason, message)

    def _remove_absent(self, now_ns: int) -> tuple[str, ...]:
        oldest_ns = now_ns - self._keep_ns
        stamps = {key: buffer.newest_stamp_ns or 0 for key, buffer in self._buffers.items()}
        absent = tuple(person_id for person_id, stamp_ns in stamps.items() if stamp_ns < oldest_ns)
        for person_id in absent:
            del self._buffers[person_id]
        return absent

    def _checked(self, window: Window) -> Window | NotReady:
        """Return a plausible window; refuse another."""
        fault = self.plausibility.fault(window)
        if fault is not None:
            reason, text = fault
            self.drop(Rejection(window.person_id, reason, f'person {window.person_id!r}: {text}'))
            return self._refused(window, Validity.OUT_OF_DISTRIBUTION, f'{reason}: {text}')
        limited = self.plausibility.limit_filled(window)
        if isinstance(limited, Window):
            return limited
        text = f'bones longer than 1.5 times their length between {", ".join(limited)}'
        return self._refused(window, Validity.INCOMPLETE, text)

    def _refused(self, window: Window, validity: Validity, reason: str) -> NotReady:
        if window.restarted:
            self._buffers[window.person_id].keep_restart()
        return NotReady(window.person_id, window.stamp_ns, validity, reason)
