# SPDX-License-Identifier: Apache-2.0
"""The effect of each part of MotionDEQ: variants with the same data and schedule.

Every run is a folder, `<out>/<variant>/seed_<n>`, and is scored on the validation clips.
"""

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

from motion_predictor_ros.checkpoint import load_checkpoint
from motion_predictor_ros.data.recordings import Recordings
from motion_predictor_ros.evaluation.ablation.parts import (
    VARIANTS,
    variant_learner,
    variant_recipe,
)
from motion_predictor_ros.evaluation.ablation.runs import fingerprint, run_once
from motion_predictor_ros.evaluation.tables import print_table, write_json
from motion_predictor_ros.training.loop import train
from motion_predictor_ros.training.motion_deq import MotionTask
from motion_predictor_ros.training.recipe import MotionDEQRecipe


@dataclass(frozen=True)
class Trial:
    """Settings that all variants share.

    Attributes:
        name: The recipe's name.
        recipe: Its schedule, in steps, is that of all variants, except for the seed.
    """

    name: str
    recipe: MotionDEQRecipe
    recordings: Recordings
    out: Path
    device: torch.device


def ablate(trial: Trial, variants: Sequence[str], seeds: Sequence[int]) -> dict[str, Any]:
    """Train the missing runs, and return the results of all; also write them to report.json.

    Raises:
        ConfigError: A run in the folder was made with other data, recipe or budget.
        DataError: The clips are too short for windows.
    """
    report: dict[str, Any] = {
        'recipe': trial.name,
        'steps': trial.recipe.schedule.steps,
        'threads': torch.get_num_threads(),
        'variants': {
            name: {
                'label': VARIANTS[name].label,
                'runs': [_run(trial, name, seed) for seed in seeds],
            }
            for name in variants
        },
    }
    write_json(report, trial.out / 'report.json')
    return report


def _run(trial: Trial, name: str, seed: int) -> dict[str, Any]:
    """Return the figures of one run's best weights; a finished run is not repeated."""
    folder = trial.out / name / f'seed_{seed}'
    recipe = variant_recipe(name, trial.recipe, seed)

    def train_and_score() -> dict[str, Any]:
        learner = variant_learner(name, recipe, trial.device)
        task = MotionTask(trial.name, recipe, trial.recordings, learner)
        with redirect_stdout(sys.stderr):  # stdout is for JSON
            best = train(task, recipe.schedule, folder, resume=True)
        training = load_checkpoint(best, task.kind).header['training']
        errors = {key: training[key] for key in sorted(training) if key.startswith('mpjpe_mm_')}
        return {
            'seed': seed,
            'steps': load_checkpoint(folder / 'last.safetensors', task.kind).header['done'],
            'parameters': sum(weight.numel() for weight in learner.module.parameters()),
            'score': training['score'],
            'solver_steps': training['solver_steps'],
            'mpjpe_mm': {key.removeprefix('mpjpe_mm_'): error for key, error in errors.items()},
        }

    made_with = {'recipe': dataclasses.asdict(recipe), **fingerprint(trial.recordings)}
    result: dict[str, Any] = run_once(folder / 'run.json', made_with, train_and_score)
    return result


def print_ablation(report: Mapping[str, Any], console: Console) -> None:
    """Print mean and standard deviation over seeds of each variant."""
    rows: dict[str, dict[str, str]] = {}
    for variant in report['variants'].values():
        runs = variant['runs']
        row = {
            'weights': str(runs[0]['parameters']),
            'steps': _cell([run['steps'] for run in runs], '.0f'),
            'solver': _cell([run['solver_steps'] for run in runs], '.1f'),
            'score': _cell([run['score'] for run in runs], '.3f'),
        }
        for ms in runs[0]['mpjpe_mm']:
            row[ms] = _cell([run['mpjpe_mm'][ms] for run in runs], '.1f')
        rows[variant['label']] = row
    print_table(rows, 'Variants', '', console)
    console.print(
        'solver: mean iterations to a residual of 1e-3; score: mean error on validation clips, '
        'relative to repeating the last frame; 80, 400, ...: MPJPE in mm after so many ms'
    )


def _cell(values: Sequence[float], form: str) -> str:
    mean = format(float(np.mean(values)), form)
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return f'{mean} ± {deviation:{form}}' if deviation > 0.0 else mean
