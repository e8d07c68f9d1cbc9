# SPDX-License-Identifier: Apache-2.0
"""The commands of `motion-predictor` that speak of volumes: calibrate, evaluate, bench."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from motion_predictor_ros.cli.options import add_result_options, keep_results

if TYPE_CHECKING:
    from motion_predictor_ros.data.recordings import Recordings
    from motion_predictor_ros.training.volume_calibration import CalibrationRecipe
    from motion_predictor_ros.training.volume_windows import Models
    from motion_predictor_ros.volume.calibration import Calibration

Commands = argparse._SubParsersAction  # the type argparse itself returns


def _add_models(parser: argparse.ArgumentParser, *, results: bool = False) -> None:
    parser.add_argument('--data', type=Path, required=True, help='npz of clips with splits')
    parser.add_argument('--checkpoint', default='body_2s', help='CacheFlow, name or path')
    parser.add_argument('--cache', default='body_2s_cache', help='its cache, name or path')
    parser.add_argument('--motion-deq', default='body_1s', help='MotionDEQ, name or path')
    parser.add_argument('--samples', type=int, default=50, help='futures per person')
    parser.add_argument('--device', default='auto', help="'auto', 'cpu' or 'cuda:N'")
    parser.add_argument('--threads', type=int, default=1, help='CPU threads; 0: all')
    if results:
        add_result_options(parser)
    else:
        parser.add_argument('--json', action='store_true', help='print the report as JSON')


def _models(options: argparse.Namespace) -> 'Models':
    import torch

    from motion_predictor_ros.config import DensityConfig
    from motion_predictor_ros.training.volume_windows import Models

    if options.threads:
        torch.set_num_threads(options.threads)
    config = DensityConfig(
        weights=options.checkpoint,
        cache=options.cache,
        device=options.device,
        futures=options.samples,
    )
    return Models.load(config, options.motion_deq)


def add_calibrate(commands: 'Commands[argparse.ArgumentParser]') -> None:
    """Add `calibrate`."""
    parser = commands.add_parser('calibrate', help='calibrate coverage volumes on split val')
    _add_models(parser)
    parser.add_argument(
        '--out', type=Path, help='safetensors file; default: CHECKPOINT_calibration beside it'
    )
    parser.add_argument(
        '--several', action='store_true', help='windows 4 s apart, not one a clip; approximate'
    )
    parser.add_argument(
        '--breadth', type=float, default=0.3, help='how far kept futures stand from their mean'
    )
    parser.add_argument('--most', type=int, default=8, help='futures that stand for all')
    parser.add_argument(
        '--level', type=float, action='append', help='refuse to go without it; may be repeated'
    )
    parser.add_argument(
        '--horizon', type=float, action='append', help='joint until then; default 0.5, 1 and 2 s'
    )
    parser.add_argument('--ridge', type=float, default=0.03, help='how small slopes of g are held')
    parser.add_argument(
        '--left-out',
        action='store_true',
        help='write nothing; print how well each subject of val is covered by the others',
    )
    parser.set_defaults(run=_calibrate)


def _calibrate(options: argparse.Namespace) -> None:
    from motion_predictor_ros.data.datasets import load_training_data
    from motion_predictor_ros.resources import resolve_file
    from motion_predictor_ros.training.volume_calibration import (
        calibrate,
        print_calibration,
        summary,
    )
    from motion_predictor_ros.volume.calibration import load_calibration, save_calibration

    recipe = _recipe(options)
    models = _models(options)
    recordings = load_training_data(options.data)
    if options.left_out:
        _left_out(models, recordings, recipe, options.json)
        return
    found = calibrate(models, recordings, recipe, progress=not options.json)
    _refuse_without(found, options.level or [])
    weights = resolve_file(options.checkpoint, 'weights', '.safetensors')
    out = options.out or weights.with_name(f'{weights.stem}_calibration.safetensors')
    save_calibration(out, found)
    report = {**summary(load_calibration(str(out), models.bound), recipe.levels), 'file': str(out)}
    if options.json:
        print(json.dumps(report))
    else:
        print_calibration(report, Console())
        print(out)


def _left_out(
    models: 'Models', recordings: 'Recordings', recipe: 'CalibrationRecipe', as_json: bool
) -> None:
    from motion_predictor_ros.evaluation.volumes.left_out import evaluate_left_out, print_left_out

    report = evaluate_left_out(models, recordings, recipe, progress=not as_json)
    if as_json:
        print(json.dumps(report))
    else:
        print_left_out(report, Console())


def _recipe(options: argparse.Namespace) -> 'CalibrationRecipe':
    """Raise ConfigError if an option is out of range."""
    from motion_predictor_ros.errors import ConfigError
    from motion_predictor_ros.training.volume_calibration import HORIZONS_S, CalibrationRecipe
    from motion_predictor_ros.volume.calibration import LEVELS
    from motion_predictor_ros.volume.coverage import ScenarioSelection

    levels = tuple(sorted({*LEVELS, *(options.level or ())}))
    if not all(0.0 < level < 1.0 for level in levels) or not 0.0 <= options.breadth <= 1.0:
        raise ConfigError('levels lie between 0 and 1, --breadth from 0 to 1')
    if options.most < 1:
        raise ConfigError(f'--most must be at least 1, got {options.most}')
    if not options.ridge >= 0.0:
        raise ConfigError(f'--ridge must not be below 0, got {options.ridge}')
    return CalibrationRecipe(
        tuple(options.horizon or HORIZONS_S),
        levels,
        ScenarioSelection(options.breadth, options.most),
        options.several,
        options.ridge,
    )


def _refuse_without(found: 'Calibration', asked: list[float]) -> None:
    """Raise ConfigError if a level that was asked for cannot be certified."""
    from motion_predictor_ros.errors import ConfigError
    from motion_predictor_ros.volume.calibration import least_scores

    for level in asked:
        for each in found.horizons:
            if level not in each.levels:
                raise ConfigError(
                    f'level {level} until {each.horizon_s} s needs {least_scores(level)} scores, '
                    f'these data give {len(each.factors)}'
                )


def add_evaluate_volume(kinds: 'Commands[argparse.ArgumentParser]') -> None:
    """Add `evaluate volume`."""
    parser = kinds.add_parser('volume', help='coverage and size of volumes to keep free')
    _add_models(parser, results=True)
    parser.add_argument('--calibration', help='default: CHECKPOINT_calibration')
    parser.add_argument('--split', default='test', help='clips that are judged')
    parser.add_argument('--out', type=Path, help='write plots here')
    parser.set_defaults(run=_evaluate_volume)


def _evaluate_volume(options: argparse.Namespace) -> None:
    from motion_predictor_ros.data.datasets import load_training_data
    from motion_predictor_ros.evaluation.archive import Figures
    from motion_predictor_ros.evaluation.volumes.plots import plot_volume
    from motion_predictor_ros.evaluation.volumes.volume import evaluate_volume, print_volume
    from motion_predictor_ros.volume.calibration import load_calibration

    models = _models(options)
    name = options.calibration or (
        f'{options.checkpoint.removesuffix(".safetensors")}_calibration'
        + ('.safetensors' if options.checkpoint.endswith('.safetensors') else '')
    )
    calibration = load_calibration(name, models.bound)
    figures = Figures()
    report = evaluate_volume(
        models,
        load_training_data(options.data),
        calibration,
        options.split,
        progress=not options.json,
        figures=figures,
    )
    keep_results(options, figures.archive('volume', report))
    if options.out:
        plot_volume(report, options.out)
    if options.json:
        print(json.dumps(report))
    else:
        print_volume(report, Console())


def add_bench_volume(kinds: 'Commands[argparse.ArgumentParser]') -> None:
    """Add `bench volume`."""
    parser = kinds.add_parser('volume', help='time of voxels and collision probabilities')
    parser.add_argument('--futures', type=int, default=50, help='futures of the person')
    parser.add_argument('--poses', type=int, default=15, help='poses of each future')
    parser.add_argument('--robots', type=int, default=1000, help='configurations in one call')
    parser.add_argument('--json', action='store_true', help='print the report as JSON')
    parser.set_defaults(run=_bench_volume)


def _bench_volume(options: argparse.Namespace) -> None:
    from motion_predictor_ros.bench.volume import bench_volume, print_bench
    from motion_predictor_ros.errors import ConfigError

    if min(options.futures, options.poses, options.robots) < 1:
        raise ConfigError('--futures, --poses and --robots must be at least 1')
    report = bench_volume(options.futures, options.poses, options.robots)
    if options.json:
        print(json.dumps(report))
    else:
        print_bench(report, Console())
