# SPDX-License-Identifier: Apache-2.0
"""Take people out of the room before they are compared, and put their futures back into it.

Stage: density. Two body frames are known:
    heading   origin on the ground under the root at the last observation, hip line along +y (the
              person's left), so +x is ahead; z up, height kept. The root's row holds its position
              in that frame, every other row the offset from the root at the same time. All joints
              are kept; turning the room about z or shifting it changes nothing.
    dropped   every joint relative to the root at the same time, axes of the room, root left out:
              the literature's protocol, which cannot say where the person goes.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from motion_predictor_ros.errors import ConfigError


@dataclass(frozen=True)
class Placement:
    """How canonical people stand in the room.

    Attributes:
        origin: [m], of the canonical frame in the room.
        rotation: Columns are the canonical axes in the room.
    """

    origin: Float[Tensor, 'batch xyz=3']
    rotation: Float[Tensor, 'batch xyz=3 xyz=3']


@runtime_checkable
class BodyFrame(Protocol):
    """What the model means by a pose."""

    @property
    def root(self) -> int:
        """Joint index of the root."""

    def place(self, last: Float[Tensor, 'batch joint xyz=3']) -> Placement:
        """Return where the canonical frame of people last seen like this lies."""

    def enter(
        self, positions: Float[Tensor, 'batch time joint xyz=3'], placement: Placement
    ) -> Float[Tensor, 'batch time posed xyz=3']:
        """Turn positions in the room into poses [m]."""

    def leave(
        self, poses: Float[Tensor, 'batch time posed xyz=3'], placement: Placement
    ) -> Float[Tensor, 'batch time joint xyz=3']:
        """Undo `enter`; where the frame knows no root, the root stays where it was."""


@dataclass(frozen=True)
class HeadingFrame:
    """Body frame 'heading'.

    Attributes:
        root, left_hip, right_hip: Joint indices.
    """

    root: int
    left_hip: int
    right_hip: int

    def place(self, last: Float[Tensor, 'batch joint xyz=3']) -> Placement:
        """Return the frame under the root; a hip line that points straight up means no turn."""
        origin = last[:, self.root].clone()
        origin[:, 2] = 0.0
        left = last[:, self.left_hip] - last[:, self.right_hip]
        turn = torch.atan2(-left[:, 0], left[:, 1])
        cos, sin, zero = turn.cos(), turn.sin(), torch.zeros_like(turn)
        rows = [cos, -sin, zero, sin, cos, zero, zero, zero, zero + 1.0]
        return Placement(origin, torch.stack(rows, dim=1).unflatten(1, (3, 3)))

    def enter(
        self, positions: Float[Tensor, 'batch time joint xyz=3'], placement: Placement
    ) -> Float[Tensor, 'batch time posed xyz=3']:
        """Turn positions in the room into poses [m]."""
        local = _turned(positions - placement.origin[:, None, None], placement.rotation)
        root = local[:, :, self.root]
        poses = local - root[:, :, None]
        poses[:, :, self.root] = root
        return poses

    def leave(
        self, poses: Float[Tensor, 'batch time posed xyz=3'], placement: Placement
    ) -> Float[Tensor, 'batch time joint xyz=3']:
        """Undo `enter`, by one matrix product: there may be thousands of poses."""
        joints = poses.shape[2]
        parts = torch.eye(joints).to(poses)
        parts[self.root] = 1.0  # every joint is its offset and the root
        matrix = torch.einsum('ij,bxy->biyjx', parts, placement.rotation)
        matrix = matrix.reshape(-1, 3 * joints, 3 * joints)
        local = (poses.flatten(2) @ matrix).unflatten(2, (joints, 3))
        return local + placement.origin[:, None, None]


def _turned(
    positions: Float[Tensor, 'batch time joint xyz=3'],
    rotation: Float[Tensor, 'batch xyz=3 xyz=3'],
) -> Float[Tensor, 'batch time joint xyz=3']:
    """Return the rows times the matrix; for three columns a matrix product takes twice as long."""
    x, y, z = positions.split(1, dim=3)
    rows = rotation[:, None, None]
    return x * rows[..., 0, :] + y * rows[..., 1, :] + z * rows[..., 2, :]


@dataclass(frozen=True)
class DroppedFrame:
    """Body frame 'dropped': joint 0 is the root."""

    root: int = 0

    def place(self, last: Float[Tensor, 'batch joint xyz=3']) -> Placement:
        """Return the root's position and the axes of the room."""
        return Placement(last[:, 0], torch.eye(3).to(last).expand(len(last), 3, 3))

    def enter(
        self, positions: Float[Tensor, 'batch time joint xyz=3'], placement: Placement
    ) -> Float[Tensor, 'batch time posed xyz=3']:
        """Subtract the root and leave it out [m]."""
        return positions[:, :, 1:] - positions[:, :, :1]

    def leave(
        self, poses: Float[Tensor, 'batch time posed xyz=3'], placement: Placement
    ) -> Float[Tensor, 'batch time joint xyz=3']:
        """Put poses around a root that stays where it was last seen."""
        root = torch.zeros_like(poses[:, :, :1])
        return torch.cat([root, poses], dim=2) + placement.origin[:, None, None]


def body_frame(kind: str, joint_names: tuple[str, ...]) -> BodyFrame:
    """Return the body frame of that name for these joints.

    Raises:
        ConfigError: The frame needs joints that are not there.
    """
    if kind == 'dropped':
        return DroppedFrame()
    needed = ('pelvis', 'l_hip', 'r_hip')
    missing = [name for name in needed if name not in joint_names]
    if missing:
        raise ConfigError(f'body frame {kind!r} needs joints {missing}; joints: {joint_names}')
    return HeadingFrame(*(joint_names.index(name) for name in needed))
