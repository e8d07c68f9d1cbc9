# SPDX-License-Identifier: Apache-2.0
"""`make fuzz` and `make vanish`; the last line of each is one JSON object."""

import argparse
import dataclasses
import json
import math
import random
import sys

import torch
from fuzz.fuzzer import WholePipelines, fuzz
from fuzz.messages import LAYOUTS
from fuzz.vanish import LIMIT_S, run_vanish

from motion_predictor_ros.config import DensityConfig, PipelineConfig, PredictionConfig

WHOLE_SHARE = 0.1
"""Share of the fuzzer's messages that go through all shipped models."""

MIN_PER_SOURCE = 150
"""Messages until a source has had futures; with few messages, only some sources are tried."""


def run_fuzz(messages: int, seed: int) -> list[str]:
    """Fuzz all sources with a small model, and some with the shipped ones; return violations."""
    whole = round(WHOLE_SHARE * messages)
    report = fuzz(messages - whole, seed)
    count = min(max(whole // MIN_PER_SOURCE, 1), len(LAYOUTS))
    sources = random.Random(seed).sample(list(LAYOUTS), count)
    fuzz(whole, seed + 1, WholePipelines(), report, sources)
    for line in report.cases:
        print(line)
    print(f'answered {report.answered}, dropped {report.drops} for {report.reasons} reasons')
    print(f'{whole} with futures and volumes: {report.futures} futures, {report.volumes} volumes')
    counts = ('messages', 'crashes', 'uncounted_drops', 'non_finite_outputs', 'false_nobody')
    print(json.dumps({key: getattr(report, key) for key in counts}))
    return report.cases


def lose_people(losses: int, seed: int) -> list[str]:
    """Lose a person in many ways with the shipped model; return violations."""
    config = PipelineConfig(
        prediction=PredictionConfig(device='cpu'), density=DensityConfig(enabled='never')
    )
    report = run_vanish(losses, losses // 10, seed, config)
    figures = dataclasses.asdict(report)
    back_s = report.recovery_s_max
    figures['recovery_s_max'] = round(back_s, 4) if math.isfinite(back_s) else None
    print(json.dumps(figures))
    violations = {
        'an empty scene was published that no source had stated': report.false_nobody > 0,
        'a prediction has a bone that no body has': report.impossible_bones > 0,
        f'slower than {LIMIT_S:g} s': not back_s <= LIMIT_S,
    }
    return [text for text, is_violated in violations.items() if is_violated]


def main() -> None:
    """Run one of the two; exit with 1 when a requirement is violated."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('trial', choices=('fuzz', 'vanish'))
    parser.add_argument('count', type=int, help='number of messages or losses')
    parser.add_argument('--seed', type=int, default=1, help='random seed')
    options = parser.parse_args()
    torch.set_num_threads(1)
    run = {'fuzz': run_fuzz, 'vanish': lose_people}[options.trial]
    if violations := run(options.count, options.seed):
        sys.exit('error: a requirement is violated: ' + '; '.join(violations[:3]))


main()
