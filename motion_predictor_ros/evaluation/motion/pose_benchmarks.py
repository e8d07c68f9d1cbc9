# SPDX-License-Identifier: Apache-2.0
"""The literature's protocols for short motions: CMU, Human3.6M and 3DPW.

Every window of the test clips, one frame apart; some joints are fed and predicted, the error is
the mean over all: joints that coincide with a fed one take its prediction, the rest count as true.
Mean over the windows of an action, then over actions. Millimetres.

`cmu`   10 frames in, 25 out, 25 of 38 joints. Horizons and millimetres are nominal: `data/cmu.py`.
`h36m`  Subject S5, both takes of 15 actions, 22 of 32 joints, 25 fps. Some papers score 8 or 256
        windows of an action, drawn at random; their figures do not compare.
`3dpw`  The test folder, all people in it, relative to the pelvis, 23 of 24 joints, one mean over
        all windows. Papers such as PGBIG label frame k of the future as 40 k ms, although it is
        33.3 k: their "1000 ms" is 833 ms. Papers that compute joints from angles do not compare.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from rich.console import Console
from torch import Tensor, nn
from tqdm import tqdm

from motion_predictor_ros.data import cmu, h36m, smpl, three_dpw
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

FIVE_ACTIONS = ('basketball', 'jumping', 'running', 'soccer', 'walking')
"""Actions of CMU whose training and test clips are all available."""

_CHUNK = 64
_MM_PER_M = 1000.0
_NAMES = {**METHODS, 'eqmotion_style': 'EqMotion style'}


@dataclass(frozen=True)
class Protocol:
    """Test clips, which joints are predicted, and which of them count when.

    Attributes:
        name: Name of the data in messages.
        joint_names: All joints, in the order of the data.
        fed_names: Joints that models observe and predict, in the order of `layout`.
        twins: Joints that take the prediction of a fed one.
        horizon_frames: Predicted frame by label [ms], ascending.
        lengths: Observed and predicted frames.
        fixed_lengths: Whether a model must have these lengths; else the model's are used.
        recipes: Recipes that train for it, as named in messages.
        note: A note printed with the figures.
    """

    name: str
    joint_names: tuple[str, ...]
    fed_names: tuple[str, ...]
    twins: Mapping[str, str]
    horizon_frames: Mapping[int, int]
    lengths: tuple[int, int]
    fixed_lengths: bool
    layout: str
    recipes: str
    load: Callable[[Path], Clips]
    note: str

    @property
    def fed(self) -> list[int]:
        """Places of the fed joints among all."""
        return [self.joint_names.index(name) for name in self.fed_names]

    def horizons(self, future: int) -> dict[str, int]:
        """Return label and frame of the horizons within `future` predicted frames."""
        return {str(ms): frame for ms, frame in self.horizon_frames.items() if frame < future}

    def all_joints(
        self,
        predicted: Float[np.ndarray, 'batch horizon some xyz=3'],
        truth: Float[np.ndarray, 'batch horizon joint xyz=3'],
    ) -> Float[np.ndarray, 'batch horizon joint xyz=3']:
        """Put the predicted joints among all others: copies take their twin, the rest is true."""
        whole = truth.copy()
        whole[:, :, self.fed] = predicted
        copies = [self.joint_names.index(name) for name in self.twins]
        originals = [self.joint_names.index(name) for name in self.twins.values()]
        whole[:, :, copies] = whole[:, :, originals]
        return whole


def clips_by_action(pieces: Iterable[Piece]) -> Clips:
    """Return the test clips by action."""
    clips: dict[str, list[np.ndarray]] = {}
    for piece in pieces:
        if piece.split == 'test':
            clips.setdefault(piece.action, []).append(piece.positions)
    return clips


def _h36m_clips(folder: Path) -> Clips:
    subjects = [subject for subject, split in h36m.SPLIT_OF.items() if split == 'test']
    return clips_by_action(h36m.load_h36m_sequences(folder, subjects))


def _3dpw_clips(folder: Path) -> Clips:
    pieces = three_dpw.load_3dpw_sequences(folder, ('test',))
    return {'all sequences': [_MM_PER_M * piece.positions for piece in pieces]}


PROTOCOLS = {
    'cmu': Protocol(
        name='the CMU benchmark',
        joint_names=cmu.JOINT_NAMES,
        fed_names=cmu.FED_NAMES,
        twins=cmu.TWINS,
        horizon_frames={80: 1, 160: 3, 320: 7, 400: 9, 560: 13, 1000: 24},
        lengths=(10, 25),
        fixed_lengths=True,
        layout='cmu25',
        recipes='"cmu"',
        load=lambda path: clips_by_action(cmu.load_cmu_sequences(path)),
        note='Units are nominal, as in the literature: "1000 ms" is 417 ms, "1 mm" 0.81 mm.',
    ),
    'h36m': Protocol(
        name='Human3.6M',
        joint_names=h36m.JOINT_NAMES,
        fed_names=h36m.FED_NAMES,
        twins=h36m.TWINS,
        horizon_frames={80: 1, 160: 3, 320: 7, 400: 9, 560: 13, 1000: 24},
        lengths=(25, 25),
        fixed_lengths=False,
        layout='h36m22',
        recipes='"h36m_short" or "h36m_long"',
        load=_h36m_clips,
        note='Subject S5, every window, mean over 32 joints in the frame of the hips.',
    ),
    '3dpw': Protocol(
        name='3DPW',
        joint_names=smpl.JOINT_NAMES,
        fed_names=three_dpw.FED_NAMES,
        twins={},
        horizon_frames={200: 4, 400: 9, 600: 14, 800: 19, 1000: 24},
        lengths=(10, 30),
        fixed_lengths=False,
        layout='3dpw23',
        recipes='"3dpw"',
        load=_3dpw_clips,
        note='Labels are nominal, as in the literature: "1000 ms" is 833 ms.',
    ),
}


def evaluate_benchmark(
    protocol: Protocol,
    clips: Clips,
    models: Mapping[str, TrainedMotionDEQ | TrainedUnrolled],
) -> dict[str, Any]:
    """Return the errors [mm] of the models and the baselines: by action, and their means.

    Means are `mean`, by horizon; on CMU `mean5`, over all horizons but 560 ms, and
    `five_actions`, over these actions where the test clips have them all.

    Raises:
        CheckpointError: A model was made for other joints or lengths.
        DataError: No test clip is as long as a window.
    """
    lengths = protocol.lengths
    predictors = {name: model_predictor(model, protocol) for name, model in models.items()}
    for model in models.values():
        lengths = (model.module.config.past, model.module.config.future)
    predictors |= baseline_predictors(lengths[1])
    errors = evaluate_poses(clips, protocol, lengths, predictors)
    if protocol.layout == 'cmu25':
        return {name: _cmu_summary(actions) for name, actions in errors.items()}
    return {
        name: {
            'actions': actions,
            'mean': {
                ms: mean_error(actions.values(), [ms]) for ms in protocol.horizons(lengths[1])
            },
        }
        for name, actions in errors.items()
    }


_MEAN6 = tuple(map(str, PROTOCOLS['cmu'].horizon_frames))
_MEAN5 = tuple(ms for ms in _MEAN6 if ms != '560')


def _cmu_summary(actions: Errors) -> dict[str, Any]:
    report: dict[str, Any] = {'actions': actions, 'mean5': mean_error(actions.values(), _MEAN5)}
    if set(FIVE_ACTIONS) <= set(actions):
        five = [actions[name] for name in FIVE_ACTIONS]
        means = {'mean5': mean_error(five, _MEAN5), 'mean6': mean_error(five, _MEAN6)}
        report['five_actions'] = means
    return report


def evaluate_poses(
    clips: Clips,
    protocol: Protocol,
    lengths: tuple[int, int],
    predictors: Mapping[str, Predict],
) -> dict[str, Errors]:
    """Return the errors of every predictor.

    Args:
        lengths: Observed and predicted frames of a window.

    Raises:
        DataError: No test clip is as long as a window.
    """
    windows = _every_window(clips, protocol, sum(lengths))
    report: dict[str, Errors] = {name: {} for name in predictors}
    tasks = [(name, action) for name in predictors for action in windows]
    bar = tqdm(tasks, unit='action', leave=False, disable=None)
    for name, action in bar:
        report[name][action] = _errors(windows[action], protocol, lengths, predictors[name])
    return report


def _every_window(
    clips: Clips, protocol: Protocol, length: int
) -> dict[str, list[Float[np.ndarray, '_ time joint xyz=3']]]:
    """Return views of all windows of each clip that is long enough, by action."""
    windows: dict[str, list[np.ndarray]] = {}
    for action, clips_of_action in sorted(clips.items()):
        for clip in clips_of_action:
            if len(clip) >= length:
                view = np.lib.stride_tricks.sliding_window_view(clip, length, axis=0)
                windows.setdefault(action, []).append(view.transpose(0, 3, 1, 2))
    if not windows:
        raise DataError(
            f'no test clip of {protocol.name} is as long as a window ({length} frames)'
        )
    return windows


def _errors(
    windows: Sequence[Float[np.ndarray, '_ time joint xyz=3']],
    protocol: Protocol,
    lengths: tuple[int, int],
    predict: Predict,
) -> dict[str, float]:
    """Return the mean error over all windows of an action, by horizon."""
    past, future = lengths
    errors = []
    for view in windows:
        for first in range(0, len(view), _CHUNK):
            chunk = view[first : first + _CHUNK].astype(np.float64)
            predicted, truth = predict(chunk[:, :past, protocol.fed]), chunk[:, past:]
            assert predicted.shape == (len(chunk), future, len(protocol.fed), 3)
            errors.append(mean_joint_error(protocol.all_joints(predicted, truth), truth))
    by_frame = np.concatenate(errors).mean(0)
    return {ms: float(by_frame[frame]) for ms, frame in protocol.horizons(future).items()}


def mean_error(rows: Iterable[Mapping[str, float]], horizons: Sequence[str]) -> float:
    """Return the mean over actions and horizons."""
    return float(np.mean([[row[ms] for ms in horizons] for row in rows]))


def baseline_predictors(future: int) -> dict[str, Predict]:
    """Return the baselines."""
    return {name: partial(baseline, future=future) for name, baseline in BASELINES.items()}


def model_predictor(trained: TrainedMotionDEQ | TrainedUnrolled, protocol: Protocol) -> Predict:
    """Let a model predict windows of a benchmark; MotionDEQ is solved cold.

    Raises:
        CheckpointError: The model was made for other joints or other lengths.
    """
    shape = trained.module.config
    wrong_lengths = protocol.fixed_lengths and (shape.past, shape.future) != protocol.lengths
    if (
        trained.joint_names != protocol.fed_names
        or wrong_lengths
        or not protocol.horizons(shape.future)
    ):
        past, future = protocol.lengths
        wanted = f'{future} from {past} of ' if protocol.fixed_lengths else ''
        raise CheckpointError(
            f'{trained.name} predicts {shape.future} frames from {shape.past} of '
            f'{shape.joints} joints {trained.joint_names}; {protocol.name} needs {wanted}'
            f'layout "{protocol.layout}": train it with recipe {protocol.recipes}'
        )
    module = trained.module
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


def print_benchmark(protocol: Protocol, report: Mapping[str, Any], console: Console) -> None:
    """Print the means of all methods, then errors by action."""
    named = {_NAMES.get(name, name): result for name, result in report.items()}
    first, result = next(iter(named.items()))
    actions, corner = list(result['actions']), '[mm] after [ms]'
    if protocol.layout == 'cmu25':
        _print_cmu(named, actions, console)
    else:
        rows = {name: result['mean'] for name, result in named.items()}
        title = f'{protocol.name}, mean over actions'
        print_table(rows, title, corner, console, form='.2f', mark_lowest=True)
        if len(actions) > 1:
            print_table(result['actions'], f'{first} by action', corner, console, form='.2f')
    console.print(protocol.note)


def _print_cmu(named: Mapping[str, Any], actions: list[str], console: Console) -> None:
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
