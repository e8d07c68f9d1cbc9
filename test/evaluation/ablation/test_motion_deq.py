# SPDX-License-Identifier: Apache-2.0
"""The ablation trains each variant once, resumes, and reports what the files say."""

import csv
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cmu_files import wander, write_benchmark
from walkers import RECIPE, walkers

from motion_predictor_ros.checkpoint import load_checkpoint
from motion_predictor_ros.cli.main import main
from motion_predictor_ros.evaluation.ablation import motion_deq as ablation
from motion_predictor_ros.evaluation.ablation.parts import VARIANTS
from motion_predictor_ros.training.augment import BodyShapeConfig
from motion_predictor_ros.training.windows import SamplingConfig

SHORT = dataclasses.replace(
    RECIPE,
    model=dataclasses.replace(RECIPE.model, layers=2, feedback=0.5),
    schedule=dataclasses.replace(RECIPE.schedule, steps=9, validate_every=2, muon_rate=0.02),
    equilibrium=dataclasses.replace(RECIPE.equilibrium, hinge_weight=0.3, hinge_limit=0.1),
    sampling=SamplingConfig(),
    shape=BodyShapeConfig(size=1.1, bones=1.1),
)
"""With everything that a variant goes without."""


@pytest.fixture(autouse=True)
def float32_as_deployed(float64_by_default: None) -> None:
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope='module')
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Options that name data and recipe."""
    folder = tmp_path_factory.mktemp('data')
    recordings = walkers()
    clips = {clip.key: {'subject': clip.subject, 'split': clip.split} for clip in recordings.clips}
    meta = {'joint_names': recordings.joint_names, 'fps': recordings.fps, 'clips': clips}
    arrays = dict(zip(clips, recordings.positions.reshape(2, 200, 18, 3), strict=True))
    np.savez(folder / 'clips.npz', __meta__=np.array(json.dumps(meta)), **arrays)
    (folder / 'tiny.yaml').write_text(json.dumps(dataclasses.asdict(SHORT)))
    options = ['--data', str(folder / 'clips.npz'), '--recipe', str(folder / 'tiny.yaml')]
    return [*options, '--device', 'cpu']


def ablate(*options: str) -> int:
    return main(['ablate', 'motion-deq', *options])


@pytest.fixture(scope='module')
def whole(files: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every variant, trained for four steps."""
    torch.set_default_dtype(torch.float32)
    out = tmp_path_factory.mktemp('ablation')
    assert ablate(*files, '--steps', '4', '--out', str(out)) == 0
    return out


def test_every_variant_is_trained_by_the_same_schedule_and_none_is_like_another(
    whole: Path,
) -> None:
    report = json.loads((whole / 'report.json').read_text())
    assert set(report['variants']) == set(VARIANTS) and report['steps'] == 4
    runs = {name: own['runs'] for name, own in report['variants'].items()}
    assert all([run['steps'] for run in own] == [4] for own in runs.values())
    assert len({own[0]['score'] for own in runs.values()}) == len(VARIANTS)
    assert set(runs['full'][0]['mpjpe_mm']) == {'80', '160'}
    weights = {name: own[0]['parameters'] for name, own in runs.items()}
    assert weights['direct_injection'] < weights['without_ipi'] < weights['full']
    assert weights['full'] == weights['gamma_0'] == weights['neumann_2']
    with (whole / 'runs.csv').open() as file:
        rows = list(csv.DictReader(file))
    assert [row['variant'] for row in rows] == list(VARIANTS)
    assert float(rows[0]['score']) == runs['full'][0]['score']


def test_figures_are_those_of_the_best_weights(whole: Path) -> None:
    run = json.loads((whole / 'gamma_0/seed_1/run.json').read_text())
    best = load_checkpoint(whole / 'gamma_0/seed_1/best.safetensors', 'motion_deq')
    assert run['result']['score'] == best.header['training']['score']
    assert best.header['training']['recipe']['equilibrium']['sparse_weight'] == 0.0
    last = json.loads((whole / 'full/seed_1/run.json').read_text())
    assert run['result']['score'] != last['result']['score']


def test_the_solver_is_reported_by_iteration(whole: Path) -> None:
    solver = json.loads((whole / 'report.json').read_text())['solver']
    assert set(solver) == {'cold', 'warm'}
    for own in solver.values():
        assert len(own['residual']) == 30 and len(own['mpjpe_mm']) == 31
        assert own['residual'][-1] < 0.3 * own['residual'][0]
    assert solver['warm']['residual'][0] < solver['cold']['residual'][0]


