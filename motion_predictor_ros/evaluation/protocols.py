# SPDX-License-Identifier: Apache-2.0
"""How models are judged on motion capture: which windows, which frame, which mean.

`mocap`: world frame with the root, every window that starts 0.2 s after the one before, each
solved cold; mean over windows and joints.
"""

from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from motion_predictor_ros.errors import DataError
from motion_predictor_ros.evaluation.baselines import BASELINES
from motion_predictor_ros.evaluation.metrics import mean_joint_error, mpjpe_mm
from motion_predictor_ros.prediction.fixed_point import SolverSettings
from motion_predictor_ros.prediction.model_file import TrainedMotionDEQ
from motion_predictor_ros.training.recordings import Recordings
from motion_predictor_ros.training.windows import every_window

WINDOW_EVERY_S = 0.2

_CHUNK = 64


@torch.inference_mode()
def evaluate_mocap(
    recordings: Recordings,
    trained: TrainedMotionDEQ,
    *,
    progress: bool = False,
) -> dict[str, Any]:
    """Return errors [mm] by method and horizon, and how the solver fared.

    Raises:
        DataError: The recordings have other joints than the model, or are too short.
    """
    if recordings.joint_names != trained.joint_names:
        raise DataError(
            f'recordings have joints {recordings.joint_names}, the model {trained.joint_names}'
        )
    shape = trained.module.config
    windows = every_window(recordings, shape.past + shape.future, shape.period_s, WINDOW_EVERY_S)
    device = next(trained.module.parameters()).device
    errors: dict[str, list[Any]] = {name: [] for name in ('motion_deq', *BASELINES)}
    steps, residuals = [], []
    for chunk in tqdm(
        windows.split(_CHUNK), unit='batch', leave=False, disable=None if progress else True
    ):
        observed, truth = chunk[:, : shape.past], chunk[:, shape.past :].double().numpy()
        predicted, _, found = trained.module(observed.to(device), SolverSettings())
        guesses = {'motion_deq': predicted.double().cpu().numpy()}
        guesses |= {
            name: guess(observed.double().numpy(), shape.future)
            for name, guess in BASELINES.items()
        }
        for name, guess in guesses.items():
            errors[name].append(mean_joint_error(guess, truth))
        steps.append(found.steps.double().cpu().numpy())
        residuals.append(found.residual.double().cpu().numpy())
    horizons_s = shape.period_s * np.arange(1, shape.future + 1)
    report: dict[str, Any] = {
        name: {'mpjpe_mm': mpjpe_mm(np.concatenate(rows), horizons_s)}
        for name, rows in errors.items()
    }
    report['windows'] = len(windows)
    report['clips'] = len(recordings.clips)
    report['solver'] = {
        'steps_mean': float(np.concatenate(steps).mean()),
        'steps_p95': float(np.percentile(np.concatenate(steps), 95)),
        'residual_median': float(np.median(np.concatenate(residuals))),
    }
    return report
