# SPDX-License-Identifier: Apache-2.0
"""The demo: a recorded person is played into a real node, and what it said is scored.

Three processes talk over DDS on this machine alone: the predictor, a recorder of what it
publishes, and the player. The same bag is also replayed through the same pipeline without ROS,
scored against what the person really did, and held against the live run. The replay also tells the
space to keep free; the live node does not, so that it has the machine for its predictions.
"""

import dataclasses
import subprocess
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import rclpy
from rich.console import Console

from motion_predictor_ros.config import PipelineConfig
from motion_predictor_ros.errors import MotionPredictorError
from motion_predictor_ros.evaluation.replay.live import LiveComparison, compare_live
from motion_predictor_ros.evaluation.report.bag import (
    BagEvaluation,
    evaluate_bag,
    with_volumes,
)
from motion_predictor_ros.ros.trials.children import (
    PATIENCE_S,
    child,
    command,
    local_environment,
    write_parameters,
)

_RECORDED = ('/predicted_motion', '/weighted_futures', '/markers')
_MATCHING_S = 0.5
"""Both ends are known to us before they know each other [s]."""


def run_demo(bag: Path, out: Path, rate: float, config: PipelineConfig, console: Console) -> None:
    """Play, predict, record, score; leave report.json, report.html, scene.png and
    live.mcap in `out`.

    Raises:
        MotionPredictorError: The bag cannot be read, or one of the processes failed.
    """
    out.mkdir(parents=True, exist_ok=True)
    recording = out / 'live.mcap'
    recording.unlink(missing_ok=True)
    # First, because it finds out at once whether bag and weights can be used.
    console.print(f'replaying {bag} through the pipeline')
    replayed, why_not = with_volumes(config)
    if why_not:
        console.print(why_not, markup=False)
    evaluation = evaluate_bag(bag, '', replayed, progress=console.is_terminal)
    console.print(f'playing {bag} into a live node at {rate:g} x recorded speed')
    run_live(bag, recording, rate, config)
    live = compare_live(recording, evaluation.played)
    _show(evaluation, live, out, console)
    if live.frames == 0:
        raise MotionPredictorError('the live node answered nothing; see its output above')


def _show(evaluation: BagEvaluation, live: LiveComparison, out: Path, console: Console) -> None:
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
    console.print(
        f'report: {out / "report.html"} and {out / "report.json"}   picture: {out / "scene.png"}'
    )


def run_live(bag: Path, recording: Path, rate: float, config: PipelineConfig) -> None:
    """Play a bag into a live node and record what it says.

    Raises:
        MotionPredictorError: One of the processes failed.
    """
    environment = local_environment()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as running:
        ros_arguments = ['--ros-args', '-p', 'use_sim_time:=true']
        recorder = ['record_bag', str(recording), *_RECORDED, *ros_arguments]
        parameters = write_parameters(config, Path(folder))
        in_full = ['-p', 'degradation.enabled:=false']  # as the replay answers
        node = ['predictor_node', *ros_arguments, '--params-file', str(parameters), *in_full]
        processes = [
            running.enter_context(child(words, environment)) for words in (recorder, node)
        ]
        _wait_for_recorder(int(environment['ROS_DOMAIN_ID']), processes)
        player = ['play_bag', str(bag), '--rate', str(rate)]
        played = subprocess.run(command(player), env=environment, check=False)
        if played.returncode:
            raise MotionPredictorError(f'play_bag ended with exit code {played.returncode}')
        time.sleep(1.0)  # the last answers are on their way


def _wait_for_recorder(domain_id: int, processes: list[subprocess.Popen[bytes]]) -> None:
    """Return when the recorder listens to the node, so that nothing it says is missed.

    Raises:
        MotionPredictorError: One of them ended, or they did not find each other.
    """
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=domain_id)
    watcher = rclpy.create_node('motion_predictor_demo', context=context)
    try:
        end_s = time.monotonic() + PATIENCE_S
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
    raise MotionPredictorError(f'the node did not publish within {PATIENCE_S:g} s')
