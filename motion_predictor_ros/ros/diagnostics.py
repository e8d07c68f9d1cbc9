# SPDX-License-Identifier: Apache-2.0
"""What the node tells `/diagnostics` (REP-107) of its input, its answers and its drops."""

import threading
import time
from collections import Counter, deque
from collections.abc import Mapping

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from motion_predictor_ros.density.futures import Futures
from motion_predictor_ros.pipeline import Scene
from motion_predictor_ros.prediction.prediction import ScenePrediction

SILENCE_S = 1.0
"""An active node warns when its input pauses for longer."""

_PLAUSIBLE_AGE_S = (-0.1, 1.0)
_ORDINARY = frozenset({'superseded', 'rate_limited', 'searching', 'lost'})
"""Drops that are no fault: a slow machine skips, a tracker says that it does not see."""


class Statistics:
    """Counts and times of one node; the worker writes while the executor reads."""

    def __init__(self) -> None:
        self.drops: Counter[str] = Counter()
        self._reported: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._arrivals_s: deque[float] = deque(maxlen=200)
        self._step_ms: deque[float] = deque(maxlen=500)
        self._latency_ms: deque[float] = deque(maxlen=500)
        self._stages_ms: dict[str, deque[float]] = {}
        self._scene: ScenePrediction | None = None
        self._futures: Futures | None = None
        self._futures_drawn = 0
        self._age_s = 0.0

    def received(self) -> float:
        """Note that a message arrived; return when [s], on the monotonic clock."""
        now_s = time.monotonic()
        with self._lock:
            self._arrivals_s.append(now_s)
        return now_s

    def dropped(self, reason: str, count: int = 1) -> None:
        """Count what got no answer."""
        with self._lock:
            self.drops[reason] += count

    def answered(
        self,
        scene: Scene,
        age_s: float,
        step_ms: float,
        latency_ms: float,
        stages_ms: Mapping[str, float],
    ) -> None:
        """Note one answer.

        Args:
            age_s: How old its observation was when it was published [s].
            step_ms: How long the work took [ms].
            latency_ms: From the arrival of the observation until the answer was published [ms].
            stages_ms: How long each stage that was due took [ms].
        """
        with self._lock:
            self._scene, self._age_s = scene.prediction, age_s
            if scene.futures is not None:
                self._futures, self._futures_drawn = scene.futures, self._futures_drawn + 1
            self._step_ms.append(step_ms)
            self._latency_ms.append(latency_ms)
            for name, spent_ms in stages_ms.items():
                self._stages_ms.setdefault(name, deque(maxlen=500)).append(spent_ms)

    def complaint(self) -> str:
        """Say what is wrong now, or was since the last call; empty when all is well."""
        with self._lock:
            new = {key: count - self._reported[key] for key, count in self.drops.items()}
            self._reported = self.drops.copy()
            silent_s = time.monotonic() - max(self._arrivals_s, default=-np.inf)
            age_s = self._age_s
        if silent_s > SILENCE_S:
            return 'no input yet' if np.isinf(silent_s) else f'no input for {silent_s:.1f} s'
        faults = [f'{key} {new[key]}' for key in sorted(new) if new[key] and key not in _ORDINARY]
        if faults:
            return f'dropped: {", ".join(faults)}'
        if not _PLAUSIBLE_AGE_S[0] <= age_s <= _PLAUSIBLE_AGE_S[1]:
            return f'observations are {age_s:.2f} s old: clocks differ, or the input is late'
        return ''

    def values(self) -> dict[str, str]:
        """Report every figure as text."""
        with self._lock:
            values = {
                'input_rate_hz': f'{_rate_hz(list(self._arrivals_s)):.1f}',
                'age_s': f'{self._age_s:.4f}',
                **_percentiles('step_ms', self._step_ms),
                **_percentiles('latency_ms', self._latency_ms),
            }
            for name, times_ms in self._stages_ms.items():
                values |= _percentiles(f'stage.{name}_ms', times_ms)
            scene, futures, times = self._scene, self._futures, self._futures_drawn
            drops = {f'drops.{key}': str(count) for key, count in sorted(self.drops.items())}
        return values | _solver(scene) | _weighed(futures, times) | drops


def diagnose(
    name: str,
    state: str,
    failure: str,
    facts: dict[str, str],
    statistics: Statistics,
    slow: str = '',
) -> DiagnosticStatus:
    """Write the node's status.

    Args:
        state: Label of the lifecycle state.
        failure: Why the last configure failed; empty if it did not.
        facts: What to report besides the statistics.
        slow: What is given up because the machine is too slow; empty if nothing is.
    """
    complaint = statistics.complaint() if state == 'active' else f'not active: {state}'
    complaint = '; '.join(each for each in (complaint, slow) if each)
    level = DiagnosticStatus.ERROR if failure else DiagnosticStatus.WARN
    values = {'state': state, **facts, **statistics.values()}
    return DiagnosticStatus(
        level=level if failure or complaint else DiagnosticStatus.OK,
        name=name,
        message=failure or complaint or 'predicting',
        hardware_id=facts.get('device', ''),
        values=[KeyValue(key=key, value=value) for key, value in values.items()],
    )


def _rate_hz(arrivals_s: list[float]) -> float:
    recent = [each for each in arrivals_s if each > time.monotonic() - 2 * SILENCE_S]
    return (len(recent) - 1) / (recent[-1] - recent[0]) if len(recent) > 1 else 0.0


def _percentiles(name: str, times_ms: deque[float]) -> dict[str, str]:
    if not times_ms:
        return {}
    median, slow = np.percentile(np.array(times_ms), (50, 99))
    return {f'{name}_p50': f'{median:.2f}', f'{name}_p99': f'{slow:.2f}'}


def _solver(scene: ScenePrediction | None) -> dict[str, str]:
    if scene is None:
        return {}
    solved = [person.solver for person in scene.people if person.solver.steps]
    return {
        'persons': str(len(scene.people)),
        'persons_predicted': str(len(solved)),
        'solver_steps': str(max((each.steps for each in solved), default=0)),
        'residual': f'{max((each.residual for each in solved), default=0.0):.2g}',
        'warm_starts': str(sum(each.warm for each in solved)),
    }


def _weighed(futures: Futures | None, times: int) -> dict[str, str]:
    if futures is None:
        return {}
    return {
        'futures_drawn': str(times),
        'novelty': f'{futures.novelty.max():.2f}',
        'effective_sample_size': f'{futures.effective_sample_size.min():.0f}',
    }
