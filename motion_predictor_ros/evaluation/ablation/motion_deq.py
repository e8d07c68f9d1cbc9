# SPDX-License-Identifier: Apache-2.0
"""The effect of each part of MotionDEQ: variants with the same data, schedule and budget.

Every run is a folder, `<out>/<variant>/seed_<n>`; its `run.json` holds its settings and, once it
is finished, its result. The whole model's solver is then evaluated on streams, cold and warm.
"""

import csv
import dataclasses
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from motion_predictor_ros.checkpoint import load_checkpoint
from motion_predictor_ros.data.cmu import (
    CmuSequence,
    is_cmu_benchmark,
    load_cmu_sequences,
)
from motion_predictor_ros.data.datasets import load_training_data
from motion_predictor_ros.data.recordings import Recordings
from motion_predictor_ros.errors import ConfigError
from motion_predictor_ros.evaluation.ablation.parts import (
    VARIANTS,
    WHOLE,
    variant_kind,
    variant_learner,
    variant_recipe,
)
from motion_predictor_ros.evaluation.ablation.runs import (
    begin_run,
    clear_training,
    fingerprint,
    save_json,
)
from motion_predictor_ros.evaluation.motion import cmu
from motion_predictor_ros.evaluation.motion.streaming import evaluate_streaming, streams
from motion_predictor_ros.prediction.motion_deq.checkpoint import TrainedMotionDEQ
from motion_predictor_ros.training.loop import train
from motion_predictor_ros.training.motion_deq import MotionTask
from motion_predictor_ros.training.recipe import MotionDEQRecipe, in_steps

_SHOWN_ITERATIONS = (0, 1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30)


@dataclass(frozen=True)
class Trial:
    """Settings that all variants share.

    Attributes:
        recipe: Its schedule is that of all variants, except for the seed.
        minutes: Training stops after this long; None: at the end of the schedule.
        sequences: The CMU benchmark's clips if its protocol is to be scored, else None.
    """

    name: str
    recipe: MotionDEQRecipe
    recordings: Recordings
    sequences: tuple[CmuSequence, ...] | None
    out: Path
    device: torch.device
    minutes: float | None = None

    def held_out(self) -> Recordings:
        """Return the validation clips."""
        return self.recordings.select(lambda clip: clip.split == 'val')


def make_trial(
    name: str,
    recipe: MotionDEQRecipe,
    data: Path,
    out: Path,
    device: torch.device,
    *,
    minutes: float | None = None,
    protocol: bool = True,
) -> Trial:
    """Read the data; `name` is the recipe's.

    Args:
        protocol: Whether to score the CMU benchmark's protocol too, if these are its data.

    Raises:
        ConfigError: The recipe does not fit that protocol.
        DataError: The data cannot be read.
    """
    recordings = load_training_data(data)
    sequences = _cmu_sequences(data, recipe) if protocol else None
    recipe = in_steps(recipe, recordings)
    return Trial(name, recipe, recordings, sequences, out, device, minutes)


def _cmu_sequences(data: Path, recipe: MotionDEQRecipe) -> tuple[CmuSequence, ...] | None:
    if not data.is_file() or not is_cmu_benchmark(data):
        return None
    if (recipe.model.past, recipe.model.future) != (cmu.PAST, cmu.FUTURE):
        raise ConfigError(
            f'the CMU protocol predicts {cmu.FUTURE} frames from {cmu.PAST}, the recipe '
            f'{recipe.model.future} from {recipe.model.past}: use recipe "cmu"'
        )
    return load_cmu_sequences(data)


def ablate(trial: Trial, variants: Sequence[str], seeds: Sequence[int]) -> dict[str, Any]:
    """Train the missing runs, and return the results of all.

    Writes `report.json` and `runs.csv` beside the runs.

    Raises:
        ConfigError: A run in the folder was made with other data, recipe or budget.
        DataError: The clips are too short for windows, or the held-out ones for streams.
    """
    if WHOLE in variants:
        streams(trial.held_out(), trial.recipe.model)  # rather than fail after hours
    report: dict[str, Any] = {
        'recipe': trial.name,
        'steps': trial.recipe.schedule.steps,
        'minutes': trial.minutes,
        'threads': torch.get_num_threads(),
        'variants': {
            name: {
                'label': VARIANTS[name].label,
                'runs': [_run(trial, name, seed) for seed in seeds],
            }
            for name in variants
        },
    }
    if WHOLE in variants:
        trained = _trained(trial, WHOLE, seeds[0])
        report['solver'] = evaluate_streaming(trial.held_out(), trained)['by_iteration']
    save_json(report, trial.out / 'report.json')
    _write_csv(report, trial.out / 'runs.csv')
    return report


def _folder(trial: Trial, name: str, seed: int) -> Path:
    return trial.out / name / f'seed_{seed}'


def _run(trial: Trial, name: str, seed: int) -> dict[str, Any]:
    """Return the figures of one run; a finished one is not repeated."""
    folder = _folder(trial, name, seed)
    path = folder / 'run.json'
    run = begin_run(path, _made_with(trial, name, seed))
    if 'result' not in run:
        _train(trial, name, seed)
        run['result'] = _figures(trial, name, seed)
        save_json(run, path)
    if trial.sequences is not None and 'cmu' not in run['result']:
        models = {'motion_deq': cmu.motion_deq_predictor(_trained(trial, name, seed))}
        run['result']['cmu'] = cmu.evaluate_cmu(trial.sequences, models)['motion_deq']
        save_json(run, path)
    return run['result']


