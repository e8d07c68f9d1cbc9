# SPDX-License-Identifier: Apache-2.0
"""The literature's protocol for short motions on CMU motion capture.

10 frames in, 25 out, 25 of 38 joints fed and predicted. Every window of the test clips, one frame
apart; the error is the mean over all joints: those that coincide with a fed one take its
prediction, the rest count as true. Mean over the windows of an action, then over actions. Horizons
and millimetres are nominal: `data/cmu.py`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from rich.console import Console
from torch import Tensor, nn
from tqdm import tqdm

from motion_predictor_ros.data.cmu import FED, FED_NAMES, JOINT_NAMES, TWINS
from motion_predictor_ros.data.recordings import Piece
from motion_predictor_ros.errors import CheckpointError, DataError
from motion_predictor_ros.evaluation.tables import METHODS, print_table
from motion_predictor_ros.prediction.motion_deq.checkpoint import TrainedMotionDEQ
from motion_predictor_ros.prediction.motion_deq.model import MotionDEQ
from motion_predictor_ros.prediction.motion_deq.solver import SolverSettings
from motion_predictor_ros.scoring.metrics import BASELINES, mean_joint_error
from motion_predictor_ros.training.baselines.unrolled import TrainedUnrolled

Predict = Callable[
    [Float[np.ndarray, 'batch time joint xyz=3']], Float[np.ndarray, 'batch horizon joint xyz=3']
]
"""From observed to predicted frames of the fed joints, both in millimetres."""

Clips = Mapping[str, Sequence[Float[np.ndarray, '_ joint xyz=3']]]
"""Test clips [mm] with all joints, by action; lengths differ."""

Errors = dict[str, dict[str, float]]
"""Mean error [mm] by action and horizon."""

PAST, FUTURE = 10, 25
"""Observed and predicted frames."""

HORIZON_FRAMES = {'80': 1, '160': 3, '320': 7, '400': 9, '560': 13, '1000': 24}
"""Predicted frame by label [ms]."""

FIVE_ACTIONS = ('basketball', 'jumping', 'running', 'soccer', 'walking')
"""Actions of CMU whose training and test clips are all available."""

_MEAN6 = tuple(HORIZON_FRAMES)
_MEAN5 = tuple(ms for ms in _MEAN6 if ms != '560')
_CHUNK = 64
_MM_PER_M = 1000.0
_NAMES = {**METHODS, 'eqmotion_style': 'EqMotion style'}
_NOTE = 'Units are nominal, as in the literature: "1000 ms" is 417 ms, "1 mm" 0.81 mm.'

BASELINE_PREDICTORS: Mapping[str, Predict] = {
    name: partial(baseline, future=FUTURE) for name, baseline in BASELINES.items()
}


def clips_by_action(pieces: Iterable[Piece]) -> Clips:
    """Return the test clips by action."""
    clips: dict[str, list[np.ndarray]] = {}
    for piece in pieces:
        if piece.split == 'test':
            clips.setdefault(piece.action, []).append(piece.positions)
    return clips


def evaluate_cmu(
    clips: Clips, models: Mapping[str, TrainedMotionDEQ | TrainedUnrolled]
) -> dict[str, Any]:
    """Return the errors [mm] of the models and the baselines: by action, and their means.

    `mean5` is over all horizons but 560 ms; `five_actions` over these actions, where the test
    clips have them all.

    Raises:
        CheckpointError: A model was made for other joints or lengths.
        DataError: No test clip is as long as a window.
    """
    predictors = {name: model_predictor(model) for name, model in models.items()}
    errors = evaluate_poses(clips, {**predictors, **BASELINE_PREDICTORS})
    return {name: _summary(actions) for name, actions in errors.items()}


def _summary(actions: Errors) -> dict[str, Any]:
    report: dict[str, Any] = {'actions': actions, 'mean5': mean_error(actions.values(), _MEAN5)}
    if set(FIVE_ACTIONS) <= set(actions):
        five = [actions[name] for name in FIVE_ACTIONS]
        means = {'mean5': mean_error(five, _MEAN5), 'mean6': mean_error(five, _MEAN6)}
        report['five_actions'] = means
    return report


def evaluate_poses(clips: Clips, predictors: Mapping[str, Predict]) -> dict[str, Errors]:
    """Return the errors of every predictor.

    Raises:
        DataError: No test clip is as long as a window.
    """
    windows = _every_window(clips)
    report: dict[str, Errors] = {name: {} for name in predictors}
    tasks = [(name, action) for name in predictors for action in windows]
    for name, action in tqdm(tasks, unit='action', leave=False, disable=None):
        report[name][action] = _errors(windows[action], predictors[name])
    return report


def _every_window(clips: Clips) -> dict[str, list[Float[np.ndarray, '_ time joint xyz=3']]]:
    """Return views of all windows of each clip that is long enough, by action."""
    windows: dict[str, list[np.ndarray]] = {}
    for action, clips_of_action in sorted(clips.items()):
        for clip in clips_of_action:
            if len(clip) >= PAST + FUTURE:
                view = np.lib.stride_tricks.sliding_window_view(clip, PAST + FUTURE, axis=0)
                windows.setdefault(action, []).append(view.transpose(0, 3, 1, 2))
    if not windows:
        raise DataError(f'no test clip is as long as a window ({PAST + FUTURE} frames)')
    return windows


def _errors(
    windows: Sequence[Float[np.ndarray, '_ time joint xyz=3']], predict: Predict
) -> dict[str, float]:
    """Return the mean error over all windows of an action, by horizon."""
    errors = []
    for view in windows:
        for first in range(0, len(view), _CHUNK):
            chunk = view[first : first + _CHUNK].astype(np.float64)
            predicted, truth = predict(chunk[:, :PAST, FED]), chunk[:, PAST:]
            assert predicted.shape == (len(chunk), FUTURE, len(FED), 3)
            errors.append(mean_joint_error(all_joints(predicted, truth), truth))
    by_frame = np.concatenate(errors).mean(0)
    return {ms: float(by_frame[frame]) for ms, frame in HORIZON_FRAMES.items()}


def all_joints(
    predicted: Float[np.ndarray, 'batch horizon fed xyz=3'],
    truth: Float[np.ndarray, 'batch horizon joint xyz=3'],
) -> Float[np.ndarray, 'batch horizon joint xyz=3']:
    """Put the predicted joints among all others: copies take their twin, the rest is true."""
    whole = truth.copy()
    whole[:, :, FED] = predicted
    copies = [JOINT_NAMES.index(name) for name in TWINS]
    originals = [JOINT_NAMES.index(name) for name in TWINS.values()]
    whole[:, :, copies] = whole[:, :, originals]
    return whole


def mean_error(rows: Iterable[Mapping[str, float]], horizons: Sequence[str]) -> float:
    """Return the mean over actions and horizons."""
    return float(np.mean([[row[ms] for ms in horizons] for row in rows]))


def model_predictor(trained: TrainedMotionDEQ | TrainedUnrolled) -> Predict:
    """Let a model predict windows of the benchmark; MotionDEQ is solved cold.

    Raises:
        CheckpointError: The model was made for other joints or other lengths.
    """
    shape, module = trained.module.config, trained.module
    if trained.joint_names != FED_NAMES or (shape.past, shape.future) != (PAST, FUTURE):
        raise CheckpointError(
            f'{trained.name} predicts {shape.future} frames from {shape.past} of '
            f'{shape.joints} joints {trained.joint_names}; the CMU benchmark needs {FUTURE} from '
            f'{PAST} of layout "cmu25": train it with recipe "cmu"'
        )
    if isinstance(module, MotionDEQ):
        return _in_millimetres(module, lambda positions: module(positions, SolverSettings())[0])
    return _in_millimetres(module, module)


def _in_millimetres(module: nn.Module, forward: Callable[[Tensor], Tensor]) -> Predict:
    """Predict windows in millimetres with a module in metres."""
    parameter = next(module.parameters())

    @torch.inference_mode()
    def predict(observed: np.ndarray) -> np.ndarray:
        positions = torch.from_numpy(observed / _MM_PER_M).to(parameter.device, parameter.dtype)
        return _MM_PER_M * forward(positions).double().cpu().numpy()

    return predict


def print_cmu(report: Mapping[str, Any], console: Console) -> None:
    """Print the means of all methods, then errors by action."""
    named = {_NAMES.get(name, name): result for name, result in report.items()}
    actions = list(next(iter(named.values()))['actions'])
    groups = {f'mean of all {len(actions)} actions': actions}
    if set(FIVE_ACTIONS) < set(actions):
        groups['mean of the five actions: ' + ', '.join(FIVE_ACTIONS)] = list(FIVE_ACTIONS)
    means = {**{ms: [ms] for ms in _MEAN6}, 'mean5': _MEAN5, 'mean6': _MEAN6}
    for title, chosen in groups.items():
        rows = {
            name: {
                head: mean_error([result['actions'][action] for action in chosen], horizons)
                for head, horizons in means.items()
            }
            for name, result in named.items()
        }
        print_table(rows, title, '[mm] after [ms]', console, form='.2f', mark_lowest=True)
    by_action = {
        name: {action: mean_error([row], _MEAN5) for action, row in result['actions'].items()}
        for name, result in named.items()
    }
    print_table(by_action, 'mean5 by action', '[mm]', console, form='.2f', mark_lowest=True)
    console.print(_NOTE)
