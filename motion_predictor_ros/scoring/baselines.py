# SPDX-License-Identifier: Apache-2.0
"""Baselines: what a prediction must beat.

Arrays are [..., time, joint, xyz] in metres.
"""

import numpy as np
from jaxtyping import Float


def repeat_last(
    observed: Float[np.ndarray, '*batch time joint xyz=3'], future: int
) -> Float[np.ndarray, '*batch horizon joint xyz=3']:
    """Predict that nobody moves: the last pose, repeated."""
    return np.repeat(observed[..., -1:, :, :], future, axis=-3)


def constant_velocity(
    observed: Float[np.ndarray, '*batch time joint xyz=3'], future: int
) -> Float[np.ndarray, '*batch horizon joint xyz=3']:
    """Predict each joint at its velocity between the last two frames of the model clock."""
    last = observed[..., -1:, :, :]
    step = last - observed[..., -2:-1, :, :]
    ahead = np.arange(1, future + 1)[:, None, None]
    return last + ahead * step


BASELINES = {'repeat_last': repeat_last, 'constant_velocity': constant_velocity}
"""By their names in reports."""
