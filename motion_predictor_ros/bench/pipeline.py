# SPDX-License-Identifier: Apache-2.0
"""Time the whole pipeline, message in to volume out, by stage, number of threads and of people.

Every message is answered with futures and volumes, where a robot computes them a few times a
second. The yardstick in the same run is a forward pass of four unshared EqMotion layers of
MotionDEQ's size, for as many people as are in the stream.
"""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from motion_predictor_ros.bench.crowd import Crowd
from motion_predictor_ros.bench.timing import eqmotion_style_ms, machine, rounds_ms
from motion_predictor_ros.config import PipelineConfig
from motion_predictor_ros.errors import ConfigError
from motion_predictor_ros.evaluation.tables import print_table, spread
from motion_predictor_ros.pipeline import Pipeline, Scene
from motion_predictor_ros.prediction.motion_deq.checkpoint import load_motion_deq
from motion_predictor_ros.prediction.streaming import MotionDEQPredictor
from motion_predictor_ros.prediction.types import solver_steps
from motion_predictor_ros.runtime.process_memory import freeze_gc
from motion_predictor_ros.runtime.stage_times import STAGES
from motion_predictor_ros.skeleton.frame import Window

KINDS = ('p50', 'p99')
_RATE_HZ = 30.0
_WARM_UP_MESSAGES = 40
"""Messages until all windows are full and caches are warm; they do not count."""

_COLD = 50

_START = """
import json, sys
from motion_predictor_ros.config import PipelineConfig, from_mapping
from motion_predictor_ros.pipeline import Pipeline, Scene
Pipeline.load(from_mapping(PipelineConfig, json.loads(sys.argv[1])))
"""


class TimedStream:
    """A pipeline whose steps are timed on the messages of a crowd.

    Attributes:
        windows: Windows of the timed messages.
        steps: Solver steps per person and message.
        reached: Number of volumes that were a reachable set.
        processor_ms: CPU time of each step, and of its stages, over all threads [ms].
        voxels: Number of voxels of each message's grids.
    """

    def __init__(self, config: PipelineConfig, crowd: Crowd) -> None:
        self._crowd, self.pipeline = crowd, Pipeline.load(config)
        freeze_gc()  # as the node does
        self.windows: list[list[Window]] = []
        self.steps: list[int] = []
        self.processor_ms: dict[str, list[float]] = {}
        self.voxels: list[float] = []
        self.reached = 0

    def run(self, people: int, count: int) -> dict[str, dict[str, float]]:
        """Answer `count` messages with this number of people; return the spread by stage [ms]."""
        self.pipeline.reset()
        for values in (self.windows, self.steps, self.voxels):
            values.clear()
        self.reached = 0
        spent: dict[str, list[float]] = {name: [] for name in ('step', *STAGES)}
        self.processor_ms = {name: [] for name in spent}
        for number, message in enumerate(self._crowd.messages(people, _WARM_UP_MESSAGES + count)):
            begin, processor = time.perf_counter(), time.process_time()
            scene = self.pipeline.step(message)
            step_ms = 1e3 * (time.perf_counter() - begin)
            processor_ms = 1e3 * (time.process_time() - processor)
            assert scene is not None, self.pipeline.skeleton.drops
            if number >= _WARM_UP_MESSAGES:
                times = self.pipeline.times
                _append(spent, {**times.last_ms, 'step': step_ms})
                _append(self.processor_ms, {**times.last_processor_ms, 'step': processor_ms})
                self._record(scene)
        return {name: spread(times or [0.0]) for name, times in spent.items()}

    def _record(self, scene: Scene) -> None:
        people, volumes = scene.prediction.people, scene.volumes or ()
        self.windows.append([item.window for item in people if item.window is not None])
        self.steps.extend(solver_steps(people))
        self.reached += sum(item.level == 0.0 for item in volumes)
        self.voxels.append(
            float(sum(window.covered.size for item in volumes for window in item.windows))
        )


def _append(lists: dict[str, list[float]], more: dict[str, float]) -> None:
    for name, value in more.items():
        lists[name].append(value)


def in_full(config: PipelineConfig) -> PipelineConfig:
    """Return a configuration that computes futures and volumes for every message."""
    density = replace(config.density, enabled='always', rate_hz=100.0)
    return replace(config, density=density, volume=replace(config.volume, enabled='always'))


def bench_pipeline(
    bag: Path, config: PipelineConfig, frames: int, threads: Sequence[int]
) -> dict[str, Any]:
    """Time a step for one person, by stage and number of CPU threads [ms].

    Args:
        threads: The figures of the first number are at the top of the report too.

    Raises:
        BagError: The bag cannot be read, or no person is in it for long enough.
        MotionPredictorError: The models cannot be used, or not together.
    """
    startup_s = start_up_s(config)
    crowd = Crowd(bag, _RATE_HZ)
    by_threads = {str(count): _with_threads(crowd, config, frames, count) for count in threads}
    return {
        **by_threads[str(threads[0])],
        'startup_s': startup_s,
        'by_threads': by_threads,
        'frames': frames,
        'rate_hz': _RATE_HZ,
    }


