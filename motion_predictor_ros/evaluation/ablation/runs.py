# SPDX-License-Identifier: Apache-2.0
"""Folders of ablation runs, with their settings and results."""

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
    stored: dict[str, Any] = json.loads(path.read_text())
    if stored['made_with'] != json.loads(json.dumps(made_with)):
        raise ConfigError(
            f'{path.parent} was made with other data, recipe or budget: choose another --out'
        )
    return stored


def fingerprint(recordings: Recordings) -> dict[str, int]:
    """Return a fingerprint of recordings."""
    return {
        'positions': zlib.crc32(recordings.positions.tobytes()),
        'clips': len(recordings.clips),
    }


def clear_training(folder: Path) -> None:
    """Remove an interrupted training, whose spent time is unknown."""
    for left_over in _WRITTEN_BY_TRAINING:
        (folder / left_over).unlink(missing_ok=True)
