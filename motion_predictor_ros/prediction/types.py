# SPDX-License-Identifier: Apache-2.0
"""What the predictor says of one person and of a whole scene.

Stage: prediction. Read by density, volume, ros/encode and evaluation.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from motion_predictor_ros.skeleton.frame import Validity, Window


@dataclass(frozen=True)
class SolverReport:
    """How the fixed point of one person was found.

    Attributes:
        steps: Evaluations of the layer spent on this person.
        residual: Relative residual of the returned state; NaN if nothing was solved.
        warm: Whether the solver started from the person's previous fixed point.
    """

    steps: int = 0
    residual: float = math.nan
    converged: bool = False
    warm: bool = False


@dataclass(frozen=True)
class Prediction:
    """Where one person will be.

    Attributes:
        window: What was predicted from; its last frame is the pose at horizon 0. None when there
            was not enough to predict from.
        positions: [m] in the observation's frame; None when nothing was predicted.
        covariances: [m^2] of each joint's error; None when not estimated.
        reason: Why `validity` is not OK, or which joints were inferred, for people to read.
    """

    person_id: str
    stamp_ns: int
    validity: Validity
    reason: str = ''
    window: Window | None = None
    positions: Float64[np.ndarray, 'horizon joint xyz=3'] | None = None
    covariances: Float64[np.ndarray, 'horizon joint xyz=3 xyz=3'] | None = None
    solver: SolverReport = SolverReport()


@dataclass(frozen=True)
class ScenePrediction:
    """Everybody in one observation, answered together."""

    stamp_ns: int
    frame_id: str
    model: str
    joint_names: tuple[str, ...]
    horizons_s: Float64[np.ndarray, ' horizon']
    people: tuple[Prediction, ...]
