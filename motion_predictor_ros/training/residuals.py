# SPDX-License-Identifier: Apache-2.0
"""Measure a trained model's residuals on held-out people, and store them with the weights."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float64

from motion_predictor_ros.checkpoint import load_checkpoint, save_checkpoint
from motion_predictor_ros.data.recordings import Recordings
from motion_predictor_ros.prediction.motion_deq.checkpoint import KIND, load_motion_deq
from motion_predictor_ros.prediction.motion_deq.model import MotionDEQ
from motion_predictor_ros.prediction.motion_deq.solver import SolverSettings
from motion_predictor_ros.prediction.uncertainty import Residuals, joint_speeds
from motion_predictor_ros.training.windows import every_window

GROUPS = 5
"""Number of speeds with a variance: the medians of equal groups of windows."""

_EVERY_S, _CHUNK = 0.2, 64


def keep_residuals(checkpoint: Path, held_out: Recordings, device: torch.device) -> Residuals:
    """Measure the residuals of a checkpoint on held-out recordings, and add them to it.

    Raises:
        CheckpointError: It is no MotionDEQ.
        DataError: The recordings have other joints, or no clip is long enough.
    """
    trained = load_motion_deq(str(checkpoint), device)
    held_out.check_joints(trained.joint_names)
    residuals = measure_residuals(trained.module, held_out)
    stored = load_checkpoint(checkpoint, KIND)
    tensors = {
        **stored.tensors,
        'residual_speeds': torch.from_numpy(residuals.speeds).float(),
        'residual_variance': torch.from_numpy(residuals.variance).float(),
    }
    save_checkpoint(checkpoint, stored.header, tensors)
    return residuals


@torch.inference_mode()
def measure_residuals(module: MotionDEQ, held_out: Recordings) -> Residuals:
    """Return the variance of held-out residuals by joint speed, every prediction solved cold."""
    shape = module.config
    device = next(module.parameters()).device
    windows = every_window(held_out, shape.past + shape.future, shape.period_s, _EVERY_S)
    squares = []
    for chunk in windows.split(_CHUNK):
        past, target = chunk.to(device).split([shape.past, shape.future], dim=1)
        predicted, _, _ = module(past, SolverSettings())
        squares.append((predicted - target).square().mean(3).double().cpu().numpy())
    speeds = joint_speeds(windows[:, : shape.past].double().numpy(), shape.period_s)
    return by_speed(speeds, np.concatenate(squares))


def by_speed(
    speeds: Float64[np.ndarray, 'batch joint'], squares: Float64[np.ndarray, 'batch horizon joint']
) -> Residuals:
    """Group the windows of each joint by its speed, as many in each group, and average.

    Args:
        squares: [m^2] mean over the coordinates of a joint.
    """
    groups = np.array_split(np.argsort(speeds, axis=0, kind='stable'), min(GROUPS, len(speeds)))
    joints = np.arange(speeds.shape[1])
    return Residuals(
        speeds=np.stack([np.median(speeds[group, joints], axis=0) for group in groups]),
        variance=np.stack([squares[group, :, joints].mean(axis=0).T for group in groups]),
    )
