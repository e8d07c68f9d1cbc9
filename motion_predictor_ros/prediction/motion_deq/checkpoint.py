# SPDX-License-Identifier: Apache-2.0
"""Load a trained MotionDEQ from its weight file. Stage: prediction."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from motion_predictor_ros.checkpoint import load_model
from motion_predictor_ros.config import from_mapping
from motion_predictor_ros.errors import CheckpointError
from motion_predictor_ros.prediction.motion_deq.model import MotionDEQ, MotionDEQConfig
from motion_predictor_ros.prediction.uncertainty import Residuals

KIND = 'motion_deq'


@dataclass(frozen=True)
class TrainedMotionDEQ:
    """A model ready to predict.

    Attributes:
        name: Name of the file with its digest, as published messages quote it.
        residuals: Errors on held-out subjects, if they were measured.
    """

    name: str
    module: MotionDEQ
    joint_names: tuple[str, ...]
    residuals: Residuals | None
    training: Mapping[str, Any]


def load_motion_deq(weights: str, device: torch.device) -> TrainedMotionDEQ:
    """Load a shipped model by name, or a weight file by path.

    Raises:
        CheckpointError: The file is missing, damaged, or does not describe a MotionDEQ.
    """

    def build(config: Mapping[str, Any]) -> MotionDEQ:
        return MotionDEQ(from_mapping(MotionDEQConfig, config)).float()

    model = load_model(weights, KIND, build, device)
    others = sorted(set(model.tensors) - {'residual_speeds', 'residual_variance'})
    if others:
        raise CheckpointError(
            f'{model.name} does not describe a MotionDEQ: it also holds {others}'
        )
    shape = model.module.config.future, model.module.config.joints
    residuals = _residuals(model.name, model.tensors, shape)
    return TrainedMotionDEQ(model.name, model.module, model.joint_names, residuals, model.training)


def _residuals(
    name: str, tensors: Mapping[str, Tensor], shape: tuple[int, int]
) -> Residuals | None:
    """Read the residuals, if there are any, of a model of this many horizons and joints."""
    speeds, variance = (tensors.get(f'residual_{key}') for key in ('speeds', 'variance'))
    if speeds is None or variance is None:
        return None
    fits = speeds.ndim == 2 and tuple(variance.shape) == (len(speeds), *shape)
    fits = fits and speeds.shape[1] == shape[1]
    if not fits or not bool((variance >= 0).all() and (speeds.diff(dim=0) >= 0).all()):
        raise CheckpointError(
            f'{name}: residual_variance must be >= 0 per speed, horizon and joint {shape}, and '
            'residual_speeds increase per joint'
        )
    return Residuals(speeds.double().numpy(), variance.double().numpy())