def _with_threads(
    crowd: Crowd, config: PipelineConfig, frames: int, threads: int
) -> dict[str, Any]:
    stream = TimedStream(replace(config, threads=threads), crowd)
    stages = stream.run(1, frames)
    processor_ms = {name: spread(times or [0.0]) for name, times in stream.processor_ms.items()}
    predictor = stream.pipeline.predictor
    cold = replace(config.prediction, warm_start=False)
    trained = load_motion_deq(cold.weights, predictor.device)
    alone = MotionDEQPredictor(trained, cold)
    windows = stream.windows[-1]
    spent_ms = rounds_ms(lambda: alone.predict(windows), _COLD, predictor.device)[:, 0]
    (cold_steps,) = solver_steps(alone.predict(windows))
    return {
        'step_ms': stages.pop('step'),
        'stages_ms': stages,
        'step_processor_ms': processor_ms.pop('step')['p50'],
        'stages_processor_ms': processor_ms,
        'voxels': spread(stream.voxels),
        'motion_deq_warm_ms': stages['prediction']['p50'],
        'motion_deq_cold_ms': spread(spent_ms)['p50'],
        'eqmotion_style_forward_ms': eqmotion_style_ms(
            windows, trained.module.config, predictor.device
        )['p50'],
        'solver_steps': {'warm': float(np.median(stream.steps)), 'cold': cold_steps},
        'reachable_instead': stream.reached,
        'model': predictor.model,
        'device': machine(predictor.device),
        'threads': threads,
    }


def start_up_s(config: PipelineConfig) -> float:
    """Return the time from the start of a new process to its first prediction [s].

    Loading ends with a prediction for a synthetic person, so that the first real one is fast.
    """
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, '-c', _START, json.dumps(asdict(config))],
        check=False,
        capture_output=True,
        text=True,
    )
    spent_s = time.perf_counter() - begin
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f'exit code {done.returncode}'])[-1]
        raise ConfigError(f'the pipeline did not start: {reason}')
    return spent_s


def print_pipeline(report: dict[str, Any], console: Console) -> None:
    """Print a table of stages by number of threads."""
    title = f'{report["model"]} on {report["device"]}: ms for one person, every message in full'
    rows: dict[str, dict[str, float]] = {}
    for count, figures in report['by_threads'].items():
        times = {name: figures['stages_ms'][name] for name in STAGES}
        for name, ms in {**times, 'whole step': figures['step_ms']}.items():
            cells = {f'{kind}, {count} threads': ms[kind] for kind in KINDS}
            rows.setdefault(name, {}).update(cells)
    print_table(rows, title, 'stage', console, form='.2f')
    for count, figures in report['by_threads'].items():
        steps, yardstick_ms = figures['solver_steps'], figures['eqmotion_style_forward_ms']
        console.print(
            f'{count} threads: MotionDEQ warm {figures["motion_deq_warm_ms"]:.2f} ms in '
            f'{steps["warm"]:.0f} steps, cold {figures["motion_deq_cold_ms"]:.2f} ms in '
            f'{steps["cold"]:.0f}; four EqMotion layers {yardstick_ms:.2f} ms: the whole step '
            f'costs {figures["step_ms"]["p50"] / yardstick_ms:.2f} of them'
        )
    console.print(f'start of the process to first prediction: {report["startup_s"]:.1f} s')


def check_crowd(config: PipelineConfig, counts: Sequence[int]) -> None:
    """Check numbers of people.

    Raises:
        ConfigError: `skeleton.max_people` is smaller.
    """
    limit = config.skeleton.max_people
    if max(counts) > limit:
        raise ConfigError(f'expected people up to skeleton.max_people ({limit}), got {counts}')


def bench_persons(
    bag: Path, config: PipelineConfig, frames: int, counts: Sequence[int]
) -> dict[str, Any]:
    """Time a step by number of people [ms], absolute and relative to the first number.

    Raises:
        BagError: The bag cannot be read, or no person is in it for long enough.
        ConfigError: As `check_crowd`.
        MotionPredictorError: The models cannot be used, or not together.
    """
    check_crowd(config, counts)
    stream = TimedStream(config, Crowd(bag))
    times = {str(count): stream.run(count, frames) for count in counts}
    step_ms = {count: stages['step']['p50'] for count, stages in times.items()}
    return {
        'step_ms': step_ms,
        'step_p99_ms': {count: stages['step']['p99'] for count, stages in times.items()},
        'stages_ms': {
            name: {count: stages[name]['p50'] for count, stages in times.items()}
            for name in STAGES
        },
        'ratio': {count: ms / step_ms[str(counts[0])] for count, ms in step_ms.items()},
        'model': stream.pipeline.predictor.model,
        'device': machine(stream.pipeline.predictor.device),
        'threads': config.threads,
        'frames': frames,
    }


def print_persons(report: dict[str, Any], console: Console) -> None:
    """Print one row per number of people."""
    title = f'{report["model"]} on {report["device"]}, {report["threads"]} threads: median ms'
    rows = {
        count: {
            **{name: report['stages_ms'][name][count] for name in STAGES},
            'whole step': step_ms,
            'p99': report['step_p99_ms'][count],
            'of one person': report['ratio'][count],
        }
        for count, step_ms in report['step_ms'].items()
    }
    print_table(rows, title, 'people', console, form='.2f')
