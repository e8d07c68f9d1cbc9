# SPDX-License-Identifier: Apache-2.0
"""The golden bag: five seconds of the demo with faults put in, and the report it gave last.

`make golden` writes the report anew, on purpose, and says what changed. Whatever the pipeline and
the evaluation do to a bag ends in these numbers: a change of behaviour shows here first.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from motion_predictor_ros.config import DensityConfig, PipelineConfig, PredictionConfig
from motion_predictor_ros.data.bags import SKELETON_ARRAY, BagWriter, read_messages
from motion_predictor_ros.evaluation.report.bag import evaluate_bag
from motion_predictor_ros.evaluation.tables import write_json

BAG = Path(__file__).with_name('golden') / 'golden.mcap'
REPORT = BAG.with_name('report.json')

TOLERANCES = {
    'mpjpe_mm': (1e-4, 0.05),
    'people': (1e-4, 0.05),
    'joints': (1e-4, 0.05),
    'coverage': (0.0, 0.005),
    'solver': (0.01, 0.005),
    'futures': (1e-3, 0.005),
    'volumes': (0.02, 0.02),
}
"""Relative and absolute tolerance of numbers; reasons in test/golden/README.md."""

_DEMO, _TOPIC = Path(__file__).parents[1] / 'demo' / 'demo.mcap', '/skeletons'
_CUT = slice(1144, 1294)
_REPEATED, _HIDDEN, _WRIST = 30, range(60, 75), 13
_CHANGES_EVERY_TIME = 'latency_ms'


def write_bag(path: Path) -> None:
    """Cut the demo; a message comes twice, and a wrist is out of sight for half a second."""
    with BagWriter(path, replace=True) as bag:
        for index, message in enumerate(list(read_messages(_DEMO, [_TOPIC]))[_CUT]):
            if index in _HIDDEN:
                person = message.message.persons[0]
                positions = np.array(person.positions).reshape(-1, 3)
                positions[_WRIST] = np.nan
                person.positions = positions.ravel()
            for _ in range(2 if index == _REPEATED else 1):
                bag.write(_TOPIC, SKELETON_ARRAY, message.stamp_ns, message.message)


def fresh_report() -> dict[str, Any]:
    """Evaluate the bag with the shipped models, on one thread of the CPU."""
    config = PipelineConfig(
        prediction=PredictionConfig(device='cpu'), density=DensityConfig(device='cpu')
    )
    report = evaluate_bag(BAG, '', config).report
    del report[_CHANGES_EVERY_TIME]
    return report


def golden_report() -> dict[str, Any]:
    """Return the report that was kept."""
    kept: dict[str, Any] = json.loads(REPORT.read_text())
    return kept


def differences(golden: Mapping[str, Any], fresh: Mapping[str, Any]) -> list[str]:
    """List the differences: numbers beyond tolerance, missing and new entries."""
    before, after = dict(_leaves(golden)), dict(_leaves(fresh))
    return [
        f'{".".join(path)}: was {before.get(path)}, is {after.get(path)}'
        for path in sorted(before.keys() | after.keys())
        if not _same(path[0], before.get(path), after.get(path))
    ]


def _leaves(report: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if not isinstance(report, Mapping):
        yield path, report
        return
    for name, value in report.items():
        if name == 'reliability':  # counts of voxels hang on the last bit
            continue
        yield from _leaves(value, (*path, name))


def _same(group: str, before: Any, after: Any) -> bool:
    if isinstance(before, float) and isinstance(after, float):
        relative, absolute = TOLERANCES[group]
        return abs(after - before) <= absolute + relative * abs(before)
    return type(before) is type(after) and bool(before == after)


def main() -> None:
    """Rewrite the report, unless it is equal within the tolerances."""
    if not BAG.is_file():
        write_bag(BAG)
    fresh = fresh_report()
    changed = differences(golden_report(), fresh) if REPORT.is_file() else ['all of it']
    if not changed:
        print(f'{REPORT}: nothing changed')
        return
    write_json(fresh, REPORT)
    print(*changed, sep='\n')
    print(f'{REPORT}: {len(changed)} entries changed; commit it with what changed them')


if __name__ == '__main__':
    sys.exit(main())
