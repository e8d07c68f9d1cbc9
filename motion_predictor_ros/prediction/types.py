# SPDX-License-Identifier: Apache-2.0
"""The prediction of one person, and of a whole scene.

Stage: prediction. Read by density, volume, ros/encode and evaluation.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from motion_predictor_ros.skeleton.frame import NotReady, Validity, Window
from motion_predictor_ros.skeleton.people import Presence


@dataclass(frozen=True)
class SolverReport:
    """How the fixed point of one person was found.

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
        reason: Why `validity` is not OK, or which joints were inferred, for people to read.
        solver: How the fixed point was found; None from a predictor that solves for none.
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
    """Return the solver's steps for each person for whom it was run."""
    return [person.solver.steps for person in people if person.solver is not None]


def all_people(
    stamp_ns: int,
    presence: Presence,
    predictions: Sequence[Prediction],
    not_ready: Sequence[NotReady],
) -> tuple[Prediction, ...]:
    """Add people without a prediction: observed people come in their order, then STALE ones.

    STALE are those who are held since they were last observed, and those at an unknown place.
    """
    empty = [Prediction(p.person_id, p.stamp_ns, p.validity, p.reason) for p in not_ready]
    by_id = {person.person_id: person for person in (*predictions, *empty)}
    people = [by_id[frame.person_id] for frame in presence.observed]
    stale = {person.frame.person_id: person.reason for person in presence.held}
    present = {*by_id, *stale, ''}
    stale |= {p.person_id: p.message for p in presence.unplaced if p.person_id not in present}
    people += [Prediction(key, stamp_ns, Validity.STALE, reason) for key, reason in stale.items()]
    return tuple(people)
