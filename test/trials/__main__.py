# SPDX-License-Identifier: Apache-2.0
"""Trials of a live node, as `make` runs them; the last line of each is one JSON object."""

import argparse
import dataclasses
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trials import cuts, latency, replay_live, restarts, soak

from motion_predictor_ros.config import PipelineConfig, PredictionConfig
from motion_predictor_ros.errors import MotionPredictorError
from motion_predictor_ros.resources import share_file


def cut(options: argparse.Namespace, config: PipelineConfig) -> dict[str, bool]:
    """Cut the input of a live node; return whether each requirement is violated."""
    report = cuts.run_cuts(options.count, options.seed, config)
    print(f'predicted again, a second of history later, within {report.ok_s:.2f} s')
    print_json(report, 'ok_s')
    slowest_s = max(report.stale_s_max, report.recovery_s_max)
    return {
        f'slower than {cuts.LIMIT_S} s': not slowest_s <= cuts.LIMIT_S,
        'stale data was published as fresh': report.fresh_stamps_on_stale > 0,
    }


def restart(options: argparse.Namespace, config: PipelineConfig) -> dict[str, bool]:
    """Kill a live node, and start it again."""
    report = restarts.run_restarts(options.count, config)
    print_json(report)
    is_slow = not report.predicted_s_max <= restarts.LIMIT_S
    return {f'slower than {restarts.LIMIT_S:g} s': is_slow}


def compare(options: argparse.Namespace, config: PipelineConfig) -> dict[str, bool]:
    """Play the same bag without and with a live node."""
    live = replay_live.replay_live(options.bag, options.rate, config, options.people)
    print_json(live, 'futures', 'futures_max_abs_difference_m', 'volumes', 'age_ms')
    allowed_m = replay_live.allowed_m(live)
    is_different = not live.max_abs_difference_m <= allowed_m
    return {f'live and replay differ by more than {allowed_m:g} m': is_different}


def measure(options: argparse.Namespace, config: PipelineConfig) -> dict[str, bool]:
    """Measure the time from an observation to the published volume."""
    report = latency.run_latency(
        options.bag, options.people, options.seconds, options.volume_hz, config
    )
    print_json(report)
    return {}


def feed(options: argparse.Namespace, config: PipelineConfig) -> dict[str, bool]:
    """Let people come and go for a long time."""
    traffic = soak.Traffic(options.people, options.rate)
    report = soak.run_soak(options.minutes, traffic, options.out, options.seed, config)
    print(f'{options.out}: {report.sent} observations')
    print_json(report, 'sent')
    return {f'{report.lost} observations were neither answered nor counted': report.lost > 0}


def print_json(report: Any, *left_out: str) -> None:
    """Print figures, rounded to four decimals; non-finite ones are null, pairs are p50 and p99."""
    figures: dict[str, Any] = {}
    for name, value in dataclasses.asdict(report).items():
        if isinstance(value, tuple):
            figures |= dict(zip((f'{name}_p50', f'{name}_p99'), value, strict=True))
        elif name not in left_out:
            figures[name] = value
    for name, value in figures.items():
        if isinstance(value, float):
            figures[name] = round(value, 4) if math.isfinite(value) else None
    print(json.dumps(figures))


def parser() -> argparse.ArgumentParser:
    """Return the parser of all trials."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument('--weights', default=PredictionConfig().weights, help='name or path')
    common.add_argument('--seed', type=int, default=1, help='random seed')
    whole = argparse.ArgumentParser(description=__doc__)
    trials = whole.add_subparsers(required=True)
    demo = share_file('demo', 'demo.mcap')
    for name, run in (('cuts', cut), ('restarts', restart)):
        trial = trials.add_parser(name, parents=[common])
        trial.add_argument('count', type=int, help='number of cuts or restarts')
        trial.set_defaults(run=run)
    trial = trials.add_parser('replay-live', parents=[common])
    trial.add_argument('--bag', type=Path, default=demo, help='rosbag2 with skeletons')
    trial.add_argument('--rate', type=float, default=1.0, help='playback speed')
    trial.add_argument('--people', type=int, help='most at a time; default: as in the bag')
    trial.set_defaults(run=compare)
    trial = trials.add_parser('latency', parents=[common])
    trial.add_argument('--bag', type=Path, default=demo, help='recording of a person')
    trial.add_argument('--people', type=int, default=1)
    trial.add_argument('--seconds', type=int, default=60)
    trial.add_argument('--volume-hz', type=float, default=5.0, help='volumes per second')
    trial.set_defaults(run=measure)
    trial = trials.add_parser('soak', parents=[common])
    trial.add_argument('--people', type=int, default=10, help='most at a time')
    trial.add_argument('--rate', type=float, default=30.0, help='observations a second [Hz]')
    trial.add_argument('--minutes', type=float, default=60.0)
    trial.add_argument('--out', type=Path, default=Path('runs/soak.csv'))
    trial.set_defaults(run=feed)
    return whole


def main(arguments: Sequence[str]) -> int:
    """Run a trial; return 2 when a requirement is violated."""
    options = parser().parse_args(arguments)
    config = PipelineConfig(prediction=PredictionConfig(weights=options.weights))
    try:
        checks = options.run(options, config)
    except MotionPredictorError as error:
        checks = {str(error): True}
    violations = [text for text, is_violated in checks.items() if is_violated]
    for text in violations:
        print(f'error: {text}', file=sys.stderr)
    return 2 if violations else 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
