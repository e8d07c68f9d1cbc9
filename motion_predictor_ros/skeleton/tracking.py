# SPDX-License-Identifier: Apache-2.0
"""Track people over time: detect flips and swaps of ids, and associate lost ids if asked.

Stage: skeleton. Trackers turn people around, exchange ids when people cross, and assign new ids
after a loss. People are therefore compared with a constant-velocity extrapolation of each track.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from motion_predictor_ros.conventions import NS_PER_S
from motion_predictor_ros.skeleton.frame import Observation, Pose, SkeletonFrame
from motion_predictor_ros.skeleton.layout import SkeletonLayout

CLEAR_M = 0.15
"""Mean deviation of the joints above which flips and swaps are considered [m]."""

CLEARER = 0.5
"""The other hypothesis is accepted if it deviates by less than this share."""

REACH_M, REACH_M_S = 0.3, 1.5
"""Gate of the association: distance from the extrapolated track [m], growth with the gap [m/s]."""

TRUST_M = 0.1
"""Cost of an association that contradicts the tracker's id [m]."""

_SPEED_S = 0.15
"""Velocity is estimated over at least this time [s]."""


@dataclass(frozen=True)
class Restart:
    """Why a person's history is dropped."""

    person_id: str
    reason: str
    message: str


@dataclass
class _Track:
    """One person's last observation, and an earlier one for the velocity."""

    last: SkeletonFrame
    earlier: SkeletonFrame
    tracker_id: str

    def expected(self, stamp_ns: int) -> Pose:
        """Extrapolate the joints at the mean velocity of the body [m]."""
        seconds = (self.last.stamp_ns - self.earlier.stamp_ns) / NS_PER_S
        moved = self.last.positions - self.earlier.positions
        in_both = ~np.isnan(moved[:, 0])
        if seconds <= 0 or not in_both.any():
            return self.last.positions
        velocity = moved[in_both].mean(axis=0) / seconds
        return self.last.positions + velocity * (stamp_ns - self.last.stamp_ns) / NS_PER_S

    def update(self, frame: SkeletonFrame, tracker_id: str) -> None:
        """Append the next observation."""
        if frame.stamp_ns - self.earlier.stamp_ns > _SPEED_S * NS_PER_S:
            self.earlier = self.last
        self.last, self.tracker_id = frame, tracker_id


