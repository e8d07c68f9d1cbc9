# SPDX-License-Identifier: Apache-2.0
"""Rigid transforms between frames, and a tree of them over time, as tf2 keeps it.

Stage: skeleton. Serves bags, which hold /tf without tf2, and machines on which tf2_ros is not
installed. Quaternions are xyzw; transforms3d has w first.
"""

import dataclasses
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

import numpy as np
from jaxtyping import Float64
from transforms3d import quaternions

from motion_predictor_ros.conventions import NS_PER_S
from motion_predictor_ros.errors import ConfigError, SkeletonFormatError
from motion_predictor_ros.skeleton.frame import Observation

_TIME_JUMP_NS = NS_PER_S
"""A frame whose stamps go back by more than this, twice in a row, has begun a new time."""

_MAX_DEPTH = 100
_MAX_FRAMES = 500


@dataclass(frozen=True)
class Rigid:
    """A turn and then a shift: x -> R x + t."""

    turn: Float64[np.ndarray, 'xyz=3 xyz=3']
    shift: Float64[np.ndarray, ' xyz=3']

    @classmethod
    def from_quaternion(cls, shift: Any, quat_xyzw: Any) -> 'Rigid':
        """Build from a shift [m] and a quaternion, which is normalised.

        Raises:
            ValueError: The quaternion is zero, or a number is not finite.
        """
        x, y, z, w = (float(value) for value in quat_xyzw)
        numbers = np.array([*shift, x, y, z, w], dtype=np.float64)
        if len(numbers) != 7 or not np.isfinite(numbers).all() or not numbers[3:].any():
            raise ValueError(f'not x y z [m] and a quaternion xyzw: {numbers.tolist()}')
        return cls(quaternions.quat2mat([w, x, y, z]), numbers[:3])

    @classmethod
    def parse(cls, text: str) -> 'Rigid':
        """Read `x y z qx qy qz qw`.

        Raises:
            ConfigError: The text is something else.
        """
        try:
            numbers = [float(word) for word in text.replace(',', ' ').split()]
            return cls.from_quaternion(numbers[:3], numbers[3:])
        except ValueError as error:
            raise ConfigError(
                f'extrinsic {text!r} is not "x y z qx qy qz qw" in metres: {error}'
            ) from error

    def apply(
        self, points: Float64[np.ndarray, '*some xyz=3']
    ) -> Float64[np.ndarray, '*some xyz=3']:
        """Move points; NaN stays NaN."""
        return np.asarray(points @ self.turn.T + self.shift)

    def __matmul__(self, first: 'Rigid') -> 'Rigid':
        """Return: `first`, and then this."""
        return Rigid(self.turn @ first.turn, self.apply(first.shift))

    def inverse(self) -> 'Rigid':
        """Return the way back."""
        return Rigid(self.turn.T, -self.turn.T @ self.shift)

    def towards(self, other: 'Rigid', part: float) -> 'Rigid':
        """Interpolate: the shift straight, the turn about one axis at one rate."""
        axis, angle = quaternions.quat2axangle(quaternions.mat2quat(self.turn.T @ other.turn))
        step = quaternions.quat2mat(quaternions.axangle2quat(axis, part * angle))
        return Rigid(self.turn @ step, (1.0 - part) * self.shift + part * other.shift)


_Stamped = tuple[int, Rigid]
"""When [ns], and the transform to the parent."""


