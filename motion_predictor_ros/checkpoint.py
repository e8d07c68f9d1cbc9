# SPDX-License-Identifier: Apache-2.0
"""Weights as safetensors with a JSON header; nothing is ever unpickled.

The header holds the kind of file (`kind`, `format`), the module's configuration (`config`), its
joints (`joint_names`) and its training (`training`).
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from motion_predictor_ros.errors import CheckpointError, ConfigError

FORMAT = 1
"""Version of the header's layout; files of another version are refused."""

_KEY = 'motion_predictor_ros'


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
    kept = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    partial.write_bytes(save(kept, metadata={_KEY: document}))  # save_file's none but us can read
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


def _header(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    if _KEY not in metadata:
        raise CheckpointError(f'{path} was not written by {_KEY}: it has no {_KEY!r} header')
    try:
        header = json.loads(metadata[_KEY])
    except json.JSONDecodeError as error:
        raise CheckpointError(f'{path} has a damaged header: {error}') from error
    if not isinstance(header, dict) or header.get('format') != FORMAT:
        found = header.get('format') if isinstance(header, dict) else header
        raise CheckpointError(f'{path} has format {found!r}, this version reads {FORMAT}')
    return header


def choose_device(wish: str) -> torch.device:
    """Turn 'auto', 'cpu' or 'cuda:N' into a device that is there.

    Raises:
        ConfigError: The wish is misspelt, or names a GPU that this machine does not have.
    """
    if wish == 'auto':
        return torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')
    try:
        device = torch.device(wish)
    except RuntimeError as error:
        raise ConfigError(f"device must be 'auto', 'cpu' or 'cuda:N', got {wish!r}") from error
    if device.type == 'cuda' and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f'device {wish!r} is not there: {torch.cuda.device_count()} CUDA devices are visible; '
            "use 'auto' or 'cpu', or install a CUDA build of torch"
        )
    if device.type not in ('cpu', 'cuda'):
        raise ConfigError(f"device must be 'auto', 'cpu' or 'cuda:N', got {wish!r}")
    return device
