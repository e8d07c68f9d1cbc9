# SPDX-License-Identifier: Apache-2.0
"""Fine-tune MotionDEQ on own people, and re-measure its covariances and the coverage of volumes.

The recordings have three parts, earliest first: `train` trains, `val` chooses the checkpoint and
gives the covariances, `test` compares before and after and gives the volume's scores. Existing
files are never overwritten.
"""

import contextlib
import dataclasses
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from rich.console import Console
from scipy.stats import chi2

from motion_predictor_ros.adapt.requirements import Requirements, amounts, check_amounts
from motion_predictor_ros.checkpoint import choose_device, load_checkpoint, save_checkpoint
from motion_predictor_ros.config import PipelineConfig
from motion_predictor_ros.data.recordings import Recordings
from motion_predictor_ros.errors import ConfigError, DataError
from motion_predictor_ros.evaluation.motion.mocap import (
    WINDOW_EVERY_S,
    evaluate_mocap,
    predict_windows,
)
from motion_predictor_ros.evaluation.tables import METHODS, print_table, write_json
from motion_predictor_ros.prediction.motion_deq.checkpoint import (
    KIND,
    TrainedMotionDEQ,
    load_motion_deq,
)
from motion_predictor_ros.resources import is_shipped, resolve_file
from motion_predictor_ros.scoring.metrics import report_frames
from motion_predictor_ros.training.loop import train
from motion_predictor_ros.training.motion_deq import MotionDEQLearner, MotionTask
from motion_predictor_ros.training.recipe import MotionDEQRecipe
from motion_predictor_ros.training.residuals import keep_residuals
from motion_predictor_ros.training.volume_calibration import (
    CalibrationRecipe,
    calibrate_on,
    summary,
)
from motion_predictor_ros.training.volume_windows import APART_S, HORIZONS_S, Models, windows_of
from motion_predictor_ros.training.windows import every_window
from motion_predictor_ros.volume.calibration import (
    load_calibration,
    needed_clips,
    save_calibration,
)

COVERED = 0.9
"""Nominal share of joints within the covariances' ellipsoids."""


@dataclass(frozen=True)
class Plan:
    """Settings of an adaptation.

    Attributes:
        name: Name of the new weights.
        out: New folder.
        steps: Steps of the optimiser; 0 keeps the weights and re-measures covariances and volume.
        minutes: Longest training time.
    """

    name: str
    out: Path
    recipe: MotionDEQRecipe
    steps: int
    minutes: float
    requirements: Requirements


def check_new(name: str, out: Path) -> None:
    """Check that the name and the folder are new.

    Raises:
        ConfigError: The folder exists, or shipped weights have this name.
    """
    if out.exists():
        raise ConfigError(f'{out} exists already; name a new folder with --out')
    if not name.replace('_', '').replace('-', '').isalnum():
        raise ConfigError(f'--name must be letters, digits, - and _, got {name!r}')
    if is_shipped(name, 'weights', '.safetensors'):
        raise ConfigError(f'{name!r} is the name of shipped weights; choose another --name')


def adapt(
    recordings: Recordings,
    config: PipelineConfig,
    plan: Plan,
    elsewhere: Recordings | None = None,
    *,
    lost_s: Mapping[str, float] = MappingProxyType({}),
) -> dict[str, Any]:
    """Write new weights, covariances, calibration and parameters to a new folder.

    Args:
        recordings: Own people, in the splits of `bag_recordings`.
        config: The weights to adapt, and the level to certify.
        elsewhere: Other people, to test on before and after.
        lost_s: Seconds of people that could not be used, by reason; for the report.

    Returns:
        The report, as written to report.json.

    Raises:
        ConfigError: A file would be overwritten.
        DataError: There is too little data; says how much is missing.
        CheckpointError: The weights cannot be adapted.
    """
    check_new(plan.name, plan.out)
    device = choose_device(config.prediction.device)
    base = load_motion_deq(config.prediction.weights, device)
    check_amounts(recordings, base.module.config, plan.requirements, lost_s)
    weights, training = _fine_tune(recordings, base, config, plan)
    report: dict[str, Any] = {
        'weights': str(weights),
        'training': training,
        **amounts(recordings, base.module.config),
        'lost_s': dict(lost_s),
        **compare(base, load_motion_deq(str(weights), device), recordings, elsewhere),
        'volume': recalibrate(recordings, config, weights),
    }
    write_json(report, plan.out / 'report.json')
    return report


