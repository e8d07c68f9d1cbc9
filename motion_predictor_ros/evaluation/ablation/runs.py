# SPDX-License-Identifier: Apache-2.0
"""Results of ablation runs, computed once: `run.json` in the folder of a run."""

import json
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from motion_predictor_ros.data.recordings import Recordings
from motion_predictor_ros.errors import ConfigError
from motion_predictor_ros.evaluation.tables import write_json


def run_once(path: Path, made_with: Mapping[str, Any], compute: Callable[[], Any]) -> Any:
    """Return the result that `path` holds; else compute it and write it there.

    Args:
        made_with: Settings of the run. They are written first, so that an interrupted run
            resumes with the same ones only.

    Raises:
        ConfigError: The run there was made with other settings.
    """
    settings = json.loads(json.dumps(made_with))
    if path.is_file():
        run = json.loads(path.read_text())
        if run['made_with'] != settings:
            raise ConfigError(
                f'{path.parent} was made with other data, recipe or budget: choose another --out'
            )
        if 'result' in run:
            return run['result']
    write_json({'made_with': settings}, path)
    result = compute()
    write_json({'made_with': settings, 'result': result}, path)
    return result


def fingerprint(recordings: Recordings) -> dict[str, int]:
    """Return a checksum of the positions, and the number of clips."""
    checksum = zlib.crc32(recordings.positions.tobytes())
    return {'positions': checksum, 'clips': len(recordings.clips)}
