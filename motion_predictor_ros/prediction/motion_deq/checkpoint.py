# SPDX-License-Identifier: Apache-2.0
"""Build a trained MotionDEQ from its weight file, refusing whatever does not fit.

Stage: prediction.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from motion_predictor_ros.checkpoint import load_checkpoint
from motion_predictor_ros.config import from_mapping
from motion_predictor_ros.errors import CheckpointError, ConfigError
from motion_predictor_ros.prediction.motion_deq.model import MotionDEQ, MotionDEQConfig
from motion_predictor_ros.prediction.uncertainty import Residuals
from motion_predictor_ros.resources import resolve_file

KIND = 'motion_deq'


@dataclass(frozen=True)
class TrainedMotionDEQ:
    """A model ready to predict.

    Attributes:
        name: The file's name and the first digits of its hash: what published messages quote.
        residuals: What its predictions were off by on held-out subjects, if that was measured.
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
    try:
        path = resolve_file(weights, 'weights', '.safetensors')
    except ConfigError as error:
        raise CheckpointError(f'{error}; set parameter "prediction.weights"') from error
    checkpoint = load_checkpoint(path, KIND)
    header, tensors = checkpoint.header, dict(checkpoint.tensors)
    residuals = _residuals(path, tensors)
    module = _build(path, header, tensors).to(device).eval()
    names = header.get('joint_names')
    if not isinstance(names, list) or len(names) != module.config.joints:
        raise CheckpointError(f'{path} names {names!r} for {module.config.joints} joints')
    shape = (module.config.future, module.config.joints)
    if residuals is not None and residuals.variance.shape[1:] != shape:
        raise CheckpointError(
            f'{path}: residual_variance is of {residuals.variance.shape[1:]} horizons and joints, '
            f'the model of {shape}'
        )
    return TrainedMotionDEQ(
        name=f'{path.stem}@{checkpoint.digest}',
        module=module,
        joint_names=tuple(str(name) for name in names),
        residuals=residuals,
        training=header.get('training', {}),
    )


def _build(path: Path, header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> MotionDEQ:
    if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values()):
        raise CheckpointError(f'{path} holds weights that are not finite')
    if any(key.startswith('optimiser.') for key in tensors):
        raise CheckpointError(
            f'{path} is the state of a training, not a model: use best.safetensors beside it'
        )
    try:
        module = MotionDEQ(from_mapping(MotionDEQConfig, header['config'])).float()
        module.load_state_dict(tensors)
    except (KeyError, TypeError, ConfigError, RuntimeError) as error:
        raise CheckpointError(f'{path} does not describe a MotionDEQ: {error}') from error
    return module.requires_grad_(False)


def _residuals(path: Path, tensors: dict[str, Tensor]) -> Residuals | None:
    """Take the residuals out of the tensors."""
    speeds, variance = (tensors.pop(f'residual_{key}', None) for key in ('speeds', 'variance'))
    if speeds is None or variance is None:
        return None
    fits = speeds.ndim == 2 and variance.ndim == 3
    fits = fits and (len(variance), variance.shape[2]) == tuple(speeds.shape)
    if not fits or not bool((variance >= 0).all() and (speeds.diff(dim=0) >= 0).all()):
        raise CheckpointError(
            f'{path}: residual_variance must be >= 0 per speed, horizon and joint, and '
            'residual_speeds increase per joint'
        )
    return Residuals(speeds.double().numpy(), variance.double().numpy())
