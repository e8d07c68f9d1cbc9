# SPDX-License-Identifier: Apache-2.0
"""The prediction of one person, and of a whole scene.

Stage: prediction. Read by density, volume, ros/encode and evaluation.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from motion_predictor_ros.skeleton.frame import Validity, Window


@dataclass(frozen=True)
class SolverReport:
    """Result of the solver for one person.

    Attributes:
        steps: Evaluations of the layer.
        residual: Relative residual of the returned state [-].
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
        window: The observed past; its last frame is the pose at horizon 0. None if it is too
            short.
        positions: [m] in the observation's frame; None if nothing was predicted.
        covariances: [m^2] of each joint's error; None if not estimated.
        reason: Why `validity` is not OK, or which joints were inferred.
        solver: None from a predictor without a solver.
    """

    person_id: str
    stamp_ns: int
    validity: Validity
    reason: str = ''
    window: Window | None = None
    positions: Float64[np.ndarray, 'horizon joint xyz=3'] | None = None
    covariances: Float64[np.ndarray, 'horizon joint xyz=3 xyz=3'] | None = None
    solver: SolverReport | None = None


@dataclass(frozen=True)
class ScenePrediction:
    """The predictions of all people in one observation, in its order."""

    stamp_ns: int
    frame_id: str
    model: str
    joint_names: tuple[str, ...]
    horizons_s: Float64[np.ndarray, ' horizon']
    people: tuple[Prediction, ...]


def solver_steps(people: Iterable[Prediction]) -> list[int]:
    """Return the solver's steps of each person with a solver report."""
    return [person.solver.steps for person in people if person.solver is not None]
