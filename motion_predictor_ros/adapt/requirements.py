# SPDX-License-Identifier: Apache-2.0
"""The amount of data that adaptation requires, and what is missing if there is too little."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from motion_predictor_ros.data.bag_recordings import SPLITS
from motion_predictor_ros.data.recordings import Recordings
from motion_predictor_ros.errors import DataError
from motion_predictor_ros.prediction.motion_deq.model import MotionDEQConfig
from motion_predictor_ros.training.volume_windows import APART_S


@dataclass(frozen=True)
class Requirements:
    """Minimum amount of data; rules of thumb, not bounds.

    Attributes:
        train_s: Seconds of people to train on, in clips of at least a window.
        windows: Windows `APART_S` apart, by split.
        people: With one person alone, the model learns the person, not the work.
    """

    train_s: float = 120.0
    windows: tuple[int, int, int] = (20, 5, 10)
    people: int = 2


def amounts(recordings: Recordings, model: MotionDEQConfig) -> dict[str, Any]:
    """Return seconds, windows `APART_S` apart and people, each by split, of clips that suffice."""
    report: dict[str, dict[str, Any]] = {'seconds': {}, 'windows': {}, 'people': {}}
    window_s, fps = _window_s(model), recordings.fps
    for split in SPLITS:
        clips = [
            clip
            for clip in recordings.clips
            if clip.split == split and clip.length >= window_s * fps
        ]
        spare_s = [clip.length / fps - window_s for clip in clips]
        report['seconds'][split] = sum(clip.length for clip in clips) / fps
        report['windows'][split] = sum(math.floor(s / APART_S + 1e-9) + 1 for s in spare_s)
        report['people'][split] = len({clip.subject for clip in clips})
    return report


def _window_s(model: MotionDEQConfig) -> float:
    return (model.past + model.future) * model.period_s


def check_amounts(
    recordings: Recordings,
    model: MotionDEQConfig,
    requirements: Requirements,
    lost_s: Mapping[str, float],
) -> None:
    """Check that there is enough to train, validate and test on.

    Args:
        lost_s: Seconds of people that could not be used, by reason.

    Raises:
        DataError: There is not; says how much is missing, in seconds, windows and people.
    """
    missing = _missing(recordings, model, requirements)
    if missing:
        whole = sum(clip.length for clip in recordings.clips) / recordings.fps
        lost = ''.join(f', {s:.1f} s more: {reason}' for reason, s in lost_s.items() if s)
        raise DataError(
            f'too little to adapt to, of {whole:.1f} s of people{lost}; {"; ".join(missing)}. '
            f'60 % trains, 15 % validates, 25 % tests, and only {_window_s(model):g} s without a '
            'gap make a window: record more, or add bags'
        )


def _missing(
    recordings: Recordings, model: MotionDEQConfig, requirements: Requirements
) -> list[str]:
    """Describe how much is missing of each unmet requirement."""
    available = amounts(recordings, model)
    missing = []
    seconds = available['seconds']['train']
    if seconds < requirements.train_s:
        missing.append(
            f'{seconds:.1f} s of people to train on, needed {requirements.train_s:g} s: '
            f'{requirements.train_s - seconds:.1f} s more'
        )
    for split, required in zip(SPLITS, requirements.windows, strict=True):
        count = available['windows'][split]
        if count < required:
            missing.append(
                f'{count} windows {APART_S:g} s apart to {_PURPOSES[split]}, needed {required}: '
                f'{required - count} more'
            )
    people = len({clip.subject for clip in recordings.clips})
    if people < requirements.people:
        missing.append(
            f'{people} person, needed {requirements.people}: {requirements.people - people} more, '
            'or --one-person if there is only one'
        )
    return missing


_PURPOSES = {'train': 'train on', 'val': 'validate on', 'test': 'test on'}
