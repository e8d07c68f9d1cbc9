# SPDX-License-Identifier: Apache-2.0
"""People whose joints are TF frames: REP-155, and motion capture that publishes segments.

Stage: skeleton. No message holds a whole person: frames come one by one, in any order. A time is
observed when everybody who moves has reached it; frames that stopped moving are not seen.
"""

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import numpy as np

from motion_predictor_ros.config import SkeletonConfig
from motion_predictor_ros.conventions import NS_PER_S
from motion_predictor_ros.errors import SkeletonFormatError
from motion_predictor_ros.skeleton.frame import Observation
from motion_predictor_ros.skeleton.joint_map import load_joint_map
from motion_predictor_ros.skeleton.layout import SkeletonLayout
from motion_predictor_ros.skeleton.sources.base import (
    RawSkeleton,
    Source,
    SourceConfig,
    register_source,
    sure_of,
)
from motion_predictor_ros.skeleton.sources.mocap import NamePattern
from motion_predictor_ros.skeleton.transforms import TransformTree

_BEHIND_NS = NS_PER_S // 10
"""A frame this far behind the newest of its person, or a person behind the others, is gone."""

_TIME_JUMP_NS = NS_PER_S


@register_source('tf', 'tf2_msgs/msg/TFMessage')
class TfPeople(Source[SourceConfig]):
    """tf2_msgs/TFMessage with a frame per joint, named by `skeleton.name_pattern`."""

    topic, static_topic, has_shared_type = '/tf', '/tf_static', True

    def __init__(self, layout: SkeletonLayout, config: SkeletonConfig, own: SourceConfig) -> None:
        super().__init__(layout, config, own)
        self._joints = load_joint_map(config.source_layout or 'rep155', layout)
        self._names = NamePattern(self._joints.source, config)
        self._tree = TransformTree(keep_s=1.0)
        self._people: dict[str, dict[int, str]] = {}
        self._answered_ns = 0

    def update_static_transforms(self, msg: Any) -> None:
        """Take in what stands still, from /tf_static."""
        self._note(self._tree.add(msg, static=True))

    def decode(self, msg: Any, received_ns: int = 0) -> Observation | None:
        """Take a message in; return everybody at the newest time that all have reached, if new."""
        self._note(self._tree.add(msg))
        newest = {who: self._newest(joints) for who, joints in self._people.items()}
        last_ns = max(newest.values(), default=0)
        if last_ns < self._answered_ns - _TIME_JUMP_NS:
            self._answered_ns = 0
        here = {who: self._reached(who) for who, at in newest.items() if at > last_ns - _BEHIND_NS}
        self._forget(here)
        ready_ns = min(here.values(), default=0)
        if ready_ns <= self._answered_ns:
            return None
        self._answered_ns = ready_ns
        return super().decode(sorted(here), ready_ns)

    def header(self, msg: Any, received_ns: int) -> tuple[int, str]:
        """Return the time, and the frame in which everybody's frames hang."""
        frames = {self._hangs_in(who) for who in msg}
        if len(frames) > 1:
            raise SkeletonFormatError(
                'unknown_frame', f'people hang in several frames {sorted(frames)}; expected one'
            )
        return received_ns, frames.pop() if frames else ''

    def people(self, msg: Any) -> Iterable[tuple[str, Any]]:
        """List everybody."""
        return [(who, self._people[who]) for who in msg]

    def see(self, who: str, person: dict[int, str]) -> RawSkeleton:
        """Look every joint up."""
        positions = np.full((len(self._joints.source.joint_names), 3), np.nan)
        frame = self._top(next(iter(person.values())))
        newest_ns = self._newest(person)
        for joint, name in person.items():
            if self._at(name) > newest_ns - _BEHIND_NS:
                with suppress(SkeletonFormatError):  # it came after this time: not seen
                    positions[joint] = self._tree.lookup(frame, name, self._answered_ns).shift
        return RawSkeleton(self._joints, positions, sure_of(positions))

    def _note(self, frames: list[str]) -> None:
        for frame in frames:
            told = self._names.read(frame)
            if told is not None:
                self._people.setdefault(told[0], {})[told[1]] = frame

    def _forget(self, here: dict[str, int]) -> None:
        """Forget who stopped moving: ids are never used again by most trackers."""
        self._people = {who: joints for who, joints in self._people.items() if who in here}
        self._tree.forget_gone()

    def _hangs_in(self, who: str) -> str:
        return self._top(next(iter(self._people[who].values())))

    def _top(self, frame: str) -> str:
        """Return the parent of the topmost of the frames above that belong to a person."""
        chain = self._tree.chain(frame)
        own = [index for index, name in enumerate(chain) if self._names.read(name) is not None]
        return chain[min(own[-1] + 1, len(chain) - 1)]

    def _at(self, frame: str) -> int:
        """Return until when a joint's place is known [ns]; 0 if never."""
        chain = self._tree.chain(frame)
        moving = [
            stamp
            for name in chain[: chain.index(self._top(frame))]
            if (stamp := self._tree.newest_ns(name)) is not None
        ]
        return min(moving, default=0)

    def _newest(self, joints: dict[int, str]) -> int:
        return max((self._at(frame) for frame in joints.values()), default=0)

    def _reached(self, who: str) -> int:
        """Return the newest time at which all joints are known that still move [ns]."""
        joints = self._people[who]
        newest_ns = self._newest(joints)
        reached = [self._at(frame) for frame in joints.values()]
        return min(at for at in reached if at > newest_ns - _BEHIND_NS)
