# SPDX-License-Identifier: Apache-2.0
"""Adapting learns what own people do, measures it on what it did not learn, overwrites nothing."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cache_flow_models import TINY, write_cache_flow
from data.test_bag_sources import record as foreign_bag
from data.test_bag_sources import walk
from models import write_weights
from scenes import message, write_bag
from skeleton.sources.test_sources import BODY, POSE
from walkers import SCHEDULE, walkers

from motion_predictor_ros.adapt.fine_tune import Plan, adapt, compare, recalibrate
from motion_predictor_ros.adapt.requirements import Requirements
from motion_predictor_ros.checkpoint import load_checkpoint
from motion_predictor_ros.cli.adapt import _as_recorded
from motion_predictor_ros.cli.main import main
from motion_predictor_ros.config import (
    DensityConfig,
    PipelineConfig,
    PredictionConfig,
    VolumeConfig,
    read_parameter_file,
)
from motion_predictor_ros.data.bag_recordings import Segments, read_segments, split_by_time
from motion_predictor_ros.data.recordings import Clip, Recordings
from motion_predictor_ros.density.cache_flow.checkpoint import load_cache_flow
from motion_predictor_ros.errors import ConfigError, DataError
from motion_predictor_ros.pipeline import Pipeline
from motion_predictor_ros.prediction.motion_deq.checkpoint import load_motion_deq
from motion_predictor_ros.prediction.motion_deq.model import MotionDEQConfig
from motion_predictor_ros.resources import resolve_file
from motion_predictor_ros.training.cache_build import build_cache
from motion_predictor_ros.training.loop import train
from motion_predictor_ros.training.motion_deq import MotionDEQLearner, MotionTask
from motion_predictor_ros.training.recipe import MotionDEQRecipe, load_recipe
from motion_predictor_ros.volume.calibration import load_calibration

RATE_HZ, SECONDS, SPEED_M_S = 12.5, 24.0, 1.5
FEW = Requirements(train_s=20.0, windows=(4, 1, 2), people=2)


@pytest.fixture(autouse=True)
def float32_as_deployed(float64_by_default: None) -> None:
    torch.set_default_dtype(torch.float32)


def glides(time_s: float, person: str) -> np.ndarray:
    """Somebody is carried along and does not move a limb: nobody in `walkers` is [joint, xyz]."""
    y = 2.0 * (sum(map(ord, person)) % 5)
    return POSE + np.array([SPEED_M_S * time_s, y, 0.05 * np.sin(3.0 * time_s)])


def seen(time_s: float, *people: str, pose: Any = glides) -> Any:
    """Return a message in which everybody has a pose of their own."""
    array = message(time_s, *people)
    for skeleton in array.persons:
        skeleton.positions = pose(time_s, skeleton.person_id).astype(np.float32).ravel()
    return array


def record(path: Path, seconds: float, *people: str, pose: Any = glides, leave: Any = ()) -> Path:
    times = np.arange(0.0, seconds, 1.0 / RATE_HZ)
    return write_bag(
        path, [seen(t, *people, pose=pose) for t in times if not any(a < t < b for a, b in leave)]
    )


@pytest.fixture(scope='module')
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model that has learnt to predict people who walk."""
    torch.set_default_dtype(torch.float32)
    folder = tmp_path_factory.mktemp('base')
    schedule = dataclasses.replace(SCHEDULE, steps=10, validate_every=10)
    recipe = MotionDEQRecipe(model=MotionDEQConfig(channels=8, patterns=8), schedule=schedule)
    task = MotionTask('tiny', recipe, walkers(), MotionDEQLearner(recipe, torch.device('cpu')))
    return train(task, schedule, folder).replace(folder / 'tiny.safetensors')


@pytest.fixture(scope='module')
def config(weights: Path) -> PipelineConfig:
    return PipelineConfig(
        prediction=PredictionConfig(weights=str(weights), device='cpu'),
        density=DensityConfig(enabled='never'),
    )


