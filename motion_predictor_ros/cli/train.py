# SPDX-License-Identifier: Apache-2.0
"""The commands `motion-predictor train ...`, `build-cache` and `calibrate`."""

import argparse
from pathlib import Path
from typing import Any

from motion_predictor_ros.cli.evaluate import FUTURES_MODELS, load_volume_models
from motion_predictor_ros.cli.options import (
    DEVICE,
    JSON,
    Group,
    Report,
    checkpoint,
    data,
    load_model,
    load_training_data,
    new_file,
    option,
    out,
    positive,
    recipe,
    split,
    threads,
    whole,
)

_RUN = (
    data(),
    out('folder for checkpoints and CSV'),
    option('--minutes', type=float, help='stop after this time; resumable'),
    option('--resume', action='store_true', help='resume from --out'),
    DEVICE,
)


_RECIPE_AND_START = (
    recipe(),
    option('--start-from', type=Path, help='initial weights; default: random'),
    threads(0),
)

TRAIN = Group('train', 'train a model')
COMMANDS = Group()


@TRAIN.command(
    'motion-deq', 'train MotionDEQ by a recipe', *_RUN, *_RECIPE_AND_START, kind='motion_deq'
)
@TRAIN.command(
    'eqmotion-style',
    'train the baseline of four unshared layers',
    *_RUN,
    *_RECIPE_AND_START,
    kind='eqmotion_style',
)
@TRAIN.command(
    'esl8',
    "train the baseline of MotionDEQ's cell unrolled eight times",
    *_RUN,
    *_RECIPE_AND_START,
    kind='esl8',
)
def _motion(options: argparse.Namespace) -> None:
    from motion_predictor_ros.checkpoint import choose_device
    from motion_predictor_ros.training.baselines.unrolled import UNROLLED, UnrolledLearner
    from motion_predictor_ros.training.loop import mix_with_start, train
    from motion_predictor_ros.training.motion_deq import Learner, MotionDEQLearner, MotionTask
    from motion_predictor_ros.training.recipe import load_recipe
    from motion_predictor_ros.training.residuals import keep_residuals

    name, settings = load_recipe(options.recipe)
    recordings = load_training_data(options)
    device = choose_device(options.device)
    learner: Learner[Any] = (
        UnrolledLearner(options.kind, settings, device)
        if options.kind in UNROLLED
        else MotionDEQLearner(settings, device)
    )
    task = MotionTask(name, settings, recordings, learner)
    if options.start_from is not None:
        task.start_from(options.start_from)
    schedule = settings.schedule
    best = train(task, schedule, options.out, minutes=options.minutes, resume=options.resume)
    if options.start_from is not None:
        mix_with_start(best, options.start_from, settings.start_share, task.kind)
    # Residuals on training clips would be too small: then there is no covariance.
    if isinstance(learner, MotionDEQLearner) and not settings.held_out_too:
        keep_residuals(best, recordings.select(lambda clip: clip.split == 'val'), device)
    print(best)


@TRAIN.command(
    'correction',
    "train the correction adapter for MotionDEQ's warm start",
    *_RUN,
    checkpoint(None, 'trained MotionDEQ; not changed'),
)
def _correction(options: argparse.Namespace) -> None:
    from motion_predictor_ros.checkpoint import choose_device
    from motion_predictor_ros.training.correction import SCHEDULE, CorrectionTask
    from motion_predictor_ros.training.loop import train
    from motion_predictor_ros.training.residuals import keep_residuals

    recordings, device = load_training_data(options), choose_device(options.device)
    task = CorrectionTask(load_model(options), recordings, device)
    best = train(task, SCHEDULE, options.out, minutes=options.minutes, resume=options.resume)
    keep_residuals(best, recordings.select(lambda clip: clip.split == 'val'), device)
    print(best)


