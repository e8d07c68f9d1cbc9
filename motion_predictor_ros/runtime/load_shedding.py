# SPDX-License-Identifier: Apache-2.0
"""What is given up where the machine is too slow, in a stated order, and when it is taken back.

Beside the line: the live node decides with `Degradation`, from what its answers took and when they
were done, and sets `Pipeline.level`; the pipeline itself decides nothing, so that a replay answers
in full, or at whatever level it is given. Here no clock is read.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from motion_predictor_ros.config import DegradationConfig

WINDOW_S = 1.0
"""The time over which it is judged whether an answer keeps the node busy [s]."""

_LATE_WINDOW_S, _LATE_ANSWERS = 3.0, 2
_MOST_HOLD_S = 60.0
_FEWER, _COARSER = 0.25, 2.0
_RATES_HZ = (15.0, 8.0)
_ANSWERS_UNTIL_STALE = 2.0


@dataclass(frozen=True)
class Level:
    """How much is done.

    Attributes:
        name: What was given up last.
        futures: Share of the futures that are drawn; 0: none.
        coarseness: Factor on the edges of voxels.
        volumes: Whether the space to keep free is worked out at all.
        rate_hz: At most so many answers a second of the stamps; None: as configured.
    """

    name: str
    futures: float = 1.0
    coarseness: float = 1.0
    volumes: bool = True
    rate_hz: float | None = None


FULL = Level('nothing')


def degradation_levels(density: bool, volume: bool, stale_after_s: float) -> tuple[Level, ...]:
    """List the levels in their order: futures, then resolution of volumes, then rate.

    Args:
        density: Whether there are futures to give up.
        volume: Whether there are volumes to give up.
        stale_after_s: A rate at which everybody would be STALE between two answers is no help.
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
    """Another level, and why.

    Attributes:
        worse: Whether more is given up than before.
    """

    level: Level
    worse: bool
    reason: str


class Degradation:
    """Decides how much is given up; the same answers give the same decisions.

    One level a second at most. Worse when the answers kept the node busy for more than `busy` of
    the last second, or two of the last three seconds were late; better when they have kept it busy
    for less than `calm` for `hold_s` on end. Who was too hasty in this waits twice as long next.

    Attributes:
        number: Of the level that is taken now; 0 is everything done.
        reason: Why; empty at 0.
        load: Share of the last second that went into answers.
    """

    def __init__(self, levels: tuple[Level, ...], config: DegradationConfig) -> None:
        """Begin with everything done.

        Args:
            levels: In the order in which they are taken.
        """
        self._levels, self._config = levels, config
        self.number, self.reason, self.load = 0, '', 0.0
        self._hold_s, self._better_s = config.hold_s, float('-inf')
        self._answers: deque[tuple[float, Mapping[str, float]]] = deque()
        self._since_s: float | None = None
        self._calm_since_s: float | None = None

    @property
    def level(self) -> Level:
        """What is given up now."""
        return self._levels[self.number]

    def answered(self, done_s: float, stages_s: Mapping[str, float]) -> Change | None:
        """Note one answer; return the change of level that follows from it, if any.

        Args:
            done_s: When it was done, on any clock that does not go back [s].
            stages_s: What each stage took, the stages together being all of the work [s].
        """
        if not self._config.enabled:
            return None
        if not self._answers or done_s - self._answers[-1][0] > WINDOW_S:
            self._begin(done_s - sum(stages_s.values()))
        self._answers.append((done_s, stages_s))
        while self._answers[0][0] < done_s - _LATE_WINDOW_S:
            self._answers.popleft()
        self.load = self._load(done_s)
        assert self._since_s is not None
        late = sum(sum(took.values()) > self._config.late_s for _, took in self._answers)
        full = done_s - self._since_s >= WINDOW_S
        if full and (late >= _LATE_ANSWERS or self.load > self._config.busy):
            return self._worse(done_s, late)
        return self._better(done_s, calm=full and not late and self.load < self._config.calm)

    def _begin(self, now_s: float) -> None:
        """Judge only what comes from now on."""
        self._answers.clear()
        self._since_s, self._calm_since_s = now_s, None

    def _load(self, now_s: float) -> float:
        begin_s = now_s - WINDOW_S
        spent = [min(sum(took.values()), done - begin_s) for done, took in self._recent(begin_s)]
        return sum(spent) / WINDOW_S

    def _recent(self, begin_s: float) -> list[tuple[float, Mapping[str, float]]]:
        return [each for each in self._answers if each[0] > begin_s]

    def _worse(self, now_s: float, late: int) -> Change | None:
        self._calm_since_s = None
        if self.number + 1 == len(self._levels):
            return None
        hasty = now_s - self._better_s < self._hold_s
        self._hold_s = min(2 * self._hold_s, _MOST_HOLD_S) if hasty else self._config.hold_s
        self.number += 1
        if late >= _LATE_ANSWERS:
            said = f'{late} of the last {len(self._answers)} answers took more than '
            said += f'{self._config.late_s:g} s'
        else:
            said = f'busy {100 * self.load:.0f} % of the last second'
        self.reason = f'{said} ({self._shares(now_s)})'
        self._begin(now_s)
        return Change(self.level, True, self.reason)

    def _better(self, now_s: float, calm: bool) -> Change | None:
        if not calm or not self.number:
            self._calm_since_s = None
            return None
        if self._calm_since_s is None:
            self._calm_since_s = now_s
        if now_s - self._calm_since_s < self._hold_s:
            return None
        said = f'busy {100 * self.load:.0f} % of the last second, not more for {self._hold_s:g} s'
        self.number -= 1
        self._better_s = now_s
        self.reason = self.reason if self.number else ''
        self._begin(now_s)
        return Change(self.level, False, said)

    def _shares(self, now_s: float) -> str:
        """Say which stages took the time of the last second, the greatest first."""
        spent: dict[str, float] = {}
        for _, took in self._recent(now_s - WINDOW_S):
            for name, each in took.items():
                spent[name] = spent.get(name, 0.0) + each
        order = sorted(spent, key=lambda name: -spent[name])
        whole = sum(spent.values()) or 1.0
        return ', '.join(f'{name} {100 * spent[name] / whole:.0f} %' for name in order)
