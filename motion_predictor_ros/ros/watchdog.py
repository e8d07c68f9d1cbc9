# SPDX-License-Identifier: Apache-2.0
"""Publish once that the input is stale; then be silent, so that planners' own timeouts trip.

When nothing new has been answered for `stale_after_s`, all people of the last answer are published
as STALE, under the stamp of that observation: a fresh stamp on old data would keep a planner
going. Reachable sets are published for a while longer, under that same stamp.
"""

import dataclasses
from collections.abc import Callable

from motion_predictor_ros.prediction.types import Prediction, ScenePrediction
from motion_predictor_ros.skeleton.frame import Validity

CHECK_S = 0.02
"""Period of the check [s]."""

OnStale = Callable[[ScenePrediction, float], None]
"""Takes the last answer, and the time since then [s]."""


class Watchdog:
    """Watches the age of the input; all calls must come from one thread.

    Args:
        now_s: Clock of the ages [s].
        on_stale: Called once when the input goes stale, with all people STALE.
        while_stale: Called each `period_s` from then on, until something new comes.
        until_s: Time without input after which it is not called any more [s].

    Attributes:
        stale: Whether nothing new has come for too long.
        times: How often the input went stale.
    """

    def __init__(
        self,
        now_s: Callable[[], float],
        stale_after_s: float,
        on_stale: OnStale,
        while_stale: OnStale,
        period_s: float,
        until_s: float,
    ) -> None:
        self._now_s, self._stale_after_s = now_s, stale_after_s
        self._on_stale, self._while_stale = on_stale, while_stale
        self._period_s, self._until_s = period_s, until_s
        self._scene: ScenePrediction | None = None
        self._came_s = self._called_s = 0.0
        self.stale, self.times = False, 0

    def feed(self, scene: ScenePrediction, waited_s: float = 0.0) -> None:
        """Note that an observation was answered now, which came `waited_s` ago [s]."""
        self._scene, self._came_s, self.stale = scene, self._now_s() - waited_s, False

    def check(self) -> None:
        """Call `on_stale` or `while_stale` if the input is too old."""
        if self._scene is None:
            return
        silent_s = self._now_s() - self._came_s
        if silent_s < 0:  # simulated time went back
            self._came_s, self._called_s = self._now_s(), 0.0
        elif silent_s <= self._stale_after_s:
            return
        elif not self.stale:
            self.stale, self.times, self._called_s = True, self.times + 1, silent_s
            self._on_stale(_all_stale(self._scene, silent_s), silent_s)
        elif self._called_s + self._period_s <= silent_s <= self._until_s:
            self._called_s = silent_s
            self._while_stale(_all_stale(self._scene, silent_s), silent_s)


def _all_stale(scene: ScenePrediction, silent_s: float) -> ScenePrediction:
    """Return the same people, STALE and without predictions."""
    reason = f'nothing new was observed for {silent_s:.2f} s'
    people = [
        Prediction(person.person_id, person.stamp_ns, Validity.STALE, reason)
        for person in scene.people
    ]
    return dataclasses.replace(scene, people=tuple(people))
