# SPDX-License-Identifier: Apache-2.0
"""Read PredictedMotionArray messages back, without ROS.

Stage: prediction. The inverse of `ros/encode`, for whoever meets predictions in a bag. Values went
through float32 on the wire; what a prediction was made from did not travel.
"""

from typing import Any

import numpy as np
from jaxtyping import Bool, Float64

from motion_predictor_ros.conventions import NS_PER_S
from motion_predictor_ros.errors import DataError
from motion_predictor_ros.prediction.types import Prediction, ScenePrediction, SolverReport
from motion_predictor_ros.skeleton.frame import Validity

UNIQUE_ROWS, UNIQUE_COLUMNS = (0, 0, 0, 1, 1, 2), (0, 1, 2, 1, 2, 2)
"""Where xx xy xz yy yz zz stand in a covariance matrix."""

_PLACES = ((0, 1, 2), (1, 3, 4), (2, 4, 5))
"""Which of the six unique values each entry of the matrix is."""


def decode_prediction(msg: Any) -> ScenePrediction:
    """Turn a PredictedMotionArray-like message into what the pipeline returned, `window` apart.

    Args:
        msg: A generated message, one read from a bag, or a plain namespace.

    Raises:
        DataError: A field has not the promised length or code.
    """
    stamp_ns = msg.header.stamp.sec * NS_PER_S + msg.header.stamp.nanosec
    shape = (len(msg.horizons), len(msg.joint_names))
    return ScenePrediction(
        stamp_ns=stamp_ns,
        frame_id=msg.header.frame_id,
        model=msg.model,
        joint_names=tuple(msg.joint_names),
        horizons_s=np.asarray(msg.horizons, dtype=np.float64),
        people=tuple(_person(person, stamp_ns, shape) for person in msg.persons),
    )


def decode_observed(msg: Any) -> dict[str, Float64[np.ndarray, 'joint xyz=3']]:
    """Return each person's pose at horizon 0 [m]; people without one are left out.

    Raises:
        DataError: A pose has not the promised length.
    """
    joints = len(msg.joint_names)
    poses = {each.person_id: _values(each, 'observed', (joints, 3)) for each in msg.persons}
    return {person_id: pose for person_id, pose in poses.items() if pose is not None}


def decode_seen(msg: Any) -> dict[str, Bool[np.ndarray, ' joint']]:
    """Return which joints of each person's pose at horizon 0 were in sight.

    Raises:
        DataError: A list has not the promised length.
    """
    shape = (len(msg.joint_names),)
    seen = {each.person_id: _values(each, 'seen', shape) for each in msg.persons}
    return {key: value.astype(bool) for key, value in seen.items() if value is not None}


def _person(person: Any, stamp_ns: int, shape: tuple[int, int]) -> Prediction:
    unique = _values(person, 'covariances', (*shape, 6))
    return Prediction(
        person_id=person.person_id,
        stamp_ns=stamp_ns,
        validity=_validity(person),
        reason=person.reason,
        positions=_values(person, 'positions', (*shape, 3)),
        covariances=None if unique is None else unique[..., _PLACES],
        solver=_solver(person),
    )


def _validity(person: Any) -> Validity:
    try:
        return Validity(person.validity)
    except ValueError as error:
        raise DataError(f'person {person.person_id!r}: {error}') from error


def _solver(person: Any) -> SolverReport | None:
    """Decode the report; the tolerance is not sent, so `converged` follows from validity."""
    if not person.solver_steps:
        return None
    return SolverReport(
        steps=int(person.solver_steps),
        residual=float(person.residual),
        converged=person.validity == Validity.OK,
        warm=bool(person.warm),
    )


def _values(person: Any, field: str, shape: tuple[int, ...]) -> Float64[np.ndarray, '...'] | None:
    flat = np.asarray(getattr(person, field), dtype=np.float64)
    if not flat.size:
        return None
    if flat.size != np.prod(shape):
        raise DataError(
            f'person {person.person_id!r}: {flat.size} values in {field}, expected {shape}'
        )
    return flat.reshape(shape)
