# SPDX-License-Identifier: Apache-2.0
"""Calibration and evaluation from files to figures, on made-up people and untrained models."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from cache_flow_models import TINY, write_cache_flow
from models import write_weights
from walkers import walkers

from motion_predictor_ros.cli.main import main as cli
from motion_predictor_ros.config import DensityConfig
from motion_predictor_ros.data.recordings import Clip, Recordings
from motion_predictor_ros.density.cache_flow.checkpoint import load_cache_flow
from motion_predictor_ros.errors import ConfigError, DataError
from motion_predictor_ros.evaluation.archive import Archive
from motion_predictor_ros.evaluation.compare import compare
from motion_predictor_ros.evaluation.volumes import volume as judge
from motion_predictor_ros.evaluation.volumes.plots import plot_volume
from motion_predictor_ros.training.cache_build import build_cache
from motion_predictor_ros.training.volume_calibration import (
    CalibrationRecipe,
    calibrate,
    fit_spread,
)
from motion_predictor_ros.training.volume_windows import Models, cases_of, fit_for_use, windows_of
from motion_predictor_ros.volume.calibration import Calibration

PERIOD_S = 0.04
SHAPE = dataclasses.replace(TINY, past=25, future=25)
RECIPE = CalibrationRecipe(horizons_s=(0.5, 1.0))


def crowd(train: int = 6, val: int = 24, test: int = 24) -> Recordings:
    """Return short clips of many people who walk and swing, each at their own pace."""
    random = np.random.default_rng(0)
    clips, kept, start = [], [], 0
    one = walkers()
    base = one.positions[:200]
    for split, count in (('train', train), ('val', val), ('test', test)):
        for number in range(count):
            pace = random.uniform(0.5, 1.5)
            moved = base[0] + pace * (base - base[0]) + random.normal(0, 0.02, base.shape)
            action = ('walk', 'stroll')[number % 2]
            subject = f'{split}{number}'
            clips.append(Clip(subject, subject, split, False, start, 200, action))
            kept.append(moved.astype(np.float32))
            start += 200
    return Recordings(one.joint_names, 50.0, np.concatenate(kept), tuple(clips), ())


@pytest.fixture(scope='module')
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp('volume')
    weights = write_cache_flow(folder / 'tiny.safetensors', SHAPE)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    cache = build_cache(load_cache_flow(str(weights), torch.device('cpu')), crowd(), 100)
    torch.set_default_dtype(before)
    # Untrained: nothing is like what was recorded.
    figures = {**cache.figures, 'typical_distance': 1e6}
    dataclasses.replace(cache, figures=figures).save(folder / 'cache.safetensors', 'float32')
    data = folder / 'clips.npz'
    people = crowd()
    meta = {
        'joint_names': people.joint_names,
        'fps': 50.0,
        'clips': {
            clip.key: {'subject': clip.subject, 'split': clip.split, 'description': clip.action}
            for clip in people.clips
        },
    }
    arrays = {
        clip.key: people.positions[clip.start : clip.start + clip.length] for clip in people.clips
    }
    np.savez(data, __meta__=json.dumps(meta), **arrays)
    return {
        'checkpoint': str(weights),
        'cache': str(folder / 'cache.safetensors'),
        'motion-deq': str(write_weights(folder / 'deq.safetensors')),
        'data': str(data),
        'folder': str(folder),
    }


@pytest.fixture(scope='module')
def models(files: dict[str, str]) -> Models:
    config = DensityConfig(
        weights=files['checkpoint'],
        cache=files['cache'],
        device='cpu',
        futures=6,
        importance_samples=50,
    )
    return Models.load(config, files['motion-deq'])


@pytest.fixture(scope='module')
def calibrated(models: Models) -> Calibration:
    return calibrate(models, crowd(), RECIPE)


def test_one_window_a_clip_or_several_that_lie_four_seconds_apart() -> None:
    people = crowd(1, 1, 1)
    long = dataclasses.replace(people.clips[0], length=600)
    downsampled = dataclasses.replace(people, clips=(long,))
    several = windows_of(downsampled, 50, PERIOD_S, several=True)
    assert len(several) == 3  # at 0, 4 and 8 of 12 seconds
    np.testing.assert_array_equal(several[1][1][0], people.positions[200])
    assert len(windows_of(people, 50, PERIOD_S, several=False)) == 3
    with pytest.raises(DataError, match='no clip is as long'):
        windows_of(people, 500, PERIOD_S, several=False)


def test_calibrated_levels_hold_on_exchangeable_people(
    models: Models, calibrated: Calibration
) -> None:
    """24 people against 24: within three standard errors of both samples."""
    judged = crowd().select(lambda clip: clip.split == 'test')
    for until in calibrated.horizons:
        cases = fit_for_use(
            cases_of(models, judged, until.horizon_s, several=False),
            round(until.horizon_s / PERIOD_S),
        )
        assert len(cases) == 24
        for level in until.levels:
            found = judge.coverage(cases, until)[f'{level:.2f}']
            assert found >= level - 3 * np.sqrt(2 * level * (1 - level) / 24)


def test_coverage_sees_a_radius_that_is_too_small(models: Models, calibrated: Calibration) -> None:
    until = calibrated.until(1.0)
    half = dataclasses.replace(until, scores=0.5 * until.scores)
    judged = crowd().select(lambda clip: clip.split == 'test')
    cases = fit_for_use(cases_of(models, judged, 1.0, several=False), 25)
    assert judge.coverage(cases, half)['0.95'] < 0.5


def test_levels_beyond_the_clips_are_left_out(calibrated: Calibration) -> None:
    for until in calibrated.horizons:
        assert until.levels == (0.5, 0.8, 0.9, 0.95)
        assert until.scores.shape == (4, 24)


def test_a_subject_in_two_splits_is_refused(models: Models) -> None:
    people = crowd()
    both = tuple(dataclasses.replace(clip, subject='same') for clip in people.clips)
    with pytest.raises(DataError, match='none may be in both'):
        calibrate(models, dataclasses.replace(people, clips=both), RECIPE)
    with pytest.raises(ConfigError, match='the futures end at'):
        calibrate(models, people, CalibrationRecipe(horizons_s=(3.0,)))


def test_g_grows_with_time_as_errors_do(models: Models) -> None:
    train = crowd().select(lambda clip: clip.split == 'train')
    cases = fit_for_use(cases_of(models, train, 1.0, several=True), 25)
    g = fit_spread(cases).of(cases[0].look)
    assert g.shape == cases[0].truth.shape[:2]
    assert (g[20] > 2.0 * g[2]).all()


def test_commands_print_the_promised_keys(
    files: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    common = [
        '--data', files['data'], '--checkpoint', files['checkpoint'], '--cache', files['cache'],
        '--motion-deq', files['motion-deq'], '--samples', '6', '--device', 'cpu', '--json',
    ]  # fmt: skip
    assert cli.main(['calibrate', *common, '--level', '0.99', '--horizon', '1.0']) == 2
    assert 'needs 99 scores' in capsys.readouterr().err
    longest = ['--horizon', '0.5', '--horizon', '1.0']
    assert cli.main(['calibrate', *common, *longest]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found['horizons']['0.5']['refused']['0.99'] == 'needs 99 scores, there are 24'
    assert Path(found['file']).name == 'tiny_calibration.safetensors'
    kept = Path(files['folder'], 'a.zip')
    more = ['--out', files['folder'], '--archive', str(kept)]
    assert cli.main(['evaluate', 'volume', *common, *more]) == 0
    report = json.loads(capsys.readouterr().out)
    found = compare({'a': Archive.load(kept)})['a']
    for horizon in ('0.5', '1'):
        covered = found['ours'][f'covered, 80 % until {horizon} s']['mean']
        longer = f'{float(horizon)}'
        assert covered == pytest.approx(report['coverage_by_horizon'][longer]['0.80'])
        for name, size_m3 in report['volume_m3'][longer].items():
            mean = found[name][f'volume until {horizon} s']['mean']
            assert mean == pytest.approx(size_m3)
    assert set(report['coverage']) == {'0.80', '0.90', '0.95', '0.99'}
    assert report['coverage']['0.99'] is None and 0.5 < report['coverage']['0.80'] <= 1.0
    for horizon in ('0.5', '1.0'):
        assert set(report['volume_m3'][horizon]) == {
            'ours', 'reachable', 'constant_velocity_gaussian', 'motion_deq_gaussian',
        }  # fmt: skip
        assert all(size > 0.05 for size in report['volume_m3'][horizon].values())
    assert 0.0 <= report['brier'] <= 1.0 and report['ess_median'] >= 1.0
    assert set(report['fallback_share']) == {'stale', 'incomplete', 'out_of_distribution'}
    assert report['clips'] == 24
    assert plot_volume(report, Path(files['folder'])).stat().st_size > 10_000


def test_bench_prints_the_promised_keys(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ['bench', 'volume', '--futures', '3', '--poses', '4', '--robots', '5', '--json']
    assert cli.main(arguments) == 0
    report = json.loads(capsys.readouterr().out)
    assert report['missed_voxels'] == 0 and report['extra_voxels_share'] <= 0.05
    assert report['rasterise_ms'] > 0 and report['yardstick_ms'] > 0
    assert list(report['by_voxels']) == [str(side**3) for side in (16, 32, 64, 128, 256)]
    assert all(spent > 0 for spent in report['by_voxels'].values())
