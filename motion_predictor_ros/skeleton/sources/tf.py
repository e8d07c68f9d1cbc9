# SPDX-License-Identifier: Apache-2.0
"""People whose joints are TF frames: REP-155, and motion capture that publishes segments.

Stage: skeleton. No message holds a whole person: frames come one by one, in any order. A time is
observed when all people who move have reached it, except those who lag far behind: they are
observed at the time that they have reached. Robots have frames with names of joints, too, so what
hangs on another `person`, or has less than three joints, is no person.
"""

import dataclasses
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import numpy as np

from motion_predictor_ros.config import SOURCES, SkeletonConfig
from motion_predictor_ros.conventions import NS_PER_S
from motion_predictor_ros.errors import SkeletonFormatError
from motion_predictor_ros.skeleton.frame import Observation, Rejection
from motion_predictor_ros.skeleton.layout import SkeletonLayout
from motion_predictor_ros.skeleton.sources.base import (
    MAX_LAG_NS,
    RawSkeleton,
    Source,
    SourceConfig,
)
from motion_predictor_ros.skeleton.sources.mocap import NamePattern
from motion_predictor_ros.skeleton.transforms import TransformTree

_BEHIND_NS = NS_PER_S // 10
"""A frame this far behind the newest of its person was not seen; the scene does not wait for a
person this far behind the others."""

_AHEAD_NS = NS_PER_S // 2
_TIME_JUMP_NS = NS_PER_S
_FEWEST_JOINTS = 3


