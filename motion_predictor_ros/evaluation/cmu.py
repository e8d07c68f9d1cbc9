# SPDX-License-Identifier: Apache-2.0
"""The literature's protocol on the CMU benchmark, exactly, so that figures compare with papers.

10 frames in, 25 out, every window of the test clips, 25 joints predicted, the error averaged over
all 38: six that never move count nothing, seven that coincide with another take its prediction.
Mean over the windows of an action, then over actions. Horizons and millimetres are nominal: see
`training/cmu_benchmark.py`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from motion_predictor_ros.errors import CheckpointError, DataError
from motion_predictor_ros.evaluation.baselines import BASELINES
from motion_predictor_ros.evaluation.metrics import mean_joint_error
from motion_predictor_ros.evaluation.report import METHODS
from motion_predictor_ros.prediction.fixed_point import SolverSettings
from motion_predictor_ros.prediction.model_file import TrainedMotionDEQ
from motion_predictor_ros.training.cmu_benchmark import (
    FED,
    FED_NAMES,
    JOINT_NAMES,
    TWINS,
    CmuSequence,
)

PAST, FUTURE = 10, 25
HORIZON_FRAMES = {80: 1, 160: 3, 320: 7, 400: 9, 560: 13, 1000: 24}
"""Predicted frame by nominal horizon [ms]."""

FIVE_ACTIONS = ('basketball', 'jumping', 'running', 'soccer', 'walking')
"""The actions whose training and test clips can all be had."""

Predict = Callable[
    [Float[np.ndarray, 'batch time joint=25 xyz=3']],
    Float[np.ndarray, 'batch horizon joint=25 xyz=3'],
]
"""From 10 observed frames to 25 predicted ones, both in nominal millimetres."""

_CHUNK = 64
_MEAN6 = tuple(str(ms) for ms in HORIZON_FRAMES)
_MEAN5 = tuple(ms for ms in _MEAN6 if ms != '560')
_COPIES = np.array([JOINT_NAMES.index(name) for name in TWINS])
_ORIGINALS = np.array([JOINT_NAMES.index(name) for name in TWINS.values()])


def evaluate_cmu(
    sequences: Iterable[CmuSequence], models: Mapping[str, Predict], *, progress: bool = False
) -> dict[str, Any]:
    """Return the errors of every model [nominal mm] by action and horizon, and the usual means.

    `five_actions` is given only where the test clips have all five.

    Raises:
        DataError: No test clip is as long as a window.
    """
    actions: dict[str, list[np.ndarray]] = {}
    for clip in sequences:
        if clip.split == 'test' and len(clip.positions_mm) >= PAST + FUTURE:
            actions.setdefault(clip.action, []).append(_windows(clip))
    if not actions:
        raise DataError(
            f'no clip "test/<action>_<k>" is as long as a window ({PAST + FUTURE} frames)'
        )
    windows = {action: np.concatenate(found) for action, found in sorted(actions.items())}
    total = len(models) * sum(map(len, windows.values()))
    quiet = None if progress else True
    with tqdm(total=total, unit='window', leave=False, disable=quiet) as bar:
        return {
            name: _summary(
                {action: _action_errors(own, predict, bar) for action, own in windows.items()}
            )
            for name, predict in models.items()
        }


def _windows(clip: CmuSequence) -> np.ndarray:
    """Return every window of a clip [batch, time, joint, xyz]; a view, nothing is copied."""
    view = np.lib.stride_tricks.sliding_window_view(clip.positions_mm, PAST + FUTURE, axis=0)
    return view.transpose(0, 3, 1, 2)


def _action_errors(windows: np.ndarray, predict: Predict, bar: 'tqdm[Any]') -> dict[str, float]:
    errors = []
    for first in range(0, len(windows), _CHUNK):
        chunk = windows[first : first + _CHUNK].astype(np.float64)
        predicted = predict(chunk[:, :PAST, FED])
        assert predicted.shape == (len(chunk), FUTURE, len(FED), 3)
        errors.append(mean_joint_error(_all_joints(predicted, chunk[:, PAST:]), chunk[:, PAST:]))
        bar.update(len(chunk))
    mean = np.concatenate(errors).mean(axis=0)
    return {str(ms): float(mean[frame]) for ms, frame in HORIZON_FRAMES.items()}


def _all_joints(
    predicted: Float[np.ndarray, 'batch horizon joint=25 xyz=3'],
    truth: Float[np.ndarray, 'batch horizon joint=38 xyz=3'],
) -> Float[np.ndarray, 'batch horizon joint=38 xyz=3']:
    """Put the predicted joints among all others: copies take their twin, the rest is true."""
    whole = truth.copy()
    whole[:, :, FED] = predicted
    whole[:, :, _COPIES] = whole[:, :, _ORIGINALS]
    return whole


def _summary(actions: dict[str, dict[str, float]]) -> dict[str, Any]:
    report: dict[str, Any] = {'actions': actions, 'mean5': _mean(actions.values(), _MEAN5)}
    if set(FIVE_ACTIONS) <= set(actions):
        five = [actions[name] for name in FIVE_ACTIONS]
        report['five_actions'] = {'mean5': _mean(five, _MEAN5), 'mean6': _mean(five, _MEAN6)}
    return report


def _mean(rows: Iterable[Mapping[str, float]], horizons: Sequence[str]) -> float:
    return float(np.mean([[row[ms] for ms in horizons] for row in rows]))


def baseline_predictors() -> dict[str, Predict]:
    """Return what a model must beat."""
    return {
        'repeat_last': lambda observed: BASELINES['repeat_last'](observed, FUTURE),
        'constant_velocity': lambda observed: BASELINES['constant_velocity'](observed, FUTURE),
    }


def motion_deq_predictor(trained: TrainedMotionDEQ) -> Predict:
    """Let a trained model predict windows of the benchmark, each solved cold.

    Raises:
        CheckpointError: The model was made for other joints or other lengths.
    """
    shape = trained.module.config
    if trained.joint_names != FED_NAMES or (shape.past, shape.future) != (PAST, FUTURE):
        raise CheckpointError(
            f'{trained.name} predicts {shape.future} frames from {shape.past} of '
            f'{shape.joints} joints {trained.joint_names}; the CMU benchmark needs {FUTURE} from '
            f'{PAST} of layout "cmu25": train it with recipe "cmu"'
        )
    parameter = next(trained.module.parameters())

    @torch.inference_mode()
    def predict(observed: np.ndarray) -> np.ndarray:
        positions = torch.from_numpy(observed / 1000.0).to(parameter.device, parameter.dtype)
        predicted, _, _ = trained.module(positions, SolverSettings())
        return 1000.0 * predicted.double().cpu().numpy()

    return predict


def print_cmu(report: Mapping[str, Any], console: Console) -> None:
    """Print the means over all actions and over the five, then mean5 of each action."""
    actions = list(next(iter(report.values()))['actions'])
    groups = {f'mean of all {len(actions)} actions': actions}
    if set(FIVE_ACTIONS) < set(actions):
        groups['mean of the five actions: ' + ', '.join(FIVE_ACTIONS)] = list(FIVE_ACTIONS)
    for title, names in groups.items():
        rows = {
            model: _columns([own['actions'][name] for name in names])
            for model, own in report.items()
        }
        _print_rows(rows, title, r'\[mm] after \[ms]', console)
    by_action = {
        model: {name: _mean([row], _MEAN5) for name, row in own['actions'].items()}
        for model, own in report.items()
    }
    _print_rows(by_action, 'mean5 by action', r'\[mm]', console)
    console.print('Units are nominal, as in the literature: "1000 ms" is 417 ms, "1 mm" 0.81 mm.')


def _columns(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    each = {ms: _mean(rows, [ms]) for ms in _MEAN6}
    return {**each, 'mean5': _mean(rows, _MEAN5), 'mean6': _mean(rows, _MEAN6)}


def _print_rows(
    rows: Mapping[str, Mapping[str, float]], title: str, corner: str, console: Console
) -> None:
    """Print one line per model, the best of each column in bold; fits 80 characters."""
    heads = list(next(iter(rows.values())))
    table = Table(title=title, title_justify='left', box=None, padding=(0, 1, 0, 0))
    table.add_column(corner, no_wrap=True)
    for head in heads:
        table.add_column(head, justify='right')
    best = {head: min(row[head] for row in rows.values()) for head in heads}
    for name, row in rows.items():
        cells = [
            f'[bold]{row[head]:.2f}[/]' if row[head] == best[head] else f'{row[head]:.2f}'
            for head in heads
        ]
        table.add_row(METHODS.get(name, name), *cells)
    console.print(table)
    console.print()
