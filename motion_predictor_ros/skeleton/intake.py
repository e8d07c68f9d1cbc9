# SPDX-License-Identifier: Apache-2.0
"""Take a source's messages in: decoded, in one frame, in the order of time, and who is who.

Stage: skeleton. What predicts and what judges predictions see the same people through this.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

from motion_predictor_ros.config import InputConfig
from motion_predictor_ros.conventions import NS_PER_S
from motion_predictor_ros.errors import SkeletonFormatError
from motion_predictor_ros.skeleton.frame import Observation
from motion_predictor_ros.skeleton.layout import SkeletonLayout
from motion_predictor_ros.skeleton.sources.base import make_source
from motion_predictor_ros.skeleton.tracking import Identities, Restart
from motion_predictor_ros.skeleton.transforms import FixedFrame, Lookup, TransformTree

_TIME_JUMP_NS = NS_PER_S
"""Stamps that go back by more than this are a new time, not a late message."""


@dataclass(frozen=True)
class IntakeResult:
    """One message that was taken in.

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
    """

    def __init__(
        self, config: InputConfig, layout: SkeletonLayout, lookup: Lookup | None = None
    ) -> None:
        """Begin with nobody.

        Args:
            layout: The model's.
            lookup: Knows how frames stand to each other; default: nothing does.

        Raises:
            ConfigError: Source or frames do not fit.
        """
        self._config, self._layout = config, layout
        self._source = make_source(config.source, layout, config.skeleton, config.sources)
        lookup = lookup or TransformTree().lookup
        self._fixed = FixedFrame(config.fixed_frame, config.extrinsic, lookup)
        self.reset()

    def reset(self) -> None:
        """Forget everybody, and in which frame they were."""
        forget_after_s = self._config.skeleton.forget_after_s
        self._identities = Identities(self._layout, self._config.associate, forget_after_s)
        self._frame_id = self._config.fixed_frame or self._config.skeleton.frame
        self.latest: Observation | None = None

    def update_static_transforms(self, message: Any) -> None:
        """Take in what a source says apart from its observations, such as /tf_static."""
        self._source.update_static_transforms(message)

    def take(self, message: Any, received_ns: int = 0) -> IntakeResult | None:
        """Read one message; None if it says nothing about people yet.

        Args:
            received_ns: When it came, for messages that are empty and have no stamp.

        Raises:
            SkeletonFormatError: Nothing in the message can be used.
        """
        seen = self._source.decode(message, received_ns)
        if seen is None:
            return None
        observation = self._fixed.move(seen)
        if not observation.frame_id:  # nobody, and the message cannot say where
            observation = dataclasses.replace(observation, frame_id=self._frame_id)
        self._check_frame(observation.frame_id)
        anew = self._is_anew(observation.stamp_ns)
        if anew:
            self.reset()
        self._frame_id = observation.frame_id
        observation, restarts = self._identities.follow(observation)
        self.latest = observation
        return IntakeResult(observation, tuple(restarts), anew)

    def _check_frame(self, frame_id: str) -> None:
        if self._frame_id and frame_id != self._frame_id:
            raise SkeletonFormatError(
                'unknown_frame',
                f'frame_id {frame_id!r}, but this stream began in {self._frame_id!r}; '
                'one predictor serves one frame: set parameter "fixed_frame" or "skeleton.frame", '
                'or remap',
            )

    def _is_anew(self, stamp_ns: int) -> bool:
        """Tell whether time jumped back.

        Raises:
            SkeletonFormatError: It went back by less, or not on.
        """
        if self.latest is None:
            return False
        back_ns = self.latest.stamp_ns - stamp_ns
        if back_ns > _TIME_JUMP_NS:
            return True
        if back_ns >= 0:
            raise SkeletonFormatError(
                'stamp_backwards' if back_ns else 'stamp_repeated',
                f'stamp is {back_ns / NS_PER_S:.3f} s behind the previous message',
            )
        return False
