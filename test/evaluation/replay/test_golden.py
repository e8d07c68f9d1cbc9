# SPDX-License-Identifier: Apache-2.0
"""No number of the golden bag's report changes until `make golden` is run on purpose."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from golden_bag import BAG, differences, fresh_report, golden_report, write_bag

from motion_predictor_ros.data.bags import read_messages


def test_the_golden_bag_gives_the_report_it_gave(float64_by_default: None) -> None:
    torch.set_default_dtype(torch.float32)  # as deployed
    changed = differences(golden_report(), fresh_report())
    assert not changed, (
        'the golden report changed; if that was meant, run `make golden`:\n' + '\n'.join(changed)
    )


def test_the_golden_report_covers_predictions_futures_and_faults() -> None:
    report = golden_report()
    assert report['scored'] > 100 and report['drops'] == {'stamp_repeated': 1}
    assert report['futures']['times'] > 10 and set(report['people']) == {'dancer', 'passer_by'}
    assert 'latency_ms' not in report


def changed_by(path: str, amount: float) -> list[str]:
    report: dict[str, Any] = copy.deepcopy(golden_report())
    *way, last = path.split('/')
    place = report
    for name in way:
        place = place[name]
    place[last] += amount
    return differences(golden_report(), report)


@pytest.mark.parametrize(
    ('path', 'noise', 'change'),
    [
        ('mpjpe_mm/motion_deq/400', 0.01, 0.2),
        ('joints/l_wrist/motion_deq/1000', 0.01, 0.2),
        ('people/dancer/mpjpe_mm/constant_velocity/80', 0.01, 0.2),
        ('solver/steps_mean', 0.01, 0.2),
        ('coverage/400/0.9', 0.001, 0.02),
        ('futures/effective_sample_size_median', 0.01, 1.0),
        ('scored', 0, 1),
        ('drops/stamp_repeated', 0, 1),
    ],
)
def test_rounding_is_no_change_and_a_visible_difference_is(
    path: str, noise: float, change: float
) -> None:
    assert changed_by(path, noise) == []
    assert len(changed_by(path, change)) == 1
    assert changed_by(path, change)[0].startswith(path.replace('/', '.'))


def test_missing_new_and_retyped_entries_are_changes() -> None:
    golden = golden_report()
    assert differences(golden, {**golden, 'model': 'another'}) == [
        f'model: was {golden["model"]}, is another'
    ]
    assert len(differences(golden, {**golden, 'extra': 1})) == 1
    assert len(differences({**golden, 'extra': 1}, golden)) == 1
    assert len(differences(golden, {**golden, 'scored': float(golden['scored'])})) == 1


def test_the_golden_bag_is_reproducible_from_the_demo(tmp_path: Path) -> None:
    write_bag(tmp_path / 'again.mcap')
    ours, again = (
        [
            (each.stamp_ns, [np.array(person.positions) for person in each.message.persons])
            for each in read_messages(path)
        ]
        for path in (BAG, tmp_path / 'again.mcap')
    )
    assert BAG.stat().st_size < 200_000
    assert [stamp for stamp, _ in ours] == [stamp for stamp, _ in again]
    for (_, mine), (_, theirs) in zip(ours, again, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert any(np.isnan(person).any() for _, people in ours for person in people)
