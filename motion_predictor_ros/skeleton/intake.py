# SPDX-License-Identifier: Apache-2.0
"""Take the messages of a source in: decoded, in one frame, in the order of time, with lasting ids.

Stage: skeleton. The predictor and the monitor share it, so both work on the same people. `decode`
reads one message and needs no transform; `accept` needs that of its frame. In between, a live node
may wait for it.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

from motion_predictor_ros.config import InputConfig
from motion_predictor_ros.conventions import NS_PER_S
from motion_predictor_ros.errors import SkeletonFormatError
from motion_predictor_ros.skeleton.frame import Observation, Rejection
from motion_predictor_ros.skeleton.layout import SkeletonLayout
from motion_predictor_ros.skeleton.people import Presence, PresenceTracker
from motion_predictor_ros.skeleton.plausibility import JointFilter
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
        restarts: Whose history is void, and why.
        anew: Whether time jumped back: everything known before is of another time.
    """

    observation: Observation
    restarts: tuple[Restart, ...]
    anew: bool


class Intake:
    """Reads one source.

    Attributes:
        latest: The last observation that was accepted.
        presence: Who is in the room by that observation.
    """

    def __init__(
        self, config: InputConfig, layout: SkeletonLayout, lookup: Lookup | None = None
    ) -> None:
        """Start without people.

        Args:
            layout: The model's.
            lookup: Looks up transforms; default: there are none.

        Raises:
            ConfigError: Source or frames do not fit.
        """
        self._config, self._layout = config, layout
        self._source = make_source(config.source, layout, config.skeleton, config.sources)
        self._arrays = make_source('native', layout, config.skeleton)
        lookup = lookup or TransformTree().lookup
        self._fixed = FixedFrame(config.fixed_frame, config.extrinsic, lookup)
        self._presence_tracker = PresenceTracker(
            config.person_hold_s, config.refused_people, config.skeleton.max_gap_s
        )
        self.reset()

    def reset(self) -> None:
        """Forget all people, and in which frame they were."""
        self._presence_tracker.reset()
        self._start()

    def _start(self) -> None:
        forget_after_s = self._config.skeleton.forget_after_s
        self._identities = Identities(self._layout, self._config.associate, forget_after_s)
        self._joints = JointFilter(self._layout, forget_after_s)
        fixed_frame = self._config.fixed_frame or self._config.skeleton.frame
        self._frame_id = fixed_frame.lstrip('/')
        self._stated_ns: int | None = None
        self.latest: Observation | None = None
        self.presence = Presence()

    def update_static_transforms(self, message: Any) -> None:
        """Take in what a source says apart from its observations, such as /tf_static."""
        self._source.update_static_transforms(message)

    def decode(self, message: Any, received_ns: int = 0) -> Observation | None:
        """Read one message, or an `Observation` of arrays, in the source's own frame.

        None if it says nothing about people yet.

        Args:
            received_ns: When it came, for messages that are empty and have no stamp.

        Raises:
            SkeletonFormatError: Nothing in the message can be used.
            TypeError: `message` has other fields than a message of the source.
        """
        if isinstance(message, Observation):  # checked as a message is
            return self._arrays.decode(skeleton_array(message))
        try:
            return self._source.decode(message, received_ns)
        except AttributeError as error:
            raise TypeError(
                f'expected an Observation or a message with the fields of {self._source.msgtype}, '
                f'got {type(message).__name__}: {error}'
            ) from error

    def transform_query(self, observation: Observation) -> TransformQuery | None:
        """Return which transform `accept` will look up; None if it needs none."""
        return self._fixed.query(observation)

    def take(self, message: Any, received_ns: int = 0) -> IntakeResult | None:
        """Decode and accept one message; see both."""
        observation = self.decode(message, received_ns)
        return None if observation is None else self.accept(observation)

    def accept(self, observation: Observation) -> IntakeResult:
        """Take one observation in.

        Raises:
            SkeletonFormatError: No transform, another frame, or a stamp that is not newer.
        """
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
            raise
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

    def refuse(self, reason: str) -> None:
        """Note that a message could not be read; it may have listed people."""
        self._presence_tracker.refuse_unread(reason)

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