def compare(
    base: TrainedMotionDEQ,
    adapted: TrainedMotionDEQ,
    recordings: Recordings,
    elsewhere: Recordings | None = None,
) -> dict[str, Any]:
    """Score both on the test part, and on other people; report whether the error increased."""
    parts = {'here': _split(recordings, 'test')}
    if elsewhere is not None:
        parts['elsewhere'] = elsewhere
    scores = {
        name: {'before': score(base, part), 'after': score(adapted, part)}
        for name, part in parts.items()
    }
    here = scores.pop('here')
    worse = _mean_mm(here['after']) > _mean_mm(here['before'])
    return {'base': base.name, 'adapted': adapted.name, **here, 'worse': worse, **scores}


def _mean_mm(scores: dict[str, Any]) -> float:
    """Return the mean over the reported horizons [mm]."""
    return float(np.mean(list(scores['mpjpe_mm']['motion_deq'].values())))


def _split(recordings: Recordings, split: str) -> Recordings:
    return recordings.select(lambda clip: clip.split == split)


def _fine_tune(
    recordings: Recordings, base: TrainedMotionDEQ, config: PipelineConfig, plan: Plan
) -> tuple[Path, dict[str, Any]]:
    """Train, keeping the old weights if `val` does not improve; re-measure the covariances."""
    start = resolve_file(config.prediction.weights, 'weights', '.safetensors')
    device = next(base.module.parameters()).device
    recipe = _recipe(base, config, plan)
    attribution = (*map(str, base.training.get('attribution', ())), *recordings.attribution)
    recordings = dataclasses.replace(recordings, attribution=attribution)
    task = MotionTask(plan.name, recipe, recordings, MotionDEQLearner(recipe, device))
    task.start_from(start)
    before = task.validate()[0]['score']
    weights, after, steps = plan.out / f'{plan.name}.safetensors', before, 0
    if plan.steps:
        with contextlib.redirect_stdout(sys.stderr):
            best = train(task, recipe.schedule, plan.out, minutes=plan.minutes)
        header = load_checkpoint(best, KIND).header['training']
        after, steps = float(header['score']), int(header['step'])
    if after < before:
        best.replace(weights)
    else:
        task.start_from(start)
        save_checkpoint(weights, {'kind': KIND, **task.header()}, task.module.state_dict())
    keep_residuals(weights, _split(recordings, 'val'), device)
    for name in ('best', 'last'):
        (plan.out / f'{name}.safetensors').unlink(missing_ok=True)
    outcome = 'trained' if after < before else 'as they were'
    figures = {'steps': steps, 'score_before': before, 'score_after': after, 'weights': outcome}
    return weights, figures


def _recipe(base: TrainedMotionDEQ, config: PipelineConfig, plan: Plan) -> MotionDEQRecipe:
    """Set up the recipe for the adapted model."""
    recipe, model = plan.recipe, base.module.config
    missing = recipe.degrade.missing if model.masked else 0.0
    return dataclasses.replace(
        recipe,
        layout=config.skeleton.layout,
        model=model,
        schedule=dataclasses.replace(recipe.schedule, steps=max(1, plan.steps)),
        degrade=dataclasses.replace(recipe.degrade, missing=missing),
    )


def recalibrate(recordings: Recordings, config: PipelineConfig, weights: Path) -> dict[str, Any]:
    """Write WEIGHTS_calibration beside the weights, or return why it cannot be.

    Windows are `APART_S` apart, of `val` and `test`, which no weight of MotionDEQ was trained on.
    People may be the same: it is marked approximate.

    Returns:
        `file` and `summary`, or `reason`; `horizons_s` at which the level is certified.
    """
    density, level = config.density, config.volume.level
    files = density.weights, density.cache
    if density.enabled == 'never' or not all(
        is_shipped(file, 'weights', '.safetensors') for file in files
    ):
        return {'reason': 'there is no density model', 'horizons_s': []}
    models = Models.load(density, str(weights), config.skeleton.layout)
    held_out = recordings.select(lambda clip: clip.split != 'train')
    enough, lacking = _certifiable(models, held_out, level)
    if not enough:
        return {'reason': lacking, 'horizons_s': []}
    recipe = CalibrationRecipe(tuple(enough), approximate=True)
    try:
        calibration = calibrate_on(models, held_out, recipe)
    except (ConfigError, DataError) as error:
        return {'reason': str(error), 'horizons_s': []}
    file = weights.with_name(f'{weights.stem}_calibration.safetensors')
    save_calibration(file, calibration)
    kept = load_calibration(str(file), models.digests)
    needed = needed_clips(1.0 - level)
    sure = [until.horizon_s for until in kept.horizons if len(until.speeds) >= needed]
    return {'file': str(file), 'summary': summary(kept), 'reason': lacking, 'horizons_s': sure}


