# SPDX-License-Identifier: Apache-2.0
"""The literature's protocol on the CMU benchmark, exactly, so that figures compare with papers.

10 frames in, 25 out, every window of the test clips, 25 joints predicted, the error averaged over
all 38: six that never move count nothing, seven that coincide with another take its prediction.
Mean over the windows of an action, then over actions. Horizons and millimetres are nominal: see
`training/cmu_benchmark.py`.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console

from motion_predictor_ros.data.cmu import (
    FED_NAMES,
    JOINT_NAMES,
    TWINS,
    CmuSequence,
)
from motion_predictor_ros.evaluation.archive import Figures
from motion_predictor_ros.evaluation.motion import pose_benchmark
from motion_predictor_ros.evaluation.motion.pose_benchmark import (
    Errors,
    Predict,
    Protocol,
    evaluate_poses,
    mean_error,
    print_rows,
)
from motion_predictor_ros.prediction.motion_deq.checkpoint import TrainedMotionDEQ
from motion_predictor_ros.training.baselines.unrolled import TrainedUnrolled

PAST, FUTURE = 10, 25

PROTOCOL = Protocol(
    name='the CMU benchmark',
    joint_names=JOINT_NAMES,
    fed_names=FED_NAMES,
    twins=TWINS,
    horizon_frames={80: 1, 160: 3, 320: 7, 400: 9, 560: 13, 1000: 24},
    layout='cmu25',
    recipes='"cmu"',
)

FIVE_ACTIONS = ('basketball', 'jumping', 'running', 'soccer', 'walking')
"""The actions whose training and test clips are all available."""

_MEAN6 = tuple(PROTOCOL.horizons(FUTURE))
_MEAN5 = tuple(ms for ms in _MEAN6 if ms != '560')


def evaluate_cmu(
    sequences: Iterable[CmuSequence],
    models: Mapping[str, Predict],
    *,
    progress: bool = False,
    figures: Figures | None = None,
) -> dict[str, Any]:
    """Return the errors of every model [nominal mm] by action and horizon, and the usual means.

    `five_actions` is given only where the test clips have all five.

    Args:
        figures: Gets the errors of every window.

    Raises:
        DataError: No test clip is as long as a window.
    """
    clips: dict[str, list[Any]] = {}
    for clip in sequences:
        if clip.split == 'test':
            clips.setdefault(clip.action, []).append(clip.positions_mm)
    errors = evaluate_poses(
        clips, PROTOCOL, (PAST, FUTURE), models, progress=progress, figures=figures
    )
    return {name: _summary(actions) for name, actions in errors.items()}


def _summary(actions: Errors) -> dict[str, Any]:
    report: dict[str, Any] = {'actions': actions, 'mean5': mean_error(actions.values(), _MEAN5)}
    if set(FIVE_ACTIONS) <= set(actions):
        five = [actions[name] for name in FIVE_ACTIONS]
        report['five_actions'] = {
            'mean5': mean_error(five, _MEAN5),
            'mean6': mean_error(five, _MEAN6),
        }
    return report


def baseline_predictors() -> dict[str, Predict]:
    """Return the baselines."""
    return pose_benchmark.baseline_predictors(FUTURE)


def motion_deq_predictor(trained: TrainedMotionDEQ) -> Predict:
    """Let a trained model predict windows of the benchmark, each solved cold.

    Raises:
        CheckpointError: The model was made for other joints or other lengths.
    """
    return pose_benchmark.motion_deq_predictor(trained, PROTOCOL, (PAST, FUTURE))


def unrolled_predictor(trained: TrainedUnrolled) -> Predict:
    """Let a trained baseline predict windows of the benchmark; as `motion_deq_predictor`."""
    return pose_benchmark.unrolled_predictor(trained, PROTOCOL, (PAST, FUTURE))


def print_cmu(report: Mapping[str, Any], console: Console) -> None:
    """Print the means over all actions and over the five, then mean5 of each action."""
    actions = list(next(iter(report.values()))['actions'])
    groups = {f'mean of all {len(actions)} actions': actions}
    if set(FIVE_ACTIONS) < set(actions):
        groups['mean of the five actions: ' + ', '.join(FIVE_ACTIONS)] = list(FIVE_ACTIONS)
    for title, names in groups.items():
        rows = {
            model: _columns([result['actions'][name] for name in names])
            for model, result in report.items()
        }
        print_rows(rows, title, r'\[mm] after \[ms]', console)
    by_action = {
        model: {name: mean_error([row], _MEAN5) for name, row in result['actions'].items()}
        for model, result in report.items()
    }
    print_rows(by_action, 'mean5 by action', r'\[mm]', console)
    console.print('Units are nominal, as in the literature: "1000 ms" is 417 ms, "1 mm" 0.81 mm.')


def _columns(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    each = {ms: mean_error(rows, [ms]) for ms in _MEAN6}
    return {**each, 'mean5': mean_error(rows, _MEAN5), 'mean6': mean_error(rows, _MEAN6)}
