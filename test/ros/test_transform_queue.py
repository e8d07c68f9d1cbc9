# SPDX-License-Identifier: Apache-2.0
"""Observations wait for their transforms in a queue of their own, again and again."""

import foreign_messages as foreign
import numpy as np
import pytest

from motion_predictor_ros.ros.transforms import CHECK_S, LiveTransforms, TransformQueue
from motion_predictor_ros.skeleton.transforms import Rigid, TransformTree

MS = 1_000_000
WAIT_S = 0.15


class Transforms(LiveTransforms):
    """A buffer like tf2's, but stricter: old data stay until `clear`, and bar earlier ones."""

    def __init__(self) -> None:
        self.tree, self.newest_ns, self.cleared = TransformTree(), 0, 0

    def add(self, stamp_ns: int) -> None:
        if stamp_ns > self.newest_ns:
            self.newest_ns = stamp_ns
            moved = foreign.transform(stamp_ns, 'map', 'camera', np.zeros(3))
            self.tree.add(foreign.make('tf2_msgs/TFMessage', transforms=[moved]))

    def lookup(self, target: str, source: str, stamp_ns: int) -> Rigid:
        return self.tree.lookup(target, source, stamp_ns)

    def clear(self) -> None:
        self.tree.clear()
        self.newest_ns, self.cleared = 0, self.cleared + 1

    def close(self) -> None:
        pass


class Robot:
    """A camera at 30 Hz, TF at a rate and a delay, and a clock that jumps from event to event.

    Attributes:
        answered: Which observations were released with a known transform.
        waited_s: How long each of all waited.
    """

    def __init__(self, tf_hz: float = 20.0, delay_s: float = 0.02) -> None:
        self.now_s, self._tf_s, self._delay_s = 0.0, 1 / tf_hz, delay_s
        self.transforms = Transforms()
        self.answered: dict[int, bool] = {}
        self.waited_s: list[float] = []
        self.queue: TransformQueue[tuple[int, float]] = TransformQueue(
            self.transforms,
            self._release,
            WAIT_S,
            50,
            lambda: self.now_s,
        )

    def run(
        self, until_s: float, tf_pause: tuple[float, float] = (0.0, 0.0), shift_s: float = 0.0
    ) -> None:
        """Go on; TF with a stamp in the pause is never published. Stamps are shifted."""
        begin_s = self.now_s
        events: list[tuple[float, str, float]] = []
        for tick in np.arange(0.0, until_s - begin_s, 1 / 30):
            events.append((begin_s + tick + 0.03, 'camera', begin_s + tick))
        for tick in np.arange(0.0, until_s - begin_s, self._tf_s):
            stamp_s = begin_s + tick
            if not tf_pause[0] <= stamp_s < tf_pause[1]:
                events.append((stamp_s + self._delay_s, 'tf', stamp_s))
        for tick in np.arange(0.0, until_s - begin_s, CHECK_S):
            events.append((begin_s + tick, 'check', 0.0))
        for at_s, kind, stamp_s in sorted(events):
            self.now_s = float(at_s)
            stamp_ns = round((10.0 + stamp_s + shift_s) * 1e9)
            if kind == 'tf':
                self.transforms.add(stamp_ns)
            elif kind == 'camera':
                self.queue.put((stamp_ns, at_s), ('map', 'camera', stamp_ns))
            self.queue.flush()

    def _release(self, item: tuple[int, float]) -> None:
        stamp_ns, put_s = item
        self.answered[stamp_ns] = self.transforms.is_known(('map', 'camera', stamp_ns))
        self.waited_s.append(self.now_s - put_s)

    def share(self, from_s: float, to_s: float) -> float:
        """Share of observations in this time that were answered."""
        known = [
            known
            for stamp_ns, known in self.answered.items()
            if from_s <= stamp_ns / 1e9 - 10.0 < to_s
        ]
        return float(np.mean(known))


def test_a_pause_of_transforms_costs_the_pause_and_nothing_after_it() -> None:
    robot = Robot()
    robot.run(10.0, tf_pause=(3.0, 3.6))
    assert robot.share(0.1, 2.9) == 1.0
    assert robot.share(3.1, 3.4) == 0.0  # the control: nothing can be known
    assert robot.share(3.65, 9.7) == 1.0


def test_transforms_that_begin_late_are_used_at_once() -> None:
    robot = Robot()
    robot.run(6.0, tf_pause=(0.0, 2.0))
    assert robot.share(0.0, 1.8) == 0.0 and robot.share(2.05, 5.7) == 1.0


@pytest.mark.parametrize(('delay_s', 'share'), [(0.045, 1.0), (0.12, 1.0), (0.25, 0.0)])
def test_an_observation_waits_up_to_its_time_and_no_longer(delay_s: float, share: float) -> None:
    robot = Robot(tf_hz=50.0, delay_s=delay_s)
    robot.run(4.0)
    assert robot.share(0.5, 3.5) == share
    assert max(robot.waited_s) <= WAIT_S + 2 * CHECK_S


@pytest.mark.parametrize(
    ('back_s', 'clears', 'from_s'), [(0.9, 0, 4.1), (1.1, 1, 4.1), (4.0, 1, 0.2)]
)
def test_a_loop_of_the_bag_is_not_blind(back_s: float, clears: int, from_s: float) -> None:
    """Observations that come out of order by less than a second are no loop."""
    robot = Robot()
    robot.run(4.0)
    robot.answered.clear()
    robot.run(8.0, shift_s=-back_s)  # the same stamps again
    assert robot.transforms.cleared == clears
    assert robot.share(from_s, 7.7 - back_s) == 1.0


def test_what_needs_no_transform_keeps_its_place_in_the_order() -> None:
    robot = Robot()
    released: list[int] = []
    queue: TransformQueue[int] = TransformQueue(
        robot.transforms,
        released.append,
        WAIT_S,
        50,
        lambda: robot.now_s,
    )
    queue.put(1, ('map', 'camera', 100 * MS))
    queue.put(2, None)
    assert released == [] and len(queue) == 2
    robot.now_s = WAIT_S
    queue.flush()
    assert released == [1, 2]


def test_a_full_queue_releases_the_oldest() -> None:
    robot = Robot()
    released: list[int] = []
    queue: TransformQueue[int] = TransformQueue(
        robot.transforms,
        released.append,
        WAIT_S,
        3,
        lambda: robot.now_s,
    )
    for number in range(5):
        queue.put(number, ('map', 'camera', (100 + number) * MS))
    assert released == [0, 1]


def test_the_stand_in_is_stricter_than_tf2_and_needs_to_be_cleared() -> None:
    buffer = Transforms()
    buffer.add(10 * 10**9)
    buffer.add(9 * 10**9)
    assert not buffer.is_known(('map', 'camera', 9 * 10**9))
    buffer.clear()
    buffer.add(9 * 10**9)
    assert buffer.is_known(('map', 'camera', 9 * 10**9))
