# SPDX-License-Identifier: Apache-2.0
"""The joints of SMPL bodies: 3DPW and AMASS name them alike.

A body-model file (SMPL+H `model.npz`) gives the joints of a body of given shape at rest:
joints = J_regressor (v_template + shapedirs betas). x to the left, y up, z ahead, metres.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from jaxtyping import Float, Float64
from scipy.spatial.transform import Rotation

from motion_predictor_ros.errors import DataError


def place_joints(
    offsets: Float[np.ndarray, 'joint xyz=3'],
    parents: Sequence[int],
    turns: Float[np.ndarray, 'time joint xyz=3'],
) -> Float[np.ndarray, 'time joint xyz=3']:
    """Return where joints are, in the unit of `offsets`; the root stays at its offset.

    With R_j = R_parent(j) exp(turn_j):  p_j = p_parent(j) + R_parent(j) offset_j.

    Args:
        offsets: From the parent to the joint when nothing is turned.
        parents: Each joint's parent, which comes before it; -1 for the root, which is first.
        turns: Rotation vectors [rad], each in the frame of the parent.
    """
    assert parents[0] == -1 and all(-1 < parent < at for at, parent in enumerate(parents) if at)
    frames, joints, _ = turns.shape
    local = Rotation.from_rotvec(turns.reshape(-1, 3)).as_matrix().reshape(frames, joints, 3, 3)
    world, places = np.empty_like(local), np.empty((frames, joints, 3))
    world[:, 0], places[:, 0] = local[:, 0], offsets[0]
    for joint, parent in list(enumerate(parents))[1:]:
        world[:, joint] = world[:, parent] @ local[:, joint]
        places[:, joint] = places[:, parent] + world[:, parent] @ offsets[joint]
    return places


JOINT_NAMES = (
    *('pelvis', 'left_hip', 'right_hip', 'spine1', 'left_knee', 'right_knee', 'spine2'),
    *('left_ankle', 'right_ankle', 'spine3', 'left_foot', 'right_foot', 'neck'),
    *('left_collar', 'right_collar', 'head', 'left_shoulder', 'right_shoulder'),
    *('left_elbow', 'right_elbow', 'left_wrist', 'right_wrist', 'left_hand', 'right_hand'),
)
PARENTS = (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21)
"""Joint index of each joint's parent; -1 for the root."""

BODY = 22
"""Joints of the body alone, which SMPL and SMPL+H share: all but the hands."""

BETAS = 16
"""Number of shape coefficients in AMASS."""

_WHERE = (
    'get "Extended SMPL+H model (used in AMASS)" from mano.is.tue.mpg.de (free registration, own '
    'licence) and unpack it so that smplh/male/model.npz lies beside the data sets'
)


@dataclass(frozen=True)
class BodyModel:
    """Where the joints of the body are at rest [m], linear in the shape."""

    mean: Float64[np.ndarray, 'joint=22 xyz=3']
    by_beta: Float64[np.ndarray, 'joint=22 xyz=3 beta=16']

    def rest(
        self, betas: Float64[np.ndarray, ' beta=16']
    ) -> Float64[np.ndarray, 'joint=22 xyz=3']:
        """Return where the joints of a body of this shape are at rest [m]."""
        return self.mean + self.by_beta @ betas


def load_body_model(path: Path) -> BodyModel:
    """Read the three arrays of a SMPL+H body model that place its joints.

    Raises:
        DataError: The file is missing or lacks one of them; the message names the source.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            template, shapes, regressor = (
                np.asarray(file[name], np.float64)
                for name in ('v_template', 'shapedirs', 'J_regressor')
            )
    except FileNotFoundError as error:
        raise DataError(f'no body model at {path}: {_WHERE}') from error
    except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile) as error:
        raise DataError(f'{path} is not a SMPL+H body model ({error!r}): {_WHERE}') from error
    vertices = len(template)
    fits = template.shape == (vertices, 3) and shapes.shape[:2] == (vertices, 3)
    if not fits or shapes.ndim != 3 or shapes.shape[2] < BETAS:
        raise DataError(
            f'{path}: v_template is {template.shape}, shapedirs {shapes.shape}; expected '
            f'[vertex, 3] and [vertex, 3, {BETAS} or more]: {_WHERE}'
        )
    if regressor.ndim != 2 or regressor.shape[0] < BODY or regressor.shape[1] != vertices:
        raise DataError(
            f'{path}: J_regressor is {regressor.shape}; expected {BODY} or more joints by '
            f'{vertices} vertices, not sparse: {_WHERE}'
        )
    body = regressor[:BODY]
    by_beta = np.einsum('jv,vxb->jxb', body, shapes[..., :BETAS])
    return BodyModel(body @ template, by_beta)
