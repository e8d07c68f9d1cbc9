# SPDX-License-Identifier: Apache-2.0
"""How models are judged on motion capture: which windows, which frame, which mean.

`mocap`: world frame with the root, every window that starts 0.2 s after the one before, each
solved cold; mean over windows and joints.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor
from tqdm import tqdm

from motion_predictor_ros.data.recordings import Recordings
from motion_predictor_ros.errors import DataError
from motion_predictor_ros.evaluation.archive import Figures, add_horizons, name_cases
from motion_predictor_ros.prediction.motion_deq.checkpoint import TrainedMotionDEQ
from motion_predictor_ros.prediction.motion_deq.model import MotionDEQ
from motion_predictor_ros.prediction.motion_deq.solver import FixedPoint, SolverSettings
from motion_predictor_ros.scoring.baselines import BASELINES
from motion_predictor_ros.scoring.metrics import mean_joint_error, mpjpe_mm
from motion_predictor_ros.training.windows import every_window

WINDOW_EVERY_S = 0.2

_CHUNK = 64


@torch.inference_mode()
def evaluate_mocap(
    recordings: Recordings,
    trained: TrainedMotionDEQ,
    *,
    progress: bool = False,
    figures: Figures | None = None,
) -> dict[str, Any]:
    """Return errors [mm] by method and horizon, and how the solver fared.

    Args:
        figures: Gets the errors of every window.

    Raises:
        DataError: The recordings have other joints than the model, or are too short.
    """
    if recordings.joint_names != trained.joint_names:
        raise DataError(
            f'recordings have joints {recordings.joint_names}, the model {trained.joint_names}'
        )
    shape = trained.module.config
    windows = every_window(recordings, shape.past + shape.future, shape.period_s, WINDOW_EVERY_S)
    chunks = windows.split(_CHUNK)
    solved = [
        _solve(chunk, trained.module)
        for chunk in tqdm(chunks, unit='batch', leave=False, disable=None if progress else True)
    ]
    horizons_s = shape.period_s * np.arange(1, shape.future + 1)
    methods = ('motion_deq', *BASELINES)
    errors = {name: np.concatenate([each[name] for each, _ in solved]) for name in methods}
    report: dict[str, Any] = {
        name: {'mpjpe_mm': mpjpe_mm(own, horizons_s)} for name, own in errors.items()
    }
    if figures is not None:
        cases = name_cases(windows.numpy())
        for name, own in errors.items():
            add_horizons(figures, name, cases, 1000.0 * own, horizons_s)
    report['windows'], report['clips'] = len(windows), len(recordings.clips)
    report['solver'] = _solver([found for _, found in solved])
    return report


def _solver(found: list[FixedPoint]) -> dict[str, float]:
    steps = torch.cat([each.steps for each in found]).double().cpu().numpy()
    residuals = torch.cat([each.residual for each in found]).double().cpu().numpy()
    return {
        'steps_mean': float(steps.mean()),
        'steps_p95': float(np.percentile(steps, 95)),
        'residual_median': float(np.median(residuals)),
    }


def _solve(
    windows: Float[Tensor, 'batch time joint xyz=3'], model: MotionDEQ
) -> tuple[dict[str, Float64[np.ndarray, 'batch horizon']], FixedPoint]:
    """Return errors [m] by method, and how MotionDEQ was solved."""
    past, future = model.config.past, model.config.future
    observed = windows[:, :past].double().numpy()
    truth = windows[:, past:].double().numpy()
    device = next(model.parameters()).device
    predicted, _, found = model(windows[:, :past].to(device), SolverSettings())
    guesses = {'motion_deq': predicted.double().cpu().numpy()}
    guesses |= {name: guess(observed, future) for name, guess in BASELINES.items()}
    return {name: mean_joint_error(guess, truth) for name, guess in guesses.items()}, found
