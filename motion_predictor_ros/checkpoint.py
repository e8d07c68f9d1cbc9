# SPDX-License-Identifier: Apache-2.0
"""Weights as safetensors with a JSON header; nothing is ever unpickled.

The header holds the kind of file (`kind`, `format`), the module's configuration (`config`), its
joints (`joint_names`) and its training (`training`).
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from motion_predictor_ros.errors import CheckpointError, ConfigError
from motion_predictor_ros.resources import resolve_file

FORMAT = 1
"""Version of the header's layout; files of another version are refused."""

_KEY = 'motion_predictor_ros'

ModuleT = TypeVar('ModuleT', bound=nn.Module)


@dataclass(frozen=True)
class Checkpoint:
    """One weight file in memory.

    Attributes:
        digest: First 12 hex digits of the file's SHA-256; binds caches and calibrations to it.
    """

    header: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    digest: str


def save_checkpoint(path: Path, header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write atomically, so that an interrupted run leaves the previous file whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix('.partial')
    document = json.dumps({'format': FORMAT, **header}, sort_keys=True)
    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    # `save_file` of safetensors would make it readable by the owner alone.
    partial.write_bytes(save(stored, metadata={_KEY: document}))
    os.replace(partial, path)


def load_checkpoint(path: Path, kind: str) -> Checkpoint:
    """Read a weight file of the given kind.

    Raises:
        CheckpointError: The file is missing, damaged, of another format or another kind.
    """
    if not path.is_file():
        raise CheckpointError(f'no weight file at {path}; set parameter "prediction.weights"')
    try:
        with safe_open(path, framework='pt') as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f'{path} is damaged or no safetensors file: {error}') from error
    header = _header(path, metadata)
    if header.get('kind') != kind:
        raise CheckpointError(f'{path} holds {header.get("kind")!r}, expected {kind!r}')
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    return Checkpoint(header, tensors, digest)


@dataclass(frozen=True)
class Model(Generic[ModuleT]):
    """A module with its trained weights, ready for inference.

    Attributes:
        name: Name of the file with the digest, as published messages quote it.
        training: Training entry of the header.
        tensors: Tensors of the file that are not the module's.
    """

    name: str
    digest: str
    module: ModuleT
    joint_names: tuple[str, ...]
    training: Mapping[str, Any]
    tensors: Mapping[str, Tensor]


def load_model(
    weights: str, kind: str, build: Callable[[Mapping[str, Any]], ModuleT], device: torch.device
) -> Model[ModuleT]:
    """Rebuild a module from a shipped file by name, or from a file by path.

    Args:
        kind: Kind of the file.
        build: Returns the untrained module of a stored configuration; has `config.joints`.

    Raises:
        CheckpointError: The file is missing, damaged, or does not describe such a module.
    """
    try:
        path = resolve_file(weights, 'weights', '.safetensors')
    except ConfigError as error:
        raise CheckpointError(f'{error}; see parameters "*.weights"') from error
    checkpoint = load_checkpoint(path, kind)
    header, tensors = checkpoint.header, dict(checkpoint.tensors)
    if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values()):
        raise CheckpointError(f'{path} holds weights that are not finite')
    if any(key.startswith('optimiser.') for key in tensors):
        raise CheckpointError(
            f'{path} is the state of a training, not a model: use best.safetensors beside it'
        )
    try:
        module = build(header['config'])
        module.load_state_dict({key: tensors.pop(key) for key in module.state_dict()})
        names = tuple(str(name) for name in header['joint_names'])
    except (KeyError, TypeError, ConfigError, RuntimeError) as error:
        raise CheckpointError(f'{path} does not describe a {kind}: {error}') from error
    config: Any = module.config
    if len(names) != config.joints:
        raise CheckpointError(f'{path} names {names} for {config.joints} joints')
    return Model(
        name=f'{path.stem}@{checkpoint.digest}',
        digest=checkpoint.digest,
        module=module.to(device).eval().requires_grad_(False),
        joint_names=names,
        training=header.get('training', {}),
        tensors=tensors,
    )


def _header(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    if _KEY not in metadata:
        raise CheckpointError(f'{path} was not written by {_KEY}: it has no {_KEY!r} header')
    try:
        header = json.loads(metadata[_KEY])
    except json.JSONDecodeError as error:
        raise CheckpointError(f'{path} has a damaged header: {error}') from error
    if not isinstance(header, dict) or header.get('format') != FORMAT:
        version = header.get('format') if isinstance(header, dict) else header
        raise CheckpointError(f'{path} has format {version!r}, this version reads {FORMAT}')
    return header


def choose_device(name: str) -> torch.device:
    """Turn 'auto', 'cpu' or 'cuda:N' into a device that is there.

    Raises:
        ConfigError: There is no such device.
    """
    if name == 'auto':
        return torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"device must be 'auto', 'cpu' or 'cuda:N', got {name!r}") from error
    if device.type not in ('cpu', 'cuda'):
        raise ConfigError(f"device must be 'auto', 'cpu' or 'cuda:N', got {name!r}")
    if device.type == 'cuda' and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f'device {name!r} is not there: {torch.cuda.device_count()} CUDA devices are visible; '
            "use 'auto' or 'cpu', or install a CUDA build of torch"
        )
    return device
