# SPDX-License-Identifier: Apache-2.0
"""Kill a live node with SIGKILL repeatedly: measure the time until the next one predicts.

Times count from the start of the process, with a person in front of it throughout.
"""

import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from motion_predictor_ros.msg import PredictedMotion
from trials.feeder import Feeder

from motion_predictor_ros.config import PipelineConfig
from motion_predictor_ros.data.synthetic import Walker
from motion_predictor_ros.errors import MotionPredictorError
from motion_predictor_ros.ros.tools.demo import (
    TIMEOUT_S,
    command,
    local_environment,
    write_parameters,
)

LIMIT_S = 5.0


@dataclass(frozen=True)
class RestartsReport:
    """Result of the trial.

    Attributes:
        answer_s_max: Longest time until the first answer, which is `WARMING_UP`.
        predicted_s_max: Longest time until the first prediction, a second of history later.
    """

    restarts: int
    answer_s_max: float
    predicted_s_max: float


def run_restarts(count: int, config: PipelineConfig) -> RestartsReport:
    """Start and kill a node `count` times.

    Raises:
        MotionPredictorError: A node ended, or predicted nothing in time.
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
    answers_s, predictions_s = zip(*times, strict=True)
    return RestartsReport(count, max(answers_s), max(predictions_s))


def _until_predicted(
    feeder: Feeder, process: subprocess.Popen[bytes], begin_s: float
) -> tuple[float, float]:
    """Feed until a person is predicted; return the times of the first answer and of that [s]."""
    feeder.answers.clear()
    while time.monotonic() < begin_s + TIMEOUT_S:
        feeder.feed({'anna': Walker(1)}, 0.1)
        if process.poll() is not None:
            raise MotionPredictorError('the node ended; see its output above')
        predicted = [a for a in feeder.answers if PredictedMotion.OK in a.validities]
        if predicted:
            return feeder.answers[0].at_s - begin_s, predicted[0].at_s - begin_s
    raise MotionPredictorError(f'the node predicted nothing within {TIMEOUT_S:g} s')
