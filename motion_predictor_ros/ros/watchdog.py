# SPDX-License-Identifier: Apache-2.0
"""Say that the node has gone blind, once; then be silent, so that planners' own timeouts trip.

An answer is good for as long as its observation is. When nothing new has been answered for
`stale_after_s`, everybody in the last answer is told to be STALE, under the stamp of that
observation: a fresh stamp on old data would keep a planner going. What people may have reached
meanwhile is told for a while longer, under that same stamp.
"""

import dataclasses
import math
from collections.abc import Callable

from motion_predictor_ros.prediction.types import Prediction, ScenePrediction
from motion_predictor_ros.skeleton.frame import Validity

CHECK_S = 0.02
"""How often the age of the input is looked at [s]."""

OnStale = Callable[[ScenePrediction, float], None]
"""Takes the last answer and for how long nothing came [s]."""


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
        """Begin without input, of which nothing is said.

        Args:
            now_s: The clock that ages are counted on [s].
            on_stale: Called once when the input goes stale, with everybody STALE.
            while_stale: Called at that and at each later check until something new comes, with
                everybody STALE, such as for the space that people may have reached meanwhile.
        """
        self._now_s, self._stale_after_s = now_s, stale_after_s
        self._on_stale, self._while_stale = on_stale, while_stale
        self._scene: ScenePrediction | None = None
        self._came_s = 0.0
        self.stale = False
        self.times = 0

    def feed(self, scene: ScenePrediction, waited_s: float = 0.0) -> None:
        """Note that an observation was answered just now, which came `waited_s` ago [s]."""
        self._scene, self._came_s, self.stale = scene, self._now_s() - waited_s, False

    def forget(self) -> None:
        """Begin anew, as when the node stops listening on purpose."""
        self._scene, self.stale = None, False

    def check(self) -> None:
        """Look at the age of the input, and say so if it has become too old."""
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
    """What is done `while_stale`: evenly, for a bounded time, then nothing."""

    def __init__(self, grow: OnStale, period_s: float, until_s: float) -> None:
        """Begin before the input is stale.

        Args:
            grow: Not called when the input goes stale, which `on_stale` is, but from then on.
            until_s: How long nothing came when it is called for the last time [s].
        """
        self._grow, self._period_s, self._until_s = grow, period_s, until_s
        self._last_s = math.inf

    def __call__(self, scene: ScenePrediction, silent_s: float) -> None:
        """Grow, if it is time to."""
        if silent_s < self._last_s:  # the input went stale just now
            self._last_s = silent_s
        elif self._last_s + self._period_s <= silent_s <= self._until_s:
            self._last_s = silent_s
            self._grow(scene, silent_s)


def _all_stale(scene: ScenePrediction, silent_s: float) -> ScenePrediction:
    """Return the same people without anything predicted of them."""
    reason = f'nothing new was observed for {silent_s:.2f} s'
    people = [
        Prediction(each.person_id, each.stamp_ns, Validity.STALE, reason) for each in scene.people
    ]
    return dataclasses.replace(scene, people=tuple(people))
