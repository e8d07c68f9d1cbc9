# SPDX-License-Identifier: Apache-2.0
"""Who is who from one observation to the next: notice flips and swaps, and mend lost ids if asked.

Stage: skeleton. Trackers turn people around, exchange their ids when they cross and begin new ids
after losing somebody. Where a person is expected says more than the tracker's id: everybody is
expected where they were last seen, moved on at their last speed.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from jaxtyping import Float64

from motion_predictor_ros.conventions import NS_PER_S
from motion_predictor_ros.skeleton.frame import Observation, SkeletonFrame
from motion_predictor_ros.skeleton.layout import SkeletonLayout

CLEAR_M = 0.15
"""Mean deviation of the joints above which an id or a side is doubted at all [m]."""

CLEARER = 0.5
"""It is doubted if the other explanation deviates by less than this share."""

REACH_M, REACH_M_S = 0.3, 1.5
"""Somebody is found again within this distance of where they are expected [m, m/s]."""

TRUST_M = 0.1
"""How much further away the person is taken whom the tracker means [m]."""

_SPEED_S = 0.15
"""The last speed is taken over so long, that noise does not become speed [s]."""


@dataclass(frozen=True)
class Restart:
    """Why a person's history is void."""

    person_id: str
    reason: str
    message: str


@dataclass
class _Track:
    """One person's last observation, and the one that the speed is taken from."""

    last: SkeletonFrame
    earlier: SkeletonFrame
    tracker_id: str

    def expected(self, stamp_ns: int) -> Float64[np.ndarray, 'joint xyz=3']:
        """Return the joints if the person moves on as a whole [m]."""
        seconds = (self.last.stamp_ns - self.earlier.stamp_ns) / NS_PER_S
        moved = self.last.positions - self.earlier.positions
        twice = ~np.isnan(moved[:, 0])
        if seconds <= 0 or not twice.any():
            return self.last.positions
        speed = moved[twice].mean(axis=0) / seconds
        return self.last.positions + speed * (stamp_ns - self.last.stamp_ns) / NS_PER_S

    def see(self, frame: SkeletonFrame, tracker_id: str) -> None:
        """Take the next observation in."""
        if frame.stamp_ns - self.earlier.stamp_ns > _SPEED_S * NS_PER_S:
            self.earlier = self.last
        self.last, self.tracker_id = frame, tracker_id


