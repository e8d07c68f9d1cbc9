# SPDX-License-Identifier: Apache-2.0
"""Forward kinematics: from the turns of joints to where they are."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation


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
