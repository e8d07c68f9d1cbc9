# SPDX-License-Identifier: Apache-2.0
"""The protocol on motion capture: windows, frame, mean.

`mocap`: world frame with the root, every window that starts 0.2 s after the one before, each
solved cold; mean over windows and joints.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float64
from rich.console import Console
from tqdm import tqdm

from motion_predictor_ros.data.recordings import Recordings
from motion_predictor_ros.evaluation.tables import METHODS, by_group, print_errors, print_groups
from motion_predictor_ros.prediction.motion_deq.checkpoint import TrainedMotionDEQ
from motion_predictor_ros.prediction.motion_deq.solver import FixedPoint, SolverSettings
from motion_predictor_ros.scoring.metrics import BASELINES, Windows, mean_joint_error, mpjpe_mm
from motion_predictor_ros.training.windows import windows_with_clips

WINDOW_EVERY_S = 0.2

_CHUNK = 64


@torch.inference_mode()
def predict_windows(
    trained: TrainedMotionDEQ,
    observed: Windows,
    visible: Bool[np.ndarray, 'batch joint'] | None = None,
) -> tuple[Float64[np.ndarray, 'batch horizon joint xyz=3'], list[FixedPoint]]:
    """Predict windows [m], each solved cold; also return how they were solved.

    Args:
        visible: Joints that are observed; None: all.
    """
    device = next(trained.module.parameters()).device
    origin = observed[:, -1:, :1]
    past = torch.from_numpy(observed - origin).float().to(device).split(_CHUNK)
    masks = (
        [None] * len(past)
        if visible is None
        else torch.from_numpy(visible).to(device).split(_CHUNK)
    )
    chunks = list(zip(past, masks, strict=True))
    predicted, solutions = [], []
    for chunk, mask in tqdm(chunks, unit='batch', leave=False, disable=None):
        future, _, solution = trained.module(chunk, SolverSettings(), visible=mask)
        predicted.append(future)
        solutions.append(solution)
    return torch.cat(predicted).double().cpu().numpy() + origin, solutions


def evaluate_mocap(recordings: Recordings, trained: TrainedMotionDEQ) -> dict[str, Any]:
    """Return errors [mm] by method and horizon, and statistics of the solver.

    Raises:
        DataError: The recordings have other joints than the model, or are too short.
    """
    recordings.check_joints(trained.joint_names)
    shape = trained.module.config
    windows, clips = windows_with_clips(
        recordings, shape.past + shape.future, shape.period_s, WINDOW_EVERY_S
    )
    observed, truth = np.split(windows.double().numpy(), [shape.past], axis=1)
    predicted, solutions = predict_windows(trained, observed)
    horizons_s = shape.period_s * np.arange(1, shape.future + 1)
    predictions = {'motion_deq': predicted}
    predictions |= {name: predict(observed, shape.future) for name, predict in BASELINES.items()}
    errors = {name: mean_joint_error(values, truth) for name, values in predictions.items()}

    def of_cases(chosen: Bool[np.ndarray, ' case'] | slice) -> dict[str, Any]:
        return {
            name: {'mpjpe_mm': mpjpe_mm(values[chosen], horizons_s)}
            for name, values in errors.items()
        }

    report = of_cases(slice(None)) | by_group(clips, of_cases)
    report['windows'], report['clips'] = len(windows), len(recordings.clips)
    report['solver'] = _solver(solutions)
    return report


def print_mocap(name: str, report: Mapping[str, Any], console: Console) -> None:
    """Print the errors of model `name` by method, by kind and by subject, the lowest first.

    The last column is the error at the last horizon relative to the better baseline.
    """

    def error(method: str, horizon: str) -> Callable[[Mapping[str, Any]], float]:
        return lambda figures: float(figures[method]['mpjpe_mm'][horizon])

    def relative(figures: Mapping[str, Any]) -> float:
        baselines = (figures[name]['mpjpe_mm'][last] for name in BASELINES)
        return float(figures['motion_deq']['mpjpe_mm'][last] / min(baselines))

    title = f'{name}, {report["clips"]} clips, {report["windows"]} windows'
    print_errors({method: report[method]['mpjpe_mm'] for method in METHODS}, title, console)
    horizons = list(report['motion_deq']['mpjpe_mm'])
    last = horizons[-1]
    columns = {f'{ms} ms': error('motion_deq', ms) for ms in horizons}
    columns['of the better baseline'] = relative
    for key, title in (('by_kind', 'kind of motion'), ('by_subject', 'subject')):
        print_groups(report[key], columns, title, console)


def _solver(solutions: list[FixedPoint]) -> dict[str, float]:
    steps = torch.cat([solution.steps for solution in solutions]).double().cpu().numpy()
    residuals = torch.cat([solution.residual for solution in solutions]).double().cpu().numpy()
    return {
        'steps_mean': float(steps.mean()),
        'steps_p95': float(np.percentile(steps, 95)),
        'residual_median': float(np.median(residuals)),
    }
