# SPDX-License-Identifier: Apache-2.0
"""Volumes of a replay are kept as they were, and judged by what the people then did."""

import dataclasses
import io
from collections.abc import Callable

import numpy as np
import pytest
from rich.console import Console
from safety_volumes import STAMP_NS, volume
from volume_replays import KEPT, goes, stands, told
from volume_scenes import SHAPE

from motion_predictor_ros.evaluation.reliability import Reliability
from motion_predictor_ros.evaluation.replay.kept_volumes import KeptVolume, VolumeKeeper
from motion_predictor_ros.evaluation.replay.volume_scores import volume_report
from motion_predictor_ros.evaluation.report.pictures import faces
from motion_predictor_ros.evaluation.report.tables import print_volumes
from motion_predictor_ros.skeleton.frame import Validity
from motion_predictor_ros.volume.grid import VoxelGrid

ENDS = ['0.25', '0.5', '1']


def runs_away(time_s: float) -> float:
    return 9.0 * time_s


def report(way_m: Callable[[float], float], validity: Validity = Validity.OK) -> dict:
    """Judge a volume that was told of somebody who stood."""
    played = goes(way_m, 1.6)
    first = {key: own for key, own in told(played, validity=validity).items() if key[1] == 0}
    return volume_report(dataclasses.replace(played, volumes=first), SHAPE, 3)


def test_a_volume_is_kept_as_it_was() -> None:
    whole = volume()
    kept = KeptVolume.of(whole)
    assert (kept.person_id, kept.stamp_ns, kept.promise) == ('anna', STAMP_NS, 'coverage')
    for mine, window in zip(kept.windows, whole.windows, strict=True):
        assert mine.grid == window.grid
        np.testing.assert_array_equal(mine.covered, window.covered)
        np.testing.assert_allclose(mine.probability, window.probability, atol=0.51 / 255)
        assert mine.volume_m3 == window.volume_m3
        assert len(mine.packed_covered + mine.packed_probability) < window.probability.nbytes / 10


def test_nobody_is_kept_more_often_than_five_times_a_second() -> None:
    keeper, whole = VolumeKeeper(), volume()
    for step in range(30):
        stamp_ns = STAMP_NS + step * 33_333_333
        people = [dataclasses.replace(whole, person_id=each, stamp_ns=stamp_ns) for each in 'ab']
        keeper.take(0, people[: 1 + step % 2])  # b is seen in every other message
    kept = [each.person_id for told in keeper.kept.values() for each in told]
    assert kept.count('a') == 5 and kept.count('b') == 5


def test_who_stands_stays_inside_and_who_runs_away_does_not() -> None:
    still, gone = report(stands), report(runs_away)
    assert still['coverage'] == dict.fromkeys(ENDS, 1.0)
    assert gone['coverage'] == dict.fromkeys(ENDS, 0.0)
    assert (still['scored'], still['level'], still['horizon_s']) == (1, 0.95, 1.0)
    sizes = [window.volume_m3 for window in KEPT[Validity.OK].windows]
    assert list(still['volume_m3'].values()) == pytest.approx(sizes)


def test_coverage_is_joint_over_all_times_so_far() -> None:
    leaves = report(lambda time_s: 20.0 * max(0.0, time_s - 0.6))
    assert list(leaves['coverage'].values()) == [1.0, 1.0, 0.0]
    comes_back = report(lambda time_s: 9.0 if 0.36 < time_s < 0.45 else 0.0)
    assert list(comes_back['coverage'].values()) == [1.0, 0.0, 0.0]


def test_a_reachable_set_claims_no_coverage_and_is_counted_apart() -> None:
    found = report(stands, Validity.INCOMPLETE)
    assert found['times'] == found['scored'] == 0 and found['coverage'] == {}
    assert found['fallbacks'] == {'incomplete': 1} and found['voxels'] == {}
    assert found['reachable_held'] == dict.fromkeys(ENDS, 1.0)
    assert report(runs_away, Validity.INCOMPLETE)['reachable_held'] == dict.fromkeys(ENDS, 0.0)


def test_who_was_not_seen_to_the_end_is_not_scored() -> None:
    played = goes(stands, 0.9)
    found = volume_report(dataclasses.replace(played, volumes=told(played)), SHAPE, 3)
    assert found['scored'] == 0 and found['times'] == 5


def test_reliability_tells_said_from_came() -> None:
    random = np.random.default_rng(0)
    chance = random.uniform(0.01, 1.0, 216_000).astype(np.float32)
    right, wrong = Reliability(), Reliability()
    right.add(chance, random.uniform(size=chance.shape) < chance)
    wrong.add(chance, random.uniform(size=chance.shape) < chance**3)
    figures = right.figures('voxels')
    for tenth in figures['reliability']:
        assert tenth['observed'] == pytest.approx(tenth['predicted'], abs=0.02)
    assert sum(tenth['voxels'] for tenth in figures['reliability']) == right.cases == 216_000
    middle = wrong.figures('voxels')['reliability'][5]
    assert middle['observed'] < middle['predicted'] - 0.3
    assert figures['brier'] < wrong.figures('voxels')['brier']


def test_voxels_that_are_trivially_empty_do_not_count() -> None:
    voxels = report(stands)['voxels']['0.25']['reliability']
    window = next(iter(told(goes(stands, 3.0)).values()))[0].windows[0]
    assert 0 < sum(tenth['voxels'] for tenth in voxels) < window.covered.size


def test_the_table_tells_coverage_and_size() -> None:
    said = io.StringIO()
    print_volumes(report(stands), Console(file=said, width=120))
    assert 'Keep-out volumes, 95 % nominal' in said.getvalue()
    assert said.getvalue().count('100.0 %') == 3
    said = io.StringIO()
    print_volumes(report(stands, Validity.INCOMPLETE), Console(file=said, width=400))
    assert 'Keep-out' not in said.getvalue() and '1 incomplete (covered 100 %' in said.getvalue()


def test_the_surface_of_one_voxel_is_a_cube() -> None:
    inside = np.zeros((3, 4, 5), dtype=bool)
    inside[1, 2, 3] = True
    found = faces(inside, VoxelGrid((1.0, 0.0, -1.0), 0.5, inside.shape))
    assert found.shape == (6, 4, 3)
    np.testing.assert_allclose(found.reshape(-1, 3).min(axis=0), [1.5, 1.0, 0.5])
    np.testing.assert_allclose(found.reshape(-1, 3).max(axis=0), [2.0, 1.5, 1.0])
    sides = found.max(axis=1) - found.min(axis=1)
    np.testing.assert_allclose(np.sort(sides, axis=1), [[0.0, 0.5, 0.5]] * 6)