@SOURCES.register('tf', SourceConfig)
class TfPeople(Source[SourceConfig]):
    """tf2_msgs/TFMessage with a frame per joint, named by `skeleton.name_pattern`."""

    msgtype = 'tf2_msgs/msg/TFMessage'
    topic, static_topic, has_shared_type = '/tf', '/tf_static', True
    joint_layout = 'rep155'

    def __init__(
        self, layout: SkeletonLayout, config: SkeletonConfig, parameters: SourceConfig
    ) -> None:
        super().__init__(layout, config, parameters)
        self._names = NamePattern(self.joints.source, config)
        self._tree = TransformTree(keep_s=2.0)
        self._people: dict[str, dict[int, str]] = {}
        self._received_ns: dict[str, int] = {}
        self._robots: dict[str, str] = {}
        self._reported_names, self._unreported = 0, list[Rejection]()
        self._answered_ns, self._frame_id, self._changed = 0, '', False

    def update_static_transforms(self, msg: Any) -> None:
        """Take in what stands still, from /tf_static."""
        self._note(self._tree.add(msg, static=True))

    def decode(self, msg: Any, received_ns: int = 0) -> Observation | None:
        """Take a message in; return the people at the newest time that all have reached, if new.

        People who lag behind by more than 0.1 s, and at most 1 s, have the time that they have
        reached. Who lags further behind, or has a time far ahead of the others, is refused alone.

        Raises:
            SkeletonFormatError: `robot_frame`; nobody is observed, and frames were left out.
        """
        for person_id in self._note(self._tree.add(msg)):
            self._received_ns[person_id] = received_ns
        oldest_ns = received_ns - MAX_LAG_NS
        self._unreported += self._find_robots()
        newest_ns = {
            person_id: at_ns
            for person_id, joints in self._people.items()
            if person_id not in self._robots
            and (at_ns := self._newest(joints))
            and self._received_ns.get(person_id, 0) >= oldest_ns
        }
        if max(newest_ns.values(), default=0) < self._answered_ns - _TIME_JUMP_NS:
            self._answered_ns = 0
        last_ns = self._last(newest_ns.values(), received_ns)
        present = [person_id for person_id, at in newest_ns.items() if at > last_ns - MAX_LAG_NS]
        heard_ns = received_ns - MAX_LAG_NS // 2  # who left is late for a moment before that, too
        late = [
            person_id
            for person_id in newest_ns.keys() - present
            if self._received_ns.get(person_id, 0) > heard_ns
        ]
        in_step = [
            self._reached(person_id)
            for person_id in present
            if last_ns - _BEHIND_NS < newest_ns[person_id] <= last_ns
        ]
        self._forget()
        ready_ns = min(in_step, default=0)
        excluded = self._excluded_names()
        if ready_ns <= self._answered_ns:
            if excluded:
                raise SkeletonFormatError(excluded[0].reason, excluded[0].message)
            return None
        self._answered_ns, self._frame_id = ready_ns, self._common_frame(present)
        observation = super().decode(sorted([*present, *late]), ready_ns)
        assert observation is not None
        robots = [item for item in self._unreported if item.person_id in self._robots]
        self._unreported.clear()
        filtered = (*observation.filtered, *robots, *excluded)
        return dataclasses.replace(observation, filtered=filtered)

    def header(self, msg: Any, received_ns: int) -> tuple[int, str]:
        """Return the time that is observed, and the frame in which most people hang."""
        return received_ns, self._frame_id

    def people(self, msg: Any) -> Iterable[tuple[str, Any]]:
        """List the people and their frames."""
        return [(person_id, (person_id, self._people[person_id])) for person_id in msg]

    def decode_person(self, label: str, person: tuple[str, dict[int, str]]) -> RawSkeleton:
        """Look up every joint of one person."""
        person_id, joints = person
        positions = np.full((len(self.joints.source.joint_names), 3), np.nan)
        newest_ns, reached_ns = self._newest(joints), self._reached(person_id)
        stamp_ns = self._answered_ns
        if reached_ns <= stamp_ns - _BEHIND_NS:
            stamp_ns = reached_ns
        if newest_ns > self._answered_ns + _TIME_JUMP_NS:
            raise SkeletonFormatError(
                'bad_stamp',
                f'{label}: its frames are {(newest_ns - stamp_ns) / NS_PER_S:.3f} s ahead of the '
                'others',
            )
        top = self._hangs_in(person_id)
        if self._frame_id not in self._tree.chain(top) and top not in self._tree.chain(
            self._frame_id
        ):
            raise SkeletonFormatError(
                'unknown_frame',
                f'{label}: hangs in frame {top!r}, which TF does not connect with '
                f'{self._frame_id!r}, where the others are; if it is no person, set parameter '
                '"skeleton.id_pattern"',
            )
        for joint, name in joints.items():
            if self._at(name) > newest_ns - _BEHIND_NS:
                with suppress(SkeletonFormatError):  # it came after this time: not seen
                    positions[joint] = self._tree.lookup(self._frame_id, name, stamp_ns).shift
        return RawSkeleton(self.joints, positions, stamp_ns=stamp_ns)

    def _note(self, frames: list[str]) -> set[str]:
        """Note the joints of people among these frames; return the people."""
        people = set()
        for frame in frames:
            person_and_joint = self._names.read(frame)
            if person_and_joint is not None:
                person_id, joint = person_and_joint
                joints = self._people.setdefault(person_id, {})
                self._changed |= joint not in joints
                joints[joint] = frame
                people.add(person_id)
        return people

    def _find_robots(self) -> list[Rejection]:
        """Note ids whose frames are a robot's; return the new ones."""
        if not self._changed:
            return []
        self._changed = False
        reasons: dict[str, str] = {}
        for person_id, joints in self._people.items():
            if len(joints) < _FEWEST_JOINTS:
                names = ', '.join(sorted(joints.values()))
                reasons[person_id] = f'{names}: less than {_FEWEST_JOINTS} joints'
            for frame in joints.values():
                parent = self._names.read(self._tree.chain(frame)[1])
                if parent is not None and parent[0] != person_id:
                    text = f'{frame} hangs on {self._tree.chain(frame)[1]}'
                    reasons[person_id] = reasons[parent[0]] = f'{text}: links of one tree'
        new = [
            Rejection(person_id, 'robot_frame', f'{reason}; taken as frames of a robot')
            for person_id, reason in reasons.items()
            if person_id not in self._robots
        ]
        self._robots = reasons
        return new

    def _excluded_names(self) -> list[Rejection]:
        """Return a line on the frames whose ids are words of robots, if there are new ones."""
        names = sorted(self._names.robot_names)
        is_new, self._reported_names = len(names) > self._reported_names, len(names)
        text = (
            f'{", ".join(names[:5])}: named like links of a robot, and taken as such; if they are '
            'of people, set parameter "skeleton.id_pattern"'
        )
        return [Rejection('', 'robot_frame', text)] if is_new else []

    def _last(self, newest_ns: Iterable[int], received_ns: int) -> int:
        """Return the newest time of those that can be the present one [ns].

        A person whose stamps are ahead does not make the others late: times after the message
        came do not count, or else times more than a second after the last answer, if there are
        others.
        """
        times_ns = list(newest_ns)
        past_ns = [at for at in times_ns if at <= received_ns + _AHEAD_NS]
        near_ns = [at for at in times_ns if 0 < at - self._answered_ns <= _TIME_JUMP_NS]
        return max(past_ns or (near_ns if self._answered_ns else []) or times_ns, default=0)

    def _forget(self) -> None:
        """Forget frames that stopped moving: most trackers never use an id again."""
        self._tree.forget_gone()
        known = set(self._tree.frames())
        for person_id, joints in list(self._people.items()):
            if not known.issuperset(joints.values()):
                left = {joint: frame for joint, frame in joints.items() if frame in known}
                self._people[person_id], self._changed = left, True
                if not left:
                    del self._people[person_id]
                    self._received_ns.pop(person_id, None)

    def _common_frame(self, present: list[str]) -> str:
        """Return the frame in which most people hang; the last one as long as a person does."""
        tops = Counter(sorted(self._hangs_in(person_id) for person_id in present))
        wanted = self.config.frame.lstrip('/')
        for frame in (wanted, self._frame_id):
            if frame in tops:
                return frame
        return tops.most_common(1)[0][0] if tops else self._frame_id

    def _hangs_in(self, person_id: str) -> str:
        return self._top(next(iter(self._people[person_id].values())))

    def _top(self, frame: str) -> str:
        """Return the first frame above that does not belong to the same person."""
        chain, person_and_joint = self._tree.chain(frame), self._names.read(frame)
        assert person_and_joint is not None
        for name in chain[1:]:
            other = self._names.read(name)
            if other is None or other[0] != person_and_joint[0]:
                return name
        return chain[-1]

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

    def _reached(self, person_id: str) -> int:
        """Return the newest time at which all joints are known that still move [ns]."""
        joints = self._people[person_id]
        newest_ns = self._newest(joints)
        reached = [self._at(frame) for frame in joints.values()]
        return min(at for at in reached if at > newest_ns - _BEHIND_NS)
