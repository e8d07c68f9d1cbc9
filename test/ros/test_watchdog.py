# SPDX-License-Identifier: Apache-2.0
"""The watchdog on a clock of the test's: STALE once, under the old stamp, then silence."""

from ros.scenes import STAMP_NS, scene, seen

from motion_predictor_ros.prediction.types import ScenePrediction
from motion_predictor_ros.ros.watchdog import Watchdog
from motion_predictor_ros.skeleton.frame import Validity


class Watched:
    """A watchdog, its clock, and what it said."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.said: list[ScenePrediction] = []
        self.still: list[float] = []
        self.dog = Watchdog(
            lambda: self.now_s,
            0.3,
            lambda stale, silent_s: self.said.append(stale),
            self.grow,
            period_s=0.12,
            until_s=1.32,
        )

    def grow(self, stale: ScenePrediction, silent_s: float) -> None:
        assert {each.validity for each in stale.people} <= {Validity.STALE}
        self.still.append(silent_s)

    def wait(self, seconds: float) -> None:
        for _ in range(round(seconds / 0.05)):
            self.now_s += 0.05
            self.dog.check()


def test_stale_is_said_once_with_the_old_stamp_and_nothing_predicted() -> None:
    watched = Watched()
    watched.dog.feed(scene(seen('anna'), seen('ben')))
    watched.wait(0.25)
    assert not watched.said and not watched.dog.stale
    watched.wait(2.0)
    (stale,) = watched.said
    assert stale.stamp_ns == STAMP_NS and watched.dog.stale and watched.dog.times == 1
    assert [each.person_id for each in stale.people] == ['anna', 'ben']
    for person in stale.people:
        assert person.validity == Validity.STALE and 'nothing new' in person.reason
        assert person.positions is None and person.window is None


def test_input_that_keeps_coming_is_never_stale_and_new_input_ends_it() -> None:
    watched = Watched()
    for _ in range(10):
        watched.dog.feed(scene(seen('anna')))
        watched.wait(0.2)
    assert not watched.said
    watched.wait(0.5)
    watched.dog.feed(scene(seen('anna')))
    assert not watched.dog.stale
    watched.wait(0.5)
    assert len(watched.said) == watched.dog.times == 2


def test_what_waited_before_it_was_answered_counts() -> None:
    watched = Watched()
    watched.dog.feed(scene(seen('anna')), waited_s=0.2)
    watched.wait(0.15)
    assert len(watched.said) == 1


def test_volumes_grow_as_long_as_the_input_is_stale() -> None:
    watched = Watched()
    watched.dog.feed(scene(seen('anna')))
    watched.wait(0.5)
    assert watched.still and watched.still == sorted(watched.still) and watched.still[0] > 0.3
    count = len(watched.still)
    watched.dog.feed(scene(seen('anna')))
    watched.wait(0.2)
    assert len(watched.still) == count


def test_growing_is_even_and_ends_and_begins_again_with_the_next_silence() -> None:
    watched = Watched()
    for _ in range(2):
        watched.dog.feed(scene(seen('anna')))
        watched.wait(3.0)
        grown = [round(silent_s, 2) for silent_s in watched.still]
        assert grown == [0.5, 0.65, 0.8, 0.95, 1.1, 1.25]
        watched.still.clear()


def test_no_input_at_all_and_time_that_goes_back_say_nothing() -> None:
    watched = Watched()
    watched.wait(1.0)
    watched.dog.feed(scene(seen('anna')))
    watched.now_s = 0.0
    watched.wait(0.25)
    assert not watched.said