class Identities:
    """Tracks of all people, kept for `forget_after_s`.

    Args:
        associate: Whether ids come from motion instead of from the tracker.
    """

    def __init__(self, layout: SkeletonLayout, associate: bool, forget_after_s: float) -> None:
        self._mirror = list(layout.mirror)
        self._associate, self._forget_ns = associate, round(forget_after_s * NS_PER_S)
        if associate:
            _assignment()
        self._tracks: dict[str, _Track] = {}

    def follow(self, observation: Observation) -> tuple[Observation, list[Restart]]:
        """Return the observation with lasting ids, and whose history is dropped."""
        oldest_ns = observation.stamp_ns - self._forget_ns
        self._tracks = {
            who: track for who, track in self._tracks.items() if track.last.stamp_ns >= oldest_ns
        }
        people = list(observation.people)
        names = self._associated(people) if self._associate else [p.person_id for p in people]
        renamed = [
            dataclasses.replace(frame, person_id=name)
            for frame, name in zip(people, names, strict=True)
        ]
        known = self._compared(renamed)
        restarts = self._restarts(known)
        restarted = [restart.person_id for restart in restarts]
        for frame, original in zip(renamed, people, strict=True):
            self._update(frame, original.person_id, restarted)
        observation = self.rename_rejected(observation)
        return dataclasses.replace(observation, people=tuple(renamed)), restarts

    def rename_rejected(self, observation: Observation) -> Observation:
        """Give refused people the ids under which they were followed."""
        names = {track.tracker_id: person_id for person_id, track in self._tracks.items()}
        rejected = tuple(
            dataclasses.replace(rejection, person_id=names[rejection.person_id])
            if rejection.person_id in names
            else rejection
            for rejection in observation.rejected
        )
        return dataclasses.replace(observation, rejected=rejected)

    def _update(self, frame: SkeletonFrame, tracker_id: str, restarted: list[str]) -> None:
        track = self._tracks.get(frame.person_id)
        if track is None or frame.person_id in restarted:
            self._tracks[frame.person_id] = _Track(frame, frame, tracker_id)
        else:
            track.update(frame, tracker_id)

    def _associated(self, people: list[SkeletonFrame]) -> list[str]:
        """Return the id of the track of each person; new people keep the tracker's id."""
        known = list(self._tracks)
        names = [''] * len(people)
        cost = np.array(
            [[self._cost(person_id, frame) for person_id in known] for frame in people]
        )
        if cost.size:
            for row, column in zip(*_assignment()(cost), strict=True):
                if cost[row, column] < _FAR_M:
                    names[row] = known[column]
        for row, frame in enumerate(people):
            names[row] = names[row] or self._unused(frame.person_id, {*known, *names})
        return names

    def _cost(self, person_id: str, frame: SkeletonFrame) -> float:
        track = self._tracks[person_id]
        gap_s = (frame.stamp_ns - track.last.stamp_ns) / NS_PER_S
        apart_m = _apart_m(track.expected(frame.stamp_ns), frame.positions)
        if not apart_m < REACH_M + REACH_M_S * gap_s:  # NaN: no joint in common
            return _FAR_M
        return apart_m + (0.0 if track.tracker_id == frame.person_id else TRUST_M)

    @staticmethod
    def _unused(wanted: str, taken: set[str]) -> str:
        """Return the id, with a number appended if it is taken."""
        name, number = wanted, 2
        while name in taken:
            name, number = f'{wanted}#{number}', number + 1
        return name

    def _compared(self, people: list[SkeletonFrame]) -> list['_Known']:
        known = []
        for frame in people:
            track = self._tracks.get(frame.person_id)
            if track is not None:
                expected = track.expected(frame.stamp_ns)
                known.append(_Known(frame, expected, _apart_m(expected, frame.positions)))
        return known

    def _restarts(self, known: list['_Known']) -> list[Restart]:
        """Find people who fit their track turned around, and pairs who fit each other's."""
        restarts: list[Restart] = []
        pairs = () if self._associate else combinations(known, 2)
        for people in (*((person,) for person in known), *pairs):
            apart_m = sum(person.apart_m for person in people)
            if not apart_m > CLEAR_M * len(people):
                continue
            reason, order = ('swap', slice(None)) if len(people) > 1 else ('flip', self._mirror)
            other_m = sum(
                _apart_m(one.expected, other.frame.positions[order])
                for one, other in zip(people, people[::-1], strict=True)
            )
            if other_m < CLEARER * apart_m:
                ids = [person.frame.person_id for person in people]
                cause = f'person {" and ".join(map(repr, ids))}: {_CAUSES[reason]}'
                message = f'{cause}; history and warm start dropped'
                restarts += [Restart(person_id, reason, message) for person_id in ids]
        return restarts


_CAUSES = {
    'flip': 'left and right exchanged places at once, as when a tracker mistakes front for back',
    'swap': 'exchanged places at once',
}


@dataclass(frozen=True)
class _Known:
    """A tracked person: the extrapolated joints, and the mean deviation from them."""

    frame: SkeletonFrame
    expected: Pose
    apart_m: float


_FAR_M = 1e3


def _assignment() -> Callable[..., Any]:
    """Import scipy's only when needed: that takes long."""
    from scipy.optimize import linear_sum_assignment

    assign: Callable[..., Any] = linear_sum_assignment
    return assign


def _apart_m(expected: Pose, seen: Pose) -> float:
    """Return the mean distance of the joints that both have; NaN if there are none."""
    gaps = np.sqrt(((expected - seen) ** 2).sum(axis=1))
    both = ~np.isnan(gaps)
    return float(gaps[both].mean()) if both.any() else float('nan')
