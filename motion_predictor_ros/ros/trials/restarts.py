# SPDX-License-Identifier: Apache-2.0
"""Kill a live node with SIGKILL again and again: how soon does the next one predict?

Times count from the start of the process, with somebody walking in front of it all the while.
"""

import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from motion_predictor_ros.config import PipelineConfig
from motion_predictor_ros.data.synthetic import Walker
from motion_predictor_ros.errors import MotionPredictorError
from motion_predictor_ros.msg import PredictedMotion
from motion_predictor_ros.ros.trials.children import (
    PATIENCE_S,
    command,
    local_environment,
    write_parameters,
)
from motion_predictor_ros.ros.trials.feeder import Feeder

LIMIT_S = 5.0


@dataclass(frozen=True)
class RestartsReport:
    """What the restarts showed.

    Attributes:
        answer_s_max: Longest until the first answer, which says that the history is too short.
        predicted_s_max: Longest until somebody was predicted, a second of history later.
    """

    restarts: int
    answer_s_max: float
    predicted_s_max: float


def run_restarts(count: int, config: PipelineConfig) -> RestartsReport:
    """Start and kill a node `count` times.

    Raises:
        MotionPredictorError: A node ended by itself, or predicted nothing in time.
    """
    environment = local_environment()
    feeder = Feeder(int(environment['ROS_DOMAIN_ID']))
    with tempfile.TemporaryDirectory() as folder:
        parameters = write_parameters(config, Path(folder))
        words = ['predictor_node', '--ros-args', '--params-file', str(parameters)]
        times = []
        try:
            for _ in range(count):
                begin_s = time.monotonic()
                process = subprocess.Popen(command(words), env=environment)
                try:
                    times.append(_until_predicted(feeder, process, begin_s))
                finally:
                    process.kill()
                    process.wait()
        finally:
            feeder.close()
    return RestartsReport(count, max(each[0] for each in times), max(each[1] for each in times))


def _until_predicted(
    feeder: Feeder, process: subprocess.Popen[bytes], begin_s: float
) -> tuple[float, float]:
    """Feed until somebody is predicted; return when the first answer and that came [s]."""
    feeder.heard.clear()
    while time.monotonic() < begin_s + PATIENCE_S:
        feeder.feed({'anna': Walker(1)}, 0.1)
        if process.poll() is not None:
            raise MotionPredictorError('the node ended; see its output above')
        predicted = [each for each in feeder.heard if PredictedMotion.OK in each.validities]
        if predicted:
            return feeder.heard[0].at_s - begin_s, predicted[0].at_s - begin_s
    raise MotionPredictorError(f'the node predicted nothing within {PATIENCE_S:g} s')
