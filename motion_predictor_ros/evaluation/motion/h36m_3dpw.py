# SPDX-License-Identifier: Apache-2.0
"""The literature's protocols on Human3.6M and 3DPW, on the user's own licensed copy.

`h36m`: subject S5, both takes of 15 actions, 22 joints fed and all 32 scored: four that never move
count nothing, six that coincide with another take its prediction. 25 fps.
`3dpw`: the test folder, all people in it, relative to the pelvis, 23 joints fed and all 24 scored,
one mean over all windows. Papers such as PGBIG label frame k of the future as 40 k ms, although it
is 33.3 k: their "1000 ms" is 833 ms.

All windows are scored. Some papers score 8 or 256 windows of each action of Human3.6M, drawn at
random; their figures do not compare. Nor do those on 3DPW that compute joints from the angles.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from motion_predictor_ros.data import h36m, smpl, three_dpw
from motion_predictor_ros.evaluation.motion.pose_benchmark import (
    Clips,
    Errors,
    Predict,
    Protocol,
    baseline_predictors,
    evaluate_poses,
    mean_error,
    motion_deq_predictor,
    print_rows,
)
from motion_predictor_ros.evaluation.tables import METHODS
from motion_predictor_ros.prediction.motion_deq.checkpoint import TrainedMotionDEQ

_MM_PER_M = 1000.0


@dataclass(frozen=True)
class Benchmark:
    """A protocol with its test clips.

    Attributes:
        lengths: Observed and predicted frames without a model.
        note: A note printed with the figures.
    """

    protocol: Protocol
    load: Callable[[Path], Clips]
    lengths: tuple[int, int]
    note: str


def _h36m_clips(folder: Path) -> Clips:
    subjects = [subject for subject, split in h36m.SPLIT_OF.items() if split == 'test']
    clips: dict[str, list[np.ndarray]] = {}
    for sequence in h36m.load_h36m_sequences(folder, subjects):
        clips.setdefault(sequence.action, []).append(sequence.positions_mm)
    return clips


def _3dpw_clips(folder: Path) -> Clips:
    sequences = three_dpw.load_3dpw_sequences(folder, ('test',))
    return {'all sequences': [_MM_PER_M * sequence.positions_m for sequence in sequences]}


BENCHMARKS = {
    'h36m': Benchmark(
        Protocol(
            name='Human3.6M',
            joint_names=h36m.JOINT_NAMES,
            fed_names=h36m.FED_NAMES,
            twins=h36m.TWINS,
            horizon_frames={80: 1, 160: 3, 320: 7, 400: 9, 560: 13, 1000: 24},
            layout='h36m22',
            recipes='"h36m_short" or "h36m_long"',
        ),
        load=_h36m_clips,
        lengths=(25, 25),
        note='Subject S5, every window, mean over 32 joints in the frame of the hips.',
    ),
    '3dpw': Benchmark(
        Protocol(
            name='3DPW',
            joint_names=smpl.JOINT_NAMES,
            fed_names=three_dpw.FED_NAMES,
            twins={},
            horizon_frames={200: 4, 400: 9, 600: 14, 800: 19, 1000: 24},
            layout='3dpw23',
            recipes='"3dpw"',
        ),
        load=_3dpw_clips,
        lengths=(10, 30),
        note='Labels are nominal, as in the literature: "1000 ms" is 833 ms.',
    ),
}


def evaluate_licensed(
    benchmark: Benchmark, folder: Path, trained: TrainedMotionDEQ | None, *, progress: bool = False
) -> dict[str, Any]:
    """Return the errors [mm] of the model, if any, and the baselines: by action, and their mean.

    Raises:
        CheckpointError: The model was made for other joints.
        DataError: The data are missing or malformed.
    """
    models: dict[str, Predict] = {}
    lengths = benchmark.lengths
    if trained is not None:
        models['motion_deq'] = motion_deq_predictor(trained, benchmark.protocol)
        lengths = (trained.module.config.past, trained.module.config.future)
    models |= baseline_predictors(lengths[1])
    clips = benchmark.load(folder)
    errors = evaluate_poses(clips, benchmark.protocol, lengths, models, progress=progress)
    return {name: {'actions': result, 'mean': _mean(result)} for name, result in errors.items()}


def _mean(actions: Errors) -> dict[str, float]:
    rows = list(actions.values())
    return {ms: mean_error(rows, [ms]) for ms in rows[0]}


def print_licensed(benchmark: Benchmark, report: Mapping[str, Any], console: Console) -> None:
    """Print the means of all models, then the first one's errors by action."""
    first, result = next(iter(report.items()))
    corner = r'\[mm] after \[ms]'
    rows = {name: item['mean'] for name, item in report.items()}
    print_rows(rows, f'{benchmark.protocol.name}, mean over actions', corner, console)
    if len(result['actions']) > 1:
        title = f'{METHODS[first]} by action'
        print_rows(result['actions'], title, corner, console, compare=False)
    console.print(benchmark.note)
