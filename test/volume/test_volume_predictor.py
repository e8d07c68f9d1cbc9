# SPDX-License-Identifier: Apache-2.0
"""Volumes rest on futures where they can, and say why where they cannot."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from volume_scenes import PERIOD_S, SHAPE, STANDING, calibration

from motion_predictor_ros.config import VolumeConfig
from motion_predictor_ros.density.types import Futures
from motion_predictor_ros.errors import CheckpointError, ConfigError
from motion_predictor_ros.prediction.types import Prediction
from motion_predictor_ros.runtime.threads import WorkerPool
from motion_predictor_ros.skeleton.frame import Validity, Window
from motion_predictor_ros.volume.calibration import ModelDigests, save_calibration
from motion_predictor_ros.volume.capsules import Bodies, bodies
from motion_predictor_ros.volume.predictor import BELOW_FLOOR_M, VolumePredictor
from motion_predictor_ros.volume.voxels import covered, touched

CONFIG = VolumeConfig(level=0.95, horizon_s=1.0, voxel_m=0.1)


def prediction(**changes: object) -> Prediction:
    """A person who stands still and was seen whole."""
    seen = np.repeat(STANDING[None], 25, axis=0)
    everything = np.ones(seen.shape[:2], dtype=bool)
    window = Window('ann', 7, seen, everything, everything.astype(np.float32), restarted=False)
    plain = Prediction('ann', 7, Validity.OK, window=window, positions=seen)
    return dataclasses.replace(plain, **changes)  # type: ignore[arg-type]


def futures(novelty: float = 0.5, speed: float = 0.3) -> Futures:
    """Somebody else, and ann, who may go anywhere slowly."""
    random = np.random.default_rng(0)
    times_s = PERIOD_S * np.arange(1, 51)
    way = random.normal(0.0, speed, (2, 10, 1, 1, 3)) * times_s[:, None, None]
    return Futures(
        person_ids=('bob', 'ann'),
        stamp_ns=np.array([7, 7]),
        horizons_s=times_s,
        positions=STANDING + way,
        weights=np.full((2, 10), 0.1),
        log_density=random.normal(size=(2, 10)),
        cached=np.zeros((2, 10), dtype=np.int64),
        effective_sample_size=np.array([100.0, 80.0]),
        importance_samples=1000,
        novelty=np.array([0.1, novelty]),
    )


def predictor(
    reach_m: float = 0.6, config: VolumeConfig = CONFIG, pool: WorkerPool | None = None
) -> VolumePredictor:
    made = calibration(np.linspace(0.1, reach_m, 60))
    return VolumePredictor(SHAPE, made, config, PERIOD_S, pool=pool)


def test_a_person_seen_well_has_a_calibrated_volume() -> None:
    found = predictor().assess(prediction(), futures(), STANDING, frame_id='map')
    assert (found.validity, found.cause, found.reason) == (Validity.OK, '', '')
    assert (found.promise, found.level, found.horizon_s) == ('coverage', 0.95, 1.0)
    assert found.calibration == 'made_up@0' and not found.approximate
    assert (found.person_id, found.stamp_ns, found.frame_id) == ('ann', 7, 'map')
    assert [(each.start_s, each.end_s) for each in found.windows] == [
        (0.0, 0.25), (0.25, 0.5), (0.5, 1.0),
    ]  # fmt: skip
    assert found.effective_sample_size == 80.0
    for each in found.windows:
        assert each.covered.shape == each.probability.shape == each.grid.shape
        assert each.probability.max() == pytest.approx(1.0, abs=1e-5)
        assert not each.covered[each.probability == 0].all()


@pytest.mark.parametrize(
    ('changes', 'novelty', 'age_s', 'validity', 'cause', 'reason'),
    [
        ({}, 0.5, 0.6, Validity.STALE, 'stale', '0.60 s old'),
        ({'validity': Validity.STALE}, 0.5, 0.0, Validity.STALE, 'stale', 'old'),
        (
            {'validity': Validity.INCOMPLETE, 'reason': 'pelvis not seen'},
            0.5, 0.0, Validity.INCOMPLETE, 'incomplete', 'pelvis not seen',
        ),
        ({'validity': Validity.WARMING_UP}, 0.5, 0.0, Validity.WARMING_UP, 'warming_up', ''),
        ({}, 1.2, 0.0, Validity.OUT_OF_DISTRIBUTION, 'out_of_distribution', '1.20 times'),
        ({}, np.nan, 0.0, Validity.OUT_OF_DISTRIBUTION, 'out_of_distribution', 'nan times'),
        ({'person_id': 'eve'}, 0.5, 0.0, Validity.WARMING_UP, 'no_futures', 'no futures'),
    ],
)  # fmt: skip
def test_futures_that_cannot_be_trusted_give_the_reachable_set_and_say_why(
    changes: dict[str, object],
    novelty: float,
    age_s: float,
    validity: Validity,
    cause: str,
    reason: str,
) -> None:
    asked = predictor()
    found = asked.assess(prediction(**changes), futures(novelty), STANDING, age_s=age_s)
    assert (found.validity, found.cause) == (validity, cause) and reason in found.reason
    assert (found.level, found.calibration) == (0.0, '')
    assert asked.fallbacks == {cause: 1}
    good = predictor().assess(prediction(), futures(), STANDING)
    assert found.windows[-1].volume_m3 > good.windows[-1].volume_m3


def test_a_joint_out_of_sight_gives_the_reachable_set_and_names_it() -> None:
    whole = prediction().window
    assert whole is not None
    observed = whole.observed.copy()
    observed[:, SHAPE.layout.joint_names.index('l_wrist')] = False
    pose = STANDING.copy()
    pose[SHAPE.layout.joint_names.index('l_wrist')] = np.nan
    lost = prediction(window=dataclasses.replace(whole, observed=observed))
    found = predictor().assess(lost, futures(), pose)
    assert found.validity == Validity.INCOMPLETE and 'l_wrist' in found.reason


def test_risk_is_promised_where_it_is_asked_for_and_takes_less_space() -> None:
    config = dataclasses.replace(CONFIG, promise='risk', risk=0.05)
    risk = predictor(config=config).assess(prediction(), futures(), STANDING)
    assert (risk.promise, risk.level) == ('risk', 0.05)
    coverage = predictor().assess(prediction(), futures(), STANDING)
    for small, large in zip(risk.windows, coverage.windows, strict=True):
        assert small.threshold > large.threshold and 0 < small.volume_m3 < large.volume_m3


def test_capsules_of_a_volume_hold_it() -> None:
    found = predictor().assess(prediction(), futures(), STANDING)
    for window in found.windows:
        assert covered(window.bodies, window.grid)[window.covered].all()
        thinner = window.bodies.inflated(-0.2)
        assert not covered(thinner, window.grid, padding_m=0.0)[window.covered].all()


def standing(sunk_m: float) -> Bodies:
    """The body of somebody who stands, sunk into the floor."""
    points = np.repeat(SHAPE.points(STANDING - [0.0, 0.0, sunk_m])[None, None], 2, axis=1)
    return bodies(SHAPE, points, np.ones(1), np.array([0.0, 0.04]))


def test_nothing_is_covered_below_the_floor_or_beyond_what_can_be_reached() -> None:
    whole = predictor(reach_m=3.0).assess(prediction(), futures(), STANDING)
    lowest_m = -0.1  # what feet on the floor reach
    known = dataclasses.replace(CONFIG, floor_m=lowest_m + BELOW_FLOOR_M)
    floored = predictor(3.0, known)
    cut = floored.assess(prediction(), futures(), STANDING)
    for window, all_of_it in zip(cut.windows, whole.windows, strict=True):
        lowest = window.grid.origin[2] + window.grid.size_m * np.argwhere(window.covered)[:, 2]
        assert lowest_m - window.grid.size_m < lowest.min() < lowest_m + 1e-6
        assert window.volume_m3 < all_of_it.volume_m3
        feet = standing(0.0)
        assert window.covered[touched(feet, window.grid)].all()
        sunk = standing(0.5)
        assert not window.covered[touched(sunk, window.grid)].all()
    slow = dataclasses.replace(CONFIG, upper_speed_m_s=0.2, body_speed_m_s=0.2)
    near = predictor(3.0, slow).assess(prediction(), futures(), STANDING)
    assert near.windows[0].volume_m3 < 0.75 * whole.windows[0].volume_m3
    for window in near.windows:
        limit = 0.05 + 0.2 * window.end_s + 2.0 * window.grid.padding_m
        inside = window.grid.centres(window.covered)
        away = np.linalg.norm(inside[:, None] - SHAPE.points(STANDING)[None], axis=-1).min(axis=1)
        assert away.max() < limit + 0.35  # the body's own size around its points


def test_a_level_that_cannot_be_certified_is_refused_at_once() -> None:
    few = calibration(np.linspace(0.1, 1, 10))
    with pytest.raises(ConfigError, match='needs 19 clips'):
        VolumePredictor(SHAPE, few, CONFIG, PERIOD_S)
    with pytest.raises(ConfigError, match='horizon'):
        predictor(config=dataclasses.replace(CONFIG, horizon_s=2.0))


def test_later_windows_of_a_reachable_set_hold_the_earlier_ones() -> None:
    found = predictor().assess(prediction(), None, STANDING)
    for early, late in zip(found.windows, found.windows[1:], strict=False):
        centres = early.grid.centres(early.covered)
        place = np.floor((centres - late.grid.origin) / late.grid.size_m + 1e-6).astype(int)
        assert late.covered[tuple(place.T)].all()
    np.testing.assert_array_equal(found.windows[0].probability > 0, found.windows[0].covered)
    last = found.windows[-1]
    assert covered(found.bodies, last.grid)[last.covered].all()


def test_a_predictor_from_files_says_the_same(tmp_path: Path) -> None:
    path = tmp_path / 'made_up.safetensors'
    made = calibration(np.linspace(0.1, 0.6, 60))
    save_calibration(path, made)
    config = dataclasses.replace(CONFIG, calibration=str(path))
    loaded = VolumePredictor.load(config, made.digests, 'body18', PERIOD_S)
    found = loaded.assess(prediction(), futures(), STANDING)
    expected = predictor().assess(prediction(), futures(), STANDING)
    np.testing.assert_array_equal(found.windows[1].covered, expected.windows[1].covered)
    assert found.calibration.startswith('made_up@')
    with pytest.raises(CheckpointError, match='in use are'):
        VolumePredictor.load(config, ModelDigests('d', 'c', 'another'), 'body18', PERIOD_S)


def test_coarser_voxels_cover_no_less() -> None:
    fine = predictor().assess(prediction(), futures(), STANDING)
    coarse = predictor().assess(prediction(), futures(), STANDING, coarseness=2.0)
    large = predictor(config=dataclasses.replace(CONFIG, voxel_m=0.2))
    for ours, theirs, also in zip(
        fine.windows,
        coarse.windows,
        large.assess(prediction(), futures(), STANDING).windows,
        strict=True,
    ):
        assert (ours.grid.size_m, theirs.grid.size_m) == pytest.approx((0.1, 0.2))
        centres = ours.grid.centres(ours.covered)
        index = np.floor((centres - theirs.grid.origin) / theirs.grid.size_m + 1e-6).astype(int)
        assert theirs.covered[tuple(index.T)].all()
        assert 0 < theirs.covered.sum() < ours.covered.sum()
        np.testing.assert_array_equal(theirs.covered, also.covered)


@pytest.mark.parametrize('threads', [1, 2])
def test_everybody_is_assessed_as_if_alone(threads: int) -> None:
    shared = predictor(pool=WorkerPool(threads))
    crowd = [prediction(), prediction(person_id='eve'), prediction(person_id='bob')] * 2
    found = shared.assess_all([(each, STANDING, 0.0) for each in crowd], futures(), frame_id='map')
    assert [each.person_id for each in found] == ['ann', 'eve', 'bob'] * 2
    assert shared.fallbacks == {'no_futures': 2}  # of eve
    for each, whole in zip(crowd, found, strict=True):
        alone = predictor().assess(each, futures(), STANDING, frame_id='map')
        assert alone.cause == whole.cause
        for one, other in zip(alone.windows, whole.windows, strict=True):
            assert one.grid == other.grid
            np.testing.assert_array_equal(one.covered, other.covered)
            np.testing.assert_array_equal(one.probability, other.probability)
    ann, bob = found[0].windows[-1].probability, found[2].windows[-1].probability
    assert ann.shape != bob.shape or (ann != bob).any()  # control: they differ
