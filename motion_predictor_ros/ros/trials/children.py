# SPDX-License-Identifier: Apache-2.0
"""Run the package's executables as child processes, within a local ROS graph."""

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
