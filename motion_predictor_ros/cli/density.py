# SPDX-License-Identifier: Apache-2.0
"""The commands of `motion-predictor` for CacheFlow: train, build, evaluate, bench."""

import argparse
import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from motion_predictor_ros.cli.options import add_result_options, keep_results

if TYPE_CHECKING:
    from motion_predictor_ros.training.future_data import FutureData

Commands = argparse._SubParsersAction  # the type argparse itself returns


def add_density_trainings(models: 'Commands[argparse.ArgumentParser]') -> None:
    """Add `train cache-flow` and the models it is compared with."""
    parser = models.add_parser('cache-flow', help='train CacheFlow by a recipe')
    _add_training(parser)
    parser.set_defaults(run=_train_cache_flow)
    parser = models.add_parser(
        'latent-mixture', help="train CacheFlow's mixture without its flow, to compare with"
    )
    _add_training(parser)
    parser.add_argument('--checkpoint', required=True, help='trained CacheFlow; stays as it is')
    parser.set_defaults(run=_train_latent_mixture)
    parser = models.add_parser(
        'conditional-vae', help='train a conditional VAE of futures, to compare with'
    )
    _add_training(parser)
    parser.set_defaults(run=_train_conditional_vae)


def _add_training(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--recipe', required=True, help='shipped recipe name or YAML file')
    parser.add_argument('--data', type=Path, required=True, help='npz of clips, or a data set')
    parser.add_argument('--out', type=Path, required=True, help='folder for checkpoints and CSV')
    parser.add_argument('--minutes', type=float, help='stop after this time; resumable')
    parser.add_argument('--resume', action='store_true', help='go on from --out')
    _add_device(parser)


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--device', default='auto', help="'auto', 'cpu' or 'cuda:N'")
    parser.add_argument('--threads', type=int, default=1, help='CPU threads; 0: all')


def _train_cache_flow(options: argparse.Namespace) -> None:
    from motion_predictor_ros.checkpoint import choose_device
    from motion_predictor_ros.data.datasets import load_training_data
    from motion_predictor_ros.training.cache_flow_recipe import load_cache_flow_recipe
    from motion_predictor_ros.training.cache_flow_run import train_cache_flow

    _prepare_training(options)
    name, recipe = load_cache_flow_recipe(options.recipe)
    best = train_cache_flow(
        name,
        recipe,
        load_training_data(options.data),
        options.out,
        choose_device(options.device),
        minutes=options.minutes,
        resume=options.resume,
    )
    print(best)


def _train_latent_mixture(options: argparse.Namespace) -> None:
    from motion_predictor_ros.density.cache_flow.checkpoint import load_cache_flow
    from motion_predictor_ros.training.baselines.latent_mixture import LatentMixtureTask
    from motion_predictor_ros.training.cache_flow_recipe import load_cache_flow_recipe
    from motion_predictor_ros.training.loop import train

    data = _future_data(options)
    name, recipe = load_cache_flow_recipe(options.recipe)
    base = load_cache_flow(options.checkpoint, data.device)
    task = LatentMixtureTask(name, recipe, data, base)
    print(train(task, recipe.flow, options.out, minutes=options.minutes, resume=options.resume))


def _train_conditional_vae(options: argparse.Namespace) -> None:
    from motion_predictor_ros.training.baselines.conditional_vae import ConditionalVAETask
    from motion_predictor_ros.training.cache_flow_recipe import load_cache_flow_recipe
    from motion_predictor_ros.training.loop import train

    data = _future_data(options)
    name, recipe = load_cache_flow_recipe(options.recipe)
    task = ConditionalVAETask(name, recipe, data)
    best = train(
        task, recipe.behaviour, options.out, minutes=options.minutes, resume=options.resume
    )
    print(best)


def _future_data(options: argparse.Namespace) -> 'FutureData':
    from motion_predictor_ros.checkpoint import choose_device
    from motion_predictor_ros.data.datasets import load_training_data
    from motion_predictor_ros.training.cache_flow_recipe import load_cache_flow_recipe
    from motion_predictor_ros.training.future_data import FutureData

    _prepare_training(options)
    _, recipe = load_cache_flow_recipe(options.recipe)
    return FutureData(recipe, load_training_data(options.data), choose_device(options.device))


def add_build_cache(commands: 'Commands[argparse.ArgumentParser]') -> None:
    """Add `build-cache`."""
    parser = commands.add_parser('build-cache', help='compute the cache of recorded futures')
    parser.add_argument('--checkpoint', required=True, help='trained CacheFlow, name or path')
    parser.add_argument('--data', type=Path, required=True, help='npz of clips, or a data set')
    parser.add_argument('--out', type=Path, required=True, help='safetensors file to write')
    parser.add_argument('--size', type=_size, default=100_000, help='futures, 1 to 1000000')
    parser.add_argument(
        '--storage', choices=('float16', 'float32'), default='float16', help='of the arrays'
    )
    _add_device(parser)
    parser.set_defaults(run=_build_cache)


def _size(text: str) -> int:
    size = int(text)
    if not 1 <= size <= 1_000_000:
        raise argparse.ArgumentTypeError(f'must be from 1 to 1000000, got {size}')
    return size


def _build_cache(options: argparse.Namespace) -> None:
    from motion_predictor_ros.checkpoint import choose_device
    from motion_predictor_ros.data.datasets import load_training_data
    from motion_predictor_ros.density.cache_flow.checkpoint import load_cache_flow
    from motion_predictor_ros.training.cache_build import build_cache

    _prepare_training(options)
    trained = load_cache_flow(options.checkpoint, choose_device(options.device))
    recordings = load_training_data(options.data)
    build_cache(trained, recordings, options.size, progress=True).save(
        options.out, options.storage
    )
    print(options.out)


def _prepare_training(options: argparse.Namespace) -> None:
    from motion_predictor_ros.runtime.process_memory import disable_malloc_trim

    disable_malloc_trim()
    _set_threads(options)


def _set_threads(options: argparse.Namespace) -> None:
    import torch

    if options.threads:
        torch.set_num_threads(options.threads)


def add_evaluate_stochastic(kinds: 'Commands[argparse.ArgumentParser]') -> None:
    """Add `evaluate stochastic`."""
    parser = kinds.add_parser('stochastic', help='score many futures and their density')
    parser.add_argument('--data', type=Path, required=True, help='npz of clips, or a data set')
    parser.add_argument('--split', default='test', help='clips to evaluate')
    add_result_options(parser)
    parser.add_argument('--checkpoint', default='body_2s', help='CacheFlow, name or path')
    parser.add_argument('--cache', default='body_2s_cache', help='its cache, name or path')
    for rival in ('latent-mixture', 'conditional-vae'):
        parser.add_argument(
            f'--{rival}',
            help=f"from `train {rival}`; default: the shipped one, beside body_2s; '': without",
        )
    parser.add_argument(
        '--beside', nargs=2, metavar=('WEIGHTS', 'CACHE'), help='another CacheFlow, by its samples'
    )
    parser.add_argument('--motion-deq', default='body_1s', help="name or path; '': without")
    parser.add_argument('--similar', type=float, default=0.5, help='similar starts [m]')
    parser.add_argument('--samples', type=int, default=50, help='futures per person')
    _add_device(parser)
    parser.set_defaults(run=_evaluate_stochastic)


def _evaluate_stochastic(options: argparse.Namespace) -> None:
    from motion_predictor_ros.config import DensityConfig
    from motion_predictor_ros.data.datasets import load_training_data
    from motion_predictor_ros.evaluation.archive import Figures
    from motion_predictor_ros.evaluation.futures.rivals import Rivals, field_of, rival_file
    from motion_predictor_ros.evaluation.futures.stochastic import (
        evaluate_stochastic,
        make_case,
        print_stochastic,
    )

    _set_threads(options)
    recordings = load_training_data(options.data)
    config = DensityConfig(
        weights=options.checkpoint,
        cache=options.cache,
        device=options.device,
        futures=options.samples,
    )
    shipped = options.checkpoint == 'body_2s'
    rivals = Rivals(
        rival_file(options.latent_mixture, 'latent_mixture', shipped),
        rival_file(options.conditional_vae, 'conditional_vae', shipped),
        options.motion_deq,
        tuple(options.beside) if options.beside else None,
    )
    trained, contenders = field_of(config, rivals, recordings)
    selected = recordings.select(lambda clip: clip.split == options.split)
    case = make_case(trained, selected, options.similar)
    figures = Figures()
    report = evaluate_stochastic(
        case, trained, contenders, progress=not options.json, figures=figures
    )
    keep_results(options, figures.archive('stochastic', report))
    if options.json:
        print(json.dumps(report))
    else:
        print_stochastic(report, Console())


def add_bench_density(kinds: 'Commands[argparse.ArgumentParser]') -> None:
    """Add `bench density`."""
    parser = kinds.add_parser('density', help='time of densities and samples of many futures')
    parser.add_argument('--checkpoint', help='CacheFlow, name or path; default: an untrained one')
    parser.add_argument('--cache', help='its cache, name or path')
    parser.add_argument('--recipe', default='body_2s', help='recipe with the shape of the model')
    parser.add_argument('--size', type=_size, default=100_000, help='futures in a synthetic cache')
    parser.add_argument('--json', action='store_true', help='print the report as JSON')
    _add_device(parser)
    parser.add_argument('--cuda-graph', action='store_true', help='replay it as CUDA graphs')
    parser.set_defaults(run=_bench_density)


def _bench_density(options: argparse.Namespace) -> None:
    from motion_predictor_ros.bench import density as bench_density
    from motion_predictor_ros.checkpoint import choose_device
    from motion_predictor_ros.config import DensityConfig
    from motion_predictor_ros.density.predictor import CacheFlowPredictor
    from motion_predictor_ros.errors import ConfigError
    from motion_predictor_ros.training.cache_flow_recipe import load_cache_flow_recipe

    if (options.checkpoint is None) != (options.cache is None):
        raise ConfigError(
            '--checkpoint and --cache go together: a cache belongs to its checkpoint'
        )
    _set_threads(options)
    overrides = {'device': options.device, 'cuda_graph': options.cuda_graph}
    config = DensityConfig(**overrides, futures=50, rule='nearest')
    if options.checkpoint is None:
        _, recipe = load_cache_flow_recipe(options.recipe)
        predictor = bench_density.untrained_predictor(
            recipe.model, recipe.layout, options.size, config, choose_device(options.device)
        )
    else:
        files = {'weights': options.checkpoint, 'cache': options.cache}
        predictor = CacheFlowPredictor.load(dataclasses.replace(config, **files))
    report = bench_density.bench_density(predictor)
    if options.json:
        print(json.dumps(report))
    else:
        bench_density.print_density(report, Console())
