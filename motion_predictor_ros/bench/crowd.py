# SPDX-License-Identifier: Apache-2.0
"""A stream of messages with as many people as wanted, out of a bag with one.

People who move as they were recorded cost what real ones cost: solver steps, nearest neighbours
and the size of volumes depend on it. Person k of a crowd is the bag's first person, some frames
later and two metres beside; the recording is played forth and back, so that nobody ever jumps.
"""

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from motion_predictor_ros.conventions import NS_PER_S
from motion_predictor_ros.data.bags import SKELETON_ARRAY, skeleton_messages
from motion_predictor_ros.errors import BagError

_APART_M = 2.0
_APART_FRAMES = 11
_FEWEST = 50


class Crowd:
    """Somebody's recorded way, walked by several people."""

    def __init__(self, bag: Path, rate_hz: float = 30.0) -> None:
        """Read the longest stretch in which the bag's first person is the same.

        Args:
            rate_hz: Of the stream; the bag's own stamps are not used.

        Raises:
            BagError: The bag cannot be read, or shows nobody for long enough.
        """
        messages = [each.message for each in skeleton_messages(bag, '', SKELETON_ARRAY)]
        seen = [each for each in messages if len(each.persons)]
        runs = [list(run) for _, run in groupby(seen, lambda each: each.persons[0].person_id)]
        self._run = max(runs, key=len, default=[])
        if len(self._run) < _FEWEST:
            raise BagError(f'{bag} shows nobody for {_FEWEST} messages in a row')
        self._period_ns = round(NS_PER_S / rate_hz)

    def messages(self, people: int, count: int) -> Iterator[SimpleNamespace]:
        """Yield `count` messages of so many people."""
        first = self._run[0]
        for number in range(count):
            seconds, rest_ns = divmod(NS_PER_S + number * self._period_ns, NS_PER_S)
            yield SimpleNamespace(
                header=SimpleNamespace(
                    stamp=SimpleNamespace(sec=seconds, nanosec=rest_ns),
                    frame_id=first.header.frame_id,
                ),
                layout=first.layout,
                joint_names=first.joint_names,
                persons=[self._person(who, number) for who in range(people)],
            )

    def _person(self, who: int, number: int) -> SimpleNamespace:
        last = len(self._run) - 1
        place = (number + _APART_FRAMES * who) % (2 * last)
        recorded = self._run[min(place, 2 * last - place)].persons[0]
        places = np.array(recorded.positions, dtype=np.float64).reshape(-1, 3)
        places[:, 1] += _APART_M * who
        return SimpleNamespace(
            person_id=f'person_{who}',
            tracking_state=recorded.tracking_state,
            positions=places.ravel(),
            confidences=recorded.confidences,
        )
