# SPDX-License-Identifier: Apache-2.0
"""Two recorded people in one message, through the pipeline that runs on the robot.

Clips with a partner lie on one clock and in one frame. Both people are predicted in one batch; the
report says how far a prediction is from that of the person alone.

    python test/pairs.py --data CLIPS.npz [--split test] [--weights body_1s]
"""

import argparse
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from motion_predictor_ros.config import (
    DensityConfig,
    PipelineConfig,
    PredictionConfig,
    VolumeConfig,
)
from motion_predictor_ros.data.recordings import Clip, Recordings, load_recordings
from motion_predictor_ros.errors import DataError
from motion_predictor_ros.evaluation.replay.replay import Replay, replay, score
from motion_predictor_ros.evaluation.tables import METHODS, print_errors
from motion_predictor_ros.pipeline import Pipeline
from motion_predictor_ros.scoring.metrics import mpjpe_mm
from motion_predictor_ros.skeleton.frame import Observation

RATE_HZ = 25.0


def evaluate_pairs(recordings: Recordings, weights: str, device: str) -> dict[str, Any]:
    """Return errors [mm] of both people, and how far predictions are from those of one person.

    Raises:
        DataError: No two clips name each other as partners.
    """
    pairs = pairs_of(recordings)
    if not pairs:
        raise DataError('no two clips of the chosen split name each other as "pair"')
    config = PipelineConfig(
        prediction=PredictionConfig(weights=weights, device=device),
        density=DensityConfig(enabled='never'),
        volume=VolumeConfig(enabled='never'),
        max_rate_hz=RATE_HZ,
    )
    pipeline = Pipeline.load(config)
    cases, validity = [], Counter[str]()
    gaps_mm: list[float] = []
    for pair in pairs:
        together = _replay(recordings, pair, pipeline)
        alone = [_replay(recordings, (clip,), pipeline) for clip in pair]
        cases += score(together)
        validity.update(p.validity.name for _, scene in together.scenes for p in scene.people)
        gaps_mm += [gap for single in alone for gap in _gaps_mm(together, single)]
    if not cases:
        raise DataError(f'no prediction of {len(pairs)} pairs could be scored: {dict(validity)}')
    horizons_s = pipeline.predictor.horizons_s
    return {
        'pairs': len(pairs),
        'predictions': len(cases),
        'validity': dict(validity),
        'mpjpe_mm': {
            name: mpjpe_mm([case.errors[name] for case in cases], horizons_s) for name in METHODS
        },
        'compared_with_alone': len(gaps_mm),
        'company_changes_mm': max(gaps_mm, default=math.nan),
        'model': pipeline.predictor.model,
    }


def pairs_of(recordings: Recordings) -> list[tuple[Clip, Clip]]:
    """Return every two clips that name each other, once."""
    named = {clip.key: clip for clip in recordings.clips}
    return [
        (clip, named[clip.pair])
        for clip in recordings.clips
        if clip.key < clip.pair and named.get(clip.pair, clip).pair == clip.key
    ]


def _replay(recordings: Recordings, clips: Sequence[Clip], pipeline: Pipeline) -> Replay:
    pipeline.reset()
    return replay(_observations(recordings, clips), pipeline)


def _observations(recordings: Recordings, clips: Sequence[Clip]) -> Iterator[Observation]:
    """Yield observations that hold all of the clips' people."""
    stride, positions = recordings.fps / RATE_HZ, recordings.positions
    count = int((min(clip.length for clip in clips) - 1) / stride + 1e-6) + 1
    for number in range(count):
        frame = round(number * stride)
        people = {clip.subject: positions[clip.start + frame].astype(np.float64) for clip in clips}
        yield Observation.from_arrays(1.0 + number / RATE_HZ, recordings.joint_names, people)


def _gaps_mm(together: Replay, alone: Replay) -> list[float]:
    """Return how far predictions with another person are from those of the person alone."""
    together_m = {
        (person.person_id, person.stamp_ns): person.positions
        for _, scene in together.scenes
        for person in scene.people
    }
    gaps = []
    for _, scene in alone.scenes:
        for person in scene.people:
            other = together_m.get((person.person_id, person.stamp_ns))
            if person.positions is not None and other is not None:
                gaps.append(1000.0 * float(np.abs(person.positions - other).max()))
    return gaps


def print_pairs(report: Mapping[str, Any], console: Console) -> None:
    """Print the errors by method, and the effect of the second person."""
    title = f'{report["model"]}, {report["pairs"]} pairs, {report["predictions"]} predictions'
    print_errors(report['mpjpe_mm'], title, console)
    validity = ', '.join(f'{name} {count}' for name, count in report['validity'].items())
    console.print(
        f'{validity}; the second person changes a joint by {report["company_changes_mm"]:.2g} mm'
    )


def main() -> None:
    """Print the table of a file of clips."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').split('\n')[0])
    parser.add_argument('--data', type=Path, required=True, help='npz of clips')
    parser.add_argument('--split', default='test', help="only clips of this split; '': all")
    parser.add_argument('--weights', default='body_1s', help='MotionDEQ, name or path')
    options = parser.parse_args()
    recordings = load_recordings(options.data).of_split(options.split)
    print_pairs(evaluate_pairs(recordings, options.weights, 'auto'), Console())


if __name__ == '__main__':
    main()
