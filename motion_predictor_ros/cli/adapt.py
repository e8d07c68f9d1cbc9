# SPDX-License-Identifier: Apache-2.0
"""The command `motion-predictor adapt`: fine-tune and recalibrate on own bags."""

import argparse
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from rich.console import Console
from rich.table import Table

from motion_predictor_ros.config import (
    SOURCES,
    PipelineConfig,
    read_parameter_file,
)
from motion_predictor_ros.errors import ConfigError

if TYPE_CHECKING:
    from motion_predictor_ros.data.recordings import Recordings

Commands = argparse._SubParsersAction  # the type argparse itself returns


def add_adapt(commands: 'Commands[argparse.ArgumentParser]') -> None:
    """Add the command."""
    parser = commands.add_parser('adapt', help='fine-tune and recalibrate on your own bags')
    parser.add_argument('--bag', type=Path, nargs='+', required=True, help='in order of time')
    parser.add_argument('--out', type=Path, required=True, help='new folder for the results')
    parser.add_argument('--topic', default='', help='skeleton topic; default: the only one')
    parser.add_argument(
        '--source', default='', choices=tuple(SOURCES), help="default: by the topic's type"
    )
    parser.add_argument('--params', type=Path, help='ROS parameter file; default: the defaults')
    parser.add_argument('--weights', help='weights to adapt: shipped model name or path')
    parser.add_argument(
        '--name', help="name of the new weights; default: the old name + '_adapted'"
    )
    parser.add_argument('--recipe', default='adapt', help='shipped recipe name or YAML file')
    parser.add_argument('--steps', type=int, help="0 keeps the weights; default: the recipe's")
    parser.add_argument('--minutes', type=float, default=10.0, help='longest training time')
    parser.add_argument('--also', type=Path, help='another bag to test on, for forgetting')
    parser.add_argument('--one-person', action='store_true', help='accept a single person')
    parser.add_argument('--device', help="'auto', 'cpu' or 'cuda:N'")
    parser.add_argument('--threads', type=int, default=0, help='CPU threads; 0: all')
    parser.add_argument('--json', action='store_true', help='print the report as JSON')
    parser.set_defaults(run=_adapt)


def _adapt(options: argparse.Namespace) -> None:
    import torch

    from motion_predictor_ros.adapt.fine_tune import Plan, adapt, check_new
    from motion_predictor_ros.adapt.requirements import Requirements
    from motion_predictor_ros.training.recipe import load_recipe

    if options.threads:
        torch.set_num_threads(options.threads)
    config = _config(options)
    name = options.name or f'{Path(config.prediction.weights).stem}_adapted'
    check_new(name, options.out)
    recipe = load_recipe(options.recipe)[1]
    steps = recipe.schedule.steps if options.steps is None else options.steps
    if steps < 0 or not options.minutes > 0:
        raise ConfigError('--steps must be 0 or more, --minutes more than 0')
    requirements = Requirements(people=1) if options.one_person else Requirements()
    plan = Plan(name, options.out, recipe, steps, options.minutes, requirements)
    recordings, also, lost_s = _recordings(options, config)
    report = adapt(recordings, config, plan, also, lost_s=lost_s, progress=not options.json)
    report['parameters'] = str(_write_parameters(options, config, report))
    if options.json:
        print(json.dumps(report))
    else:
        _show(report, Console())


def _config(options: argparse.Namespace) -> PipelineConfig:
    config = read_parameter_file(options.params) if options.params else PipelineConfig()
    chosen = {key: getattr(options, key) for key in ('weights', 'device') if getattr(options, key)}
    config = dataclasses.replace(
        config, prediction=dataclasses.replace(config.prediction, **chosen)
    )
    if options.device:
        density = dataclasses.replace(config.density, device=options.device)
        config = dataclasses.replace(config, density=density)
    return config


def _recordings(
    options: argparse.Namespace, config: PipelineConfig
) -> 'tuple[Recordings, Recordings | None, dict[str, float]]':
    """Read the bags at twice the model's rate; also return unusable seconds by reason."""
    import torch

    from motion_predictor_ros.data.bag_recordings import people_in, split_by_time, unsplit
    from motion_predictor_ros.prediction.motion_deq.checkpoint import load_motion_deq

    trained = load_motion_deq(config.prediction.weights, torch.device('cpu'))
    rate_hz = 2.0 / trained.module.config.period_s
    names = trained.joint_names
    people = people_in(options.bag, options.topic, config, options.source, rate_hz)
    recordings = split_by_time(people, names, (f'own recordings: {len(options.bag)} bags',))
    if options.also is None:
        return recordings, None, people.lost_s
    also = _as_recorded(config, options.also)
    elsewhere = unsplit(people_in([options.also], '', also, '', rate_hz), names)
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


def _show(report: dict[str, Any], console: Console) -> None:
    seconds, windows = report['seconds'], report['windows']
    console.print(
        f'seconds of people: {seconds["train"]:.0f} train, {seconds["val"]:.0f} validate, '
        f'{seconds["test"]:.0f} test ({windows["test"]} windows 4 s apart); '
        f'weights {report["training"]["weights"]}'
    )
    console.print(_table(report, 'Own people, test part'))
    if report['worse']:
        console.print('[red]worse than before on held-out people: use --steps 0 instead[/]')
    if 'elsewhere' in report:
        console.print(_table({**report, **report['elsewhere']}, 'Other people: forgetting'))
    volume = report['volume']
    if volume.get('file'):
        console.print(f'volume calibrated until {volume["horizons_s"]} s: {volume["file"]}')
    if volume['reason']:
        console.print(f'volume: {volume["reason"]}')
    launch = 'ros2 launch motion_predictor_ros predictor.launch.py'
    console.print(f'{launch} params_file:={report["parameters"]}', soft_wrap=True)


def _table(report: dict[str, Any], title: str) -> Table:
    before, after = report['before'], report['after']
    table = Table(title=title, title_justify='left')
    table.add_column(r'MPJPE \[mm] after \[ms]')
    for horizon in before['mpjpe_mm']['motion_deq']:
        table.add_column(horizon, justify='right')
    rows = {
        report['base']: before['mpjpe_mm']['motion_deq'],
        report['adapted']: after['mpjpe_mm']['motion_deq'],
        'constant velocity': after['mpjpe_mm']['constant_velocity'],
        'repeat last frame': after['mpjpe_mm']['repeat_last'],
    }
    for name, row in rows.items():
        table.add_row(name, *(f'{value:.1f}' for value in row.values()))
    table.add_section()
    for name, scores in (('before', before), ('after', after)):
        shares = [f'{100 * share:.1f}' for share in scores['covered'].values()]
        table.add_row(f'% of joints within their 90 %, {name}', *shares)
    return table
