# SPDX-License-Identifier: Apache-2.0
"""The commands `motion-predictor evaluate ...`."""

import argparse
import dataclasses
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from motion_predictor_ros.cli.options import (
    DEVICE,
    JSON,
    MODEL,
    SOURCE,
    TOPIC,
    Group,
    Report,
    checkpoint,
    data,
    load_model,
    load_training_data,
    new_file,
    new_folder,
    option,
    pipeline_config,
    positive,
    split,
    threads,
    whole,
)

if TYPE_CHECKING:
    from motion_predictor_ros.config import DensityConfig
    from motion_predictor_ros.training.volume_windows import Models
    from motion_predictor_ros.volume.calibration import Calibration

FUTURES_MODELS = (
    checkpoint('body_2s', 'CacheFlow, name or path'),
    option('--cache', default='body_2s_cache', help='its cache, name or path'),
    option('--motion-deq', default='body_1s', help="MotionDEQ, name or path; '': without"),
    option('--samples', type=whole(1, 10_000), default=50, help='futures per person'),
    DEVICE,
    threads(),
)

_CLIPS = (data(), split(), checkpoint('body_1s'), DEVICE, threads(), JSON)
_CALIBRATION = option('--calibration', help='default: CHECKPOINT_calibration')
EVALUATE = Group('evaluate', 'measure how good predictions are')


@EVALUATE.command(
    'bag',
    'replay a bag and score the predictions',
    option('bag', type=Path, help='rosbag2 folder, .mcap or .db3 (no ROS needed)'),
    TOPIC,
    SOURCE,
    *MODEL,
    JSON,
    option('--out', type=new_folder, help='folder for report.json and pictures'),
    option('--report-html', type=new_file(), help='file for a page with the replay'),
    option('--no-volumes', action='store_true', help='no keep-out volumes; faster'),
)
def _bag(options: argparse.Namespace) -> Report:
    from motion_predictor_ros.evaluation.report.bag import evaluate_bag

    config = pipeline_config(options)
    if options.no_volumes:
        volume = dataclasses.replace(config.volume, enabled='never')
        config = dataclasses.replace(config, volume=volume)
    evaluation = evaluate_bag(options.bag, options.topic, config, options.source)
    if options.out:
        evaluation.save(options.out)
    if options.report_html:
        evaluation.save_html(options.report_html)
    outputs = options.out, options.report_html

    def show(report: dict[str, Any], console: Console) -> None:
        evaluation.show(console)
        if written := [str(path) for path in outputs if path]:
            console.print('written:', *written, markup=False, highlight=False, soft_wrap=True)

    return evaluation.report, show


@EVALUATE.command('mocap', 'score a model on motion capture clips', *_CLIPS)
def _mocap(options: argparse.Namespace) -> Report:
    from motion_predictor_ros.evaluation.motion import mocap

    trained, recordings = load_model(options), load_training_data(options)
    report = mocap.evaluate_mocap(recordings.of_split(options.split), trained)
    return report, partial(mocap.print_mocap, trained.name)


@EVALUATE.command('robustness', 'synthetic cameras: rates, noise, hidden joints', *_CLIPS)
def _robustness(options: argparse.Namespace) -> Report:
    from motion_predictor_ros.evaluation.motion import robustness

    trained, recordings = load_model(options), load_training_data(options)
    report = robustness.evaluate_robustness(recordings.of_split(options.split), trained)
    return report, robustness.print_robustness


@EVALUATE.command('streaming', 'solver iterations on streams, warm and cold', *_CLIPS)
def _streaming(options: argparse.Namespace) -> Report:
    from motion_predictor_ros.evaluation.motion import streaming

    trained, recordings = load_model(options), load_training_data(options)
    report = streaming.evaluate_streaming(recordings.of_split(options.split), trained)
    return report, streaming.print_streaming


@EVALUATE.command(
    'cmu',
    "score a model by the literature's CMU protocol",
    data('npz of the CMU benchmark'),
    option(
        '--checkpoint',
        '--weights',
        help='model name or path, made by recipe "cmu"; default: the baselines alone',
    ),
    option('--eqmotion-style', help='from `train eqmotion-style`, to compare with'),
    DEVICE,
    threads(),
    JSON,
)
def _cmu(options: argparse.Namespace) -> Report:
    from motion_predictor_ros.checkpoint import choose_device
    from motion_predictor_ros.data.cmu import load_cmu_sequences
    from motion_predictor_ros.evaluation.motion import cmu_benchmark
    from motion_predictor_ros.training.baselines.unrolled import load_unrolled

    models: dict[str, Any] = {}
    if options.checkpoint:
        models['motion_deq'] = load_model(options)
    if options.eqmotion_style:
        device = choose_device(options.device)
        models['eqmotion_style'] = load_unrolled(options.eqmotion_style, 'eqmotion_style', device)
    clips = cmu_benchmark.clips_by_action(load_cmu_sequences(options.data))
    return cmu_benchmark.evaluate_cmu(clips, models), cmu_benchmark.print_cmu


