# SPDX-License-Identifier: Apache-2.0
"""Run our executables as processes of their own, on this machine's part of the ROS graph alone."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import yaml

from motion_predictor_ros.config import PipelineConfig, iterate_params
from motion_predictor_ros.errors import MotionPredictorError

PATIENCE_S = 60.0


def local_environment() -> dict[str, str]:
    """Return an environment whose ROS traffic stays here, in a domain of its own by default."""
    return {
        'ROS_DOMAIN_ID': str(os.getpid() % 100 + 1),
        **os.environ,
        'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST',
    }


def write_parameters(config: PipelineConfig, folder: Path) -> Path:
    """Write a ROS parameter file that holds all of `config`."""
    values = {name: value for name, _, value in iterate_params(config)}
    path = folder / 'parameters.yaml'
    path.write_text(yaml.safe_dump({'/**': {'ros__parameters': values}}))
    return path


def command(words: Sequence[str]) -> list[str]:
    """Run one of our executables with this interpreter, wherever the package is installed."""
    folder = 'ros.tools' if words[0] in ('play_bag', 'record_bag') else 'ros'
    module = f'motion_predictor_ros.{folder}.{words[0]}'
    return [sys.executable, '-m', module, *words[1:]]


@contextmanager
def child(
    words: Sequence[str], environment: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """Keep one running; interrupt it at the end and insist that it ended well.

    Raises:
        MotionPredictorError: It failed, or did not end.
    """
    process = subprocess.Popen(command(words), env=environment)
    try:
        yield process
        process.send_signal(signal.SIGINT)
        if process.wait(PATIENCE_S):
            raise MotionPredictorError(f'{words[0]} ended with exit code {process.returncode}')
    except subprocess.TimeoutExpired as error:
        raise MotionPredictorError(f'{words[0]} did not end within {PATIENCE_S:g} s') from error
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
