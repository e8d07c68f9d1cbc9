# SPDX-License-Identifier: Apache-2.0
"""Time the whole line for more and more people in one scene."""

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
    """Return how long a step takes by number of people [ms], and what that is of one person's.

    Raises:
        BagError: The bag cannot be read, or shows nobody for long enough.
        ConfigError: There is nothing to time, or fewer people may be tracked.
        MotionPredictorError: The models cannot be used, or not together.
    """
    if frames < 1 or not counts or max(counts) > config.skeleton.max_people or min(counts) < 1:
        raise ConfigError(
            f'expected frames, and people up to skeleton.max_people ({config.skeleton.max_people}'
            f'), got {frames} and {list(counts)}'
        )
    stream = TimedStream(config, Crowd(bag))
    found = {str(count): stream.run(count, frames) for count in counts}
    first = found[str(counts[0])]
    return {
        'step_ms': {count: each['step']['p50'] for count, each in found.items()},
        'step_p99_ms': {count: each['step']['p99'] for count, each in found.items()},
        'stages_ms': {
            name: {count: each[name]['p50'] for count, each in found.items()} for name in STAGES
        },
        'ratio': {
            count: each['step']['p50'] / first['step']['p50'] for count, each in found.items()
        },
        'model': stream.pipeline.predictor.model,
        'device': machine(stream.pipeline.predictor.device),
        'threads': config.prediction.threads,
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
