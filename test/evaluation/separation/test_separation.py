"""Rules are judged by what they stop and miss, families where they miss equally many."""

import dataclasses
import io

import numpy as np
import pytest
from rich.console import Console

from motion_predictor_ros.evaluation.separation.separation import (
    FAMILIES,
    Decisions,
    judge,
    print_separation,
    rates,
    stops_at_missed,
    weighted_stops,
    with_service,
)
from motion_predictor_ros.volume.calibration import CollisionCalibration


def decisions(people: int = 6, lines: int = 2000, seed: int = 0) -> Decisions:
    """Return lines whose contacts `ours` ranks better than the other families do."""
    random = np.random.default_rng(seed)
    count = people * lines
    contact = random.uniform(size=count) < 0.1
    noise = {family: random.normal(size=count) for family in FAMILIES}
    sharp = dict(zip(FAMILIES, (1.0, 1.5, 2.0, 3.0, 4.0), strict=True))
    return Decisions(
        people=np.repeat(np.arange(people), lines),
        speeds=random.uniform(0.0, 2.0, count),
        kinds=np.zeros(count, np.int64),
        contact=contact,
        counted=random.uniform(size=count),
        scores={family: noise[family] + sharp[family] * contact for family in FAMILIES},
        stops={
            'always': np.ones(count, np.bool_),
            'never': np.zeros(count, np.bool_),
            'oracle': contact,
        },
    )


def taken(made: Decisions, index: np.ndarray) -> Decisions:
    """Return some of the lines."""
    return Decisions(
        made.people[index],
        made.speeds[index],
        made.kinds[index],
        made.contact[index],
        made.counted[index],
        {family: scores[index] for family, scores in made.scores.items()},
        {rule: stops[index] for rule, stops in made.stops.items()},
    )


def test_who_always_stops_misses_nothing_and_who_never_stops_misses_all() -> None:
    made = decisions()
    found = rates(made, np.ones(len(made.contact), np.bool_))
    assert found['always'] == {'stops': 1.0, 'missed': 0.0, 'moving': 0.0}
    assert found['never'] == {'stops': 0.0, 'missed': 1.0, 'moving': 1.0}
    assert found['oracle']['missed'] == 0.0
    assert found['oracle']['stops'] == pytest.approx(made.contact.mean())


def test_no_contact_leaves_the_share_of_missed_ones_unknown() -> None:
    made = decisions()
    found = rates(made, ~made.contact)
    assert found['always']['missed'] is None and found['always']['stops'] == 1.0


def test_stops_at_equal_misses_follow_from_the_order_of_the_scores() -> None:
    made = decisions()
    found = weighted_stops(made, 'ours', np.ones((1, 6)))[0]
    contacts = np.sort(made.scores['ours'][made.contact])
    for missed, stops in zip((0.02, 0.01, 0.005), found, strict=True):
        threshold = contacts[int(missed * len(contacts))]
        assert stops == pytest.approx((made.scores['ours'] >= threshold).mean())
        assert (contacts < threshold).mean() <= missed


def test_a_person_who_counts_twice_is_one_who_is_there_twice() -> None:
    made = decisions(people=3)
    doubled = taken(
        made, np.concatenate([np.arange(len(made.people)), np.flatnonzero(made.people == 1)])
    )
    weighted = weighted_stops(made, 'ours', np.array([[1.0, 2.0, 1.0]]))
    np.testing.assert_allclose(weighted, weighted_stops(doubled, 'ours', np.ones((1, 3))))
    # Control: counting somebody else twice gives something else.
    other = weighted_stops(made, 'ours', np.array([[2.0, 1.0, 1.0]]))
    assert not np.allclose(weighted, other)


def test_families_are_compared_with_motion_deq_over_people() -> None:
    found = stops_at_missed(decisions(), seed=0)
    assert set(found) == set(FAMILIES)
    for missed in ('0.02', '0.01', '0.005'):
        assert found['motion_deq'][missed]['relative'] == 1.0
        assert found['motion_deq'][missed]['low'] == found['motion_deq'][missed]['high'] == 1.0
        ours, present = found['ours'][missed], found['present'][missed]
        assert ours['low'] <= ours['relative'] <= ours['high'] < 1.0 < present['low']


def test_the_bootstrap_is_as_wide_as_people_differ() -> None:
    alike = stops_at_missed(decisions(people=8), seed=0)['ours']['0.01']
    made = decisions(people=8)
    odd = made.scores['ours'] - 6.0 * (made.people == 3) * made.contact
    scores = {**made.scores, 'ours': odd}
    differing = stops_at_missed(dataclasses.replace(made, scores=scores), seed=0)['ours']['0.01']
    assert differing['high'] - differing['low'] > 3.0 * (alike['high'] - alike['low'])


def test_the_same_seed_gives_the_same_report() -> None:
    made = decisions()
    report = judge(made, ['walk'], seed=3)
    assert report == judge(made, ['walk'], seed=3)
    assert report['stops_at_missed'] != judge(made, ['walk'], seed=4)['stops_at_missed']


def test_the_report_is_split_by_speed_and_kind() -> None:
    made = decisions()
    report = judge(made, ['walk'], seed=0)
    parts = report['by_speed'].values()
    assert sum(part['decisions'] for part in parts) == report['decisions']
    assert sum(part['contacts'] for part in parts) == report['contacts']
    assert report['by_kind']['walk']['rules'] == report['rules']
    slow, fast = report['by_speed']['slow'], report['by_speed']['fast']
    assert slow['speed_m_s'][1] <= fast['speed_m_s'][0]


def test_the_printed_table_says_what_its_brackets_are() -> None:
    report = {'0.5': {**judge(decisions(), ['walk'], seed=0), 'reliability': {}}}
    printed = []
    for stopping in (report, {}):
        text = io.StringIO()
        print_separation({'stopping': stopping}, Console(file=text, width=200))
        printed.append(text.getvalue())
    legend = 'in brackets the 5 and 95 % quantiles of a bootstrap over people'
    assert legend in ' '.join(printed[0].split()) and '[1.00, 1.00]' in printed[0]
    assert legend not in printed[1]  # control: no table


def test_calibrated_probabilities_come_true_as_often_as_they_say() -> None:
    random = np.random.default_rng(0)
    counted = random.choice(np.arange(51) / 50.0, 40_000, p=_mostly_zero())
    truth = random.uniform(size=40_000) < 0.02 + 0.5 * counted**2
    half = slice(0, 20_000), slice(20_000, None)
    calibration = CollisionCalibration.fit(counted[half[0]], truth[half[0]])
    assert (np.diff(calibration.probabilities) >= 0.0).all()
    made = dataclasses.replace(
        decisions(people=1, lines=20_000),
        contact=truth[half[1]],
        counted=counted[half[1]],
        scores={family: counted[half[1]] for family in FAMILIES},
    )
    judged, found = with_service(made, calibration)
    for part in found['calibrated']['bins']:
        error = 3.0 * np.sqrt(part['observed'] / part['lines']) + 0.002
        assert part['predicted'] == pytest.approx(part['observed'], abs=error)
    # Control: what is counted is off by more, and says 0 where 2 % are crossed.
    assert found['counted']['bins'][0]['observed'] > 0.01
    assert found['counted']['brier'] > found['calibrated']['brier']
    assert judged.stops['service_0.05'].mean() < judged.stops['service_0.02'].mean()


def _mostly_zero() -> np.ndarray:
    chance = np.exp(-0.2 * np.arange(51))
    chance[0] = 5.0 * chance.sum()
    return chance / chance.sum()
