# SPDX-License-Identifier: Apache-2.0
"""Calibration and evaluation from files to figures, on made-up people and untrained models."""

import dataclasses
import json
from pathlib import Path
from typing import Any

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
from motion_predictor_ros.evaluation.volumes import volume as judge
from motion_predictor_ros.training.cache_build import build_cache
from motion_predictor_ros.training.volume_calibration import CalibrationRecipe, calibrate
from motion_predictor_ros.training.volume_windows import (
    Models,
    above_floor,
    cases_of,
    rank_truth,
    windows_of,
)
from motion_predictor_ros.volume.calibration import Calibration
from motion_predictor_ros.volume.grid import VoxelGrid
from motion_predictor_ros.volume.voxels import touched

PERIOD_S = 0.04
SHAPE = dataclasses.replace(TINY, past=25, future=25)
RECIPE = CalibrationRecipe(horizons_s=(0.5, 1.0))


def crowd(train: int = 6, cal: int = 24, test: int = 24, val: int = 6) -> Recordings:
    """Return short clips of many people who walk and swing, each at their own pace."""
    random = np.random.default_rng(0)
    clips, kept, start = [], [], 0
    one = walkers()
    there = one.positions[:200]
    base = np.concatenate([there, there[::-1]])[:300]
    for split, count in (('train', train), ('cal', cal), ('test', test), ('val', val)):
        for number in range(count):
            pace = random.uniform(0.5, 1.5)
            moved = base[0] + pace * (base - base[0]) + random.normal(0, 0.02, base.shape)
            action = ('walk', 'stroll')[number % 2]
            subject = f'{split}{number}'
            clips.append(Clip(subject, subject, split, False, start, 300, action))
            kept.append(moved.astype(np.float32))
            start += 300
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


def test_windows_lie_four_seconds_apart_from_a_random_instant_on() -> None:
    """A clip of 2 + 14 s has 4 windows or, where the first is late, 3."""
    people = crowd(1, 1, 1, 1)
    frames = np.arange(800, dtype=np.float32)
    positions = np.broadcast_to(frames[:, None, None], (800, *people.positions.shape[1:]))
    clips = tuple(
        dataclasses.replace(people.clips[0], key=f'{number}', start=0, length=800)
        for number in range(400)
    )
    windows = windows_of(
        dataclasses.replace(people, positions=positions, clips=clips), 50, PERIOD_S
    )
    first: dict[str, list[float]] = {}
    for clip, window in windows:
        assert len(window) >= 50 and window[1, 0, 0] - window[0, 0, 0] == 2.0
        first.setdefault(clip.key, []).append(float(window[0, 0, 0]))
    assert len(first) == 400 and all((np.diff(starts) == 200.0).all() for starts in first.values())
    begin = np.array([starts[0] for starts in first.values()])
    assert begin.min() < 10 and 190 <= begin.max() < 200 and 90 < begin.mean() < 110
    assert all(starts[-1] + 200 >= 800 - 98 for starts in first.values())
    with pytest.raises(DataError, match='no clip is as long'):
        windows_of(people, 500, PERIOD_S)


def held(models: Models, calibration: Calibration) -> dict[float, dict[str, float]]:
    """Coverage of new people by horizon and level."""
    people = crowd().select(lambda clip: clip.split == 'test')
    cases = cases_of(models, people, 1.0)
    assert len({case.clip.key for case in cases}) == 24
    results = [judge.promised(models, case, calibration) for case in cases]
    return {
        until.horizon_s: judge.coverage(results, until.horizon_s) for until in calibration.horizons
    }


def test_calibrated_levels_hold_on_exchangeable_people(
    models: Models, calibrated: Calibration
) -> None:
    """24 people against 24: within three standard errors of both samples."""
    for row in held(models, calibrated).values():
        assert set(row) == {'0.80', '0.90', '0.95'}  # 24 clips do not suffice for 99 %
        for level, share in row.items():
            sigma = np.sqrt(2 * float(level) * (1 - float(level)) / 24)
            assert share >= float(level) - 3 * sigma


def test_coverage_sees_thresholds_that_are_too_high(
    models: Models, calibrated: Calibration
) -> None:
    until = calibrated.until(1.0)
    high = dataclasses.replace(until, profiles=until.profiles + 1.5)
    row = held(models, dataclasses.replace(calibrated, horizons=(high,)))[1.0]
    assert row['0.95'] < 0.5


