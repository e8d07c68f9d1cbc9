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
    parser = commands.add_parser('calibrate', help='calibrate keep-out volumes on split cal')
    _add_models(parser)
    parser.add_argument(
        '--split', default='cal', help='clips of people that no model was trained on'
    )
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


def _calibration(options: argparse.Namespace, models: 'Models') -> 'Calibration':
    from motion_predictor_ros.volume.calibration import load_calibration

    name = options.calibration or (
        f'{options.checkpoint.removesuffix(".safetensors")}_calibration'
        + ('.safetensors' if options.checkpoint.endswith('.safetensors') else '')
    )
    return load_calibration(name, models.digests)


def add_evaluate_volume(kinds: 'Commands[argparse.ArgumentParser]') -> None:
    """Add `evaluate volume`."""
    parser = kinds.add_parser('volume', help='coverage and size of keep-out volumes')
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

    models = _models(options)
    calibration = _calibration(options, models)
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


def add_evaluate_separation(kinds: 'Commands[argparse.ArgumentParser]') -> None:
    """Add `evaluate separation`."""
    parser = kinds.add_parser(
        'separation', help='how often a robot stops for people, and which contacts it misses'
    )
    _add_models(parser, results=False)
    parser.add_argument('--calibration', help='default: CHECKPOINT_calibration')
    parser.add_argument('--split', default='test', help='clips that are judged')
    parser.add_argument(
        '--decisions', type=int, default=100_000, help='for each stopping time, at least'
    )
    parser.add_argument('--seed', type=int, default=0, help='of the lines and the bootstrap')
    parser.add_argument('--plot', type=Path, help='write stops against missed contacts here (PNG)')
    robot = parser.add_argument_group(
        'your robot', 'in place of the two that stop within 0.43 s and 1 s; all four have defaults'
    )
    robot.add_argument('--speed', type=float, help='of the tool, m/s; default 1')
    robot.add_argument('--reaction', type=float, help='until it brakes, s; default 0.1')
    robot.add_argument('--deceleration', type=float, help='m/s^2; default 3')
    robot.add_argument('--radius', type=float, help='of the ball around the tool, m; default 0.12')
    parser.set_defaults(run=_evaluate_separation)


def _evaluate_separation(options: argparse.Namespace) -> None:
    from motion_predictor_ros.data.datasets import load_training_data
    from motion_predictor_ros.errors import ConfigError
    from motion_predictor_ros.evaluation.separation.plots import plot_separation
    from motion_predictor_ros.evaluation.separation.separation import (
        evaluate_separation,
        print_separation,
    )
    from motion_predictor_ros.training.robot_lines import ROBOTS, Robot

    if options.decisions < 1 or options.seed < 0:
        raise ConfigError('--decisions must be at least 1, --seed at least 0')
    given = {
        'speed_m_s': options.speed,
        'reaction_s': options.reaction,
        'deceleration_m_s2': options.deceleration,
        'radius_m': options.radius,
    }
    own = {name: value for name, value in given.items() if value is not None}
    robots = (Robot(**own),) if own else ROBOTS
    models = _models(options)
    recordings = load_training_data(options.data).select(lambda clip: clip.split == options.split)
    report = evaluate_separation(
        models,
        recordings,
        _calibration(options, models),
        robots,
        decisions=options.decisions,
        seed=options.seed,
        progress=not options.json,
    )
    if options.plot:
        plot_separation(report, options.plot)
    if options.json:
        print(json.dumps(report))
    else:
        print_separation(report, Console())
