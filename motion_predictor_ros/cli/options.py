# SPDX-License-Identifier: Apache-2.0
"""Options that commands share, what they load, and how reports are printed."""

import argparse
import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from motion_predictor_ros.config import SOURCES, PipelineConfig, read_parameter_file

if TYPE_CHECKING:
    from motion_predictor_ros.data.recordings import Recordings
    from motion_predictor_ros.prediction.motion_deq.checkpoint import TrainedMotionDEQ

Option = tuple[tuple[str, ...], dict[str, Any]]
Report = tuple[dict[str, Any], Callable[[dict[str, Any], Console], object]]
"""Figures of a command, for `--json`, and the function that prints them as text."""

Run = Callable[[argparse.Namespace], Report | None]

EXIT_CODES = (
    'exit codes: 0 done; 1 interrupted, or stdout closed; 2 bad arguments, files or data, with '
    'one line on stderr'
)


def option(*flags: str, **settings: Any) -> Option:
    """Declare an option by the arguments of `ArgumentParser.add_argument`."""
    return flags, settings


def whole(low: int, high: int = 2**31 - 1) -> Callable[[str], int]:
    """Return a parser of whole numbers in [low, high], for `type` of an option."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(
                f'must be a whole number from {low} to {high}, got {text!r}'
            )
        return value

    return parse


def positive(low: float = 0.0, high: float = math.inf) -> Callable[[str], float]:
    """Return a parser of finite numbers above 0 and in [low, high], for `type` of an option."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (value > 0.0 and math.isfinite(value) and low <= value <= high):
            span = f'in [{low:g}, {high:g}]' if low > 0.0 or high < math.inf else 'finite'
            raise argparse.ArgumentTypeError(f'must be above 0 and {span}, got {text!r}')
        return value

    return parse


def new_file(*suffixes: str) -> Callable[[str], Path]:
    """Return a parser of files to write, with one of these endings where any is given."""

    def parse(text: str) -> Path:
        path = Path(text)
        if path.is_dir():
            raise argparse.ArgumentTypeError(f'{text} is a folder, a file is to be written')
        if suffixes and path.suffix.lower() not in suffixes:
            raise argparse.ArgumentTypeError(f'must end in {", ".join(suffixes)}, got {text!r}')
        return path

    return parse


def new_folder(text: str) -> Path:
    """Parse a folder to write into, which may be there already."""
    path = Path(text)
    if path.exists() and not path.is_dir():
        raise argparse.ArgumentTypeError(f'{text} is a file, a folder is to be written')
    return path


class Group:
    """Commands of one kind, such as `evaluate ...`, registered by decoration.

    Example:
        @EVALUATE.command('mocap', 'score a model on clips', data(), JSON)
        def _mocap(options: argparse.Namespace) -> Report: ...
    """

    def __init__(self, name: str = '', description: str = '') -> None:
        """Start without commands; those of a group without a name stand at the top."""
        self._name, self._description = name, description
        self._commands: list[tuple[str, str, Run, tuple[Option, ...], dict[str, Any]]] = []

    def command(
        self, name: str, description: str, *options: Option, **defaults: Any
    ) -> Callable[[Run], Run]:
        """Register a function as a command with these options.

        Args:
            defaults: Attributes of the parsed options that no option sets.
        """

        def register(run: Run) -> Run:
            self._commands.append((name, description, run, options, defaults))
            return run

        return register

    def add_to(self, commands: 'argparse._SubParsersAction[argparse.ArgumentParser]') -> None:
        """Add all commands to a parser's."""
        if self._name:
            group = commands.add_parser(
                self._name, help=self._description, description=self._description
            )
            commands = group.add_subparsers(required=True, metavar='WHAT')
        for name, description, run, options, defaults in self._commands:
            parser = commands.add_parser(
                name, help=description, description=description, epilog=EXIT_CODES
            )
            for flags, settings in options:
                parser.add_argument(*flags, **_with_default(settings))
            parser.set_defaults(run=run, **defaults)


def _with_default(settings: dict[str, Any]) -> dict[str, Any]:
    """Add the default to an option's help, unless it is empty or described there."""
    text = settings['help']
    if settings.get('default') in (None, '') or 'default' in text:
        return settings
    return {**settings, 'help': f'{text}; default: %(default)s'}


def run_command(options: argparse.Namespace) -> None:
    """Run the chosen command, and print its report as JSON or as text."""
    if getattr(options, 'torch_threads', 0):
        import torch

        torch.set_num_threads(options.torch_threads)
    result = options.run(options)
    if result is not None:
        report, show = result
        if options.json:
            from motion_predictor_ros.evaluation.tables import to_json

            print(to_json(report))
        else:
            show(report, Console())


JSON = option('--json', action='store_true', help='print the report as JSON')
DEVICE = option('--device', default='auto', help="'auto', 'cpu' or 'cuda:N'")
PARAMS = option('--params', type=Path, help='ROS parameter file; default: the defaults')
WEIGHTS = option('--weights', help='MotionDEQ, shipped model name or path')
MODEL = (PARAMS, WEIGHTS, option('--device', help="'auto', 'cpu' or 'cuda:N'"))
SOURCE = option(
    '--source', default='', choices=tuple(SOURCES), help="default: by the topic's type"
)
TOPIC = option('--topic', default='', help='skeleton topic; default: the only one')


def threads(default: int = 1) -> Option:
    """Declare the number of threads of torch."""
    return option(
        '--threads',
        type=whole(0, 1024),
        default=default,
        dest='torch_threads',
        metavar='N',
        help='CPU threads; 0: all',
    )


def data(description: str = 'npz of clips') -> Option:
    """Declare a file of recordings."""
    return option('--data', type=Path, required=True, help=description)


def out(description: str, kind: Callable[[str], Path] = new_folder) -> Option:
    """Declare where results are written."""
    return option('--out', type=kind, required=True, help=description)


def split(default: str = 'test') -> Option:
    """Declare which clips are used."""
    return option('--split', default=default, help="only clips of this split; '': all")


def recipe(default: str | None = None) -> Option:
    """Declare a training recipe."""
    return option(
        '--recipe', default=default, required=not default, help='shipped recipe name or YAML file'
    )


def checkpoint(
    default: str | None = None, description: str = 'shipped model name or path'
) -> Option:
    """Declare weights; required without a default."""
    return option('--checkpoint', default=default, required=not default, help=description)


def load_training_data(options: argparse.Namespace) -> 'Recordings':
    """Read `--data`: clips, or the CMU benchmark."""
    from motion_predictor_ros.data.cmu import load_training_data as load
    from motion_predictor_ros.runtime.process_memory import disable_malloc_trim

    disable_malloc_trim()
    return load(options.data)


def load_model(options: argparse.Namespace) -> 'TrainedMotionDEQ':
    """Load the MotionDEQ of `--checkpoint` on `--device`."""
    from motion_predictor_ros.checkpoint import choose_device
    from motion_predictor_ros.prediction.motion_deq.checkpoint import load_motion_deq

    return load_motion_deq(options.checkpoint, choose_device(options.device))


def pipeline_config(options: argparse.Namespace) -> PipelineConfig:
    """Return the configuration of `--params`, with `--weights` and `--device` where given."""
    params = getattr(options, 'params', None)
    config = read_parameter_file(params) if params else PipelineConfig()
    chosen = {key: getattr(options, key) for key in ('weights', 'device') if getattr(options, key)}
    prediction, density = dataclasses.replace(config.prediction, **chosen), config.density
    if options.device:
        density = dataclasses.replace(density, device=options.device)
    return dataclasses.replace(config, prediction=prediction, density=density)