class Identities:
    """Remembers everybody for a while."""

    def __init__(self, layout: SkeletonLayout, associate: bool, forget_after_s: float) -> None:
        """Begin with nobody.

        Args:
            associate: Whether to give people their ids by motion instead of believing the tracker.
        """
        self._mirror = list(layout.mirror)
        self._associate, self._forget_ns = associate, round(forget_after_s * NS_PER_S)
        if associate:
            _assignment()
        self._tracks: dict[str, _Track] = {}

    def follow(self, observation: Observation) -> tuple[Observation, list[Restart]]:
        """Return the observation with ids that last, and whose history is void."""
        oldest_ns = observation.stamp_ns - self._forget_ns
        self._tracks = {
            who: track for who, track in self._tracks.items() if track.last.stamp_ns >= oldest_ns
        }
        people = list(observation.people)
        names = self._names(people) if self._associate else [each.person_id for each in people]
        renamed = [
            dataclasses.replace(each, person_id=name)
            for each, name in zip(people, names, strict=True)
        ]
        known = self._expected(renamed)
        restarts = self._flips(known) + ([] if self._associate else _swaps(known))
        for frame, seen in zip(renamed, people, strict=True):
            self._see(frame, seen.person_id, [each.person_id for each in restarts])
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

    def _see(self, frame: SkeletonFrame, tracker_id: str, restarted: list[str]) -> None:
        track = self._tracks.get(frame.person_id)
        if track is None or frame.person_id in restarted:
            self._tracks[frame.person_id] = _Track(frame, frame, tracker_id)
        else:
            track.see(frame, tracker_id)

    def _names(self, people: list[SkeletonFrame]) -> list[str]:
        """Give everybody the id of whom they are expected to be; newcomers keep the tracker's."""
        known = list(self._tracks)
        names = [''] * len(people)
        cost = np.array([[self._cost(who, each) for who in known] for each in people])
        if cost.size:
            for row, column in zip(*_assignment()(cost), strict=True):
                if cost[row, column] < _FAR_M:
                    names[row] = known[column]
        for row, each in enumerate(people):
            names[row] = names[row] or self._fresh(each.person_id, {*known, *names})
        return names

    def _cost(self, who: str, frame: SkeletonFrame) -> float:
        track = self._tracks[who]
        gap_s = (frame.stamp_ns - track.last.stamp_ns) / NS_PER_S
        apart_m = _apart_m(track.expected(frame.stamp_ns), frame.positions)
        if not apart_m < REACH_M + REACH_M_S * gap_s:  # NaN: no joint in common
            return _FAR_M
        return apart_m + (0.0 if track.tracker_id == frame.person_id else TRUST_M)

    @staticmethod
    def _fresh(wanted: str, taken: set[str]) -> str:
        """Return the id, with a number behind it if somebody else bears it."""
        name, number = wanted, 2
        while name in taken:
            name, number = f'{wanted}#{number}', number + 1
        return name

    def _expected(self, people: list[SkeletonFrame]) -> list['_Known']:
        found = []
        for frame in people:
            track = self._tracks.get(frame.person_id)
            if track is not None:
                expected = track.expected(frame.stamp_ns)
                found.append(_Known(frame, expected, _apart_m(expected, frame.positions)))
        return found

    def _flips(self, known: list['_Known']) -> list[Restart]:
        found = []
        for each in known:
            frame = each.frame
            if not each.apart_m > CLEAR_M:
                continue
            turned = _apart_m(each.expected, frame.positions[self._mirror])
            if turned < CLEARER * each.apart_m:
                message = (
                    f'person {frame.person_id!r}: left and right exchanged places at once, as '
                    'when a tracker mistakes front for back; history and warm start dropped'
                )
                found.append(Restart(frame.person_id, 'flip', message))
        return found


@dataclass(frozen=True)
class _Known:
    """Somebody seen before, where they were expected, and how far from there they are."""

    frame: SkeletonFrame
    expected: Float64[np.ndarray, 'joint xyz=3']
    apart_m: float


def _swaps(known: list[_Known]) -> list[Restart]:
    """Find pairs who stand where the other is expected."""
    found: list[Restart] = []
    for one, other in combinations(known, 2):
        own = one.apart_m + other.apart_m
        if not own > 2 * CLEAR_M:
            continue
        crossed = _apart_m(other.expected, one.frame.positions)
        crossed += _apart_m(one.expected, other.frame.positions)
        if crossed < CLEARER * own:
            ids = [each.frame.person_id for each in (one, other)]
            message = (
                f'{ids[0]!r} and {ids[1]!r} exchanged places at once; '
                'history and warm start dropped'
            )
            found += [Restart(each, 'swap', message) for each in ids]
    return found


_FAR_M = 1e3


def _assignment() -> Callable[..., Any]:
    """Return scipy's, which takes long to load, and which most do not need."""
    from scipy.optimize import linear_sum_assignment

    assign: Callable[..., Any] = linear_sum_assignment
    return assign


def _apart_m(
    expected: Float64[np.ndarray, 'joint xyz=3'], seen: Float64[np.ndarray, 'joint xyz=3']
) -> float:
    """Return the mean distance of the joints that both have; NaN if there are none."""
    gaps = np.sqrt(((expected - seen) ** 2).sum(axis=1))
    both = ~np.isnan(gaps)
    return float(gaps[both].mean()) if both.any() else float('nan')
