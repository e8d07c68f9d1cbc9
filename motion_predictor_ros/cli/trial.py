# SPDX-License-Identifier: Apache-2.0
"""The commands `motion-predictor trial ...`; the last line of each is one JSON object."""

import argparse
import dataclasses
import importlib
import json
import math
from pathlib import Path
from typing import Any

from motion_predictor_ros.config import PipelineConfig, PredictionConfig
from motion_predictor_ros.errors import MotionPredictorError

Commands = argparse._SubParsersAction  # the type argparse itself returns


def add_trials(commands: 'Commands[argparse.ArgumentParser]') -> None:
    """Add `trial replay-live`, `latency` and `soak`."""
    trial = commands.add_parser('trial', help='stress tests of the live node')
    kinds = trial.add_subparsers(required=True, metavar='WHAT')
    _add_replay_live(kinds)
    _add_latency(kinds)
    _add_soak(kinds)


def _add_replay_live(kinds: 'Commands[argparse.ArgumentParser]') -> None:
    parser = kinds.add_parser(
        'replay-live', help='the same bag without and with a live node (needs ROS)'
    )
    parser.add_argument('--bag', type=Path, required=True, help='rosbag2 with skeletons')
    parser.add_argument('--rate', type=float, default=1.0, help='playback speed')
    parser.add_argument(
        '--people', type=_positive, help='largest number at a time; default: as in the bag'
    )
    _add_weights(parser)
    parser.set_defaults(run=_replay_live)


def _replay_live(options: argparse.Namespace) -> None:
    replay_live = _with_ros('replay_live')
    bag, config = options.bag, _config(options)
    live = replay_live.replay_live(bag, options.rate, config, options.people)
    keys = ('frames', 'processed_share', 'max_abs_difference_m')
    print(json.dumps({key: getattr(live, key) for key in keys}))
    allowed_m = replay_live.allowed_m(live)
    message = f'live and replay differ by more than {allowed_m:g} m'
    _require(live.max_abs_difference_m <= allowed_m, message)


def _add_latency(kinds: 'Commands[argparse.ArgumentParser]') -> None:
    parser = kinds.add_parser(
        'latency', help='from an observation to the published volume, live (needs ROS)'
    )
    parser.add_argument('--bag', type=Path, help="recording of a person; default: the demo's")
    parser.add_argument('--people', type=_positive, default=1, help='number of people')
    parser.add_argument('--seconds', type=_positive, default=60, help='duration')
    parser.add_argument('--volume-hz', type=float, default=5.0, help='volumes per second')
    _add_weights(parser)
    parser.set_defaults(run=_latency)


def _latency(options: argparse.Namespace) -> None:
    from motion_predictor_ros.resources import share_file

    bag = options.bag or share_file('demo', 'demo.mcap')
    report = _with_ros('latency').run_latency(
        bag, options.people, options.seconds, options.volume_hz, _config(options)
    )
    figures = dataclasses.asdict(report)
    for name in ('motion_ms', 'volume_ms'):
        figures[f'{name}_p50'], figures[f'{name}_p99'] = figures.pop(name)
    print(json.dumps(_rounded(figures)))


def _add_soak(kinds: 'Commands[argparse.ArgumentParser]') -> None:
    parser = kinds.add_parser('soak', help='people for a long time (needs ROS)')
    parser.add_argument('--people', type=_positive, default=10, help='most at a time')
    parser.add_argument('--rate', type=float, default=30.0, help='observations a second [Hz]')
    parser.add_argument('--minutes', type=float, default=60.0, help='duration')
    parser.add_argument('--out', type=Path, default=Path('runs/soak.csv'), help='CSV to write')
    parser.add_argument('--seed', type=int, default=1, help='random seed')
    _add_weights(parser)
    parser.set_defaults(run=_soak)


def _soak(options: argparse.Namespace) -> None:
    soak = _with_ros('soak')
    traffic = soak.Traffic(options.people, options.rate)
    report = soak.run_soak(options.minutes, traffic, options.out, options.seed, _config(options))
    print(f'{options.out}: {report.sent} observations, {report.superseded} superseded')
    figures = dataclasses.asdict(report)
    del figures['sent'], figures['superseded']
    print(json.dumps(_rounded(figures)))
    _require(not report.lost, f'{report.lost} observations were neither answered nor counted')


def _add_weights(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--weights', default=PredictionConfig().weights, help='name or path')
    parser.add_argument('--device', default='auto', help="'auto', 'cpu' or 'cuda:N'")


def _config(options: argparse.Namespace) -> PipelineConfig:
    prediction = PredictionConfig(weights=options.weights, device=options.device)
    return PipelineConfig(prediction=prediction)


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
    rounded = {k: round(v, 4) if isinstance(v, float) else v for k, v in values.items()}
    return {
        k: v if not isinstance(v, float) or math.isfinite(v) else None for k, v in rounded.items()
    }


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f'must be above 0, got {text}')
    return value
