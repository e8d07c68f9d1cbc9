# SPDX-License-Identifier: Apache-2.0
"""The command line `motion-predictor`: everything that runs off the robot.

Exit codes: 0 done, 1 interrupted or stdout closed, 2 bad arguments, files or data, with one
line on stderr. With `--json`, stdout carries one JSON object and nothing else.
"""

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from motion_predictor_ros.cli.ablate import add_ablate
from motion_predictor_ros.cli.adapt import add_adapt
from motion_predictor_ros.cli.bench import add_bench_speed
from motion_predictor_ros.cli.density import (
    add_bench_density,
    add_build_cache,
    add_density_trainings,
    add_evaluate_stochastic,
)
from motion_predictor_ros.cli.evaluate import (
    add_evaluate_compare,
    add_mocap_evaluations,
    add_source_evaluations,
    add_train_proportions,
)
from motion_predictor_ros.cli.options import EXIT_CODES, add_result_options, keep_results
from motion_predictor_ros.cli.trial import add_trials
from motion_predictor_ros.cli.volume import (
    add_bench_volume,
    add_calibrate,
    add_evaluate_separation,
    add_evaluate_volume,
)
from motion_predictor_ros.config import SOURCES, PipelineConfig, read_parameter_file
from motion_predictor_ros.errors import MotionPredictorError

