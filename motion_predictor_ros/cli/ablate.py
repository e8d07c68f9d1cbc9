# SPDX-License-Identifier: Apache-2.0
"""The commands `motion-predictor ablate motion-deq` and `ablate cache-flow`."""

import argparse
import dataclasses
from typing import TYPE_CHECKING

from motion_predictor_ros.cli.options import (
    DEVICE,
    JSON,
    Group,
    Report,
    data,
    load_training_data,
    option,
    out,
    recipe,
    threads,
)
from motion_predictor_ros.errors import ConfigError

if TYPE_CHECKING:
    from motion_predictor_ros.training.recipe import ScheduleConfig

ABLATE = Group('ablate', 'train a model without its parts, one at a time')

_COMMON = (
    data(),
    out('folder for runs; resumes'),
    option('--steps', type=int, help="training steps of a variant; default: the recipe's"),
    DEVICE,
    threads(),
    JSON,
)


def _shortened(schedule: 'ScheduleConfig', steps: int | None) -> 'ScheduleConfig':
    """Return the schedule with this number of steps, if one is given."""
    if steps is None:
        return schedule
    if steps < 1:
        raise ConfigError(f'--steps must be at least 1, got {steps}')
    return dataclasses.replace(schedule, steps=steps, epochs=0)


@ABLATE.command(
    'motion-deq',
    'the effect of each part of MotionDEQ',
    *_COMMON,
    recipe('cmu'),
    option('--seeds', type=int, nargs='+', help="default: the recipe's"),
    option('--variants', nargs='+', help='default: all'),
)
def _motion_deq(options: argparse.Namespace) -> Report:
    from motion_predictor_ros.checkpoint import choose_device
    from motion_predictor_ros.evaluation.ablation import motion_deq
    from motion_predictor_ros.evaluation.ablation.parts import VARIANTS
    from motion_predictor_ros.training.recipe import in_steps, load_recipe

    variants = options.variants or list(VARIANTS)
    if unknown := sorted(set(variants) - set(VARIANTS)):
        raise ConfigError(f'unknown variants {unknown}; known: {list(VARIANTS)}')
    name, settings = load_recipe(options.recipe)
    schedule = _shortened(settings.schedule, options.steps)
    recordings = load_training_data(options)
    settings = in_steps(dataclasses.replace(settings, schedule=schedule), recordings)
    device = choose_device(options.device)
    trial = motion_deq.Trial(name, settings, recordings, options.out, device)
    report = motion_deq.ablate(trial, variants, options.seeds or [schedule.seed])
    return report, motion_deq.print_ablation


@ABLATE.command(
    'cache-flow',
    'the effect of each part of CacheFlow',
    *_COMMON,
    recipe('body_2s'),
    option('--size', type=int, default=100_000, help='number of cached futures'),
    option('--smaller', type=int, nargs='*', default=[1_000, 10_000], help='of other caches'),
)
def _cache_flow(options: argparse.Namespace) -> Report:
    from motion_predictor_ros.checkpoint import choose_device
    from motion_predictor_ros.evaluation.ablation import cache_flow
    from motion_predictor_ros.training.recipe import load_cache_flow_recipe

    name, settings = load_cache_flow_recipe(options.recipe)
    sizes = [*options.smaller, options.size]
    if not all(1 <= size <= options.size <= 1_000_000 for size in sizes):
        raise ConfigError(
            'caches hold 1 to 1000000 futures, those of --smaller no more than --size'
        )
    settings = dataclasses.replace(
        settings,
        behaviour=_shortened(settings.behaviour, options.steps),
        decoder=_shortened(settings.decoder, options.steps),
        flow=_shortened(settings.flow, options.steps),
    )
    trial = cache_flow.CacheFlowTrial(
        name,
        settings,
        load_training_data(options),
        options.out,
        choose_device(options.device),
        options.size,
        tuple(options.smaller),
    )
    return cache_flow.ablate_cache_flow(trial), cache_flow.print_cache_flow_ablation
