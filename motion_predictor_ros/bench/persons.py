# SPDX-License-Identifier: Apache-2.0
"""Time the whole pipeline by number of people in the scene."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from motion_predictor_ros.bench.crowd import Crowd
from motion_predictor_ros.bench.pipeline import TimedStream
from motion_predictor_ros.bench.timing import machine
from motion_predictor_ros.config import PipelineConfig
from motion_predictor_ros.errors import ConfigError
from motion_predictor_ros.runtime.stage_times import STAGES

COUNTS = (1, 2, 4, 8, 16)


def bench_persons(
    bag: Path, config: PipelineConfig, frames: int, counts: Sequence[int] = COUNTS
) -> dict[str, Any]:
    """Time a step by number of people [ms], absolute and relative to the first number.

    Raises:
        BagError: The bag cannot be read, or no person is in it for long enough.
        ConfigError: There is nothing to time, or `skeleton.max_people` is too small.
        MotionPredictorError: The models cannot be used, or not together.
    """
    if frames < 1 or not counts or max(counts) > config.skeleton.max_people or min(counts) < 1:
        raise ConfigError(
            f'expected frames, and people up to skeleton.max_people ({config.skeleton.max_people}'
            f'), got {frames} and {list(counts)}'
        )
    stream = TimedStream(config, Crowd(bag))
    times = {str(count): stream.run(count, frames) for count in counts}
    first = times[str(counts[0])]
    return {
        'step_ms': {count: stages['step']['p50'] for count, stages in times.items()},
        'step_p99_ms': {count: stages['step']['p99'] for count, stages in times.items()},
        'stages_ms': {
            name: {count: stages[name]['p50'] for count, stages in times.items()}
            for name in STAGES
        },
        'ratio': {
            count: stages['step']['p50'] / first['step']['p50'] for count, stages in times.items()
        },
        'model': stream.pipeline.predictor.model,
        'device': machine(stream.pipeline.predictor.device),
        'threads': config.threads,
        'frames': frames,
    }


def print_persons(report: dict[str, Any], console: Console) -> None:
    """Print one row per number of people."""
    title = f'{report["model"]} on {report["device"]}, {report["threads"]} threads: median ms'
    table = Table(title=title, title_justify='left', box=None, padding=(0, 1, 0, 0))
    for head in ('people', *STAGES, 'whole step', 'p99', 'of one person'):
        table.add_column(head, justify='right')
    for count, step_ms in report['step_ms'].items():
        stages = (f'{report["stages_ms"][name][count]:.2f}' for name in STAGES)
        rest = f'{step_ms:.2f}', f'{report["step_p99_ms"][count]:.2f}'
        table.add_row(count, *stages, *rest, f'{report["ratio"][count]:.2f}')
    console.print(table)