_ERRORS = Console(stderr=True, soft_wrap=True, highlight=False)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    try:
        options = _parser().parse_args(arguments)
        options.run(options)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of stdout is gone, as `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at exit
        return 1
    except MotionPredictorError as error:
        _ERRORS.print(f'motion-predictor: {error}', style='red', markup=False)
        return 2
    except KeyboardInterrupt:
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        'motion-predictor', description=(__doc__ or '').split('\n')[0], epilog=EXIT_CODES
    )
    commands = parser.add_subparsers(required=True, metavar='COMMAND')
    _add_demo(commands)
    _add_warm_up(commands)
    evaluate = commands.add_parser('evaluate', help='measure how good predictions are')
    kinds = evaluate.add_subparsers(required=True, metavar='WHAT')
    _add_evaluate_bag(kinds)
    add_evaluate_compare(kinds)
    add_mocap_evaluations(kinds)
    add_evaluate_stochastic(kinds)
    add_source_evaluations(kinds)
    add_evaluate_volume(kinds)
    add_evaluate_separation(kinds)
    train = commands.add_parser('train', help='train a model')
    models = train.add_subparsers(required=True, metavar='MODEL')
    _add_train(models, 'motion-deq', 'train MotionDEQ by a recipe')
    _add_train(models, 'eqmotion-style', 'train the baseline of four unshared layers')
    _add_train(models, 'esl8', "train the baseline of MotionDEQ's cell unrolled eight times")
    _add_train_correction(models)
    add_density_trainings(models)
    add_train_proportions(models)
    add_build_cache(commands)
    add_calibrate(commands)
    add_adapt(commands)
    add_ablate(commands)
    add_trials(commands)
    bench = commands.add_parser('bench', help='measure time and memory')
    costs = bench.add_subparsers(required=True, metavar='WHAT')
    _add_bench_memory(costs)
    add_bench_density(costs)
    add_bench_volume(costs)
    add_bench_speed(costs)
    convert = commands.add_parser('convert', help='convert motion files to bags')
    _add_convert_deepmimic(convert.add_subparsers(required=True, metavar='FORMAT'))
    return parser


Commands = argparse._SubParsersAction  # the type argparse itself returns


def _add_warm_up(commands: 'Commands[argparse.ArgumentParser]') -> None:
    parser = commands.add_parser(
        'warm-up', help='compile for this processor, at install time; needs no ROS'
    )
    parser.set_defaults(run=_warm_up)


def _warm_up(options: argparse.Namespace) -> None:
    from motion_predictor_ros.pipeline import Pipeline
    from motion_predictor_ros.runtime.jit import log_compilation

    config = PipelineConfig()
    volume = dataclasses.replace(config.volume, enabled='always')
    logged: list[str] = []
    with log_compilation(logged.append):
        Pipeline.load(dataclasses.replace(config, volume=volume)).close()
    print(logged[-1] if logged else 'compiled already')


def _add_demo(commands: 'Commands[argparse.ArgumentParser]') -> None:
    parser = commands.add_parser('demo', help='play a bag into a live node and report (needs ROS)')
    parser.add_argument('--bag', type=Path, required=True, help='rosbag2 with skeletons')
    parser.add_argument('--out', type=Path, required=True, help='folder for report, picture, bag')
    parser.add_argument('--rate', type=float, default=1.0, help='playback speed')
    _add_model_options(parser)
    parser.set_defaults(run=_demo)


def _demo(options: argparse.Namespace) -> None:
    try:
        from motion_predictor_ros.ros.trials.demo import run_demo
    except ImportError as error:
        raise MotionPredictorError(
            f'the demo needs ROS 2 ({error}): use `make demo`, or source ROS 2 and this '
            'workspace; `evaluate bag` works without'
        ) from error

    run_demo(options.bag, options.out, options.rate, _pipeline_config(options), Console())


def _add_evaluate_bag(commands: 'Commands[argparse.ArgumentParser]') -> None:
    parser = commands.add_parser('bag', help='replay a bag and score the predictions')
    parser.add_argument('bag', type=Path, help='rosbag2 folder, .mcap or .db3 (no ROS needed)')
    parser.add_argument('--topic', default='', help='skeleton topic; default: the only one')
    parser.add_argument(
        '--source', default='', choices=tuple(SOURCES), help="default: by the topic's type"
    )
    parser.add_argument('--out', type=Path, help='folder for report.json and pictures')
    parser.add_argument('--report-html', type=Path, help='file for a page with the replay')
    parser.add_argument('--film', type=Path, help='file for an animated WebP or GIF')
    add_result_options(parser)
    parser.add_argument(
        '--no-volumes', action='store_true', help='do not compute keep-out volumes; faster'
    )
    _add_model_options(parser)
    parser.set_defaults(run=_evaluate_bag)


def _evaluate_bag(options: argparse.Namespace) -> None:
    from motion_predictor_ros.evaluation.report.bag import evaluate_bag

    config = _pipeline_config(options)
    if options.no_volumes:
        volume = dataclasses.replace(config.volume, enabled='never')
        config = dataclasses.replace(config, volume=volume)
    evaluation = evaluate_bag(
        options.bag,
        options.topic,
        config,
        options.source,
        progress=not options.json,
    )
    if options.out:
        evaluation.save(options.out)
    keep_results(options, evaluation.archive())
    if options.report_html:
        evaluation.save_html(options.report_html)
    if options.film:
        evaluation.save_film(options.film)
    if options.json:
        print(json.dumps(evaluation.report))
    else:
        evaluation.show(Console())
        outputs = options.out, options.report_html, options.film, options.archive, options.csv
        if written := [str(path) for path in outputs if path]:
            Console().print('written:', *written, markup=False, highlight=False, soft_wrap=True)


def _add_train(
    commands: 'Commands[argparse.ArgumentParser]', model: str, description: str
) -> None:
    parser = commands.add_parser(model, help=description)
    parser.add_argument('--recipe', required=True, help='shipped recipe name or YAML file')
    parser.add_argument(
        '--data', type=Path, required=True, help='npz of clips, or folder of a data set'
    )
    parser.add_argument('--out', type=Path, required=True, help='folder for checkpoints and CSV')
    parser.add_argument('--start-from', type=Path, help='initial weights; default: random')
    parser.add_argument('--minutes', type=float, help='stop after this time; resumable')
    parser.add_argument('--resume', action='store_true', help='resume from --out')
    parser.add_argument('--device', default='auto', help="'auto', 'cpu' or 'cuda:N'")
    parser.add_argument('--threads', type=int, default=0, help='CPU threads; 0: all')
    parser.set_defaults(run=_train, kind=model.replace('-', '_'))


def _train(options: argparse.Namespace) -> None:
    import torch

    from motion_predictor_ros.data.datasets import load_training_data
    from motion_predictor_ros.runtime.process_memory import disable_malloc_trim
    from motion_predictor_ros.training import parallel
    from motion_predictor_ros.training.baselines.unrolled import UNROLLED, UnrolledTask
    from motion_predictor_ros.training.loop import train
    from motion_predictor_ros.training.motion_deq import MotionDEQTask, MotionTask
    from motion_predictor_ros.training.recipe import in_steps, load_recipe
    from motion_predictor_ros.training.residuals import keep_residuals
    from motion_predictor_ros.training.weight_average import mix_with_start

    disable_malloc_trim()
    if options.threads:
        torch.set_num_threads(options.threads)
    name, recipe = load_recipe(options.recipe)
    recordings = load_training_data(options.data)
    recipe = in_steps(recipe, recordings)
    device = parallel.init_process_group(options.device)
    task: MotionTask
    if options.kind in UNROLLED:
        task = UnrolledTask(options.kind, name, recipe, recordings, device)
    else:
        task = MotionDEQTask(name, recipe, recordings, device)
    if options.start_from is not None:
        task.start_from(options.start_from)
    best = train(
        task, recipe.schedule, options.out, minutes=options.minutes, resume=options.resume
    )
    if parallel.is_first():
        if options.start_from is not None:
            mix_with_start(best, options.start_from, recipe.start_share, task.kind)
        # Residuals on training clips would be too small: then there is no covariance.
        if isinstance(task, MotionDEQTask) and not recipe.held_out_too:
            keep_residuals(best, recordings.select(lambda clip: clip.split == 'val'), device)
        print(best)


def _add_train_correction(commands: 'Commands[argparse.ArgumentParser]') -> None:
    parser = commands.add_parser(
        'correction', help="train the correction adapter for a MotionDEQ's warm start"
    )
    parser.add_argument('--checkpoint', required=True, help='trained MotionDEQ; not changed')
    parser.add_argument('--data', type=Path, required=True, help='npz of clips')
    parser.add_argument('--out', type=Path, required=True, help='folder for checkpoints and CSV')
    parser.add_argument('--minutes', type=float, help='stop after this time; resumable')
    parser.add_argument('--resume', action='store_true', help='resume from --out')
    parser.add_argument('--device', default='auto', help="'auto', 'cpu' or 'cuda:N'")
    parser.set_defaults(run=_train_correction)


def _train_correction(options: argparse.Namespace) -> None:
    from motion_predictor_ros.checkpoint import choose_device
    from motion_predictor_ros.data.recordings import load_recordings
    from motion_predictor_ros.prediction.motion_deq.checkpoint import (
        load_motion_deq,
    )
    from motion_predictor_ros.training.correction import SCHEDULE, CorrectionTask
    from motion_predictor_ros.training.loop import train
    from motion_predictor_ros.training.residuals import keep_residuals

    device = choose_device(options.device)
    trained = load_motion_deq(options.checkpoint, device)
    recordings = load_recordings(options.data)
    task = CorrectionTask(trained, recordings, device)
    best = train(task, SCHEDULE, options.out, minutes=options.minutes, resume=options.resume)
    keep_residuals(best, recordings.select(lambda clip: clip.split == 'val'), device)
    print(best)


def _add_bench_memory(commands: 'Commands[argparse.ArgumentParser]') -> None:
    parser = commands.add_parser('memory', help='bytes a training step keeps for backward')
    parser.add_argument('--recipe', default='cmu', help='shipped recipe name or YAML file')
    parser.add_argument('--batch', type=int, default=100, help='people per step')
    parser.add_argument('--device', default='auto', help="'auto', 'cpu' or 'cuda:N'")
    parser.add_argument('--json', action='store_true', help='print the report as JSON')
    parser.set_defaults(run=_bench_memory)


def _bench_memory(options: argparse.Namespace) -> None:
    from motion_predictor_ros.bench.memory import bench_memory, print_memory
    from motion_predictor_ros.checkpoint import choose_device
    from motion_predictor_ros.training.recipe import load_recipe

    _, recipe = load_recipe(options.recipe)
    report = bench_memory(recipe, options.batch, choose_device(options.device))
    if options.json:
        print(json.dumps(report))
    else:
        print_memory(report, Console())


def _add_convert_deepmimic(commands: 'Commands[argparse.ArgumentParser]') -> None:
    parser = commands.add_parser('deepmimic', help='convert DeepMimic clips to the demo bag')
    parser.add_argument('--source', type=Path, help='folder of clips; default: that of pybullet')
    parser.add_argument('--out', type=Path, required=True, help='.mcap file or rosbag2 folder')
    parser.set_defaults(run=_convert_deepmimic)


def _convert_deepmimic(options: argparse.Namespace) -> None:
    from motion_predictor_ros.data.deepmimic import convert_deepmimic

    print(convert_deepmimic(options.source, options.out))


def _add_model_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--params', type=Path, help='ROS parameter file; default: the defaults')
    parser.add_argument('--weights', help='shipped model name or path')
    parser.add_argument('--device', help="'auto', 'cpu' or 'cuda:N'")


def _pipeline_config(options: argparse.Namespace) -> PipelineConfig:
    config = read_parameter_file(options.params) if options.params else PipelineConfig()
    chosen = {key: getattr(options, key) for key in ('weights', 'device') if getattr(options, key)}
    prediction = dataclasses.replace(config.prediction, **chosen)
    return dataclasses.replace(config, prediction=prediction)


if __name__ == '__main__':
    sys.exit(main())
