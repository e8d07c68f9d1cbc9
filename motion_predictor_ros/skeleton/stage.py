# SPDX-License-Identifier: Apache-2.0
"""The skeleton stage: messages of a source go in, windows for the models come out.

    message -> Intake -> PersonBuffer of each person -> Plausibility -> Window

Stage: skeleton. Next stage: prediction. All that is rejected is counted here.
"""

import dataclasses
from collections import Counter
from collections.abc import Callable
from functools import partial

from motion_predictor_ros.config import InputConfig
from motion_predictor_ros.conventions import NS_PER_S
from motion_predictor_ros.skeleton.buffer import PersonBuffer
from motion_predictor_ros.skeleton.frame import NotReady, Observation, Rejection, Validity, Window
from motion_predictor_ros.skeleton.intake import Intake, IntakeResult
from motion_predictor_ros.skeleton.layout import SkeletonLayout
from motion_predictor_ros.skeleton.plausibility import Plausibility
from motion_predictor_ros.skeleton.tracking import Restart
from motion_predictor_ros.skeleton.transforms import Lookup


class SkeletonStage(Intake):
    """An intake that keeps the recent history of every person.

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
        """Start without people; raises as `Intake` does.

        Args:
            length: Frames of a window.
            period_s: Time between them [s].
            infers_missing_joints: Whether the predictor accepts windows with joints out of sight.
        """
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
        skeleton = self._config.skeleton
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