def density_config(options: argparse.Namespace) -> 'DensityConfig':
    """Return the configuration of CacheFlow by `FUTURES_MODELS`."""
    from motion_predictor_ros.config import DensityConfig

    return DensityConfig(
        weights=options.checkpoint,
        cache=options.cache,
        device=options.device,
        futures=options.samples,
    )


@EVALUATE.command(
    'stochastic',
    'score many futures and their density',
    data(),
    split(),
    *FUTURES_MODELS,
    JSON,
    option('--latent-mixture', help="default: the shipped one, of body_2s; '': without"),
    option('--conditional-vae', help="default: the shipped one, of body_2s; '': without"),
    option('--similar', type=positive(), default=0.5, help='similar starts [m]'),
)
def _stochastic(options: argparse.Namespace) -> Report:
    from motion_predictor_ros.checkpoint import choose_device
    from motion_predictor_ros.evaluation.futures import samplers, stochastic
    from motion_predictor_ros.prediction.motion_deq.checkpoint import load_motion_deq

    device = choose_device(options.device)
    recordings = load_training_data(options)
    shipped = options.checkpoint == 'body_2s'
    compared = samplers.ComparedModels(
        samplers.weights_of(options.latent_mixture, 'latent_mixture', shipped),
        samplers.weights_of(options.conditional_vae, 'conditional_vae', shipped),
        load_motion_deq(options.motion_deq, device) if options.motion_deq else None,
    )
    trained, models = samplers.load_samplers(density_config(options), compared, recordings)
    judged = recordings.of_split(options.split)
    case = stochastic.make_case(trained, judged, options.similar, compared.motion_deq)
    return stochastic.evaluate_stochastic(case, trained, models), stochastic.print_stochastic


def load_volume_models(options: argparse.Namespace) -> 'Models':
    """Load MotionDEQ and CacheFlow by `FUTURES_MODELS`."""
    from motion_predictor_ros.training.volume_windows import Models

    return Models.load(density_config(options), options.motion_deq)


def _load_calibration(options: argparse.Namespace, models: 'Models') -> 'Calibration':
    from motion_predictor_ros.volume.calibration import load_calibration

    stem = options.checkpoint.removesuffix('.safetensors')
    suffix = options.checkpoint.removeprefix(stem)
    return load_calibration(options.calibration or f'{stem}_calibration{suffix}', models.digests)


@EVALUATE.command(
    'volume',
    'coverage and size of keep-out volumes',
    data('npz of clips with splits'),
    split(),
    *FUTURES_MODELS,
    JSON,
    _CALIBRATION,
)
def _volume(options: argparse.Namespace) -> Report:
    from motion_predictor_ros.evaluation.volumes import volume

    models = load_volume_models(options)
    calibration, recordings = _load_calibration(options, models), load_training_data(options)
    report = volume.evaluate_volume(models, recordings, calibration, options.split)
    return report, volume.print_volume


@EVALUATE.command(
    'separation',
    'how often a robot stops for people, and which contacts it misses',
    data('npz of clips with splits'),
    split(),
    *FUTURES_MODELS,
    JSON,
    _CALIBRATION,
    option('--decisions', type=whole(1), default=100_000, help='per stopping time, at least'),
    option('--seed', type=whole(0), default=0, help='of the lines and the bootstrap'),
    option(
        '--plot',
        type=new_file('.png', '.pdf', '.svg'),
        help='PNG of stops against missed contacts',
    ),
    option('--speed', type=float, help='of your robot in place of the two built in, m/s; 1'),
    option('--reaction', type=float, help='of your robot, until it brakes, s; default 0.1'),
    option('--deceleration', type=float, help='of your robot, m/s^2; default 3'),
    option('--radius', type=float, help="of the ball around your robot's tool, m; 0.12"),
)
def _separation(options: argparse.Namespace) -> Report:
    from motion_predictor_ros.evaluation.separation import separation
    from motion_predictor_ros.training.robot_lines import ROBOTS, Robot

    given = {
        'speed_m_s': options.speed,
        'reaction_s': options.reaction,
        'deceleration_m_s2': options.deceleration,
        'radius_m': options.radius,
    }
    chosen = {name: value for name, value in given.items() if value is not None}
    models = load_volume_models(options)
    report = separation.evaluate_separation(
        models,
        load_training_data(options).of_split(options.split),
        _load_calibration(options, models),
        (Robot(**chosen),) if chosen else ROBOTS,
        decisions=options.decisions,
        seed=options.seed,
    )
    if options.plot:
        separation.plot_separation(report, options.plot)
    return report, separation.print_separation
