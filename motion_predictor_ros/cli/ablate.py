# SPDX-License-Identifier: Apache-2.0
"""The commands `motion-predictor ablate motion-deq` and `ablate cache-flow`."""

import argparse
import dataclasses
import json
from pathlib import Path

from rich.console import Console

Commands = argparse._SubParsersAction  # the type argparse itself returns


def add_ablate(commands: 'Commands[argparse.ArgumentParser]') -> None:
    """Add `ablate` with its models."""
    ablate = commands.add_parser('ablate', help='train a model without its parts, one at a time')
    models = ablate.add_subparsers(required=True, metavar='MODEL')
    parser = models.add_parser('motion-deq', help='the effect of each part of MotionDEQ')
    parser.add_argument(
        '--data', type=Path, required=True, help='npz of clips, or folder of a data set'
    )
    parser.add_argument('--recipe', default='cmu', help='shipped recipe name or YAML file')
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument('--minutes', type=float, help='training time of a variant')
    budget.add_argument('--steps', type=int, help='training steps of a variant')
    parser.add_argument('--seeds', type=int, nargs='+', help="default: the recipe's")
    parser.add_argument('--variants', nargs='+', help='default: all')
    parser.add_argument(
        '--skip-cmu',
        action='store_true',
        help='do not score by the CMU protocol; a later call without this adds it',
    )
    parser.add_argument('--json', action='store_true', help='print the report as JSON')
    parser.add_argument('--out', type=Path, required=True, help='folder for runs; resumes')
    parser.add_argument('--device', default='auto', help="'auto', 'cpu' or 'cuda:N'")
    parser.add_argument('--threads', type=int, default=1, help='CPU threads; 0: all')
    parser.set_defaults(run=_ablate)
    _add_cache_flow(models)


def _ablate(options: argparse.Namespace) -> None:
    import torch

    from motion_predictor_ros.checkpoint import choose_device
    from motion_predictor_ros.errors import ConfigError
    from motion_predictor_ros.evaluation.ablation import motion_deq as ablation
    from motion_predictor_ros.evaluation.ablation.parts import VARIANTS
    from motion_predictor_ros.runtime.process_memory import disable_malloc_trim
    from motion_predictor_ros.training.recipe import load_recipe

    disable_malloc_trim()
    if options.threads:
        torch.set_num_threads(options.threads)
    variants = options.variants or list(VARIANTS)
    unknown = sorted(set(variants) - set(VARIANTS))
    if unknown:
        raise ConfigError(f'unknown variants {unknown}; known: {list(VARIANTS)}')
    name, recipe = load_recipe(options.recipe)
    if options.steps is not None:
        if options.steps < 1:
            raise ConfigError(f'--steps must be at least 1, got {options.steps}')
        schedule = dataclasses.replace(recipe.schedule, steps=options.steps, epochs=0)
        recipe = dataclasses.replace(recipe, schedule=schedule)
    trial = ablation.make_trial(
        name,
        recipe,
        options.data,
        options.out,
        choose_device(options.device),
        minutes=options.minutes,
        protocol=not options.skip_cmu,
    )
    report = ablation.ablate(trial, variants, options.seeds or [recipe.schedule.seed])
    if options.json:
        print(json.dumps(report))
    else:
        ablation.print_ablation(report, Console())


def _add_cache_flow(models: 'Commands[argparse.ArgumentParser]') -> None:
    parser = models.add_parser('cache-flow', help='the effect of each part of CacheFlow')
    parser.add_argument('--data', type=Path, required=True, help='npz of clips, or a data set')
    parser.add_argument('--recipe', default='body_2s', help='shipped recipe name or YAML file')
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument('--minutes', type=float, help='training time of each part of a variant')
    budget.add_argument('--steps', type=int, help='training steps of each part of a variant')
    parser.add_argument('--size', type=int, default=100_000, help='number of cached futures')
    parser.add_argument(
        '--smaller',
        type=int,
        nargs='*',
        default=[1_000, 10_000],
        help='smaller caches to evaluate the whole model with',
    )
    parser.add_argument('--json', action='store_true', help='print the report as JSON')
    parser.add_argument('--out', type=Path, required=True, help='folder for runs; resumes')
    parser.add_argument('--device', default='auto', help="'auto', 'cpu' or 'cuda:N'")
    parser.add_argument('--threads', type=int, default=1, help='CPU threads; 0: all')
    parser.set_defaults(run=_ablate_cache_flow)


def _ablate_cache_flow(options: argparse.Namespace) -> None:
    import torch

    from motion_predictor_ros.checkpoint import choose_device
    from motion_predictor_ros.data.datasets import load_training_data
    from motion_predictor_ros.errors import ConfigError
    from motion_predictor_ros.evaluation.ablation import cache_flow as ablation_cache_flow
    from motion_predictor_ros.runtime.process_memory import disable_malloc_trim
    from motion_predictor_ros.training.cache_flow_recipe import load_cache_flow_recipe

    disable_malloc_trim()
    if options.threads:
        torch.set_num_threads(options.threads)
    name, recipe = load_cache_flow_recipe(options.recipe)
    sizes = [*options.smaller, options.size]
    if not all(1 <= size <= options.size <= 1_000_000 for size in sizes):
        raise ConfigError(
            'caches hold 1 to 1000000 futures, those of --smaller no more than --size'
        )
    if options.steps is not None:
        if options.steps < 1:
            raise ConfigError(f'--steps must be at least 1, got {options.steps}')
        parts = {
            part: dataclasses.replace(getattr(recipe, part), steps=options.steps)
            for part in ('behaviour', 'decoder', 'flow')
        }
        recipe = dataclasses.replace(recipe, **parts)
    trial = ablation_cache_flow.CacheFlowTrial(
        name,
        recipe,
        load_training_data(options.data),
        options.out,
        choose_device(options.device),
        options.minutes,
        options.size,
        tuple(options.smaller),
    )
    report = ablation_cache_flow.ablate_cache_flow(trial)
    if options.json:
        print(json.dumps(report))
    else:
        ablation_cache_flow.print_cache_flow_ablation(report, Console())
