# SPDX-License-Identifier: Apache-2.0
"""The command `motion-predictor adapt`: fine-tune and recalibrate on own bags."""

import argparse
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from motion_predictor_ros.cli.options import (
    JSON,
    MODEL,
    SOURCE,
    TOPIC,
    Group,
    Report,
    option,
    out,
    pipeline_config,
    positive,
    threads,
    whole,
)
from motion_predictor_ros.config import PipelineConfig

if TYPE_CHECKING:
    from motion_predictor_ros.data.recordings import Recordings

ADAPT = Group()


@ADAPT.command(
    'adapt',
    'fine-tune and recalibrate on your own bags',
    option('--bag', type=Path, nargs='+', required=True, help='in order of time'),
    out('new folder for the results'),
    TOPIC,
    SOURCE,
    *MODEL,
    option('--name', help="name of the new weights; default: the old name + '_adapted'"),
    option('--recipe', default='adapt', help='shipped recipe name or YAML file'),
    option('--steps', type=whole(0), help="0 keeps the weights; default: the recipe's"),
    option('--minutes', type=positive(), default=10.0, help='longest training time'),
    option('--also', type=Path, help='another bag to test on, for forgetting'),
    option('--one-person', action='store_true', help='accept a single person'),
    threads(0),
    JSON,
)
def _adapt(options: argparse.Namespace) -> Report:
    from motion_predictor_ros.adapt.fine_tune import Plan, adapt, check_new, print_adaptation
    from motion_predictor_ros.adapt.requirements import Requirements
    from motion_predictor_ros.training.recipe import load_recipe

    config = pipeline_config(options)
    name = options.name or f'{Path(config.prediction.weights).stem}_adapted'
    check_new(name, options.out)
    recipe = load_recipe(options.recipe)[1]
    steps = recipe.schedule.steps if options.steps is None else options.steps
    requirements = Requirements(people=1) if options.one_person else Requirements()
    plan = Plan(name, options.out, recipe, steps, options.minutes, requirements)
    recordings, also, lost_s = _recordings(options, config)
    report = adapt(recordings, config, plan, also, lost_s=lost_s)
    report['parameters'] = str(_write_parameters(options, config, report))
    return report, print_adaptation


def _recordings(
    options: argparse.Namespace, config: PipelineConfig
) -> 'tuple[Recordings, Recordings | None, dict[str, float]]':
    """Read the bags at twice the model's rate; also return unusable seconds by reason."""
    import torch

    from motion_predictor_ros.data.bag_recordings import all_for_test, read_segments, split_by_time
    from motion_predictor_ros.prediction.motion_deq.checkpoint import load_motion_deq

    trained = load_motion_deq(config.prediction.weights, torch.device('cpu'))
    rate_hz = 2.0 / trained.module.config.period_s
    names = trained.joint_names
    people = read_segments(options.bag, options.topic, config, options.source, rate_hz)
    recordings = split_by_time(people, names, (f'own recordings: {len(options.bag)} bags',))
    if options.also is None:
        return recordings, None, people.lost_s
    also = _as_recorded(config, options.also)
    elsewhere = all_for_test(read_segments([options.also], '', also, '', rate_hz), names)
    return recordings, elsewhere, people.lost_s


def _as_recorded(config: PipelineConfig, bag: Path) -> PipelineConfig:
    """Read a bag of our own messages in its own frame, whatever source the robot has."""
    from motion_predictor_ros.data.bag_sources import find_source

    if find_source(bag)[0] != 'native':
        return config
    return dataclasses.replace(config, source='native', fixed_frame='', extrinsic='')


def _write_parameters(
    options: argparse.Namespace, config: PipelineConfig, report: dict[str, Any]
) -> Path:
    """Write a ROS parameter file: that of `--params`, with the new files.

    Volumes are switched off where there is no calibration for the new weights.
    """
    values: dict[str, Any] = {}
    if options.params:
        for node in yaml.safe_load(options.params.read_text()).values():
            values |= dict(_flat(node['ros__parameters']))
    if options.source:
        values['source'] = options.source
    values['prediction.weights'] = str(Path(report['weights']).resolve())
    horizons_s = report['volume']['horizons_s']
    if horizons_s:
        values['volume.calibration'] = str(Path(report['volume']['file']).resolve())
        if config.volume.horizon_s not in horizons_s:
            values['volume.horizon_s'] = max(horizons_s)
    else:
        values['volume.enabled'] = 'never'
    path: Path = options.out / 'parameters.yaml'
    path.write_text(yaml.safe_dump({'/**': {'ros__parameters': values}}))
    return path


def _flat(values: dict[str, Any], prefix: str = '') -> Iterator[tuple[str, Any]]:
    """Yield dotted names of nested parameters."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f'{prefix}{name}.')
        else:
            yield f'{prefix}{name}', value
