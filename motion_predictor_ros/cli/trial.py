# SPDX-License-Identifier: Apache-2.0
"""The commands `motion-predictor trial ...`; the last line of each is one JSON object."""

import argparse
import dataclasses
import importlib
import json
import math
from pathlib import Path
from typing import Any

from motion_predictor_ros.cli.options import (
    DEVICE,
    WEIGHTS,
    Group,
    new_file,
    option,
    pipeline_config,
    positive,
    whole,
)
from motion_predictor_ros.errors import MotionPredictorError

TRIAL = Group('trial', 'stress tests of the live node')

_MODEL = (WEIGHTS, DEVICE)


@TRIAL.command(
    'replay-live',
    'the same bag without and with a live node (needs ROS)',
    option('--bag', type=Path, required=True, help='rosbag2 with skeletons'),
    option('--rate', type=positive(), default=1.0, help='playback speed'),
    option('--people', type=whole(1), help='largest number at a time; default: as in the bag'),
    *_MODEL,
)
def _replay_live(options: argparse.Namespace) -> None:
    replay_live = _with_ros('replay_live')
    config = pipeline_config(options)
    live = replay_live.replay_live(options.bag, options.rate, config, options.people)
    keys = ('frames', 'processed_share', 'max_abs_difference_m')
    print(json.dumps({key: getattr(live, key) for key in keys}))
    allowed_m = replay_live.allowed_m(live)
    message = f'live and replay differ by more than {allowed_m:g} m'
    _require(live.max_abs_difference_m <= allowed_m, message)


@TRIAL.command(
    'latency',
    'from an observation to the published volume, live (needs ROS)',
    option('--bag', type=Path, help="recording of a person; default: the demo's"),
    option('--people', type=whole(1), default=1, help='number of people'),
    option('--seconds', type=whole(1), default=60, help='duration'),
    option('--volume-hz', type=positive(0.1, 100.0), default=5.0, help='volumes per second'),
    *_MODEL,
)
def _latency(options: argparse.Namespace) -> None:
    from motion_predictor_ros.resources import share_file

    bag = options.bag or share_file('demo', 'demo.mcap')
    report = _with_ros('latency').run_latency(
        bag, options.people, options.seconds, options.volume_hz, pipeline_config(options)
    )
    figures = dataclasses.asdict(report)
    for name in ('motion_ms', 'volume_ms'):
        figures[f'{name}_p50'], figures[f'{name}_p99'] = figures.pop(name)
    print(json.dumps(_rounded(figures)))


@TRIAL.command(
    'soak',
    'people for a long time (needs ROS)',
    option('--people', type=whole(1), default=10, help='most at a time'),
    option('--rate', type=positive(), default=30.0, help='observations a second [Hz]'),
    option('--minutes', type=positive(), default=60.0, help='duration'),
    option('--out', type=new_file(), default=Path('runs/soak.csv'), help='CSV to write'),
    option('--seed', type=whole(0), default=1, help='random seed'),
    *_MODEL,
)
def _soak(options: argparse.Namespace) -> None:
    soak, config = _with_ros('soak'), pipeline_config(options)
    traffic = soak.Traffic(options.people, options.rate)
    report = soak.run_soak(options.minutes, traffic, options.out, options.seed, config)
    print(f'{options.out}: {report.sent} observations, {report.superseded} superseded')
    figures = dataclasses.asdict(report)
    del figures['sent'], figures['superseded']
    print(json.dumps(_rounded(figures)))
    _require(not report.lost, f'{report.lost} observations were neither answered nor counted')


def _with_ros(module: str) -> Any:
    try:
        return importlib.import_module(f'motion_predictor_ros.ros.trials.{module}')
    except ImportError as error:
        raise MotionPredictorError(
            f'this trial needs ROS 2 ({error}): use `make`, or source ROS 2 and this workspace'
        ) from error


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise MotionPredictorError(message)


def _rounded(values: dict[str, Any]) -> dict[str, Any]:
    """Round figures to four decimals; non-finite ones become None, for JSON."""
    return {
        key: (round(value, 4) if math.isfinite(value) else None)
        if isinstance(value, float)
        else value
        for key, value in values.items()
    }