@pytest.fixture(scope='module')
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record(tmp_path_factory.mktemp('bag') / 'glides.mcap', SECONDS, 'ann', 'bo')


@pytest.fixture(scope='module')
def segments(bag: Path, config: PipelineConfig) -> Segments:
    return read_segments([bag], '', config, '', 50.0)


@pytest.fixture(scope='module')
def recordings(segments: Segments) -> Recordings:
    return split_by_time(segments, BODY.joint_names, ('ours',))


def plan(out: Path, steps: int) -> Plan:
    _, recipe = load_recipe('adapt')
    schedule = dataclasses.replace(SCHEDULE, learning_rate=1e-2, validate_every=15)
    return Plan('ours', out, dataclasses.replace(recipe, schedule=schedule), steps, 5.0, FEW)


def after(report: dict[str, Any], when: str) -> float:
    return float(report[when]['mpjpe_mm']['motion_deq']['400'])


def test_own_motion_is_learned_and_nothing_is_overwritten(
    recordings: Recordings, config: PipelineConfig, tmp_path: Path
) -> None:
    base = Path(config.prediction.weights)
    untouched = base.read_bytes()
    report = adapt(recordings, config, plan(tmp_path / 'made', 30))
    assert report['training']['weights'] == 'trained'
    assert after(report, 'after') < 0.5 * after(report, 'before') and not report['worse']
    assert base.read_bytes() == untouched
    assert report['adapted'] != report['base'] and report['adapted'].startswith('ours@')
    ours, theirs = (
        load_motion_deq(str(path), torch.device('cpu')) for path in (report['weights'], base)
    )
    assert compare(ours, theirs, recordings)['worse']  # the other way round
    header = load_checkpoint(Path(report['weights']), 'motion_deq').header
    assert header['training']['started_from'] == report['base']
    assert header['training']['attribution'] == ['ours']
    made = {path.name for path in (tmp_path / 'made').iterdir()}
    assert made == {'ours.safetensors', 'losses.csv', 'report.json'}
    with pytest.raises(ConfigError, match='exists already; name a new folder'):
        adapt(recordings, config, plan(tmp_path / 'made', 0))


def test_without_a_step_errors_stay_and_covariances_become_those_of_own_people(
    recordings: Recordings, config: PipelineConfig, tmp_path: Path
) -> None:
    """The control: what lowers the error is the training, not how it is measured."""
    report = adapt(recordings, config, plan(tmp_path / 'made', 0))
    assert report['training']['weights'] == 'as they were'
    assert report['after']['mpjpe_mm'] == report['before']['mpjpe_mm']
    assert report['before']['covered'] == {}  # it was never measured
    assert all(abs(share - 0.9) < 0.1 for share in report['after']['covered'].values())
    assert report['volume']['reason'] == 'there is no density model'
    before = load_checkpoint(Path(config.prediction.weights), 'motion_deq').tensors
    tensors = load_checkpoint(Path(report['weights']), 'motion_deq').tensors
    assert all(torch.equal(tensors[name], before[name]) for name in before)


def test_training_that_does_not_help_is_not_kept(
    recordings: Recordings, config: PipelineConfig, tmp_path: Path
) -> None:
    chosen = plan(tmp_path / 'made', 10)
    wild = dataclasses.replace(chosen.recipe.schedule, learning_rate=1.0)
    chosen = dataclasses.replace(chosen, recipe=dataclasses.replace(chosen.recipe, schedule=wild))
    report = adapt(recordings, config, chosen)
    assert report['training']['score_after'] > report['training']['score_before']
    assert report['training']['weights'] == 'as they were'
    assert after(report, 'after') == after(report, 'before')


def test_people_in_a_bag_become_clips(segments: Segments) -> None:
    assert {each.person for each in segments.segments} == {'0:glides/ann', '0:glides/bo'}
    for each in segments.segments:
        times = each.begin_s + np.arange(len(each.positions)) / 50.0
        true = np.array([glides(t, each.person.split('/')[1]) for t in times])
        assert np.abs(each.positions - true).max() < 0.003  # [m] between 12.5 Hz and 50 Hz
        assert times[-1] > SECONDS - 0.15


