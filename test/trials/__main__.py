# SPDX-License-Identifier: Apache-2.0
"""`make cuts` and `make restarts`; the last line of each is one JSON object."""

import argparse
import dataclasses
import json
import math
import sys
from collections.abc import Sequence
from typing import Any

from trials import cuts, restarts

from motion_predictor_ros.config import PipelineConfig, PredictionConfig
from motion_predictor_ros.errors import MotionPredictorError


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


def print_json(report: Any, *left_out: str) -> None:
    """Print figures, rounded to four decimals; non-finite ones are null."""
    figures = {k: v for k, v in dataclasses.asdict(report).items() if k not in left_out}
    for name, value in figures.items():
        if isinstance(value, float):
            figures[name] = round(value, 4) if math.isfinite(value) else None
    print(json.dumps(figures))


TRIALS = {'cuts': cut, 'restarts': restart}


def main(arguments: Sequence[str]) -> int:
    """Run a trial; return 2 when a requirement is violated."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('trial', choices=TRIALS)
    parser.add_argument('count', type=int, help='number of cuts or restarts')
    parser.add_argument('--seed', type=int, default=1, help='random seed')
    parser.add_argument('--weights', default=PredictionConfig().weights, help='name or path')
    options = parser.parse_args(arguments)
    config = PipelineConfig(prediction=PredictionConfig(weights=options.weights))
    try:
        checks = TRIALS[options.trial](options, config)
    except MotionPredictorError as error:
        checks = {str(error): True}
    violations = [text for text, is_violated in checks.items() if is_violated]
    for text in violations:
        print(f'error: {text}', file=sys.stderr)
    return 2 if violations else 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
