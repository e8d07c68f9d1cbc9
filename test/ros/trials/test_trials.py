# SPDX-License-Identifier: Apache-2.0
"""The trials of the live node: what they conclude, and that each runs from end to end."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from motion_predictor_ros.msg import PredictedMotion
from scenes import stream, write_bag
from trials import soak
from trials.__main__ import main as run_trial
from trials.cuts import Cut, judge
from trials.feeder import Answer
from trials.replay_live import with_fewer

from motion_predictor_ros.data.bags import skeleton_messages

OK, STALE = (PredictedMotion.OK,), (PredictedMotion.STALE,)
SENT_S = {0: -0.1, 1: 0.0, 2: 1.0, 3: 1.1}
CUT = [Cut((0, 1), (2, 3))]


def test_cuts_are_timed_from_the_last_and_the_next_observation() -> None:
    answers = [Answer(0.1, 1, OK), Answer(0.4, 1, STALE), Answer(1.2, 2, OK)]
    report = judge(CUT, SENT_S, answers)
    assert (report.cuts, report.stale_s_max) == (1, 0.4)
    assert report.recovery_s_max == report.ok_s == pytest.approx(0.2)
    assert report.fresh_stamps_on_stale == 0


def test_stale_may_bear_the_stamp_of_the_last_observation_that_was_answered() -> None:
    answers = [Answer(0.0, 0, OK), Answer(0.3, 0, STALE), Answer(1.2, 2, OK)]
    assert judge(CUT, SENT_S, answers).stale_s_max == 0.3


def test_stale_that_an_answer_follows_is_not_how_the_node_went_blind() -> None:
    answers = [
        Answer(0.1, 0, STALE),
        Answer(0.2, 1, OK),
        Answer(0.5, 1, STALE),
        Answer(1.2, 2, OK),
    ]
    assert judge(CUT, SENT_S, answers).stale_s_max == 0.5
    assert judge(CUT, SENT_S, [*answers[:2], *answers[3:]]).stale_s_max == np.inf


def test_an_answer_that_lists_who_has_left_is_not_a_node_gone_blind() -> None:
    assert not Answer(0.1, 1, OK + STALE).stale and Answer(0.1, 1, STALE + STALE).stale
    assert not Answer(0.1, 1, (), markers=True).stale


@pytest.mark.parametrize(
    'bad',
    [Answer(0.5, 99, OK), Answer(0.5, 1, OK), Answer(0.5, 1, (), markers=True)],
    ids=['a stamp of no observation', 'a prediction after STALE', 'a drawing after STALE'],
)
def test_predictions_on_stale_data_are_counted(bad: Answer) -> None:
    answers = [Answer(0.1, 1, OK), Answer(0.4, 1, STALE), bad, Answer(1.2, 2, OK)]
    assert judge(CUT, SENT_S, answers).fresh_stamps_on_stale == 1


def test_markers_published_before_stale_may_arrive_after_it() -> None:
    late = Answer(0.5, 1, (), markers=True, published_ns=2)
    stale, again = Answer(0.4, 1, STALE, published_ns=3), Answer(1.2, 2, OK, published_ns=4)
    assert judge(CUT, SENT_S, [stale, late, again]).fresh_stamps_on_stale == 0


def test_a_node_that_never_publishes_stale_or_never_recovers_has_no_finite_time() -> None:
    report = judge(CUT, SENT_S, [Answer(0.1, 1, OK)])
    assert report.stale_s_max == report.recovery_s_max == np.inf


def rows(leak_mb_per_s: float, slower_ms_per_s: float) -> list[soak.Row]:
    times_s = np.arange(10.0, 1200.0, 10.0)
    return [
        soak.Row(at, 10, 300 + leak_mb_per_s * at, 300, 300, 0, 5.0, 20 + slower_ms_per_s * at)
        for at in times_s
    ]


def test_a_soak_detects_leaks_and_growing_latency() -> None:
    sound = soak.judge(20, rows(0.0, 0.0), 0, soak.Drops())
    assert sound.rss_slope_mb_per_10min == pytest.approx(0.0, abs=1e-9)
    assert sound.p99_ms_first == sound.p99_ms_last == 20.0
    leaking = soak.judge(20, rows(0.01, 0.02), 3, soak.Drops({'superseded': 4}, 2))
    assert leaking.rss_slope_mb_per_10min == pytest.approx(6.0)
    assert leaking.p99_ms_last > leaking.p99_ms_first + 10
    assert (leaking.lost, leaking.superseded, leaking.shed) == (3, 4, 2)


def last_line(capsys: pytest.CaptureFixture[str]) -> dict[str, float]:
    found: dict[str, float] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return found


def test_cuts_run_against_a_real_node(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_trial(['cuts', '1', '--weights', str(model)])  # slow machines return 2
    said = last_line(capsys)
    assert list(said) == ['cuts', 'stale_s_max', 'recovery_s_max', 'fresh_stamps_on_stale']
    assert said['fresh_stamps_on_stale'] == 0 and said['stale_s_max'] > 0.3


def test_a_node_is_killed_and_the_next_one_predicts(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_trial(['restarts', '2', '--weights', str(model)])
    said = last_line(capsys)
    assert list(said) == ['restarts', 'answer_s_max', 'predicted_s_max']
    assert 0 < said['answer_s_max'] < said['predicted_s_max']


def test_live_and_replay_are_compared(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = write_bag(tmp_path / 'walk.mcap', stream(0.0, 2.0, 'ann'))
    run_trial(['replay-live', '--bag', str(bag), '--weights', str(model)])
    said = last_line(capsys)
    assert list(said) == ['frames', 'processed_share', 'max_abs_difference_m']
    assert said['frames'] > 0 and said['max_abs_difference_m'] < 0.01


def test_a_bag_can_be_thinned_to_one_person(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / 'two.mcap', stream(0.0, 0.5, 'ann', 'ben'))
    whole = [each.message for each in skeleton_messages(bag)]
    alone = [each.message for each in skeleton_messages(with_fewer(bag, 1, tmp_path / 'one.mcap'))]
    assert [len(each.persons) for each in whole] == [2] * len(alone)
    for one, both in zip(alone, whole, strict=True):
        assert [each.person_id for each in one.persons] == ['ann']
        assert one.header == both.header
        np.testing.assert_array_equal(one.persons[0].positions, both.persons[0].positions)


def test_latency_counts_from_the_stamp_to_motion_and_volumes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run_trial(['latency', '--seconds', '3']) == 0
    said = last_line(capsys)
    assert said['observations'] == 90 and 0 < said['answered_share'] <= 1
    assert 0 < said['motion_ms_p50'] <= said['motion_ms_p99']
    assert 0 < said['volume_ms_p50'] <= said['volume_ms_p99'] and 0 < said['volumes'] <= 16
    assert 0 < said['cores'] < 16
    stages_ms = said['stages_ms']
    assert {'skeleton', 'prediction', 'density', 'volume', 'publish'} <= set(stages_ms)
    assert all(0 <= each['p50'] <= each['p99'] for each in stages_ms.values())


def test_a_short_soak_loses_nothing_and_leaves_a_table(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / 'soak.csv'
    words = ['soak', '--minutes', '0.1', '--out', str(table), '--weights', str(model)]
    assert run_trial(words) == 0
    assert last_line(capsys)['lost'] == 0
    with table.open(encoding='utf-8') as file:
        (row,) = csv.DictReader(file)
    assert int(row['answered']) > 0 and float(row['rss_mb']) > 50 and float(row['p99_ms']) > 0