def _certifiable(models: Models, held_out: Recordings, level: float) -> tuple[list[float], str]:
    """Return the horizons with enough windows for the level, and what the first other lacks."""
    enough, lacking, needed = [], '', needed_clips(1.0 - level)
    longest_s = float(models.futures.horizons_s[-1]) + 1e-6
    for horizon_s in (end_s for end_s in HORIZONS_S if end_s <= longest_s):
        frames, count = models.futures.past + round(horizon_s / models.period_s), 0
        with contextlib.suppress(DataError):
            count = len(windows_of(held_out, frames, models.period_s))
        if count >= needed:
            enough.append(horizon_s)
        elif not lacking:
            lacking = (
                f'{level:.0%} until {horizon_s:g} s needs {needed} held-out windows {APART_S:g} s '
                f'apart, there are {count}: {needed - count} more, about '
                f'{(needed - count) * APART_S / 0.4:.0f} s of recording'
            )
    return enough, lacking


def score(trained: TrainedMotionDEQ, recordings: Recordings) -> dict[str, Any]:
    """Return errors by method, and the coverage of the covariances.

    Raises:
        DataError: The recordings have other joints than the model, or are too short.
    """
    report = evaluate_mocap(recordings, trained)
    return {
        'mpjpe_mm': {name: report[name]['mpjpe_mm'] for name in METHODS},
        'covered': covered(trained, recordings),
        'windows': report['windows'],
    }


def covered(trained: TrainedMotionDEQ, recordings: Recordings) -> dict[str, float]:
    """Return the share of joints within the ellipsoid of `COVERED`, by reported horizon [ms].

    Empty if the weights have no covariances.
    """
    shape, residuals = trained.module.config, trained.residuals
    if residuals is None:
        return {}
    windows = every_window(recordings, shape.past + shape.future, shape.period_s, WINDOW_EVERY_S)
    frames = report_frames(shape.period_s * np.arange(1, shape.future + 1))
    past, target = np.split(windows.double().numpy(), [shape.past], axis=1)
    predicted, _ = predict_windows(trained, past)
    limit, inside = chi2.ppf(COVERED, 3), []
    for observed, square in zip(past, np.square(predicted - target).sum(axis=-1), strict=True):
        variance = residuals.covariances(observed, shape.period_s)[..., 0, 0]
        inside.append(square <= limit * variance)
    share = np.mean(inside, axis=(0, 2))
    return {str(ms): float(share[frame]) for ms, frame in frames.items()}


def print_adaptation(report: dict[str, Any], console: Console) -> None:
    """Print errors and coverage before and after, and how to launch with the new files."""
    seconds, windows = report['seconds'], report['windows']
    console.print(
        f'seconds of people: {seconds["train"]:.0f} train, {seconds["val"]:.0f} validate, '
        f'{seconds["test"]:.0f} test ({windows["test"]} windows 4 s apart); '
        f'weights {report["training"]["weights"]}'
    )
    _print_scores(report, 'Own people, test part', console)
    if report['worse']:
        console.print('[red]worse than before on held-out people: use --steps 0 instead[/]')
    if 'elsewhere' in report:
        _print_scores({**report, **report['elsewhere']}, 'Other people: forgetting', console)
    volume = report['volume']
    if volume.get('file'):
        console.print(f'volume calibrated until {volume["horizons_s"]} s: {volume["file"]}')
    if volume['reason']:
        console.print(f'volume: {volume["reason"]}')
    launch = 'ros2 launch motion_predictor_ros predictor.launch.py'
    console.print(f'{launch} params_file:={report["parameters"]}', soft_wrap=True)


def _print_scores(report: dict[str, Any], title: str, console: Console) -> None:
    before, after = report['before'], report['after']
    rows = {
        report['base']: before['mpjpe_mm']['motion_deq'],
        report['adapted']: after['mpjpe_mm']['motion_deq'],
    }
    for name in ('constant_velocity', 'repeat_last'):
        rows[METHODS[name]] = after['mpjpe_mm'][name]
    for name, scores in (('before', before), ('after', after)):
        percent = {ms: 100 * share for ms, share in scores['covered'].items()}
        rows[f'% of joints within their 90 %, {name}'] = percent
    print_table(rows, title, 'MPJPE [mm] after [ms]', console)