@dataclass
class _Link:
    """The transforms of one frame to its parent, oldest first; a static one has one for ever.

    Attributes:
        earlier: The transform that came last, if it is from long before the newest.
    """

    parent: str
    static: bool
    moves: list[_Stamped] = field(default_factory=list)
    earlier: _Stamped | None = None

    @property
    def newest_ns(self) -> int:
        """The newest stamp."""
        return self.moves[-1][0]

    def add(self, stamp_ns: int, motion: Rigid, keep_ns: int | None) -> None:
        """Sort a transform in, and drop what is older than `keep_ns` before the newest.

        One stamp from long before is an error; a second one after it is a jump back in time.
        """
        place = bisect_left(self.moves, stamp_ns, key=itemgetter(0))
        if not self.moves or stamp_ns >= self.newest_ns - _TIME_JUMP_NS:
            self.earlier = None
            if place == len(self.moves) or self.moves[place][0] != stamp_ns:
                self.moves.insert(place, (stamp_ns, motion))
        elif self.earlier is None or stamp_ns <= self.earlier[0]:
            self.earlier = stamp_ns, motion
        else:
            self.moves, self.earlier = [self.earlier, (stamp_ns, motion)], None
        if keep_ns is not None:
            del self.moves[: bisect_left(self.moves, self.newest_ns - keep_ns, key=itemgetter(0))]

    def at(self, stamp_ns: int) -> Rigid | None:
        """Interpolate; 0 asks for the newest. None if the time is not known."""
        if self.static or not stamp_ns:
            return self.moves[-1][1]
        after = bisect_left(self.moves, stamp_ns, key=itemgetter(0))
        if after < len(self.moves) and self.moves[after][0] == stamp_ns:
            return self.moves[after][1]
        if after in (0, len(self.moves)):
            return None
        (begin_ns, begin), (end_ns, end) = self.moves[after - 1 : after + 1]
        return begin.towards(end, (stamp_ns - begin_ns) / (end_ns - begin_ns))