def _made_with(trial: Trial, name: str, seed: int) -> dict[str, Any]:
    return {
        'recipe': dataclasses.asdict(variant_recipe(name, trial.recipe, seed)),
        'minutes': trial.minutes,
        **fingerprint(trial.recordings),
    }


def _train(trial: Trial, name: str, seed: int) -> None:
    folder = _folder(trial, name, seed)
    if trial.minutes is not None:
        clear_training(folder)
    recipe = variant_recipe(name, trial.recipe, seed)
    learner = variant_learner(name, recipe, trial.device)
    task = MotionTask(trial.name, recipe, trial.recordings, learner)
    with redirect_stdout(sys.stderr):  # stdout is for JSON
        train(task, recipe.schedule, folder, minutes=trial.minutes, resume=True)


def _trained(trial: Trial, name: str, seed: int) -> TrainedMotionDEQ:
    """Load the best weights of a run into a variant."""
    recipe = variant_recipe(name, trial.recipe, seed)
    learner = variant_learner(name, recipe, trial.device)
    best = load_checkpoint(_folder(trial, name, seed) / 'best.safetensors', variant_kind(name))
    module = learner.module.eval().requires_grad_(False)
    module.load_state_dict({key: best.tensors[key] for key in module.state_dict()})
    names = trial.recordings.joint_names
    return TrainedMotionDEQ(name, module, names, None, best.header['training'])


def _figures(trial: Trial, name: str, seed: int) -> dict[str, Any]:
    """Return the training's figures of a run's best weights."""
    trained = _trained(trial, name, seed)
    last = load_checkpoint(_folder(trial, name, seed) / 'last.safetensors', variant_kind(name))
    training = trained.training
    prefix = 'mpjpe_mm_'
    return {
        'seed': seed,
        'steps': last.header['done'],
        'parameters': sum(parameter.numel() for parameter in trained.module.parameters()),
        'score': training['score'],
        'solver_steps': training['solver_steps'],
        'mpjpe_mm': {
            key.removeprefix(prefix): training[key]
            for key in sorted(training)
            if key.startswith(prefix)
        },
    }


def _row(run: Mapping[str, Any]) -> dict[str, float]:
    """Return a run's figures under the names that tables have."""
    row = {key: run[key] for key in ('steps', 'parameters', 'score', 'solver_steps')}
    row |= {f'mpjpe_mm_{ms}': error for ms, error in run['mpjpe_mm'].items()}
    if 'cmu' in run:
        row['cmu_mean5'] = run['cmu']['mean5']
        if 'five_actions' in run['cmu']:
            row['cmu_five_actions_mean5'] = run['cmu']['five_actions']['mean5']
    return row


def _write_csv(report: Mapping[str, Any], path: Path) -> None:
    rows = [
        {'variant': name, 'seed': run['seed'], **_row(run)}
        for name, variant in report['variants'].items()
        for run in variant['runs']
    ]
    with path.open('w', newline='') as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


_COLUMNS: Mapping[str, tuple[str, str]] = {
    'steps': ('steps', '.0f'),
    'parameters': ('weights', '.0f'),
    'solver_steps': ('solver', '.1f'),
    'score': ('score', '.3f'),
    'mpjpe_mm_400': ('400', '.1f'),
    'mpjpe_mm_1000': ('1000', '.1f'),
    'cmu_mean5': ('CMU', '.2f'),
    'cmu_five_actions_mean5': ('CMU five', '.2f'),
}
"""Head and format of each figure that the table shows."""


def print_ablation(report: Mapping[str, Any], console: Console) -> None:
    """Print mean and deviation over seeds of each variant, then the solver by iteration."""
    rows = {
        variant['label']: [_row(run) for run in variant['runs']]
        for variant in report['variants'].values()
    }
    first = next(iter(rows.values()))[0]
    columns = [key for key in _COLUMNS if key in first]
    table = Table(title='Variants', title_justify='left', box=None, padding=(0, 1, 0, 0))
    table.add_column('', no_wrap=True)
    for key in columns:
        table.add_column(_COLUMNS[key][0], justify='right')
    for label, runs in rows.items():
        table.add_row(
            label, *(_cell([run[key] for run in runs], _COLUMNS[key][1]) for key in columns)
        )
    console.print(table)
    console.print(
        'solver: mean iterations to a residual of 1e-3; score: mean error on held-out clips, '
        'relative to repeating the last frame; 400, 1000: MPJPE in mm after 400 and 1000 ms'
    )
    if 'cmu_mean5' in first:
        console.print('CMU: mean5 of the protocol over all actions, and over five of them')
    if 'solver' in report:
        _print_solver(report['solver'], console)


def _cell(values: Sequence[float], form: str) -> str:
    mean = format(float(np.mean(values)), form)
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return f'{mean} ± {spread:{form}}' if spread > 0.0 else mean


def _print_solver(starts: Mapping[str, Any], console: Console) -> None:
    title = 'Solver of the full model on streams: median residual, MPJPE in mm'
    table = Table(title=title, title_justify='left', box=None, padding=(0, 1, 0, 0))
    table.add_column('iterations', justify='right')
    horizons = list(next(iter(starts.values()))['mpjpe_mm'][0])
    for name in starts:
        for head in ('residual', *(f'{ms} ms' for ms in horizons)):
            table.add_column(f'{name}: {head}', justify='right')
    for count in _SHOWN_ITERATIONS:
        cells = []
        for start in starts.values():
            cells.append(f'{start["residual"][count - 1]:.1e}' if count else '')
            cells += [f'{error:.1f}' for error in start['mpjpe_mm'][count].values()]
        table.add_row(str(count), *cells)
    console.print()
    console.print(table)
