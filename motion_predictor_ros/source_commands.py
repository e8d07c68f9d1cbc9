# SPDX-License-Identifier: Apache-2.0
"""The commands that judge sources and the ids of people, and measure how bodies are built."""

import argparse
import json
from pathlib import Path

from rich.console import Console

Commands = argparse._SubParsersAction  # the type argparse itself returns


def add_source_evaluations(commands: 'Commands[argparse.ArgumentParser]') -> None:
    """Add `evaluate sources` and `evaluate identity`."""
    sources = commands.add_parser(
        'sources', help="what each source's layout leaves out, and costs"
    )
    _add_clip_options(sources)
    sources.add_argument('--checkpoint', default='body_1s', help='shipped model name or path')
    sources.add_argument('--device', default='auto', help="'auto', 'cpu' or 'cuda:N'")
    sources.set_defaults(run=_evaluate_sources)
    identity = commands.add_parser('identity', help='how often crossing people change their ids')
    _add_clip_options(identity)
    identity.set_defaults(run=_evaluate_identity)


def add_train_proportions(commands: 'Commands[argparse.ArgumentParser]') -> None:
    """Add `train proportions`."""
    parser = commands.add_parser('proportions', help='measure how bodies are built')
    parser.add_argument(
        '--data', type=Path, required=True, help='npz of clips; split train is used'
    )
    parser.add_argument(
        '--out', type=Path, required=True, help='YAML file, such as the shipped one'
    )
    parser.set_defaults(run=_train_proportions)


def _add_clip_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--data', type=Path, required=True, help='npz of clips')
    parser.add_argument('--split', default='test', help="only clips of this split; '' takes all")
    parser.add_argument('--json', action='store_true', help='print the report as JSON')


def _evaluate_sources(options: argparse.Namespace) -> None:
    import torch

    from motion_predictor_ros.evaluation.sources import evaluate_sources, print_sources
    from motion_predictor_ros.prediction.model_file import choose_device, load_motion_deq
    from motion_predictor_ros.training.recordings import load_recordings

    torch.set_num_threads(1)
    trained = load_motion_deq(options.checkpoint, choose_device(options.device))
    recordings = load_recordings(options.data)
    if options.split:
        recordings = recordings.select(lambda clip: clip.split == options.split)
    report = evaluate_sources(recordings, trained, progress=not options.json)
    if options.json:
        print(json.dumps(report))
    else:
        print_sources(report, Console())


def _evaluate_identity(options: argparse.Namespace) -> None:
    from motion_predictor_ros.evaluation.crossing import evaluate_identity, print_identity
    from motion_predictor_ros.training.recordings import load_recordings

    recordings = load_recordings(options.data)
    if options.split:
        recordings = recordings.select(lambda clip: clip.split == options.split)
    report = evaluate_identity(recordings)
    if options.json:
        print(json.dumps(report))
    else:
        print_identity(report, Console())


def _train_proportions(options: argparse.Namespace) -> None:
    from motion_predictor_ros.training.proportions import fit_proportions
    from motion_predictor_ros.training.recordings import load_recordings

    recordings = load_recordings(options.data)
    fit_proportions(recordings.select(lambda clip: clip.split == 'train')).save(options.out)
    print(options.out)