class TransformTree:
    """Every frame's parent and transform to it over the last seconds.

    Each frame has a time of its own: one that is stamped 0, late or ahead does not affect others.

    Args:
        keep_s: How far back one may ask [s].
    """

    def __init__(self, keep_s: float = 10.0) -> None:
        self._keep_ns = round(keep_s * NS_PER_S) if np.isfinite(keep_s) else None
        self._links: dict[str, _Link] = {}

    def add(self, msg: Any, static: bool = False) -> list[str]:
        """Take a tf2_msgs/TFMessage-like message in; return the frames it moved.

        What is no rigid transform, or moves and has no stamp, is ignored, as tf2 does.
        """
        moved = []
        for stamped in msg.transforms:
            stamp = stamped.header.stamp
            stamp_ns = int(stamp.sec) * NS_PER_S + int(stamp.nanosec)
            shift, turn = stamped.transform.translation, stamped.transform.rotation
            try:
                motion = Rigid.from_quaternion(
                    (shift.x, shift.y, shift.z), (turn.x, turn.y, turn.z, turn.w)
                )
            except ValueError:
                continue
            child, parent = stamped.child_frame_id.lstrip('/'), stamped.header.frame_id.lstrip('/')
            if child and parent and child != parent and (static or stamp_ns > 0):
                self._set(child, parent, stamp_ns, motion, static)
                moved.append(child)
        return moved

    def frames(self) -> list[str]:
        """List the frames that have a parent."""
        return list(self._links)

    def chain(self, frame: str) -> list[str]:
        """List a frame, its parent and so on to the top."""
        frames = [frame]
        while (link := self._links.get(frames[-1])) is not None and len(frames) < _MAX_DEPTH:
            frames.append(link.parent)
        return frames

    def newest_ns(self, frame: str) -> int | None:
        """Return when a frame last moved in its parent; None if it stands still or is unknown."""
        link = self._links.get(frame)
        return None if link is None or link.static else link.newest_ns

    def lookup(self, target: str, source: str, stamp_ns: int) -> Rigid:
        """Return the transform from `source` coordinates to `target` coordinates at that time.

        Args:
            stamp_ns: 0 takes the newest of each frame.

        Raises:
            SkeletonFormatError: `no_transform`; the frames are not connected, or not at that time.
        """
        ups, downs = self.chain(source.lstrip('/')), self.chain(target.lstrip('/'))
        common = next((frame for frame in ups if frame in downs), None)
        if common is None:
            raise SkeletonFormatError(
                'no_transform',
                f'no transform from {source!r} to {target!r}: TF knows '
                f'{self.frames() or "nothing"}; is the frame spelt as in TF, and does '
                'its driver or a robot_state_publisher run?',
            )
        up = self._climb(ups[: ups.index(common)], stamp_ns)
        down = self._climb(downs[: downs.index(common)], stamp_ns)
        return down.inverse() @ up

    def _climb(self, frames: list[str], stamp_ns: int) -> Rigid:
        motion = Rigid(np.eye(3), np.zeros(3))
        for frame in frames:
            step = self._links[frame].at(stamp_ns)
            if step is None:
                known = self._links[frame].moves
                ahead_s = (stamp_ns - known[-1][0]) / NS_PER_S
                raise SkeletonFormatError(
                    'no_transform',
                    f'frame {frame!r} is not known at the time of the observation, '
                    f'{ahead_s:.3f} s after the newest of {len(known)}; have tracker and TF the '
                    'same clock?',
                )
            motion = step @ motion
        return motion

    def _set(self, child: str, parent: str, stamp_ns: int, motion: Rigid, static: bool) -> None:
        link = self._links.get(child)
        if link is None or link.parent != parent or link.static != static:
            link = self._links[child] = _Link(parent, static)
        if static:
            link.moves = [(stamp_ns, motion)]
        else:
            link.add(stamp_ns, motion, self._keep_ns)

    def forget_gone(self) -> None:
        """Bound the memory: of too many frames, drop those that moved last long before the others.

        The others are the median frame; ids come and go, and one frame may be far ahead.
        """
        if self._keep_ns is None or len(self._links) <= _MAX_FRAMES:
            return
        moving = {name: link.newest_ns for name, link in self._links.items() if not link.static}
        median_ns = sorted(moving.values())[(len(moving) - 1) // 2] if moving else 0
        for name, newest_ns in moving.items():
            if newest_ns < median_ns - self._keep_ns:
                del self._links[name]

    def clear(self) -> None:
        """Forget all that moves: time has jumped back, as when a bag loops."""
        self._links = {frame: link for frame, link in self._links.items() if link.static}


Lookup = Callable[[str, str, int], Rigid]
"""Target frame, source frame, stamp [ns]; raises SkeletonFormatError `no_transform`."""

TransformQuery = tuple[str, str, int]
"""Arguments of a `Lookup`."""


class FixedFrame:
    """Moves observations into the fixed frame; without one they stay where they are.

    Args:
        name: Of the fixed frame; '' leaves everything in the source's.
        extrinsic: Pose of the source's frame in it: x y z qx qy qz qw; '' asks `lookup`.

    Raises:
        ConfigError: The extrinsic is malformed, or is one in no frame.
    """

    def __init__(self, name: str, extrinsic: str, lookup: Lookup) -> None:
        if extrinsic and not name:
            raise ConfigError('extrinsic is given, but no fixed_frame in which it holds')
        self.name = name.lstrip('/')
        self._extrinsic = Rigid.parse(extrinsic) if extrinsic else None
        self._lookup = lookup

    def query(self, observation: Observation) -> TransformQuery | None:
        """Return which transform `move` looks up; None if it needs none."""
        if self._is_there(observation) or not observation.people or self._extrinsic is not None:
            return None
        return self.name, observation.frame_id, observation.stamp_ns

    def _is_there(self, observation: Observation) -> bool:
        return not self.name or observation.frame_id == self.name

    def move(self, observation: Observation) -> Observation:
        """Return the observation in the fixed frame.

        Raises:
            SkeletonFormatError: `no_transform`; the transform at that time is unknown.
        """
        if self._is_there(observation):
            return observation
        if not observation.people:
            return dataclasses.replace(observation, frame_id=self.name)
        motion = self._extrinsic or self._lookup(
            self.name, observation.frame_id, observation.stamp_ns
        )
        people = tuple(
            dataclasses.replace(person, positions=motion.apply(person.positions))
            for person in observation.people
        )
        return dataclasses.replace(observation, frame_id=self.name, people=people)
