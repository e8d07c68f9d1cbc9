# SPDX-License-Identifier: Apache-2.0
"""The people in the room: observed, held, or present at an unknown place.

Stage: skeleton. An empty scene lets a robot drive, so it must rest on a source that lists no
person, not on people who were refused.

    the source lists no person, and none was there within `hold_s`  -> empty scene
    a person is refused, or missing from a message                  -> held: STALE, for `hold_s`
    refused, and never accepted or not within `hold_s`              -> unplaced: outputs withheld
    observed before the stamps jumped ahead, and missing now        -> unplaced
    neither observed nor refused for longer than `hold_s`           -> gone

All people of a message that is refused as a whole are refused. Refused people without an id may be
among those observed later, so they count while no person is observed or held.

Times are stamps; no clock is read, so live and replay agree.
"""

import dataclasses
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from motion_predictor_ros.conventions import NS_PER_S
from motion_predictor_ros.skeleton.frame import Observation, Rejection, SkeletonFrame

REFUSED_PEOPLE = ('unknown', 'ignored')

_JUMPS = 16
"""Number of jumps of stamps that are remembered."""


@dataclass(frozen=True)
class HeldPerson:
    """A person who is there, but was not observed now.

    Attributes:
        frame: The last accepted observation.
        reason: Why there is none now, and how old the last one is.
        is_refused: Whether the source lists the person; else it leaves them out.
    """

    frame: SkeletonFrame
    reason: str
    is_refused: bool


@dataclass(frozen=True)
class Presence:
    """The people of one observation.

    Attributes:
        observed: Observed now.
        held: STALE, with a growing reachable set.
        unplaced: The refusals of people whose place is unknown.
    """

    observed: tuple[SkeletonFrame, ...] = ()
    held: tuple[HeldPerson, ...] = ()
    unplaced: tuple[Rejection, ...] = ()

    @property
    def withheld(self) -> str:
        """Why nothing may be published to planners; empty if it may."""
        if not self.unplaced:
            return ''
        reasons = ', '.join(sorted({rejection.reason for rejection in self.unplaced}))
        return (
            f'{len(self.unplaced)} listed by the source, but refused ({reasons}): present at an '
            'unknown place; see parameter "refused_people"'
        )


