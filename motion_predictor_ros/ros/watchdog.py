# SPDX-License-Identifier: Apache-2.0
"""Publish once that the input is stale; then be silent, so that planners' own timeouts trip.

When nothing new has been answered for `stale_after_s`, all people of the last answer are published
as STALE, under the stamp of that observation: a fresh stamp on old data would keep a planner
going. Reachable sets are published for a while longer, under that same stamp.
"""

import dataclasses
import math
from collections.abc import Callable

from motion_predictor_ros.prediction.types import Prediction, ScenePrediction
from motion_predictor_ros.skeleton.frame import Validity

CHECK_S = 0.02
"""Period of the check [s]."""

OnStale = Callable[[ScenePrediction, float], None]
"""Takes the last answer, and the time since then [s]."""


class Watchdog:
    """Watches the age of the input; all calls must come from one thread.

    Attributes:
        stale: Whether nothing new has come for too long.
        times: How often the input went stale.
    """

    def __init__(
        self,
        now_s: Callable[[], float],
        stale_after_s: float,
        on_stale: OnStale,
        while_stale: OnStale = lambda scene, silent_s: None,
    ) -> None:
        """Start without input, which is not stale.

        Args:
            now_s: Clock of the ages [s].
            on_stale: Called once when the input goes stale, with all people STALE.
            while_stale: Called then and at each later check, until something new comes.
        """
        self._now_s, self._stale_after_s = now_s, stale_after_s
        self._on_stale, self._while_stale = on_stale, while_stale
        self._scene: ScenePrediction | None = None
        self._came_s = 0.0
        self.stale = False
        self.times = 0

    def feed(self, scene: ScenePrediction, waited_s: float = 0.0) -> None:
        """Note that an observation was answered now, which came `waited_s` ago [s]."""
        self._scene, self._came_s, self.stale = scene, self._now_s() - waited_s, False

    def forget(self) -> None:
        """Start again without input, as when the node is deactivated."""
        self._scene, self.stale = None, False

    def check(self) -> None:
        """Call `on_stale` and `while_stale` if the input is too old."""
        if self._scene is None:
            return
        silent_s = self._now_s() - self._came_s
        if silent_s < 0:  # simulated time went back
            self._came_s = self._now_s()
        elif silent_s > self._stale_after_s:
            scene = _all_stale(self._scene, silent_s)
            if not self.stale:
                self.stale, self.times = True, self.times + 1
                self._on_stale(scene, silent_s)
            self._while_stale(scene, silent_s)


class Growing:
    """A `while_stale` callback at a fixed period, for a bounded time."""

    def __init__(self, grow: OnStale, period_s: float, until_s: float) -> None:
        """Set up.

        Args:
            grow: Called a period after `on_stale`, and each period from then on.
            until_s: Time without input after which it is not called any more [s].
        """
        self._grow, self._period_s, self._until_s = grow, period_s, until_s
        self._last_s = math.inf

    def __call__(self, scene: ScenePrediction, silent_s: float) -> None:
        """Call `grow`, if it is due."""
        if silent_s < self._last_s:  # the input went stale just now
            self._last_s = silent_s
        elif self._last_s + self._period_s <= silent_s <= self._until_s:
            self._last_s = silent_s
            self._grow(scene, silent_s)


def _all_stale(scene: ScenePrediction, silent_s: float) -> ScenePrediction:
    """Return the same people, STALE and without predictions."""
    reason = f'nothing new was observed for {silent_s:.2f} s'
    people = [
        Prediction(person.person_id, person.stamp_ns, Validity.STALE, reason)
        for person in scene.people
    ]
    return dataclasses.replace(scene, people=tuple(people))