def test_a_voxel_that_the_true_body_touches_is_never_missed(models: Models) -> None:
    people = crowd().select(lambda clip: clip.split == 'test')
    case = cases_of(models, people, 0.5)[0]
    body = case.true_body(models.shape, (0.25, 0.5))
    low, high = body.bounds
    grid = VoxelGrid.around(low - 0.1, high + 0.1, 0.1)
    random = np.random.default_rng(0)
    at = (
        random.integers(0, body.radii.shape[1], 4000),
        random.integers(0, body.radii.shape[2], 4000),
    )
    part = random.random((4000, 1))
    axis = (1.0 - part) * body.starts[0][at] + part * body.ends[0][at]
    away = random.normal(size=(4000, 3))
    away *= 0.999 * body.radii[0][at][:, None] / np.linalg.norm(away, axis=1, keepdims=True)
    place = np.floor((axis + away - grid.origin) / grid.size_m).astype(int)
    inside = touched(body, grid)
    assert inside[tuple(place.T)].all()
    values = rank_truth(models.shape, case, RECIPE.ranking, (0.25, 0.5), 0.1)
    above = inside[:, :, above_floor(grid)]
    assert len(values) == above.sum() and (np.diff(values) >= 0.0).all()
    thinner = touched(body.inflated(-0.06), grid)  # the control
    assert not thinner[tuple(place.T)].all()


def test_a_subject_in_two_splits_is_refused(models: Models) -> None:
    people = crowd()
    both = tuple(dataclasses.replace(clip, subject='same') for clip in people.clips)
    with pytest.raises(DataError, match='none may be'):
        calibrate(models, dataclasses.replace(people, clips=both), RECIPE)
    with pytest.raises(ConfigError, match='the futures end at'):
        calibrate(models, people, CalibrationRecipe(horizons_s=(3.0,)))


