# SPDX-License-Identifier: Apache-2.0
"""The literature's protocol for short motions, common to CMU, Human3.6M and 3DPW.

Every window of the test clips, one frame apart; some joints are fed and predicted, the error is
the mean over all: joints that coincide with a fed one take its prediction, the rest count as true.
Mean over the windows of an action, then over actions. Millimetres.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from tqdm import tqdm

from motion_predictor_ros.errors import CheckpointError, DataError
from motion_predictor_ros.evaluation.archive import Figures, name_cases
from motion_predictor_ros.evaluation.tables import METHODS
from motion_predictor_ros.prediction.motion_deq.checkpoint import TrainedMotionDEQ
from motion_predictor_ros.prediction.motion_deq.solver import SolverSettings
from motion_predictor_ros.scoring.baselines import BASELINES
from motion_predictor_ros.scoring.metrics import mean_joint_error
from motion_predictor_ros.training.baselines.unrolled import TrainedUnrolled

Predict = Callable[
    [Float[np.ndarray, 'batch time joint xyz=3']],
    Float[np.ndarray, 'batch horizon joint xyz=3'],
]
"""From observed to predicted frames of the fed joints, both in millimetres."""

Clips = Mapping[str, Sequence[Float[np.ndarray, '_ joint xyz=3']]]
"""Test clips [mm] with all joints, by action; lengths differ."""

Errors = dict[str, dict[str, float]]
"""Mean error [mm] by action and horizon."""

_CHUNK = 64
_MM_PER_M = 1000.0
_NAMES = {**METHODS, 'eqmotion_style': 'EqMotion style'}


@dataclass(frozen=True)
class Protocol:
    """Which joints are predicted, and which of them count when.

    Attributes:
        name: Name of the data in messages.
        joint_names: All joints, in the order of the data.
        fed_names: Joints that models observe and predict, in the order of `layout`.
        twins: Joints that take the prediction of a fed one.
        horizon_frames: Predicted frame by label [ms], ascending.
        recipes: Recipes that train for it, as named in messages.
    """

    name: str
    joint_names: tuple[str, ...]
    fed_names: tuple[str, ...]
    twins: Mapping[str, str]
    horizon_frames: Mapping[int, int]
    layout: str
    recipes: str

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


def evaluate_poses(
    clips: Clips,
    protocol: Protocol,
    lengths: tuple[int, int],
    models: Mapping[str, Predict],
    *,
    progress: bool = False,
    figures: Figures | None = None,
) -> dict[str, Errors]:
    """Return the errors of every model.

    Args:
        lengths: Observed and predicted frames of a window.
        figures: Gets the errors of every window.

    Raises:
        DataError: No test clip is as long as a window.
    """
    windows = _every_window(clips, protocol, sum(lengths))
    kept = Figures() if figures is None else figures
    cases = {
        action: [
            f'{action} {name}'
            for name in name_cases(w for error in clips_of_action for w in error)
        ]
        for action, clips_of_action in windows.items()
    }
    total = len(models) * sum(
        len(item) for clips_of_action in windows.values() for item in clips_of_action
    )
    quiet = None if progress else True
    with tqdm(total=total, unit='window', leave=False, disable=quiet) as bar:
        errors_by_model: dict[str, Errors] = {name: {} for name in models}
        for name, predict in models.items():
            for action, clips_of_action in windows.items():
                errors = _action_errors(clips_of_action, protocol, lengths, predict, bar)
                errors_by_model[name][action] = {
                    ms: float(error.mean()) for ms, error in errors.items()
                }
                for ms, one_item in errors.items():
                    kept.add(name, ms, 'mm', cases[action], one_item)
    return errors_by_model


def _every_window(
    clips: Clips, protocol: Protocol, length: int
) -> dict[str, list[Float[np.ndarray, 'batch time joint xyz=3']]]:
    """Return the windows of each clip that is long enough, by action."""
    windows = {
        action: [_windows(clip, length) for clip in whole]
        for action, clips_of_action in sorted(clips.items())
        if (whole := [clip for clip in clips_of_action if len(clip) >= length])
    }
    if not windows:
        raise DataError(
            f'no test clip of {protocol.name} is as long as a window ({length} frames)'
        )
    return windows


def _windows(
    clip: Float[np.ndarray, 'sample joint xyz=3'], length: int
) -> Float[np.ndarray, 'batch time joint xyz=3']:
    """Return every window of a clip; a view, nothing is copied."""
    view = np.lib.stride_tricks.sliding_window_view(clip, length, axis=0)
    return view.transpose(0, 3, 1, 2)


def _action_errors(
    windows: Sequence[Float[np.ndarray, '_ time joint xyz=3']],
    protocol: Protocol,
    lengths: tuple[int, int],
    predict: Predict,
    bar: 'tqdm[Any]',
) -> dict[str, Float[np.ndarray, ' window']]:
    past, future = lengths
    errors = []
    for view in (
        action_windows[at : at + _CHUNK]
        for action_windows in windows
        for at in range(0, len(action_windows), _CHUNK)
    ):
        chunk = view.astype(np.float64)
        predicted, truth = predict(chunk[:, :past, protocol.fed]), chunk[:, past:]
        assert predicted.shape == (len(chunk), future, len(protocol.fed), 3)
        errors.append(mean_joint_error(protocol.all_joints(predicted, truth), truth))
        bar.update(len(chunk))
    every = np.concatenate(errors)
    return {ms: every[:, frame] for ms, frame in protocol.horizons(future).items()}


def mean_error(rows: Iterable[Mapping[str, float]], horizons: Sequence[str]) -> float:
    """Return the mean over actions and horizons."""
    return float(np.mean([[row[ms] for ms in horizons] for row in rows]))


def baseline_predictors(future: int) -> dict[str, Predict]:
    """Return the baselines."""
    return {
        'repeat_last': lambda observed: BASELINES['repeat_last'](observed, future),
        'constant_velocity': lambda observed: BASELINES['constant_velocity'](observed, future),
    }


def motion_deq_predictor(
    trained: TrainedMotionDEQ, protocol: Protocol, lengths: tuple[int, int] | None = None
) -> Predict:
    """Let a trained model predict windows of a benchmark, each solved cold.

    Args:
        lengths: Observed and predicted frames that the protocol insists on.

    Raises:
        CheckpointError: The model was made for other joints or other lengths.
    """
    _check_fits(trained, protocol, lengths)
    return _in_millimetres(
        trained.module, lambda positions: trained.module(positions, SolverSettings())[0]
    )


def unrolled_predictor(
    trained: TrainedUnrolled, protocol: Protocol, lengths: tuple[int, int] | None = None
) -> Predict:
    """Let a trained baseline predict windows of a benchmark; as `motion_deq_predictor`."""
    _check_fits(trained, protocol, lengths)
    return _in_millimetres(trained.module, trained.module)


def _check_fits(
    trained: TrainedMotionDEQ | TrainedUnrolled,
    protocol: Protocol,
    lengths: tuple[int, int] | None,
) -> None:
    shape = trained.module.config
    model_lengths = (shape.past, shape.future)
    reaches = bool(protocol.horizons(shape.future))
    if (
        trained.joint_names != protocol.fed_names
        or model_lengths != (lengths or model_lengths)
        or not reaches
    ):
        wanted = f'{lengths[1]} from {lengths[0]} of ' if lengths else ''
        raise CheckpointError(
            f'{trained.name} predicts {shape.future} frames from {shape.past} of '
            f'{shape.joints} joints {trained.joint_names}; {protocol.name} needs {wanted}'
            f'layout "{protocol.layout}": train it with recipe {protocol.recipes}'
        )


def _in_millimetres(module: nn.Module, forward: Callable[[Tensor], Tensor]) -> Predict:
    """Predict windows in millimetres with a module in metres."""
    parameter = next(module.parameters())

    @torch.inference_mode()
    def predict(observed: np.ndarray) -> np.ndarray:
        positions = torch.from_numpy(observed / _MM_PER_M).to(parameter.device, parameter.dtype)
        return _MM_PER_M * forward(positions).double().cpu().numpy()

    return predict


def print_rows(
    rows: Mapping[str, Mapping[str, float]],
    title: str,
    corner: str,
    console: Console,
    *,
    compare: bool = True,
) -> None:
    """Print one line per model, the best of each column in bold if they compare."""
    heads = list(next(iter(rows.values())))
    table = Table(title=title, title_justify='left', box=None, padding=(0, 1, 0, 0))
    table.add_column(corner, no_wrap=True)
    for head in heads:
        table.add_column(head, justify='right')
    best = {head: min(row[head] for row in rows.values()) if compare else None for head in heads}
    for name, row in rows.items():
        cells = [
            f'[bold]{row[head]:.2f}[/]' if row[head] == best[head] else f'{row[head]:.2f}'
            for head in heads
        ]
        table.add_row(_NAMES.get(name, name), *cells)
    console.print(table)
    console.print()
