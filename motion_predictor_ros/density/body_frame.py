# SPDX-License-Identifier: Apache-2.0
"""Take people out of the room before they are compared, and put their futures back into it.

Stage: density. Two body frames are known:
    heading   origin on the ground under the root at the last observation, hip line along +y (the
              person's left), so +x is ahead; z up, height kept. The root's row holds its position
              in that frame, every other row the offset from the root at the same time. All joints
              are kept; turning the room about z or shifting it changes nothing.
    dropped   every joint relative to the root at the same time, axes of the room, root left out:
              the literature's protocol, which cannot say where the person goes.
Arrays may be torch's, in batches while training, or numpy's: for one person on a robot its small
operations cost less, and in float64 a person far from the origin stands as well as one at it.
"""

from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from motion_predictor_ros.errors import ConfigError

Array = TypeVar('Array', Tensor, np.ndarray)


@dataclass(frozen=True)
class Placement(Generic[Array]):
    """How canonical people stand in the room.

    Attributes:
        origin: [m], of the canonical frame in the room.
        rotation: Columns are the canonical axes in the room.
    """

    origin: Float[Array, 'batch xyz=3']
    rotation: Float[Array, 'batch xyz=3 xyz=3']


@runtime_checkable
class BodyFrame(Protocol):
    """What the model means by a pose."""

    @property
    def root(self) -> int:
        """Joint index of the root."""

    def place(self, last: Float[Array, 'batch joint xyz=3']) -> Placement[Array]:
        """Return where the canonical frame of people last seen like this lies."""

    def enter(
        self, positions: Float[Array, 'batch time joint xyz=3'], placement: Placement[Array]
    ) -> Float[Array, 'batch time posed xyz=3']:
        """Turn positions in the room into poses [m]."""

    def leaving(
        self, rotation: Float[Tensor, 'batch xyz=3 xyz=3']
    ) -> Float[Tensor, 'batch size value']:
        """Return what undoes `enter`: flat poses times this are flat positions about the origin.

        Where the frame knows no root, the root stays there.

        Args:
            rotation: That of the placement.
        """


@dataclass(frozen=True)
class HeadingFrame:
    """Body frame 'heading'.

    Attributes:
        root, left_hip, right_hip: Joint indices.
    """

    joints: int
    root: int
    left_hip: int
    right_hip: int

    def place(self, last: Float[Array, 'batch joint xyz=3']) -> Placement[Array]:
        """Return the frame under the root; a hip line that points straight up means no turn."""
        library = _library(last)
        hips = last[:, self.left_hip] - last[:, self.right_hip]
        turn = library.arctan2(-hips[:, 0], hips[:, 1])
        cos, sin = library.cos(turn), library.sin(turn)
        zero, one = library.zeros_like(turn), library.ones_like(turn)
        origin = library.stack([last[:, self.root, 0], last[:, self.root, 1], zero], 1)
        rows = [cos, -sin, zero, sin, cos, zero, zero, zero, one]
        return Placement(origin, library.stack(rows, 1).reshape(-1, 3, 3))

    def enter(
        self, positions: Float[Array, 'batch time joint xyz=3'], placement: Placement[Array]
    ) -> Float[Array, 'batch time posed xyz=3']:
        """Turn positions in the room into poses [m]."""
        root = positions[:, :, self.root]
        offsets = positions - root[:, :, None]
        offsets[:, :, self.root] = root - placement.origin[:, None]
        rows = offsets.reshape(len(offsets), -1, 3)
        return (rows @ placement.rotation).reshape(offsets.shape)

    def leaving(
        self, rotation: Float[Tensor, 'batch xyz=3 xyz=3']
    ) -> Float[Tensor, 'batch size value']:
        """Return what undoes `enter`, about the origin."""
        parts = torch.eye(self.joints, dtype=rotation.dtype, device=rotation.device)
        parts[self.root] = 1.0  # every joint is its offset and the root
        turned = rotation.mT[:, None, :, None]
        return (parts[:, None, :, None] * turned).flatten(3, 4).flatten(1, 2)


@dataclass(frozen=True)
class DroppedFrame:
    """Body frame 'dropped': joint 0 is the root."""

    joints: int
    root: int = 0

    def place(self, last: Float[Array, 'batch joint xyz=3']) -> Placement[Array]:
        """Return the root's position and the axes of the room."""
        axes = np.tile(np.eye(3), (len(last), 1, 1))
        if isinstance(last, Tensor):
            return Placement(last[:, 0], torch.from_numpy(axes).to(last))
        return Placement(last[:, 0], axes)

    def enter(
        self, positions: Float[Array, 'batch time joint xyz=3'], placement: Placement[Array]
    ) -> Float[Array, 'batch time posed xyz=3']:
        """Subtract the root and leave it out [m]."""
        return positions[:, :, 1:] - positions[:, :, :1]

    def leaving(
        self, rotation: Float[Tensor, 'batch xyz=3 xyz=3']
    ) -> Float[Tensor, 'batch size value']:
        """Return what puts poses around a root at the origin."""
        around = torch.eye(3 * self.joints, dtype=rotation.dtype, device=rotation.device)
        return around[3:].expand(len(rotation), -1, -1)


def leave(
    frame: BodyFrame,
    poses: Float[Tensor, 'batch time posed xyz=3'],
    placement: Placement[Tensor],
) -> Float[Tensor, 'batch time joint xyz=3']:
    """Undo `enter`, by one matrix product: there may be thousands of poses."""
    about = (poses.flatten(2) @ frame.leaving(placement.rotation)).unflatten(2, (-1, 3))
    return about + placement.origin[:, None, None]


def _library(array: Tensor | np.ndarray) -> Any:
    """Return the module whose functions take this array."""
    return torch if isinstance(array, Tensor) else np


def body_frame(kind: str, joint_names: tuple[str, ...]) -> BodyFrame:
    """Return the body frame of that name for these joints.

    Raises:
        ConfigError: The frame needs joints that are not there.
    """
    if kind == 'dropped':
        return DroppedFrame(len(joint_names))
    needed = ('pelvis', 'l_hip', 'r_hip')
    missing = [name for name in needed if name not in joint_names]
    if missing:
        raise ConfigError(f'body frame {kind!r} needs joints {missing}; joints: {joint_names}')
    return HeadingFrame(len(joint_names), *(joint_names.index(name) for name in needed))
