# SPDX-License-Identifier: Apache-2.0
"""Decode PredictedMotionArray messages, without ROS.

Stage: prediction. The inverse of `ros/encode`, for messages from bags. Values are float32 on the
wire; windows are not sent.
"""

from typing import Any

import numpy as np
from jaxtyping import Float64

from motion_predictor_ros.conventions import NS_PER_S
from motion_predictor_ros.errors import DataError
from motion_predictor_ros.prediction.types import Prediction, ScenePrediction, SolverReport
from motion_predictor_ros.skeleton.frame import Validity

UNIQUE_ROWS, UNIQUE_COLUMNS = (0, 0, 0, 1, 1, 2), (0, 1, 2, 1, 2, 2)
"""Rows and columns of xx xy xz yy yz zz in a covariance matrix."""

_PLACES = ((0, 1, 2), (1, 3, 4), (2, 4, 5))
"""Index into these six values for each entry of the matrix."""


def decode_prediction(msg: Any) -> ScenePrediction:
    """Decode a PredictedMotionArray-like message; predictions have no window.

    Args:
        msg: A generated message, one read from a bag, or a plain namespace.

    Raises:
        DataError: A field has the wrong length or an unknown code.
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
