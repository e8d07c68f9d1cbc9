# SPDX-License-Identifier: Apache-2.0
"""Commands of `motion-predictor` about volumes: calibrate, evaluate, bench."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from motion_predictor_ros.cli.options import add_result_options, keep_results

if TYPE_CHECKING:
    from motion_predictor_ros.training.volume_windows import Models

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
    parser = commands.add_parser('calibrate', help='calibrate keep-out volumes on split cal')
    _add_models(parser)
    parser.add_argument('--split', default='cal', help='clips of people whom no model has seen')
    parser.add_argument(
        '--out', type=Path, help='safetensors file; default: CHECKPOINT_calibration beside it'
    )
    parser.add_argument(
        '--several', action='store_true', help='windows 4 s apart, not one a clip; approximate'
    )
    parser.add_argument(
        '--level', type=float, action='append', help='fail without it; may be repeated'
    )
    parser.add_argument(
        '--horizon', type=float, action='append', help='joint until then; default 0.5, 1 and 2 s'
    )
    parser.set_defaults(run=_calibrate)


def _calibrate(options: argparse.Namespace) -> None:
    from motion_predictor_ros.data.datasets import load_training_data
    from motion_predictor_ros.resources import resolve_file
    from motion_predictor_ros.training.volume_calibration import (
        CalibrationRecipe,
        calibrate,
        print_calibration,
        summary,
    )
    from motion_predictor_ros.training.volume_windows import HORIZONS_S
    from motion_predictor_ros.volume.calibration import load_calibration, save_calibration

    horizons_s = tuple(sorted(options.horizon or HORIZONS_S))
    recipe = CalibrationRecipe(horizons_s, several=options.several)
    models = _models(options)
    recordings = load_training_data(options.data)
    calibration = calibrate(models, recordings, recipe, options.split, progress=not options.json)
    for level in options.level or []:
        for until in calibration.horizons:
            until.group_thresholds('coverage', level)
    weights = resolve_file(options.checkpoint, 'weights', '.safetensors')
    out = options.out or weights.with_name(f'{weights.stem}_calibration.safetensors')
    save_calibration(out, calibration)
    report = {**summary(load_calibration(str(out), models.digests)), 'file': str(out)}
    if options.json:
        print(json.dumps(report))
    else:
        print_calibration(report, Console())
        print(out)


def add_evaluate_volume(kinds: 'Commands[argparse.ArgumentParser]') -> None:
    """Add `evaluate volume`."""
    parser = kinds.add_parser('volume', help='promises and sizes of keep-out volumes')
    _add_models(parser, results=True)
    parser.add_argument('--calibration', help='default: CHECKPOINT_calibration')
    parser.add_argument('--split', default='test', help='clips to evaluate on')
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
    calibration = load_calibration(name, models.digests)
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