class PresenceTracker:
    """Remembers where people were last observed, for `hold_s`.

    Args:
        refused_people: One of `REFUSED_PEOPLE`: whether a refused person is there.
        max_lag_s: A person whose own stamp is older was not observed now [s].
    """

    def __init__(self, hold_s: float, refused_people: str, max_lag_s: float) -> None:
        self._hold_ns, self._max_lag_ns = round(hold_s * NS_PER_S), round(max_lag_s * NS_PER_S)
        self._count_refused = refused_people == 'unknown'
        self.reset()

    def reset(self) -> None:
        """Forget all people."""
        self._last: dict[str, SkeletonFrame] = {}
        self._before_jump: dict[str, SkeletonFrame] = {}
        self._jump_ns, self._now_ns = 0, 0
        self._jumped_from_ns: deque[int] = deque(maxlen=_JUMPS)
        self._refused: dict[str, tuple[int, Rejection]] = {}
        self._unread: Rejection | None = None

    def refuse(self, observation: Observation) -> None:
        """Note the rejected people of an observation: all of them, if it is refused as a whole."""
        if self._count_refused:
            for rejection in observation.rejected:
                self._refused[rejection.person_id] = observation.stamp_ns, rejection

    def refuse_unread(self, reason: str) -> None:
        """Note a message that could not be read: it may have listed people.

        It counts for `hold_s` from the next observation, as it has no stamp.
        """
        if self._count_refused:
            self._unread = Rejection('', reason, 'a message that could not be read')

    def move_to(self, stamp_ns: int) -> None:
        """Take the last observations as made at this time, too: the stamps jumped back.

        They may jump on again: a single message can have a wrong stamp.
        """
        self._before_jump, self._jump_ns = self._last, stamp_ns
        self._move_refused(stamp_ns)
        self._last = {
            person_id: dataclasses.replace(frame, stamp_ns=stamp_ns)
            for person_id, frame in self._last.items()
        }

    def update(self, observation: Observation) -> Presence:
        """Return who is observed, held or unplaced now."""
        now_ns = observation.stamp_ns
        self._restore(now_ns)
        self._note_jump_ahead(now_ns)
        self._last |= {frame.person_id: frame for frame in observation.people}
        observed = tuple(
            frame for frame in observation.people if now_ns - frame.stamp_ns <= self._max_lag_ns
        )
        late = [
            Rejection(frame.person_id, 'old_track', 'the tracker lags behind')
            for frame in observation.people
            if now_ns - frame.stamp_ns > self._max_lag_ns
        ]
        refused = [*late, *(observation.rejected if self._count_refused else ())]
        there = {frame.person_id for frame in observed}
        reasons = {rejection.person_id: rejection.message for rejection in refused}
        held = [
            HeldPerson(frame, _reason(frame, now_ns, reasons.get(person_id)), person_id in reasons)
            for person_id, frame in self._last.items()
            if person_id not in there and now_ns - frame.stamp_ns <= self._hold_ns
        ]
        kept = there | {person.frame.person_id for person in held}
        self._last = {key: frame for key, frame in self._last.items() if key in kept}
        refused += self._refused_before(observation, there, kept)
        return Presence(observed, tuple(held), _unplaced(refused, there, held))

    def _note_jump_ahead(self, now_ns: int) -> None:
        """Note the people before a gap longer than the hold: it does not show that they left."""
        if self._now_ns and now_ns - self._now_ns > self._hold_ns:
            gap_s = (now_ns - self._now_ns) / NS_PER_S
            text = f'not observed since the stamps went on by {gap_s:.2f} s at once'
            gaps = {person_id: Rejection(person_id, 'old_track', text) for person_id in self._last}
            self._refused |= {person_id: (now_ns, gap) for person_id, gap in gaps.items()}
            self._move_refused(now_ns)
        self._now_ns = now_ns

    def _move_refused(self, stamp_ns: int) -> None:
        """Take people as refused at this time: the stamps jumped to it.

        Stamps that jumped may come back to a little before the time they left: that one counts.
        """
        self._jumped_from_ns.append(self._now_ns)
        left_ns = [ns for ns in self._jumped_from_ns if 0 <= ns - stamp_ns <= self._hold_ns]
        refused_ns = max([stamp_ns, *left_ns])
        self._now_ns = stamp_ns
        self._refused = {
            person_id: (refused_ns, rejection)
            for person_id, (_, rejection) in self._refused.items()
        }

    def _refused_before(
        self, observation: Observation, observed: set[str], placed: set[str]
    ) -> list[Rejection]:
        """Return who was refused within the hold before and is not in this observation.

        Args:
            placed: People who are observed or held.
        """
        now_ns, before = observation.stamp_ns, dict(self._refused)
        if self._unread is not None:
            before[''] = now_ns, self._unread
            self._unread = None
        self._refused = {
            person_id: (stamp_ns, rejection)
            for person_id, (stamp_ns, rejection) in before.items()
            if abs(now_ns - stamp_ns) <= self._hold_ns and person_id not in observed
        }
        now = {rejection.person_id for rejection in observation.rejected}
        missing = self._refused.keys() - now - placed - ({''} if placed else set())
        earlier = [self._refused[person_id][1] for person_id in sorted(missing)]
        self.refuse(observation)
        return earlier

    def _restore(self, now_ns: int) -> None:
        """Bring back who was observed shortly before now, by the time before a jump."""
        if 0 <= now_ns - self._jump_ns <= self._hold_ns:
            return  # still the time after the jump
        for person_id, frame in self._before_jump.items():
            if 0 <= now_ns - frame.stamp_ns <= self._hold_ns:
                self._last[person_id] = frame
        self._before_jump = {}


def _unplaced(
    refused: Iterable[Rejection], observed: set[str], held: list[HeldPerson]
) -> tuple[Rejection, ...]:
    """Return the refusals of people who are neither observed nor held.

    A person without an id may be one who is held because they are missing, once each.
    """
    refused = list(refused)
    listed = {rejection.person_id for rejection in refused}
    held_ids = {person.frame.person_id for person in held}
    missing = len(held_ids - listed)
    unplaced = []
    for rejection in refused:
        if not rejection.person_id and missing > 0:
            missing -= 1
        elif rejection.person_id in observed or rejection.person_id not in held_ids:
            unplaced.append(rejection)  # in `observed`: a second person with the same id
    return tuple(unplaced)


def _reason(frame: SkeletonFrame, now_ns: int, refusal: str | None) -> str:
    age_s = (now_ns - frame.stamp_ns) / NS_PER_S
    return f'last observed {age_s:.2f} s ago; now {refusal or "missing from the message"}'