def test_splits_follow_each_other_in_time_and_share_no_window(recordings: Recordings) -> None:
    ends = {}
    for clip in recordings.clips:
        seconds = recordings.positions[clip.start : clip.start + clip.length, 0, 0] / SPEED_M_S
        ends.setdefault(clip.split, []).append((float(seconds[0]), float(seconds[-1])))
    assert {split: len(spans) for split, spans in ends.items()} == dict(train=2, val=2, test=2)
    expected = {'train': (0.0, 14.4), 'val': (15.4, 18.0), 'test': (19.0, 23.95)}
    for split, spans in ends.items():
        for span in spans:
            assert span == pytest.approx(expected[split], abs=0.1)


def test_unobserved_time_is_left_out_and_counted(config: PipelineConfig, tmp_path: Path) -> None:
    def hides(time_s: float, person: str) -> np.ndarray:
        positions = glides(time_s, person)
        if 4.0 < time_s < 5.0:
            positions[13] = np.nan
        return positions

    gone = record(tmp_path / 'gap.mcap', 9.0, 'ann', pose=hides, leave=[(6.0, 8.0)])
    found = read_segments([gone], '', config, '', 50.0)
    spans = [(each.begin_s, len(each.positions) / 50.0) for each in found.segments]
    begins = [begin for begin, _ in spans]
    assert np.allclose(np.diff(begins), [5.0, 3.0], atol=0.1)
    assert np.allclose([length for _, length in spans], [4.0, 1.0, 1.0], atol=0.15)
    assert found.lost_s['joints not observed'] == pytest.approx(1.0, abs=0.1)


def test_implausible_people_are_left_out(config: PipelineConfig, tmp_path: Path) -> None:
    def mirrored(time_s: float, person: str) -> np.ndarray:
        return glides(time_s, person) * np.array([1.0, -1.0, 1.0])

    bag = record(tmp_path / 'mirror.mcap', 4.0, 'ann', pose=mirrored)
    found = read_segments([bag], '', config, '', 50.0)
    assert not found.segments and found.lost_s['mirrored'] > 3.0
    with pytest.raises(
        DataError, match=r'no person was observed.*3\.9 s mirrored|4\.0 s mirrored'
    ):
        split_by_time(found, BODY.joint_names, ())


