# SPDX-License-Identifier: Apache-2.0
"""The command line `motion-predictor`: everything that runs off the robot.

Exit codes: 0 done, 1 interrupted or stdout closed, 2 bad arguments, files or data, with one
line on stderr. With `--json`, stdout carries one JSON object and nothing else.
"""

import argparse
import dataclasses
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from motion_predictor_ros.cli.adapt import ADAPT
from motion_predictor_ros.cli.bench import BENCH
from motion_predictor_ros.cli.evaluate import EVALUATE
from motion_predictor_ros.cli.options import (
    EXIT_CODES,
    MODEL,
    Group,
    option,
    out,
    pipeline_config,
    positive,
    run_command,
)
from motion_predictor_ros.cli.train import COMMANDS, TRAIN
from motion_predictor_ros.config import PipelineConfig
from motion_predictor_ros.errors import MotionPredictorError

ROBOT = Group()

_ERRORS = Console(stderr=True, soft_wrap=True, highlight=False)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    try:
        run_command(_parser().parse_args(arguments))
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of stdout is gone, as `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at exit
        return 1
    except (MotionPredictorError, OSError) as error:
        _ERRORS.print(f'motion-predictor: {error}', style='red', markup=False)
        return 2
    except KeyboardInterrupt:
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        'motion-predictor', description=(__doc__ or '').split('\n')[0], epilog=EXIT_CODES
    )
    commands = parser.add_subparsers(required=True, metavar='COMMAND')
    for group in (ROBOT, EVALUATE, TRAIN, COMMANDS, ADAPT, BENCH):
        group.add_to(commands)
    return parser


@ROBOT.command('warm-up', 'compile for this processor, at install time; needs no ROS')
def _warm_up(options: argparse.Namespace) -> None:
    from motion_predictor_ros.pipeline import Pipeline
    from motion_predictor_ros.runtime.jit import log_compilation

    config = PipelineConfig()
    volume = dataclasses.replace(config.volume, enabled='always')
    logged: list[str] = []
    with log_compilation(logged.append):
        Pipeline.load(dataclasses.replace(config, volume=volume)).close()
    print(logged[-1] if logged else 'compiled already')


@ROBOT.command(
    'demo',
    'play a bag into a live node and report (needs ROS)',
    option('--bag', type=Path, required=True, help='rosbag2 with skeletons'),
    out('folder for report, picture, bag'),
    option('--rate', type=positive(), default=1.0, help='playback speed'),
    *MODEL,
)
def _demo(options: argparse.Namespace) -> None:
    try:
        from motion_predictor_ros.ros.tools.demo import run_demo
    except ImportError as error:
        raise MotionPredictorError(
            f'the demo needs ROS 2 ({error}): use `make demo`, or source ROS 2 and this '
            'workspace; `evaluate bag` works without'
        ) from error

    run_demo(options.bag, options.out, options.rate, pipeline_config(options), Console())


if __name__ == '__main__':
    sys.exit(main())
