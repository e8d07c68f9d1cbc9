# SPDX-License-Identifier: Apache-2.0
"""Body-fixed frames: poses independent of where a person is and which way it faces.

Stage: density. The origin lies on the ground under the root at the last observation, the hip line
along +y (the person's left), so +x points ahead; z up, height kept. The root's row holds its
position in that frame, every other row the offset from the root at the same time. Poses are
invariant to rotation about z and to horizontal translation.
Arrays are torch's in training and numpy's for inference: numpy is faster for one person, and in
float64 it is exact far from the origin.
"""

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from motion_predictor_ros.errors import ConfigError

Array = TypeVar('Array', Tensor, np.ndarray)
PastPoses = Float[Tensor, 'batch time posed xyz=3']
FuturePoses = Float[Tensor, 'batch horizon posed xyz=3']


@dataclass(frozen=True)
class Placement(Generic[Array]):
    """Pose of body frames in the input frame.

    Attributes:
        origin: Origin of the body frame [m].
        rotation: Its axes, as columns.
    """

    origin: Float[Array, 'batch xyz=3']
    rotation: Float[Array, 'batch xyz=3 xyz=3']


@dataclass(frozen=True)
class BodyFrame:
    """Mapping between positions in the input frame and poses of the model.

    Attributes:
        root, left_hip, right_hip: Joint indices.
    """

    joints: int
    root: int
    left_hip: int
    right_hip: int

    def place(self, last: Float[Array, 'batch joint xyz=3']) -> Placement[Array]:
        """Return the frame under the root; a vertical hip line gives rotation 0."""
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
        """Map positions in the input frame to poses [m]."""
        root = positions[:, :, self.root]
        offsets = positions - root[:, :, None]
        offsets[:, :, self.root] = root - placement.origin[:, None]
        rows = offsets.reshape(len(offsets), -1, 3)
        return (rows @ placement.rotation).reshape(offsets.shape)

    def leaving(
        self, rotation: Float[Tensor, 'batch xyz=3 xyz=3']
    ) -> Float[Tensor, 'batch size value']:
        """Return the inverse of `enter` as a matrix: flat poses times it are flat positions.

        Positions are relative to the origin of the frame.

        Args:
            rotation: Rotation of the placement.
        """
        parts = torch.eye(self.joints, dtype=rotation.dtype, device=rotation.device)
        parts[self.root] = 1.0  # position of a joint = its offset + the root
        turned = rotation.mT[:, None, :, None]
        return (parts[:, None, :, None] * turned).flatten(3, 4).flatten(1, 2)


def leave(
    frame: BodyFrame, poses: Float[Tensor, 'batch time posed xyz=3'], placement: Placement[Tensor]
) -> Float[Tensor, 'batch time joint xyz=3']:
    """Invert `enter`, by one matrix product for thousands of poses."""
    local = (poses.flatten(2) @ frame.leaving(placement.rotation)).unflatten(2, (-1, 3))
    return local + placement.origin[:, None, None]


def _library(array: Tensor | np.ndarray) -> Any:
    """Return the array's module."""
    return torch if isinstance(array, Tensor) else np


def body_frame(joint_names: tuple[str, ...]) -> BodyFrame:
    """Return the body frame of a skeleton.

    Raises:
        ConfigError: A joint that the frame needs is missing.
    """
    needed = ('pelvis', 'l_hip', 'r_hip')
    missing = [name for name in needed if name not in joint_names]
    if missing:
        raise ConfigError(f'the body frame needs joints {missing}; joints: {joint_names}')
    return BodyFrame(len(joint_names), *(joint_names.index(name) for name in needed))
