# SPDX-License-Identifier: Apache-2.0
"""Small models and people for tests: quick to build, with weights large enough to matter."""

import dataclasses
from pathlib import Path

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from motion_predictor_ros.checkpoint import save_checkpoint
from motion_predictor_ros.prediction.motion_deq.model import MotionDEQ, MotionDEQConfig
from motion_predictor_ros.skeleton.layout import SkeletonLayout

TINY = MotionDEQConfig(joints=5, past=6, future=4, channels=8, patterns=8)


def motion_deq(config: MotionDEQConfig = TINY, seed: int = 0) -> MotionDEQ:
    """Build a model in the default dtype whose predictions are not constant."""
    torch.manual_seed(seed)
    module = MotionDEQ(config)
    with torch.no_grad():
        module.out.weight.mul_(30.0)
    return module


def people(count: int = 3, config: MotionDEQConfig = TINY, seed: int = 1) -> Tensor:
    """Draw people on random walks [batch, past, joint, xyz]."""
    random = np.random.default_rng(seed)
    pose = random.normal(scale=0.4, size=(count, 1, config.joints, 3))
    steps = random.normal(scale=0.03, size=(count, config.past, config.joints, 3))
    return torch.tensor(pose + steps.cumsum(1))


def rotation(seed: int = 2) -> Tensor:
    """Draw a rotation matrix."""
    return torch.tensor(Rotation.random(random_state=seed).as_matrix())


def residuals(config: MotionDEQConfig) -> dict[str, Tensor]:
    """Residuals of a weight file: 0.1 m at rest, 0.2 m at 2 m/s."""
    speeds = torch.tensor([[0.0], [2.0]]).expand(2, config.joints)
    variance = torch.tensor([0.01, 0.04])[:, None, None].expand(2, config.future, config.joints)
    return {'residual_speeds': speeds.float(), 'residual_variance': variance.float()}


def write_weights(
    path: Path,
    channels: int = 8,
    scale: float = 1.0,
    *,
    masked: bool = False,
    correction: bool = False,
) -> Path:
    """Write an untrained model of the common skeleton, as the node and the pipeline load it."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    config = MotionDEQConfig(channels=channels, patterns=8, masked=masked, correction=correction)
    module = motion_deq(config)
    torch.set_default_dtype(before)
    with torch.no_grad():
        module.out.weight.mul_(scale)
    header = {
        'kind': 'motion_deq',
        'config': dataclasses.asdict(config),
        'joint_names': list(SkeletonLayout.load('body18').joint_names),
        'training': {},
    }
    save_checkpoint(path, header, {**module.state_dict(), **residuals(config)})
    return path
