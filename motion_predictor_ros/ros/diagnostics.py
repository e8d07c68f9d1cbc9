# SPDX-License-Identifier: Apache-2.0
"""The node's diagnostics (REP-107): input, answers and drops."""

import threading
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node

from motion_predictor_ros.density.types import Futures
from motion_predictor_ros.pipeline import Pipeline, Scene
from motion_predictor_ros.prediction.types import ScenePrediction, SolverReport
from motion_predictor_ros.runtime.process_memory import memory_facts

SILENCE_S = 1.0
"""An active node warns when its input pauses for longer."""

_PLAUSIBLE_AGE_S = (-0.1, 1.0)
_ORDINARY = frozenset(
    {
        *('superseded', 'rate_limited', 'searching', 'lost'),
        *('joint_at_origin', 'joint_same_place', 'joint_non_finite', 'joint_confidence'),
        *('joint_bone_length', 'joint_jump', 'other_class', 'class_filtered', 'robot_frame'),
    }
)
"""Drops that are no fault of the set-up: a slow machine skips, a tracker loses people."""


class Statistics:
    """Counts and times of one node; the worker writes while the executor reads."""

    def __init__(self) -> None:
        self.drops: Counter[str] = Counter()
        self._reported: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._arrivals_s: deque[float] = deque(maxlen=200)
        self._times_ms: dict[str, deque[float]] = {}
        self._solved = {'warm': deque[SolverReport](maxlen=500), 'cold': deque(maxlen=100)}
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

    def answered(self, scene: Scene, age_s: float, times_ms: Mapping[str, float]) -> None:
        """Note one answer.

        Args:
            age_s: How old its observation was when it was published [s].
            times_ms: `step`, all of the work; `latency`, from the arrival of the observation until
                the answer was published; `stage.NAME` of each stage that was due [ms].
        """
        with self._lock:
            self._scene, self._age_s = scene.prediction, age_s
            if scene.futures is not None:
                self._futures, self._futures_drawn = scene.futures, self._futures_drawn + 1
            for person in scene.prediction.people:
                if person.solver is not None:
                    kind = 'warm' if person.solver.warm else 'cold'
                    self._solved[kind].append(person.solver)
            for name, spent_ms in times_ms.items():
                self._times_ms.setdefault(name, deque(maxlen=500)).append(spent_ms)

    def warning_text(self) -> str:
        """Return what is wrong now, or was since the last call; empty when all is well."""
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
            }
            for name, times_ms in self._times_ms.items():
                values |= _percentiles(f'{name}_ms', times_ms)
            for kind, reports in self._solved.items():
                values |= _medians(kind, reports)
            scene, futures, times = self._scene, self._futures, self._futures_drawn
            drops = {f'drops.{key}': str(count) for key, count in sorted(self.drops.items())}
        return values | _solver(scene) | _futures(futures, times) | drops


def pipeline_facts(pipeline: Pipeline) -> dict[str, str]:
    """Report models, device, who is held or unplaced, restarts and fall-backs by reason."""
    predictor, density, volume = pipeline.predictor, pipeline.density, pipeline.volume
    presence = pipeline.skeleton.presence
    # Copies: the worker counts on while this reads.
    restarts = dict(pipeline.skeleton.restarts)
    fallbacks = dict(volume.fallbacks if volume else {})
    return {
        'resets': str(pipeline.skeleton.resets),
        'bones_limited': str(pipeline.limited),
        'refused_people': pipeline.config.refused_people,
        'people_held': str(len(presence.held)),
        'people_unplaced': str(len(presence.unplaced)),
        'withheld': presence.withheld,
        **{f'restarts.{why}': str(count) for why, count in sorted(restarts.items())},
        **{f'reachable_instead.{why}': str(count) for why, count in sorted(fallbacks.items())},
        'model': predictor.model,
        'density': 'no density model' if density is None else f'density {density.model}',
        'device': str(predictor.device),
        'prediction.device_auto': predictor.device_choice,
        'density.device_auto': '' if density is None else density.device_choice,
        **memory_facts(predictor.device),
    }


def diagnose(
    name: str,
    state: str,
    failure: str,
    facts: dict[str, str],
    statistics: Statistics,
    faults: Sequence[str] = (),
) -> DiagnosticStatus:
    """Write the node's status.

    Args:
        state: Label of the lifecycle state, or 'compiling' while configure compiles kernels.
        failure: Why the last configure failed; empty if it did not.
        facts: What to report besides the statistics.
        faults: Further warnings; empty texts are left out.
    """
    warning_text = statistics.warning_text() if state == 'active' else f'not active: {state}'
    warning_text = '; '.join(text for text in (warning_text, *faults) if text)
    level = DiagnosticStatus.ERROR if failure else DiagnosticStatus.WARN
    return encode_status(
        level if failure or warning_text else DiagnosticStatus.OK,
        name,
        failure or warning_text or 'predicting',
        {'state': state, **facts, **statistics.values()},
    )


def encode_status(
    level: bytes, name: str, message: str, values: Mapping[str, str]
) -> DiagnosticStatus:
    """Encode a status; the hardware is the value `device`, if there is one."""
    pairs = [KeyValue(key=key, value=value) for key, value in values.items()]
    device = values.get('device', '')
    return DiagnosticStatus(
        level=level, name=name, message=message, hardware_id=device, values=pairs
    )


class DiagnosticsPublisher:
    """Publishes a node's status on /diagnostics."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._publisher = node.create_publisher(DiagnosticArray, '/diagnostics', 10)

    def publish(self, status: DiagnosticStatus) -> None:
        """Publish a status, stamped now."""
        message = DiagnosticArray(status=[status])
        message.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(message)


def _rate_hz(arrivals_s: list[float]) -> float:
    recent = [at_s for at_s in arrivals_s if at_s > time.monotonic() - 2 * SILENCE_S]
    return (len(recent) - 1) / (recent[-1] - recent[0]) if len(recent) > 1 else 0.0


def _percentiles(name: str, times_ms: deque[float]) -> dict[str, str]:
    median, slow = np.percentile(np.array(times_ms), (50, 99))
    return {f'{name}_p50': f'{median:.2f}', f'{name}_p99': f'{slow:.2f}'}


def _medians(kind: str, reports: deque[SolverReport]) -> dict[str, str]:
    """Say what people cost of late who were solved from their last fixed point, or anew."""
    if not reports:
        return {}
    return {
        f'solver_steps_{kind}': f'{np.median([report.steps for report in reports]):.1f}',
        f'residual_{kind}': f'{np.median([report.residual for report in reports]):.2g}',
    }


def _solver(scene: ScenePrediction | None) -> dict[str, str]:
    if scene is None:
        return {}
    solved = [person.solver for person in scene.people if person.solver is not None]
    valid = Counter(person.validity.name for person in scene.people)
    return {
        **{f'validity.{name}': str(count) for name, count in sorted(valid.items())},
        'persons': str(len(scene.people)),
        'persons_predicted': str(len(solved)),
        'solver_steps': str(max((report.steps for report in solved), default=0)),
        'residual': f'{max((report.residual for report in solved), default=0.0):.2g}',
        'warm_starts': str(sum(report.warm for report in solved)),
    }


def _futures(futures: Futures | None, times: int) -> dict[str, str]:
    if futures is None:
        return {}
    return {
        'futures_drawn': str(times),
        'novelty': f'{futures.novelty.max():.2f}',
        'effective_sample_size': f'{futures.effective_sample_size.min():.0f}',
    }
