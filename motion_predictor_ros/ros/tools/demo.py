# SPDX-License-Identifier: Apache-2.0
"""The demo: play a recording into a live node, and score its predictions.

Three processes communicate over DDS on this machine: the predictor, a recorder of its outputs, and
the player. The same bag is also replayed through the pipeline without ROS, scored against the
recorded future, and compared with the live run. Both compute keep-out volumes where there is a
calibration of the models in use.
"""

import dataclasses
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import rclpy
import yaml
from rich.console import Console

from motion_predictor_ros.config import PipelineConfig, iterate_params
from motion_predictor_ros.errors import MotionPredictorError
from motion_predictor_ros.evaluation.replay.live import LiveComparison, compare_live
from motion_predictor_ros.evaluation.report.bag import BagEvaluation, evaluate_bag

_RECORDED = ('/predicted_motion', '/weighted_futures', '/markers')
_RECORDED_VOLUMES = ('/probability_volumes', '/volume_markers')
_MATCHING_S = 0.5
"""Time for DDS endpoints to match after their discovery [s]."""

TIMEOUT_S = 180.0


def local_environment() -> dict[str, str]:
    """Return an environment with local ROS traffic only, by default in a domain of its own."""
    return {
        'ROS_DOMAIN_ID': str(os.getpid() % 100 + 1),
        **os.environ,
        'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST',
    }


def write_parameters(config: PipelineConfig, folder: Path) -> Path:
    """Write `config` as a ROS parameter file."""
    values = {name: value for name, _, value in iterate_params(config)}
    path = folder / 'parameters.yaml'
    path.write_text(yaml.safe_dump({'/**': {'ros__parameters': values}}))
    return path


def command(words: Sequence[str]) -> list[str]:
    """Return the command of one of the package's executables, wherever it is installed."""
    folder = 'ros.tools' if words[0] in ('play_bag', 'record_bag') else 'ros'
    module = f'motion_predictor_ros.{folder}.{words[0]}'
    return [sys.executable, '-m', module, *words[1:]]


@contextmanager
def child(
    words: Sequence[str], environment: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """Run an executable; interrupt it at the end, and check its exit code.

    Raises:
        MotionPredictorError: It failed, or did not end.
    """
    process = subprocess.Popen(command(words), env=environment)
    try:
        yield process
        process.send_signal(signal.SIGINT)
        if process.wait(TIMEOUT_S):
            raise MotionPredictorError(f'{words[0]} ended with exit code {process.returncode}')
    except subprocess.TimeoutExpired as error:
        raise MotionPredictorError(f'{words[0]} did not end within {TIMEOUT_S:g} s') from error
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def run_demo(bag: Path, out: Path, rate: float, config: PipelineConfig, console: Console) -> None:
    """Play, predict, record, score; leave report, page, picture and live.mcap in `out`.

    Raises:
        MotionPredictorError: The bag cannot be read, or one of the processes failed.
    """
    # First, because it detects an unusable bag or weights at once.
    console.print(f'replaying {bag} through the pipeline')
    evaluation = evaluate_bag(bag, '', config)
    out.mkdir(parents=True, exist_ok=True)
    recording = out / 'live.mcap'
    recording.unlink(missing_ok=True)
    console.print(f'playing {bag} into a live node at {rate:g} x recorded speed')
    run_live(bag, recording, rate, config)
    live = compare_live(recording, evaluation.run)
    _report(evaluation, live, out, console)
    if live.frames == 0:
        raise MotionPredictorError('the live node answered nothing; see its output above')


def _report(evaluation: BagEvaluation, live: LiveComparison, out: Path, console: Console) -> None:
    evaluation.report['live'] = dataclasses.asdict(live)
    evaluation.save(out)
    evaluation.save_html(out / 'report.html')
    evaluation.show(console)
    console.print(
        f'live node: {live.frames} observations answered ({100 * live.processed_share:.1f} %), '
        f'{live.age_ms["p50"]:.1f} ms old when published (99th percentile '
        f'{live.age_ms["p99"]:.1f} ms); largest difference to the replay '
        f'{1000 * live.max_abs_difference_m:.3g} mm'
    )
    if live.futures_max_abs_difference_m is not None:
        console.print(
            f'futures: weighed {live.futures} times by both; largest difference '
            f'{1000 * live.futures_max_abs_difference_m:.3g} mm'
        )
    console.print(f'keep-out volumes published live: {live.volumes}')
    console.print(
        f'report: {out / "report.html"} and {out / "report.json"}   picture: {out / "scene.png"}'
    )


def run_live(bag: Path, recording: Path, rate: float, config: PipelineConfig) -> None:
    """Play a bag into a live node and record its outputs.

    Raises:
        MotionPredictorError: One of the processes failed.
    """
    environment = local_environment()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as running:
        ros_arguments = ['--ros-args', '-p', 'use_sim_time:=true']
        recorder = ['record_bag', str(recording), *_RECORDED, *_RECORDED_VOLUMES, *ros_arguments]
        parameters = write_parameters(config, Path(folder))
        in_full = ['-p', 'degradation.enabled:=false']  # as in the replay
        node = ['predictor_node', *ros_arguments, '--params-file', str(parameters), *in_full]
        processes = [
            running.enter_context(child(words, environment)) for words in (recorder, node)
        ]
        _wait_for_recorder(int(environment['ROS_DOMAIN_ID']), processes)
        player = ['play_bag', str(bag), '--rate', str(rate)]
        player_run = subprocess.run(command(player), env=environment, check=False)
        if player_run.returncode:
            raise MotionPredictorError(f'play_bag ended with exit code {player_run.returncode}')
        time.sleep(1.0)  # for the last answers


def _wait_for_recorder(domain_id: int, processes: list[subprocess.Popen[bytes]]) -> None:
    """Wait until the recorder is subscribed to the node, so that no message is lost.

    Raises:
        MotionPredictorError: A process ended, or they did not discover each other.
    """
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=domain_id)
    watcher = rclpy.create_node('motion_predictor_demo', context=context)
    try:
        end_s = time.monotonic() + TIMEOUT_S
        while time.monotonic() < end_s:
            if any(process.poll() is not None for process in processes):
                raise MotionPredictorError('a process of the demo ended; see its output above')
            if all(map(watcher.count_publishers, _RECORDED)) and all(
                map(watcher.count_subscribers, _RECORDED)
            ):
                time.sleep(_MATCHING_S)
                return
            time.sleep(0.05)
    finally:
        watcher.destroy_node()
        context.shutdown()
    raise MotionPredictorError(f'the node did not publish within {TIMEOUT_S:g} s')
