# SPDX-License-Identifier: Apache-2.0
"""Load shedding: what is left out under overload, in a fixed order, and when it comes back.

The live node calls `Degradation.answered` after each scene and sets `Pipeline.level`. The pipeline
itself decides nothing: a replay computes everything, or what a given level leaves. No clock is
read here.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from motion_predictor_ros.config import DegradationConfig

WINDOW_S = 3.0
"""Time over which the load is measured [s]: a disturbance of a second is no overload."""

_SETTLING_S, _LATE_ANSWERS = 1.0, 2
_MAX_HOLD_S = 300.0
_FEWER, _COARSER = 0.25, 2.0
_RATES_HZ = (15.0, 8.0)
_ANSWERS_UNTIL_STALE = 2.0


@dataclass(frozen=True)
class Level:
    """What is computed.

    Attributes:
        name: What is left out in addition to the level before.
        futures: Share of the futures that are drawn.
        coarseness: Factor on the edges of voxels.
        volumes: Whether keep-out volumes are computed.
        rate_hz: Maximum rate of scenes, by stamps; None: as configured.
    """

    name: str
    futures: float = 1.0
    coarseness: float = 1.0
    volumes: bool = True
    rate_hz: float | None = None


FULL = Level('nothing')


def degradation_levels(density: bool, volume: bool, stale_after_s: float) -> tuple[Level, ...]:
    """List the levels in order: futures, resolution of volumes, volumes, rate.

    Args:
        density: Whether futures are enabled.
        volume: Whether volumes are enabled.
        stale_after_s: Age at which people become STALE; rates that would let them are left out.
    """
    levels = [FULL]
    futures, coarseness, volumes = 1.0, 1.0, True
    if density:
        levels += [Level('fewer futures', _FEWER), Level('no futures', futures := 0.0)]
    if volume:
        levels.append(Level('coarser volumes', futures, coarseness := _COARSER))
        levels.append(Level('no volumes', futures, coarseness, volumes := False))
    for rate_hz in _RATES_HZ:
        if rate_hz * stale_after_s >= _ANSWERS_UNTIL_STALE:
            name = f'at most {rate_hz:g} answers a second'
            levels.append(Level(name, futures, coarseness, volumes, rate_hz))
    return tuple(levels)


@dataclass(frozen=True)
class Change:
    """A change of level.

    Attributes:
        worse: Whether more is left out than before.
    """

    level: Level
    worse: bool
    reason: str

    @property
    def message(self) -> str:
        """The change in words, for the log."""
        if self.worse:
            return f'too slow: {self.level.name}; {self.reason}'
        return f'fast enough: {self.level.name} given up; {self.reason}'


class Degradation:
    """Chooses the level from the times of the last 3 s of scenes; at most one change per second.

        load > busy, or two scenes took more than late_s                    one level down
        load < calm for hold_s, and no scene was late                       one level up

    `hold_s` doubles when a level up must be taken back within it.

    Attributes:
        number: Index of the level; 0: nothing is left out.
        reason: Why; empty at 0.
        load: Share of the last 3 s spent on scenes.
        changes: Number of changes of level so far.
        changed_ns: Stamp of the scene after which the level changed last [ns].
    """

    def __init__(self, levels: tuple[Level, ...], config: DegradationConfig) -> None:
        self._levels, self._config = levels, config
        self.number, self.reason, self.load = 0, '', 0.0
        self.changes, self.changed_ns = 0, 0
        self._hold_s, self._better_s = config.hold_s, float('-inf')
        self._answers: deque[tuple[float, Mapping[str, float]]] = deque()
        self._since_s: float | None = None
        self._calm_since_s: float | None = None

    @property
    def level(self) -> Level:
        """The present level."""
        return self._levels[self.number]

    @property
    def warning_text(self) -> str:
        """What is left out and why; empty if nothing is."""
        return Change(self.level, True, self.reason).message if self.number else ''

    def facts(self) -> dict[str, str]:
        """Report the level and the load, for diagnostics."""
        facts = {
            'degradation': self.level.name,
            'degradation_level': f'{self.number} of {len(self._levels) - 1}',
            'degradation_changes': str(self.changes),
            'busy': f'{self.load:.2f}',
        }
        return facts | ({'degradation_after_ns': str(self.changed_ns)} if self.changes else {})

    def answered(
        self, done_s: float, stages_s: Mapping[str, float], stamp_ns: int = 0
    ) -> Change | None:
        """Add the times of one scene; return the change of level that follows, if any.

        Args:
            done_s: When it was published, on any clock that does not go back [s].
            stages_s: Time of each stage; together all of the work [s].
            stamp_ns: Of the observation.
        """
        if not self._config.enabled:
            return None
        if not self._answers or done_s - self._answers[-1][0] > WINDOW_S:
            self._restart(done_s - sum(stages_s.values()))
        self._answers.append((done_s, stages_s))
        while self._answers[0][0] < done_s - WINDOW_S:
            self._answers.popleft()
        self.load = self._load(done_s)
        assert self._since_s is not None
        late = sum(sum(took.values()) > self._config.late_s for _, took in self._answers)
        since_s = done_s - self._since_s
        full = since_s >= WINDOW_S
        overdue = late >= _LATE_ANSWERS and since_s >= _SETTLING_S
        if overdue or (full and self.load > self._config.busy):
            change = self._worse(done_s, late)
        else:
            calm = full and not late and self.load < self._config.calm
            change = self._better(done_s, calm)
        if change is not None:
            self.changes, self.changed_ns = self.changes + 1, stamp_ns
            self._restart(done_s)
        return change

    def _restart(self, now_s: float) -> None:
        """Ignore earlier scenes: their level was another, or a pause has followed."""
        self._answers.clear()
        self._since_s, self._calm_since_s = now_s, None

    def _load(self, now_s: float) -> float:
        begin_s = now_s - WINDOW_S
        spent = [min(sum(took.values()), done - begin_s) for done, took in self._recent(begin_s)]
        return sum(spent) / WINDOW_S

    def _recent(self, begin_s: float) -> list[tuple[float, Mapping[str, float]]]:
        return [(done_s, took) for done_s, took in self._answers if done_s > begin_s]

    def _worse(self, now_s: float, late: int) -> Change | None:
        self._calm_since_s = None
        if self.number + 1 == len(self._levels):
            return None
        too_soon = now_s - self._better_s < self._hold_s + WINDOW_S
        self._hold_s = min(2 * self._hold_s, _MAX_HOLD_S) if too_soon else self._config.hold_s
        self.number += 1
        if late >= _LATE_ANSWERS:
            cause = f'{late} of the last {len(self._answers)} scenes took more than '
            cause += f'{self._config.late_s:g} s'
        else:
            cause = f'busy {100 * self.load:.0f} % of the last {WINDOW_S:g} s'
        self.reason = f'{cause} ({self._shares(now_s)})'
        return Change(self.level, True, self.reason)

    def _better(self, now_s: float, calm: bool) -> Change | None:
        if not calm or not self.number:
            self._calm_since_s = None
            return None
        if self._calm_since_s is None:
            self._calm_since_s = now_s
        if now_s - self._calm_since_s < self._hold_s:
            return None
        text = f'busy {100 * self.load:.0f} %, not more for {self._hold_s:g} s'
        self.number -= 1
        self._better_s = now_s
        self.reason = self.reason if self.number else ''
        return Change(self.level, False, text)

    def _shares(self, now_s: float) -> str:
        """Format the shares of the stages in the last 3 s, the largest first."""
        spent: dict[str, float] = {}
        for _, took in self._recent(now_s - WINDOW_S):
            for name, time_s in took.items():
                spent[name] = spent.get(name, 0.0) + time_s
        order = sorted(spent, key=lambda name: -spent[name])
        whole = sum(spent.values()) or 1.0
        return ', '.join(f'{name} {100 * spent[name] / whole:.0f} %' for name in order)
