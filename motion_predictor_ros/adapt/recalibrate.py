# SPDX-License-Identifier: Apache-2.0
"""Calibrate volumes for adapted weights, if the recordings suffice for the level."""

from pathlib import Path
from typing import Any

from motion_predictor_ros.config import PipelineConfig
from motion_predictor_ros.data.recordings import Recordings
from motion_predictor_ros.errors import ConfigError, DataError
from motion_predictor_ros.resources import is_shipped
from motion_predictor_ros.training.volume_calibration import (
    CalibrationRecipe,
    calibrate_on,
    summary,
)
from motion_predictor_ros.training.volume_windows import APART_S, HORIZONS_S, Models, windows_of
from motion_predictor_ros.volume.calibration import (
    load_calibration,
    needed_clips,
    save_calibration,
)


def recalibrate(recordings: Recordings, config: PipelineConfig, weights: Path) -> dict[str, Any]:
    """Write WEIGHTS_calibration beside the weights, or return why it cannot be.

    Windows are `APART_S` apart, of `val` and `test`, which no weight of MotionDEQ was trained on.
    People may be the same: it is marked approximate.

    Returns:
        `file` and `summary`, or `reason`; `horizons_s` at which the level is certified.
    """
    density, level = config.density, config.volume.level
    if density.enabled == 'never' or not (
        is_shipped(density.weights, 'weights', '.safetensors')
        and is_shipped(density.cache, 'weights', '.safetensors')
    ):
        return {'reason': 'there is no density model', 'horizons_s': []}
    models = Models.load(density, str(weights), config.skeleton.layout)
    held_out = recordings.select(lambda clip: clip.split != 'train')
    enough, short = _enough(models, held_out, level)
    if not enough:
        return {'reason': short, 'horizons_s': []}
    try:
        calibration = calibrate_on(
            models, held_out, CalibrationRecipe(tuple(enough), approximate=True)
        )
    except (ConfigError, DataError) as error:
        return {'reason': str(error), 'horizons_s': []}
    file = weights.with_name(f'{weights.stem}_calibration.safetensors')
    save_calibration(file, calibration)
    kept = load_calibration(str(file), models.digests)
    sure = [
        until.horizon_s
        for until in kept.horizons
        if len(until.speeds) >= needed_clips(1.0 - level)
    ]
    return {'file': str(file), 'summary': summary(kept), 'reason': short, 'horizons_s': sure}


def _enough(models: Models, held_out: Recordings, level: float) -> tuple[list[float], str]:
    """Return the horizons with enough windows for the level, and what the first other lacks."""
    enough, short = [], ''
    longest_s = float(models.futures.horizons_s[-1]) + 1e-6
    for horizon_s in (end_s for end_s in HORIZONS_S if end_s <= longest_s):
        count = _windows(models, held_out, horizon_s)
        if count >= needed_clips(1.0 - level):
            enough.append(horizon_s)
        elif not short:
            short = _short(count, horizon_s, level)
    return enough, short


def _windows(models: Models, recordings: Recordings, horizon_s: float) -> int:
    frames = models.futures.past + round(horizon_s / models.period_s)
    try:
        return len(windows_of(recordings, frames, models.period_s))
    except DataError:
        return 0


def _short(count: int, horizon_s: float, level: float) -> str:
    needed = needed_clips(1.0 - level)
    return (
        f'{level:.0%} until {horizon_s:g} s needs {needed} held-out windows {APART_S:g} s apart, '
        f'there are {count}: {needed - count} more, about '
        f'{(needed - count) * APART_S / 0.4:.0f} s of recording'
    )
