# SPDX-License-Identifier: Apache-2.0
"""The commands that time predictions: bench capacity, pipeline, persons, motion-deq, cache."""

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

if TYPE_CHECKING:
    from motion_predictor_ros.config import PipelineConfig

Commands = argparse._SubParsersAction  # the type argparse itself returns


def add_bench_speed(kinds: 'Commands[argparse.ArgumentParser]') -> None:
    """Add `bench capacity`, `pipeline`, `persons`, `motion-deq` and `cache`."""
    parser = kinds.add_parser('capacity', help='for how many people a rate is kept')
    _add_models(parser)
    parser.add_argument('--threads', type=int, help='CPU threads; default: the parameter')
    parser.add_argument('--seconds', type=float, default=8.0, help='length of a trial [s]')
    parser.set_defaults(run=_bench_capacity)
    parser = kinds.add_parser('pipeline', help='time from message to volume, by stage')
    _add_stream(parser, frames=300)
    parser.add_argument(
        '--threads', type=int, nargs='+', default=[1, 2], help='CPU threads of the models'
    )
    parser.set_defaults(run=_bench_pipeline)
    parser = kinds.add_parser('persons', help='time by number of people')
    _add_crowd(parser)
    parser.set_defaults(run=_bench_persons)
    parser = kinds.add_parser('motion-deq', help='time of MotionDEQ alone, warm and cold')
    _add_crowd(parser)
    parser.set_defaults(run=_bench_motion_deq)
    parser = kinds.add_parser('cache', help='time by number of cached and of drawn futures')
    parser.add_argument('--recipe', default='body_2s', help='recipe with the shape of the model')
    parser.add_argument('--sizes', type=int, nargs='+', help='default: 1000 to 1000000')
    parser.add_argument('--threads', type=int, default=1, help='CPU threads')
    _add_device(parser)
    parser.set_defaults(run=_bench_cache)


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--device', default='auto', help="'auto', 'cpu' or 'cuda:N'")
    parser.add_argument('--json', action='store_true', help='print the report as JSON')


def _add_models(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--bag', type=Path, help="recording of a person; default: the demo's")
    parser.add_argument('--params', type=Path, help='ROS parameter file; default: the defaults')
    parser.add_argument('--weights', help='MotionDEQ, shipped model name or path')
    parser.add_argument('--calibration', help='calibration of volumes, made with these weights')
    parser.add_argument('--cuda-graph', action='store_true', help='replay models as CUDA graphs')
    _add_device(parser)


def _add_stream(parser: argparse.ArgumentParser, frames: int) -> None:
    _add_models(parser)
    parser.add_argument('--frames', type=int, default=frames, help='number of timed messages')


def _add_crowd(parser: argparse.ArgumentParser) -> None:
    _add_stream(parser, frames=60)
    parser.add_argument('--people', type=int, nargs='+', default=[1, 2, 4, 8, 16])
    parser.add_argument('--threads', type=int, default=1, help='CPU threads of the models')


def _bag(options: argparse.Namespace) -> Path:
    from motion_predictor_ros.resources import share_file

    return options.bag or share_file('demo', 'demo.mcap')


def _config(options: argparse.Namespace) -> 'PipelineConfig':
    from motion_predictor_ros.bench.pipeline import in_full
    from motion_predictor_ros.config import PipelineConfig, read_parameter_file

    config = read_parameter_file(options.params) if options.params else PipelineConfig()
    device, graph = options.device, options.cuda_graph
    weights = options.weights or config.prediction.weights
    calibration = options.calibration or config.volume.calibration
    return in_full(
        replace(
            config,
            prediction=replace(
                config.prediction, weights=weights, device=device, cuda_graph=graph
            ),
            density=replace(config.density, device=device, cuda_graph=graph),
            volume=replace(config.volume, calibration=calibration),
        )
    )


def _threaded_config(options: argparse.Namespace) -> 'PipelineConfig':
    config = _config(options)
    return replace(config, threads=options.threads or config.threads)


def _show(
    report: dict[str, Any], as_json: bool, show: Callable[[dict[str, Any], Console], None]
) -> None:
    if as_json:
        print(json.dumps(report))
    else:
        show(report, Console())


def _bench_capacity(options: argparse.Namespace) -> None:
    from motion_predictor_ros.bench.capacity import bench_capacity, print_capacity

    report = bench_capacity(_bag(options), _threaded_config(options), options.seconds)
    _show(report, options.json, print_capacity)


def _bench_pipeline(options: argparse.Namespace) -> None:
    from motion_predictor_ros.bench.pipeline import bench_pipeline, print_pipeline

    report = bench_pipeline(_bag(options), _config(options), options.frames, options.threads)
    _show(report, options.json, print_pipeline)


def _bench_persons(options: argparse.Namespace) -> None:
    from motion_predictor_ros.bench.persons import bench_persons, print_persons

    report = bench_persons(
        _bag(options), _threaded_config(options), options.frames, options.people
    )
    _show(report, options.json, print_persons)


def _bench_motion_deq(options: argparse.Namespace) -> None:
    from motion_predictor_ros.bench.motion_deq import bench_motion_deq, print_motion_deq

    config = _threaded_config(options)
    report = bench_motion_deq(_bag(options), config, options.frames, options.people)
    _show(report, options.json, print_motion_deq)


def _bench_cache(options: argparse.Namespace) -> None:
    import torch

    from motion_predictor_ros.bench.cache import SIZES, bench_cache, print_cache
    from motion_predictor_ros.checkpoint import choose_device
    from motion_predictor_ros.training.cache_flow_recipe import load_cache_flow_recipe

    torch.set_num_threads(options.threads)
    _, recipe = load_cache_flow_recipe(options.recipe)
    report = bench_cache(recipe, choose_device(options.device), options.sizes or SIZES)
    _show(report, options.json, print_cache)
