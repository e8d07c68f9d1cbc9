# SPDX-License-Identifier: Apache-2.0
"""The ablation trains each variant once, resumes, and reports what the files say."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
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


def test_figures_are_those_of_the_best_weights(whole: Path) -> None:
    run = json.loads((whole / 'gamma_0/seed_1/run.json').read_text())
    best = load_checkpoint(whole / 'gamma_0/seed_1/best.safetensors', 'motion_deq')
    assert run['result']['score'] == best.header['training']['score']
    assert best.header['training']['recipe']['equilibrium']['sparse_weight'] == 0.0
    last = json.loads((whole / 'full/seed_1/run.json').read_text())
    assert run['result']['score'] != last['result']['score']


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
    for budget in (['--steps', '5'], []):
        assert ablate(*files, *budget, '--out', str(whole)) == 2
        assert 'choose another --out' in capsys.readouterr().err


def test_seeds_differ_and_their_spread_is_printed(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ['--steps', '2', '--seeds', '1', '2', '--variants', 'neumann_0', 'neumann_2']
    assert ablate(*files, *options, '--out', str(tmp_path)) == 0
    out = capsys.readouterr().out
    assert 'Neumann terms 0' in out and '±' in out
    report = json.loads((tmp_path / 'report.json').read_text())
    for variant in report['variants'].values():
        first, second = variant['runs']
        assert first['steps'] == second['steps'] == 2 and first['score'] != second['score']


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