def test_a_finished_variant_is_not_trained_again(
    whole: Path,
    files: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = json.loads((whole / 'report.json').read_text())
    trained: list[Any] = []
    monkeypatch.setattr(ablation, 'train', lambda *a, **k: trained.append(a))
    assert ablate(*files, '--steps', '4', '--out', str(whole), '--json') == 0
    assert json.loads(capsys.readouterr().out) == before
    assert trained == []


def test_an_interrupted_variant_resumes(
    whole: Path, files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = [*files, '--steps', '4', '--out', str(tmp_path), '--variants', 'without_egi']
    real = ablation.train

    def interrupted(*a: Any, **k: Any) -> None:
        real(*a, **{**k, 'minutes': 0.0})
        raise KeyboardInterrupt

    monkeypatch.setattr(ablation, 'train', interrupted)
    assert ablate(*options) == 1
    folder = tmp_path / 'without_egi/seed_1'
    assert 'result' not in json.loads((folder / 'run.json').read_text())
    kind = 'motion_deq_without_egi'
    assert load_checkpoint(folder / 'last.safetensors', kind).header['done'] == 1
    monkeypatch.setattr(ablation, 'train', real)
    assert ablate(*options) == 0
    ours, theirs = (
        json.loads((out / 'without_egi/seed_1/run.json').read_text())['result']
        for out in (tmp_path, whole)
    )
    assert ours['steps'] == theirs['steps'] == 4
    # One more validation was made, at the interruption; the weights are the same.
    ends = [
        load_checkpoint(out / 'without_egi/seed_1/last.safetensors', kind).tensors
        for out in (tmp_path, whole)
    ]
    assert all(torch.equal(tensor, ends[1][key]) for key, tensor in ends[0].items())


def test_a_run_of_another_budget_or_recipe_is_refused(
    whole: Path, files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for budget in (['--steps', '5'], ['--minutes', '1'], []):
        assert ablate(*files, *budget, '--out', str(whole)) == 2
        assert 'choose another --out' in capsys.readouterr().err


def test_minutes_bound_the_training_and_seeds_differ(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ['--minutes', '0', '--seeds', '1', '2', '--variants', 'neumann_0', 'neumann_2']
    assert ablate(*files, *options, '--out', str(tmp_path)) == 0
    out = capsys.readouterr().out
    assert 'Neumann terms 0' in out and '±' in out and 'on streams' not in out
    report = json.loads((tmp_path / 'report.json').read_text())
    assert 'solver' not in report and report['minutes'] == 0.0
    for own in report['variants'].values():
        assert [run['steps'] for run in own['runs']] == [1, 1]
        assert own['runs'][0]['score'] != own['runs'][1]['score']


@pytest.mark.parametrize(
    ('options', 'said'),
    [
        (['--variants', 'without_legs'], 'without_legs'),
        (['--steps', '0'], '--steps'),
        (['--recipe', 'no_such'], 'no_such'),
        (['--data', 'gone.npz'], 'gone.npz'),
    ],
)
def test_a_user_error_is_one_line_and_writes_nothing(
    options: list[str],
    said: str,
    files: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert ablate(*files, '--out', str(tmp_path / 'out'), *options) == 2
    captured = capsys.readouterr()
    assert said in captured.err and captured.err.count('\n') == 1 and captured.out == ''
    assert not (tmp_path / 'out').exists()


def test_on_the_cmu_benchmark_its_protocol_is_scored_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clips = {f'train/walking_{number}': wander(90, number) for number in range(1, 4)}
    clips['test/walking_1'] = wander(40, 9)
    data = write_benchmark(tmp_path / 'cmu.npz', clips)
    recipe = tmp_path / 'small.yaml'
    shape = 'channels: 8, patterns: 8'
    options = ['--data', str(data), '--recipe', str(recipe), '--out', str(tmp_path / 'out')]
    options += ['--variants', 'without_ipi', 'gamma_0', '--steps', '1', '--device', 'cpu']
    recipe.write_text(f'layout: cmu25\nmodel: {{joints: 25, past: 8, future: 25, {shape}}}\n')
    assert ablate(*options) == 2
    assert 'CMU protocol predicts 25 frames from 10' in capsys.readouterr().err
    recipe.write_text(f'layout: cmu25\nmodel: {{joints: 25, past: 10, future: 25, {shape}}}\n')
    assert ablate(*options, '--skip-cmu') == 0
    assert 'CMU' not in capsys.readouterr().out
    path = tmp_path / 'out/report.json'
    first = json.loads(path.read_text())['variants']
    monkeypatch.setattr(ablation, 'train', None)  # what is trained is only scored
    assert ablate(*options) == 0
    runs = {name: own['runs'][0] for name, own in json.loads(path.read_text())['variants'].items()}
    assert 'cmu' not in first['gamma_0']['runs'][0]
    assert runs['gamma_0']['score'] == first['gamma_0']['runs'][0]['score']
    assert runs['gamma_0']['cmu']['mean5'] != runs['without_ipi']['cmu']['mean5']
    assert 'CMU: mean5' in capsys.readouterr().out