def test_commands_print_the_promised_keys(
    files: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    common = [
        '--data', files['data'], '--checkpoint', files['checkpoint'], '--cache', files['cache'],
        '--motion-deq', files['motion-deq'], '--samples', '6', '--device', 'cpu', '--json',
    ]  # fmt: skip
    assert cli(['calibrate', *common, '--level', '0.99', '--horizon', '1.0']) == 2
    assert 'needs 99 clips' in capsys.readouterr().err
    longest = ['--horizon', '0.5', '--horizon', '1.0']
    assert cli(['calibrate', *common, *longest]) == 0
    found = json.loads(capsys.readouterr().out)
    refused = found['horizons']['0.5']['coverage']['0.99']
    assert refused.startswith(
        'refused: coverage 0.99 needs 99 clips or more, this calibration has'
    )
    assert Path(found['file']).name == 'tiny_calibration.safetensors'
    assert cli(['evaluate', 'volume', *common]) == 0
    report = json.loads(capsys.readouterr().out)
    for horizon in ('0.5', '1.0'):
        slow_m3 = report['volume_m3_slow'][horizon]
        assert slow_m3 is None or slow_m3 > 0.05
        assert set(report['coverage_by_horizon'][horizon]) == {'0.80', '0.90', '0.95'}
        assert set(report['volume_m3'][horizon]) == {
            'ours', 'reachable', 'constant_velocity_gaussian', 'motion_deq_gaussian',
        }  # fmt: skip
        assert all(size > 0.05 for size in report['volume_m3'][horizon].values())
        for grouping in ('coverage_by_speed', 'coverage_by_kind', 'coverage_by_subject'):
            groups = report[grouping][horizon].values()
            assert sum(group['windows'] for group in groups) >= 24
    assert set(report['risk']) == {'0.05'} and set(report['risk']['0.05']) == {
        '0-0.25', '0.25-0.5', '0.5-1',
    }  # fmt: skip
    for row in report['risk']['0.05'].values():
        assert 0.0 <= row['missed_share'] < 0.3 and row['volume_m3'] > 0.05
    assert 0.0 <= report['brier'] <= 1.0 and report['ess_median'] >= 1.0
    assert set(report['fallback_share']) == {'stale', 'incomplete', 'out_of_distribution'}
    assert report['clips'] == 24


def test_separation_is_judged_from_the_command_line(
    files: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    common = [
        '--data', files['data'], '--checkpoint', files['checkpoint'], '--cache', files['cache'],
        '--motion-deq', files['motion-deq'], '--samples', '6', '--device', 'cpu', '--json',
    ]  # fmt: skip
    assert cli(['calibrate', *common, '--horizon', '0.5', '--horizon', '1.0']) == 0
    capsys.readouterr()

    def report(*options: str) -> dict[str, Any]:
        assert cli(['evaluate', 'separation', *common, '--decisions', '1000', *options]) == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found['stopping']

    stopping = report()
    assert set(stopping) == {'0.43', '1.0'}
    margins = [f'{0.1 * tenths:.1f}' for tenths in range(1, 11)]
    for row in stopping.values():
        rules, compared = row['rules'], row['stops_at_missed']
        assert row['decisions'] >= 1000 and row['people'] == 24 and row['contacts'] > 20
        assert row['default_rule'] in ('coverage_0.95', 'risk_0.01')
        assert {'iso_13855', 'coverage_0.9', 'coverage_0.95', 'risk_0.05'} < set(rules)
        for family in ('present', 'constant_velocity', 'motion_deq'):
            by_margin = [rules[f'{family}_{margin}'] for margin in margins]
            assert all(rule['moving'] == 1.0 - rule['stops'] for rule in by_margin)
            assert (np.diff([rule['stops'] for rule in by_margin]) >= 0.0).all()
            assert (np.diff([rule['missed'] for rule in by_margin]) <= 0.0).all()
        assert {'present', 'constant_velocity', 'motion_deq', 'ours'} <= set(compared)
        for shares in compared.values():
            assert set(shares) == {'0.02', '0.01', '0.005'}
            for share in shares.values():
                assert set(share) == {'stops', 'relative', 'low', 'high'}
        assert compared['motion_deq']['0.01']['relative'] == 1.0
    assert report('--threads', '2') == stopping
    assert report('--seed', '1') != stopping  # the control: other lines
    mine = report('--speed', '0.5', '--reaction', '0.1', '--deceleration', '1.25')
    assert set(mine) == {'0.5'}
    assert cli(['evaluate', 'separation', *common, '--deceleration', '0.2']) == 2
    assert 'let it brake harder' in capsys.readouterr().err
    # The reports above are the control: their decisions have contacts.
    assert cli(['evaluate', 'separation', *common, '--decisions', '1']) == 2
    assert 'decisions: ask for more (--decisions)' in capsys.readouterr().err


@pytest.mark.parametrize('cal', [2, 24])
def test_rivals_are_left_out_where_too_few_windows_calibrate_them(
    cal: int, models: Models, calibrated: Calibration, caplog: pytest.LogCaptureFixture
) -> None:
    names = {*(f'cal{number}' for number in range(cal)), 'test0', 'test1', 'test2'}
    some = crowd().select(lambda clip: clip.key in names)
    report = judge.evaluate_volume(models, some, calibrated)
    judged = set(report['volume_m3']['0.5'])
    if cal == 24:  # control
        assert {'reachable', 'constant_velocity_gaussian'} < judged and not caplog.messages
    else:
        assert 'reachable' not in judged
        assert 'they need 19 windows of split cal, there are' in caplog.messages[0]
    with pytest.raises(DataError, match="no clip of split 'tset'"):
        judge.evaluate_volume(models, some, calibrated, 'tset')
    assert report['clips'] == 3
    assert judge.evaluate_volume(models, some, calibrated, '')['clips'] == 3 + cal


def test_bench_prints_the_promised_keys(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ['bench', 'volume', '--futures', '3', '--poses', '4', '--robots', '5', '--json']
    assert cli(arguments) == 0
    report = json.loads(capsys.readouterr().out)
    assert report['missed_voxels'] == 0 and report['extra_voxels_share'] <= 0.05
    assert report['rasterise_ms'] > 0 and report['yardstick_ms'] > 0
    assert list(report['by_voxels']) == [str(side**3) for side in (16, 32, 64, 128, 256)]
    assert all(spent > 0 for spent in report['by_voxels'].values())