def test_too_little_data_is_rejected_with_the_missing_amount(
    bag: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = record(tmp_path / 'alone.mcap', 11.0, 'ann')
    out = tmp_path / 'made'
    common = ['--weights', str(weights), '--out', str(out), '--device', 'cpu']
    assert main(['adapt', '--bag', str(alone), *common]) == 2
    said = capsys.readouterr().err
    for part in (
        'of 9.0 s of people',
        '6.6 s of people to train on, needed 120 s: 113.4 s more',
        '2 windows 4 s apart to train on, needed 20: 18 more',
        '0 windows 4 s apart to validate on, needed 5: 5 more',
        '0 windows 4 s apart to test on, needed 10: 10 more',
        '1 person, needed 2: 1 more, or --one-person',
    ):
        assert part in said
    assert said.count('\n') == 1 and not out.exists()
    assert main(['adapt', '--bag', str(alone), *common, '--one-person']) == 2
    assert 'needed 2: 1 more' not in capsys.readouterr().err
    for name, why in (('body_1s', 'shipped'), ('a/b', 'letters')):
        assert main(['adapt', '--bag', str(bag), *common, '--name', name]) == 2
        assert why in capsys.readouterr().err
    assert not out.exists()


def test_the_command_writes_parameters_with_which_the_pipeline_runs(
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    bag: Path,
) -> None:
    monkeypatch.setattr('motion_predictor_ros.adapt.requirements.Requirements.__init__', _few)
    params = tmp_path / 'mine.yaml'
    mine = {'skeleton': {'max_people': 3}, 'density.enabled': 'never', 'markers': False}
    params.write_text(json.dumps({'/**': {'ros__parameters': mine}}))
    out = tmp_path / 'made'
    arguments = ['--bag', str(bag), '--weights', str(weights), '--device', 'cpu', '--steps', '0']
    arguments += ['--also', str(bag), '--params', str(params), '--out', str(out), '--json']
    shipped = resolve_file('body_1s', 'weights', '.safetensors')
    before = shipped.read_bytes()
    assert main(['adapt', *arguments]) == 0
    report = json.loads(capsys.readouterr().out)
    assert shipped.read_bytes() == before
    assert report['elsewhere']['before']['mpjpe_mm'] == report['elsewhere']['after']['mpjpe_mm']
    made = read_parameter_file(Path(report['parameters']))
    assert made.skeleton.max_people == 3 and made.density.enabled == 'never'
    assert made.volume.enabled == 'never'  # no calibration speaks of the new weights
    assert Pipeline.load(made).predictor.model == report['adapted']
    assert 'markers: false' in Path(report['parameters']).read_text()
    assert main(['adapt', *arguments]) == 2
    assert 'exists already' in capsys.readouterr().err


def test_a_bag_from_elsewhere_is_read_as_it_was_recorded(bag: Path, tmp_path: Path) -> None:
    config = PipelineConfig(source='yolo', fixed_frame='map', extrinsic='0 0 1 0 0 0 1')
    read = _as_recorded(config, bag)
    assert (read.source, read.fixed_frame, read.extrinsic) == ('native', '', '')
    assert (
        _as_recorded(config, foreign_bag(tmp_path / 'yolo', walk('yolo', 'coco17')[:2])) == config
    )


def _few(self: Requirements, *_: Any, **__: Any) -> None:
    for item in dataclasses.fields(Requirements):
        object.__setattr__(self, item.name, getattr(FEW, item.name))


@pytest.fixture(scope='module')
def futures(tmp_path_factory: pytest.TempPathFactory) -> DensityConfig:
    folder = tmp_path_factory.mktemp('futures')
    torch.set_default_dtype(torch.float32)
    shape = dataclasses.replace(TINY, past=25, future=25)
    path = write_cache_flow(folder / 'tiny.safetensors', shape)
    cache = build_cache(load_cache_flow(str(path), torch.device('cpu')), crowd(30.0), 100)
    figures = {**cache.figures, 'typical_distance': 1e6}  # nothing is like what was recorded
    dataclasses.replace(cache, figures=figures).save(folder / 'cache.safetensors', 'float32')
    made = DensityConfig(
        weights=str(path), cache=str(folder / 'cache.safetensors'), device='cpu', futures=6
    )
    return dataclasses.replace(made, importance_samples=50)


def crowd(seconds: float) -> Recordings:
    """Two people who walk, in every split."""
    one, clips, kept = walkers().positions[:200], [], []
    frames = round(seconds * 50)
    for number, split in enumerate(('train', 'val', 'test')):
        clips.append(Clip(split, 'ann', split, False, frames * number, frames))
        kept.append(np.resize(one, (frames, *one.shape[1:])))
    return Recordings(walkers().joint_names, 50.0, np.concatenate(kept), tuple(clips), ())


def test_volumes_are_calibrated_where_windows_suffice(
    futures: DensityConfig, tmp_path: Path
) -> None:
    weights = write_weights(tmp_path / 'deq.safetensors')
    config = PipelineConfig(density=futures, volume=VolumeConfig(level=0.8))
    found = recalibrate(crowd(14.0), config, weights)  # three windows in each part
    assert found['horizons_s'] == [0.5, 1.0] and found['reason'] == ''
    kept = load_calibration(found['file'])
    assert kept.approximate and len(kept.until(1.0).factors) == 6
    short = recalibrate(crowd(5.0), config, weights)
    assert 'file' not in short and short['horizons_s'] == []
    assert short['reason'] == (
        '80% until 0.5 s needs 4 held-out windows 4 s apart, there are 2: 2 more, about 20 s of '
        'recording'
    )
