# SPDX-License-Identifier: Apache-2.0
"""What ablations have in common: folders that say how a run was made and what came out."""

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from motion_predictor_ros.data.recordings import Recordings
from motion_predictor_ros.errors import ConfigError

_WRITTEN_BY_TRAINING = ('best.safetensors', 'last.safetensors', 'losses.csv')


def save_json(content: Mapping[str, Any], path: Path) -> None:
    """Write a report or a run's `run.json`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + '\n')


def begin_run(path: Path, made_with: Mapping[str, Any]) -> dict[str, Any]:
    """Return the run that `path` describes; a new one has no 'result' yet.

    Raises:
        ConfigError: The run there was made with something else.
    """
    if not path.is_file():
        run = {'made_with': made_with}
        save_json(run, path)
        return run
    found: dict[str, Any] = json.loads(path.read_text())
    if found['made_with'] != json.loads(json.dumps(made_with)):
        raise ConfigError(
            f'{path.parent} was made with other data, recipe or budget: choose another --out'
        )
    return found


def fingerprint(recordings: Recordings) -> dict[str, int]:
    """Return what tells one set of recordings from another."""
    return {
        'positions': zlib.crc32(recordings.positions.tobytes()),
        'clips': len(recordings.clips),
    }


def clear_training(folder: Path) -> None:
    """Begin a training anew: how much of its time an interrupted one had is not known."""
    for left_over in _WRITTEN_BY_TRAINING:
        (folder / left_over).unlink(missing_ok=True)
