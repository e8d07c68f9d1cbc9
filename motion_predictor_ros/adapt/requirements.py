# SPDX-License-Identifier: Apache-2.0
"""How much of one's own people adapting takes, and what is missing where there is too little."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from motion_predictor_ros.data.bag_recordings import SPLITS
from motion_predictor_ros.data.recordings import Clip, Recordings
from motion_predictor_ros.errors import DataError
from motion_predictor_ros.prediction.motion_deq.model import MotionDEQConfig
from motion_predictor_ros.training.volume_windows import APART_S


@dataclass(frozen=True)
class Needs:
    """The least that is adapted to; rules of thumb, not bounds.

    Attributes:
        train_s: Seconds of people to learn from, in clips as long as a window or longer.
        windows: Windows that begin `APART_S` apart, by split: fewer say nothing about an error.
        people: Of one person alone, the model learns the person, not the work.
    """

    train_s: float = 120.0
    windows: tuple[int, int, int] = (20, 5, 10)
    people: int = 2


def amounts(recordings: Recordings, model: MotionDEQConfig) -> dict[str, Any]:
    """Return seconds, independent windows and people by split."""
    window_s = (model.past + model.future) * model.period_s
    clips = {split: _usable(recordings, split, window_s) for split in SPLITS}
    return {
        'seconds': {
            split: sum(clip.length for clip in own) / recordings.fps
            for split, own in clips.items()
        },
        'windows': {
            split: sum(_windows(clip.length / recordings.fps, window_s) for clip in own)
            for split, own in clips.items()
        },
        'people': {split: len({clip.subject for clip in own}) for split, own in clips.items()},
    }


def _usable(recordings: Recordings, split: str, window_s: float) -> list[Clip]:
    least = window_s * recordings.fps
    return [each for each in recordings.clips if each.split == split and each.length >= least]


def _windows(seconds: float, window_s: float) -> int:
    """Count windows that begin `APART_S` apart."""
    return math.floor((seconds - window_s) / APART_S + 1e-9) + 1


def refuse_too_little(
    recordings: Recordings, model: MotionDEQConfig, needs: Needs, lost_s: Mapping[str, float]
) -> None:
    """Check that there is enough to learn from and to judge by.

    Args:
        lost_s: Seconds of people that could not be used, by reason.

    Raises:
        DataError: There is not; it says how much is missing, in seconds, windows and people.
    """
    missing = _missing(recordings, model, needs)
    if missing:
        window_s = (model.past + model.future) * model.period_s
        whole = sum(clip.length for clip in recordings.clips) / recordings.fps
        lost = ''.join(f', {each:.1f} s more: {why}' for why, each in lost_s.items() if each)
        raise DataError(
            f'too little to adapt to, of {whole:.1f} s of people{lost}; {"; ".join(missing)}. '
            f'60 % trains, 15 % chooses, 25 % judges, and only {window_s:g} s without a break '
            'make a window: record more, or give more bags'
        )


def _missing(recordings: Recordings, model: MotionDEQConfig, needs: Needs) -> list[str]:
    """Say of each need that is not met how much is missing."""
    have = amounts(recordings, model)
    missing = []
    seconds = have['seconds']['train']
    if seconds < needs.train_s:
        missing.append(
            f'{seconds:.1f} s of people to train on, needed {needs.train_s:g} s: '
            f'{needs.train_s - seconds:.1f} s more'
        )
    for split, least in zip(SPLITS, needs.windows, strict=True):
        count = have['windows'][split]
        if count < least:
            missing.append(
                f'{count} windows {APART_S:g} s apart to {_ENDS[split]}, needed {least}: '
                f'{least - count} more'
            )
    people = len({clip.subject for clip in recordings.clips})
    if people < needs.people:
        missing.append(
            f'{people} person, needed {needs.people}: {needs.people - people} more, or '
            '--one-person if there is only one'
        )
    return missing


_ENDS = {'train': 'train on', 'val': 'choose by', 'test': 'judge by'}
