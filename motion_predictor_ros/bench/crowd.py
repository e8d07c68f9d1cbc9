# SPDX-License-Identifier: Apache-2.0
"""A message stream with any number of people, from a recording of one.

Recorded motion costs what real motion costs: solver steps, nearest neighbours and the size of
volumes depend on it. Person k is the bag's first person, some frames later and two metres aside;
the recording is played forwards and backwards, so that it never jumps.
"""

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from motion_predictor_ros.conventions import NS_PER_S
from motion_predictor_ros.data.bags import SKELETON_ARRAY, skeleton_messages
from motion_predictor_ros.errors import BagError

_SPACING_M = 2.0
_OFFSET_FRAMES = 11
_MIN_MESSAGES = 50


class Crowd:
    """A recorded person, repeated for several people."""

    def __init__(self, bag: Path, rate_hz: float = 30.0) -> None:
        """Read the longest run of messages with the same first person.

        Args:
            rate_hz: Rate of the stream; the bag's own stamps are not used.

        Raises:
            BagError: The bag cannot be read, or no person is in it for long enough.
        """
        messages = [record.message for record in skeleton_messages(bag, '', SKELETON_ARRAY)]
        occupied = [message for message in messages if len(message.persons)]
        runs = [list(run) for _, run in groupby(occupied, lambda m: m.persons[0].person_id)]
        self._run = max(runs, key=len, default=[])
        if len(self._run) < _MIN_MESSAGES:
            raise BagError(f'{bag}: no person is in {_MIN_MESSAGES} messages in a row')
        self._period_ns = round(NS_PER_S / rate_hz)

    def messages(self, people: int, count: int) -> Iterator[SimpleNamespace]:
        """Yield `count` messages with this number of people."""
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
                persons=[self._person(index, number) for index in range(people)],
            )

    def _person(self, index: int, number: int) -> SimpleNamespace:
        last = len(self._run) - 1
        position = (number + _OFFSET_FRAMES * index) % (2 * last)
        recorded = self._run[min(position, 2 * last - position)].persons[0]
        positions = np.array(recorded.positions, dtype=np.float64).reshape(-1, 3)
        positions[:, 1] += _SPACING_M * index
        return SimpleNamespace(
            person_id=f'person_{index}',
            tracking_state=recorded.tracking_state,
            positions=positions.ravel(),
            confidences=recorded.confidences,
        )
