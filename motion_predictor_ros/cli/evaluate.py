# SPDX-License-Identifier: Apache-2.0
"""The commands `motion-predictor evaluate ...` on motion capture."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from motion_predictor_ros.cli.options import EXIT_CODES, add_result_options, keep_results

Commands = argparse._SubParsersAction  # the type argparse itself returns


def add_evaluate_compare(commands: 'Commands[argparse.ArgumentParser]') -> None:
    """Add `evaluate compare`."""
    parser = commands.add_parser('compare', help='results side by side, from their archives')
    parser.add_argument(
        'archives', type=Path, nargs='+', help='written by `evaluate ... --archive FILE`'
    )
    parser.add_argument(
        '--method',
        default='',
        help='method shown in the table; default: the first; CSV and JSON hold all',
    )
    parser.add_argument('--csv', type=Path, help='write every figure here')
    parser.add_argument('--json', action='store_true', help='print the figures as JSON')
    parser.epilog = EXIT_CODES
    parser.set_defaults(run=_evaluate_compare)


def _evaluate_compare(options: argparse.Namespace) -> None:
    from motion_predictor_ros.evaluation.archive import Archive
    from motion_predictor_ros.evaluation.compare import (
        choose_method,
        compare,
        print_comparison,
        same_cases,
        write_csv,
    )

    archives = {str(path): Archive.load(path) for path in options.archives}
    comparison = compare(archives)
    method = choose_method(comparison, options.method)
    if options.csv:
        write_csv(comparison, options.csv)
    if options.json:
        print(json.dumps({'archives': comparison, 'same_cases': same_cases(archives)}))
        return
    print_comparison(comparison, method, Console())
    if not same_cases(archives):
        Console().print('the archives have different cases: differences may come from these')


def add_source_evaluations(commands: 'Commands[argparse.ArgumentParser]') -> None:
    """Add `evaluate sources` and `evaluate identity`."""
    sources = commands.add_parser(
        'sources', help="missing joints of each source's layout, and their cost"
    )
    _add_source_options(sources)
    sources.add_argument('--checkpoint', default='body_1s', help='shipped model name or path')
    sources.add_argument('--device', default='auto', help="'auto', 'cpu' or 'cuda:N'")
    sources.set_defaults(run=_evaluate_sources)
    identity = commands.add_parser('identity', help='how often crossing people change their ids')
    _add_source_options(identity)
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


def _add_source_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--data', type=Path, required=True, help='npz of clips')
    parser.add_argument('--split', default='test', help="only clips of this split; '' takes all")
    parser.add_argument('--json', action='store_true', help='print the report as JSON')


def _evaluate_sources(options: argparse.Namespace) -> None:
    import torch

    from motion_predictor_ros.checkpoint import choose_device
    from motion_predictor_ros.data.recordings import load_recordings
    from motion_predictor_ros.evaluation.motion.layouts import evaluate_sources, print_sources
    from motion_predictor_ros.prediction.motion_deq.checkpoint import (
        load_motion_deq,
    )

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
    from motion_predictor_ros.data.recordings import load_recordings
    from motion_predictor_ros.evaluation.motion.identity import evaluate_identity, print_identity

    recordings = load_recordings(options.data)
    if options.split:
        recordings = recordings.select(lambda clip: clip.split == options.split)
    report = evaluate_identity(recordings)
    if options.json:
        print(json.dumps(report))
    else:
        print_identity(report, Console())


def _train_proportions(options: argparse.Namespace) -> None:
    from motion_predictor_ros.data.recordings import load_recordings
    from motion_predictor_ros.training.proportions import fit_proportions

    recordings = load_recordings(options.data)
    fit_proportions(recordings.select(lambda clip: clip.split == 'train')).save(options.out)
    print(options.out)


if TYPE_CHECKING:
    from motion_predictor_ros.data.recordings import Recordings
    from motion_predictor_ros.prediction.motion_deq.checkpoint import TrainedMotionDEQ


def add_mocap_evaluations(commands: 'Commands[argparse.ArgumentParser]') -> None:
    """Add the commands."""
    _add_evaluate_mocap(commands)
    _add_evaluate_cmu(commands)
    _add_evaluate_licensed(
        commands, 'h36m', "score a model by the literature's Human3.6M protocol"
    )
    _add_evaluate_licensed(commands, '3dpw', "score a model by the literature's 3DPW protocol")
    _add_evaluate_streaming(commands)
    _add_evaluate_robustness(commands)
    _add_evaluate_pairs(commands)


def _add_evaluate_mocap(commands: 'Commands[argparse.ArgumentParser]') -> None:
    parser = commands.add_parser('mocap', help='score a model on motion capture clips')
    _add_clip_options(parser, results=True)
    parser.set_defaults(run=_evaluate_mocap)


def _evaluate_mocap(options: argparse.Namespace) -> None:
    from motion_predictor_ros.evaluation.archive import Figures
    from motion_predictor_ros.evaluation.motion.mocap import (
        evaluate_mocap,
        print_groups_of_mocap,
    )
    from motion_predictor_ros.evaluation.report.tables import METHODS, print_errors

    recordings, trained = _clips_and_model(options)
    figures = Figures()
    report = evaluate_mocap(recordings, trained, progress=not options.json, figures=figures)
    keep_results(options, figures.archive('mocap', report))
    if options.json:
        print(json.dumps(report))
        return
    title = f'{trained.name}, {report["clips"]} clips, {report["windows"]} windows'
    print_errors({name: report[name]['mpjpe_mm'] for name in METHODS}, title, Console())
    print_groups_of_mocap(report, Console())


def _add_evaluate_robustness(commands: 'Commands[argparse.ArgumentParser]') -> None:
    parser = commands.add_parser(
        'robustness', help='score a model with synthetic cameras: rates, noise, hidden joints'
    )
    _add_clip_options(parser)
    parser.set_defaults(run=_evaluate_robustness)


def _evaluate_robustness(options: argparse.Namespace) -> None:
    from motion_predictor_ros.evaluation.motion.robustness import (
        evaluate_robustness,
        print_robustness,
    )

    recordings, trained = _clips_and_model(options)
    report = evaluate_robustness(recordings, trained, progress=not options.json)
    if options.json:
        print(json.dumps(report))
    else:
        print_robustness(report, Console())


def _add_evaluate_pairs(commands: 'Commands[argparse.ArgumentParser]') -> None:
    parser = commands.add_parser('pairs', help='two recorded people in one message')
    _add_clip_options(parser)
    parser.set_defaults(run=_evaluate_pairs)


def _evaluate_pairs(options: argparse.Namespace) -> None:
    import torch

    from motion_predictor_ros.data.recordings import load_recordings
    from motion_predictor_ros.evaluation.motion.pairs import evaluate_pairs, print_pairs

    if options.threads:
        torch.set_num_threads(options.threads)
    recordings = load_recordings(options.data)
    if options.split:
        recordings = recordings.select(lambda clip: clip.split == options.split)
    report = evaluate_pairs(recordings, options.checkpoint, options.device)
    if options.json:
        print(json.dumps(report))
    else:
        print_pairs(report, Console())


def _add_clip_options(parser: argparse.ArgumentParser, *, results: bool = False) -> None:
    parser.add_argument('--data', type=Path, required=True, help='npz of clips')
    parser.add_argument('--split', default='', help='only clips of this split; default: all')
    if results:
        add_result_options(parser)
    else:
        parser.add_argument('--json', action='store_true', help='print the report as JSON')
    parser.add_argument('--checkpoint', default='body_1s', help='shipped model name or path')
    parser.add_argument('--device', default='auto', help="'auto', 'cpu' or 'cuda:N'")
    parser.add_argument('--threads', type=int, default=1, help='CPU threads; 0: all')


def _clips_and_model(options: argparse.Namespace) -> 'tuple[Recordings, TrainedMotionDEQ]':
    import torch

    from motion_predictor_ros.checkpoint import choose_device
    from motion_predictor_ros.data.recordings import load_recordings
    from motion_predictor_ros.prediction.motion_deq.checkpoint import (
        load_motion_deq,
    )

    if options.threads:
        torch.set_num_threads(options.threads)
    trained = load_motion_deq(options.checkpoint, choose_device(options.device))
    recordings = load_recordings(options.data)
    if options.split:
        recordings = recordings.select(lambda clip: clip.split == options.split)
    return recordings, trained


def _add_evaluate_cmu(commands: 'Commands[argparse.ArgumentParser]') -> None:
    parser = commands.add_parser('cmu', help="score a model by the literature's CMU protocol")
    parser.add_argument('--data', type=Path, required=True, help='npz of the CMU benchmark')
    add_result_options(parser)
    parser.add_argument(
        '--checkpoint',
        '--weights',
        dest='weights',
        help='model name or path, made by recipe "cmu"; default: the baselines alone',
    )
    parser.add_argument('--eqmotion-style', help='from `train eqmotion-style`, to compare with')
    parser.add_argument('--device', default='auto', help="'auto', 'cpu' or 'cuda:N'")
    parser.add_argument('--threads', type=int, default=1, help='CPU threads; 0: all')
    parser.set_defaults(run=_evaluate_cmu)


def _evaluate_cmu(options: argparse.Namespace) -> None:
    import torch

    from motion_predictor_ros.checkpoint import choose_device
    from motion_predictor_ros.data.cmu import load_cmu_sequences
    from motion_predictor_ros.evaluation.archive import Figures
    from motion_predictor_ros.evaluation.motion import cmu
    from motion_predictor_ros.prediction.motion_deq.checkpoint import (
        load_motion_deq,
    )
    from motion_predictor_ros.training.baselines.unrolled import load_unrolled

    if options.threads:
        torch.set_num_threads(options.threads)
    device, models = choose_device(options.device), cmu.baseline_predictors()
    if options.eqmotion_style:
        rival = load_unrolled(options.eqmotion_style, 'eqmotion_style', device)
        models = {'eqmotion_style': cmu.unrolled_predictor(rival), **models}
    if options.weights:
        trained = load_motion_deq(options.weights, device)
        models = {'motion_deq': cmu.motion_deq_predictor(trained), **models}
    sequences, figures = load_cmu_sequences(options.data), Figures()
    report = cmu.evaluate_cmu(sequences, models, progress=not options.json, figures=figures)
    keep_results(options, figures.archive('cmu', report))
    if options.json:
        print(json.dumps(report))
    else:
        cmu.print_cmu(report, Console())


def _add_evaluate_licensed(
    commands: 'Commands[argparse.ArgumentParser]', name: str, description: str
) -> None:
    parser = commands.add_parser(name, help=description)
    parser.add_argument('--data', type=Path, required=True, help='folder of your copy of the data')
    parser.add_argument('--json', action='store_true', help='print the report as JSON')
    parser.add_argument('--checkpoint', help='model name or path; default: the baselines alone')
    parser.add_argument('--device', default='auto', help="'auto', 'cpu' or 'cuda:N'")
    parser.add_argument('--threads', type=int, default=1, help='CPU threads; 0: all')
    parser.set_defaults(run=_evaluate_licensed, benchmark=name)


def _evaluate_licensed(options: argparse.Namespace) -> None:
    import torch

    from motion_predictor_ros.checkpoint import choose_device
    from motion_predictor_ros.evaluation.motion import h36m_3dpw as licensed
    from motion_predictor_ros.prediction.motion_deq.checkpoint import (
        load_motion_deq,
    )

    if options.threads:
        torch.set_num_threads(options.threads)
    benchmark, trained = licensed.BENCHMARKS[options.benchmark], None
    if options.checkpoint:
        trained = load_motion_deq(options.checkpoint, choose_device(options.device))
    report = licensed.evaluate_licensed(
        benchmark, options.data, trained, progress=not options.json
    )
    if options.json:
        print(json.dumps(report))
    else:
        licensed.print_licensed(benchmark, report, Console())


def _add_evaluate_streaming(commands: 'Commands[argparse.ArgumentParser]') -> None:
    parser = commands.add_parser('streaming', help='solver iterations on streams, warm and cold')
    _add_clip_options(parser)
    parser.set_defaults(run=_evaluate_streaming)


def _evaluate_streaming(options: argparse.Namespace) -> None:
    from motion_predictor_ros.evaluation.motion import streaming

    report = streaming.evaluate_streaming(*_clips_and_model(options), progress=not options.json)
    if options.json:
        print(json.dumps(report))
    else:
        streaming.print_streaming(report, Console())
