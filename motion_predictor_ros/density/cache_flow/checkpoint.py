# SPDX-License-Identifier: Apache-2.0
"""Build a trained CacheFlow from its weight file, refusing whatever does not fit.

Stage: density.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from motion_predictor_ros.checkpoint import load_checkpoint
from motion_predictor_ros.config import from_mapping
from motion_predictor_ros.density.body_frame import BodyFrame, body_frame
from motion_predictor_ros.density.cache_flow.model import CacheFlow, CacheFlowConfig
from motion_predictor_ros.errors import CheckpointError, ConfigError
from motion_predictor_ros.resources import resolve_file

KIND = 'cache_flow'


@dataclass(frozen=True)
class TrainedCacheFlow:
    """A model ready to weigh futures.

    Attributes:
        name: The file's name and the first digits of its hash: what published messages quote.
        digest: Those digits; caches are bound to them.
    """

    name: str
    digest: str
    module: CacheFlow
    frame: BodyFrame
    joint_names: tuple[str, ...]
    training: Mapping[str, Any]


def without_velocity(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a stored shape without `velocity`, the choice of a network that older files name.

    Raises:
        CheckpointError: It names a network that is gone.
    """
    if config.get('velocity', 'mlp') != 'mlp':
        raise CheckpointError(
            f'the flow has network {config["velocity"]!r}; only "mlp" is left, train it again'
        )
    return {key: value for key, value in config.items() if key != 'velocity'}


def load_cache_flow(weights: str, device: torch.device) -> TrainedCacheFlow:
    """Load a shipped model by name, or a weight file by path.

    Raises:
        CheckpointError: The file is missing, damaged, or does not describe a CacheFlow.
    """
    try:
        path = resolve_file(weights, 'weights', '.safetensors')
    except ConfigError as error:
        raise CheckpointError(str(error)) from error
    checkpoint = load_checkpoint(path, KIND)
    header = checkpoint.header
    if not all(bool(torch.isfinite(tensor).all()) for tensor in checkpoint.tensors.values()):
        raise CheckpointError(f'{path} holds weights that are not finite')
    try:
        module = CacheFlow(from_mapping(CacheFlowConfig, without_velocity(header['config'])))
        own = {key: checkpoint.tensors[key] for key in module.state_dict()}
        module.load_state_dict(own)
        names = tuple(str(name) for name in header['joint_names'])
        frame = body_frame(module.config.frame, names)
    except (KeyError, TypeError, ConfigError, RuntimeError) as error:
        raise CheckpointError(f'{path} does not describe a CacheFlow: {error}') from error
    if len(names) != module.config.joints:
        raise CheckpointError(f'{path} names {names!r} for {module.config.joints} joints')
    if device.type == 'cuda':
        # float32 by default is rounded to 10 bits in recurrent layers and convolutions.
        torch.backends.cudnn.allow_tf32 = False
    return TrainedCacheFlow(
        name=f'{path.stem}@{checkpoint.digest}',
        digest=checkpoint.digest,
        module=module.to(device).eval().requires_grad_(False),
        frame=frame,
        joint_names=names,
        training=header.get('training', {}),
    )
