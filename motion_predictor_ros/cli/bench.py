# SPDX-License-Identifier: Apache-2.0
"""The commands `motion-predictor bench ...`."""

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from motion_predictor_ros.cli.options import (
    DEVICE,
    JSON,
    PARAMS,
    WEIGHTS,
    Group,
    Report,
    option,
    pipeline_config,
    positive,
    recipe,
    threads,
    whole,
)
from motion_predictor_ros.errors import ConfigError

if TYPE_CHECKING:
    from motion_predictor_ros.config import PipelineConfig

_GRAPH = option('--cuda-graph', action='store_true', help='replay models as CUDA graphs')
_MODELS = (
    PARAMS,
    WEIGHTS,
    DEVICE,
    _GRAPH,
    JSON,
    option('--bag', type=Path, help="recording of a person; default: the demo's"),
    option('--calibration', help='calibration of volumes, made with these weights'),
)
_CROWD = (
    *_MODELS,
    option('--frames', type=whole(1), default=60, help='number of timed messages'),
    option(
        '--people', type=whole(1), nargs='+', default=[1, 2, 4, 8, 16], help='numbers of people'
    ),
    option('--threads', type=whole(1, 64), default=1, help='CPU threads of the models'),
)


BENCH = Group('bench', 'measure time and memory')


def _bag(options: argparse.Namespace) -> Path:
    from motion_predictor_ros.resources import share_file

    return options.bag or share_file('demo', 'demo.mcap')


def _check_graph(options: argparse.Namespace) -> None:
    from motion_predictor_ros.checkpoint import choose_device

    if options.cuda_graph and choose_device(options.device).type != 'cuda':
        raise ConfigError('--cuda-graph needs a GPU, and the device here is the CPU')


def _config(options: argparse.Namespace) -> 'PipelineConfig':
    """Return a configuration in which every message gets futures and volumes."""
    from motion_predictor_ros.bench.pipeline import in_full

    _check_graph(options)
    config = pipeline_config(options)
    graph, calibration = options.cuda_graph, options.calibration or config.volume.calibration
    config = dataclasses.replace(
        config,
        prediction=dataclasses.replace(config.prediction, cuda_graph=graph),
        density=dataclasses.replace(config.density, cuda_graph=graph),
        volume=dataclasses.replace(config.volume, calibration=calibration),
    )
    if isinstance(options.threads, int):
        config = dataclasses.replace(config, threads=options.threads or config.threads)
    return in_full(config)


@BENCH.command(
    'capacity',
    'for how many people a rate is kept',
    *_MODELS,
    option('--threads', type=whole(1, 64), help='CPU threads; default: the parameter'),
    option('--seconds', type=positive(high=3600.0), default=8.0, help='length of a trial [s]'),
)
def _capacity(options: argparse.Namespace) -> Report:
    from motion_predictor_ros.bench import capacity

    report = capacity.bench_capacity(_bag(options), _config(options), options.seconds)
    return report, capacity.print_capacity


@BENCH.command(
    'pipeline',
    'time from message to volume, by stage',
    *_MODELS,
    option('--frames', type=whole(1), default=300, help='number of timed messages'),
    option(
        '--threads', type=whole(1, 64), nargs='+', default=[1, 2], help='CPU threads of the models'
    ),
)
def _pipeline(options: argparse.Namespace) -> Report:
    from motion_predictor_ros.bench import pipeline

    config = _config(options)
    report = pipeline.bench_pipeline(_bag(options), config, options.frames, options.threads)
    return report, pipeline.print_pipeline


@BENCH.command('persons', 'time by number of people', *_CROWD)
def _persons(options: argparse.Namespace) -> Report:
    from motion_predictor_ros.bench import pipeline

    config = _config(options)
    report = pipeline.bench_persons(_bag(options), config, options.frames, options.people)
    return report, pipeline.print_persons


@BENCH.command('motion-deq', 'time of MotionDEQ alone, warm and cold', *_CROWD)
def _motion_deq(options: argparse.Namespace) -> Report:
    from motion_predictor_ros.bench import motion_deq

    config = _config(options)
    report = motion_deq.bench_motion_deq(_bag(options), config, options.frames, options.people)
    return report, motion_deq.print_motion_deq


@BENCH.command(
    'cache',
    'time by number of cached and of drawn futures',
    recipe('body_2s'),
    option('--sizes', type=whole(1, 1_000_000), nargs='+', help='default: 1000 to 1000000'),
    DEVICE,
    threads(),
    JSON,
)
def _cache(options: argparse.Namespace) -> Report:
    from motion_predictor_ros.bench import density
    from motion_predictor_ros.checkpoint import choose_device
    from motion_predictor_ros.training.recipe import load_cache_flow_recipe

    _, settings = load_cache_flow_recipe(options.recipe)
    device, sizes = choose_device(options.device), options.sizes or density.SIZES
    return density.bench_cache(settings, device, sizes), density.print_cache


@BENCH.command(
    'density',
    'time of densities and samples of many futures',
    option('--checkpoint', help='CacheFlow, name or path; default: an untrained one'),
    option('--cache', help='its cache, name or path'),
    recipe('body_2s'),
    option(
        '--size', type=whole(1, 1_000_000), default=100_000, help='futures in a synthetic cache'
    ),
    _GRAPH,
    DEVICE,
    threads(),
    JSON,
)
def _density(options: argparse.Namespace) -> Report:
    from motion_predictor_ros.bench import density
    from motion_predictor_ros.checkpoint import choose_device
    from motion_predictor_ros.config import DensityConfig
    from motion_predictor_ros.density.predictor import CacheFlowPredictor
    from motion_predictor_ros.training.recipe import load_cache_flow_recipe

    _check_graph(options)
    if (options.checkpoint is None) != (options.cache is None):
        raise ConfigError(
            '--checkpoint and --cache go together: a cache belongs to its checkpoint'
        )
    config = DensityConfig(
        device=options.device, cuda_graph=options.cuda_graph, futures=50, rule='nearest'
    )
    if options.checkpoint is None:
        _, settings = load_cache_flow_recipe(options.recipe)
        predictor = density.untrained_predictor(
            settings.model, settings.layout, options.size, config, choose_device(options.device)
        )
    else:
        config = dataclasses.replace(config, weights=options.checkpoint, cache=options.cache)
        predictor = CacheFlowPredictor.load(config)
    return density.bench_density(predictor), density.print_density


@BENCH.command(
    'volume',
    'time of voxels and collision probabilities',
    option('--futures', type=whole(1), default=50, help='futures of the person'),
    option('--poses', type=whole(1), default=15, help='poses of each future'),
    option('--robots', type=whole(1), default=1000, help='configurations in one call'),
    JSON,
)
def _volume(options: argparse.Namespace) -> Report:
    from motion_predictor_ros.bench import volume

    report = volume.bench_volume(options.futures, options.poses, options.robots)
    return report, volume.print_bench


@BENCH.command(
    'memory',
    'bytes a training step keeps for backward',
    recipe('cmu'),
    option('--batch', type=whole(1), default=100, help='people per step'),
    DEVICE,
    JSON,
)
def _memory(options: argparse.Namespace) -> Report:
    from motion_predictor_ros.bench import memory
    from motion_predictor_ros.checkpoint import choose_device
    from motion_predictor_ros.training.recipe import load_recipe

    _, settings = load_recipe(options.recipe)
    report = memory.bench_memory(settings, options.batch, choose_device(options.device))
    return report, memory.print_memory