@TRAIN.command(
    'cache-flow', 'train CacheFlow by a recipe', *_RUN, recipe(), threads(), kind='cache-flow'
)
@TRAIN.command(
    'latent-mixture',
    "train CacheFlow's mixture without its flow, to compare with",
    *_RUN,
    recipe(),
    threads(),
    checkpoint(None, 'trained CacheFlow; not changed'),
    kind='latent-mixture',
)
@TRAIN.command(
    'conditional-vae',
    'train a conditional VAE of futures, to compare with',
    *_RUN,
    recipe(),
    threads(),
    kind='conditional-vae',
)
def _futures(options: argparse.Namespace) -> None:
    """Train CacheFlow, or a model of futures that it is compared with."""
    from motion_predictor_ros.checkpoint import choose_device
    from motion_predictor_ros.density.cache_flow.checkpoint import load_cache_flow
    from motion_predictor_ros.training.baselines.futures import (
        ConditionalVAETask,
        LatentMixtureTask,
    )
    from motion_predictor_ros.training.cache_flow import FutureData, train_cache_flow
    from motion_predictor_ros.training.loop import train
    from motion_predictor_ros.training.recipe import load_cache_flow_recipe

    name, settings = load_cache_flow_recipe(options.recipe)
    recordings, device = load_training_data(options), choose_device(options.device)
    budget = {'minutes': options.minutes, 'resume': options.resume}
    if options.kind == 'cache-flow':
        print(train_cache_flow(name, settings, recordings, options.out, device, **budget))
        return
    examples = FutureData(settings, recordings, device)
    if options.kind == 'latent-mixture':
        base = load_cache_flow(options.checkpoint, device)
        mixture = LatentMixtureTask(name, settings, examples, base)
        print(train(mixture, settings.flow, options.out, **budget))
    else:
        vae = ConditionalVAETask(name, settings, examples)
        print(train(vae, settings.behaviour, options.out, **budget))


@COMMANDS.command(
    'build-cache',
    'compute the cache of recorded futures',
    checkpoint(None, 'trained CacheFlow, name or path'),
    data(),
    out('safetensors file to write', new_file()),
    option('--size', type=whole(1, 1_000_000), default=100_000, help='futures, 1 to 1000000'),
    option('--storage', choices=('float16', 'float32'), default='float16', help='of arrays'),
    DEVICE,
    threads(),
)
def _build_cache(options: argparse.Namespace) -> None:
    from motion_predictor_ros.checkpoint import choose_device
    from motion_predictor_ros.density.cache_flow.checkpoint import load_cache_flow
    from motion_predictor_ros.training.cache_build import build_cache

    trained = load_cache_flow(options.checkpoint, choose_device(options.device))
    cache = build_cache(trained, load_training_data(options), options.size)
    cache.save(options.out, options.storage)
    print(options.out)


@COMMANDS.command(
    'calibrate',
    'calibrate keep-out volumes on split cal',
    data('npz of clips with splits'),
    split('cal'),
    *FUTURES_MODELS,
    JSON,
    option('--out', type=new_file(), help='default: CHECKPOINT_calibration beside it'),
    option(
        '--level', type=positive(high=1.0), action='append', help='fail without it; repeatable'
    ),
    option('--horizon', type=positive(), action='append', help='default: 0.5, 1 and 2 s'),
)
def _calibrate(options: argparse.Namespace) -> Report:
    from motion_predictor_ros.resources import resolve_file
    from motion_predictor_ros.training import volume_calibration
    from motion_predictor_ros.training.volume_windows import HORIZONS_S
    from motion_predictor_ros.volume.calibration import load_calibration, save_calibration

    horizons_s = tuple(sorted(options.horizon or HORIZONS_S))
    settings = volume_calibration.CalibrationRecipe(horizons_s)
    models, recordings = load_volume_models(options), load_training_data(options)
    calibration = volume_calibration.calibrate(models, recordings, settings, options.split)
    for level in options.level or []:
        for until in calibration.horizons:
            until.group_thresholds('coverage', level)
    weights = resolve_file(options.checkpoint, 'weights', '.safetensors')
    path = options.out or weights.with_name(f'{weights.stem}_calibration.safetensors')
    save_calibration(path, calibration)
    kept = load_calibration(str(path), models.digests)
    report = {**volume_calibration.summary(kept), 'file': str(path)}
    return report, volume_calibration.print_calibration
