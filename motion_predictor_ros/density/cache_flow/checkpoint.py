# SPDX-License-Identifier: Apache-2.0
"""Load a trained CacheFlow from its weight file. Stage: density."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from motion_predictor_ros.checkpoint import load_model
from motion_predictor_ros.config import from_mapping
from motion_predictor_ros.density.body_frame import BodyFrame, body_frame
from motion_predictor_ros.density.cache_flow.model import CacheFlow, CacheFlowConfig
from motion_predictor_ros.errors import CheckpointError, ConfigError

KIND = 'cache_flow'


@dataclass(frozen=True)
class TrainedCacheFlow:
    """A model ready to evaluate futures.

    Attributes:
        name: Name of the file with its digest, as published messages quote it.
        digest: Caches belong to one digest.
    """

    name: str
    digest: str
    module: CacheFlow
    frame: BodyFrame
    joint_names: tuple[str, ...]
    training: Mapping[str, Any]


def load_cache_flow(weights: str, device: torch.device) -> TrainedCacheFlow:
    """Load a shipped model by name, or a weight file by path.

    Raises:
        CheckpointError: The file is missing, damaged, or does not describe a CacheFlow.
    """

    def build(config: Mapping[str, Any]) -> CacheFlow:
        return CacheFlow(from_mapping(CacheFlowConfig, config))

    model = load_model(weights, KIND, build, device)
    try:
        frame = body_frame(model.joint_names)
    except ConfigError as error:
        raise CheckpointError(f'{model.name}: {error}') from error
    if device.type == 'cuda':
        # float32 by default is rounded to 10 bits in recurrent layers and convolutions.
        torch.backends.cudnn.allow_tf32 = False
    names, training = model.joint_names, model.training
    return TrainedCacheFlow(model.name, model.digest, model.module, frame, names, training)
