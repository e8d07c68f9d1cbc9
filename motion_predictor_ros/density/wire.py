# SPDX-License-Identifier: Apache-2.0
"""Decode WeightedFuturesArray messages, without ROS.

Stage: density. The inverse of `ros/encode`, for messages from bags. Values are float32 on the
wire; validity follows from them.
"""

from typing import Any

import numpy as np
from jaxtyping import Float64

from motion_predictor_ros.conventions import NS_PER_S
from motion_predictor_ros.density.types import IMPUTED_PREFIX, Futures
from motion_predictor_ros.errors import DataError
from motion_predictor_ros.skeleton.frame import Validity


def decode_futures(msg: Any) -> Futures:
    """Decode a WeightedFuturesArray-like message.

    Args:
        msg: A generated message, one read from a bag, or a plain namespace.

    Raises:
        DataError: A field has the wrong length, or people have different numbers of futures.
    """
    stamp_ns = msg.header.stamp.sec * NS_PER_S + msg.header.stamp.nanosec
    people = msg.persons
    horizon, joints = len(msg.horizons), len(msg.joint_names)
    count = len(people[0].weights) if people else 0
    return Futures(
        person_ids=tuple(person.person_id for person in people),
        stamp_ns=np.full(len(people), stamp_ns, dtype=np.int64),
        horizons_s=np.asarray(msg.horizons, dtype=np.float64),
        positions=_stacked(people, 'positions', (count, horizon, joints, 3)),
        weights=_stacked(people, 'weights', (count,)),
        log_density=_stacked(people, 'log_densities', (count,)),
        cached=_stacked(people, 'cached', (count,)).astype(np.int64),
        effective_sample_size=_stacked(people, 'effective_sample_size', ()),
        importance_samples=int(msg.importance_samples),
        novelty=_stacked(people, 'novelty', ()),
        model=msg.model,
        out_of_sight=tuple(
            person.reason.removeprefix(IMPUTED_PREFIX)
            if person.validity == Validity.INCOMPLETE
            else ''
            for person in people
        ),
        predicted_log_density=_stacked(people, 'predicted_log_density', ()),
    )


def _stacked(people: Any, field: str, shape: tuple[int, ...]) -> Float64[np.ndarray, '...']:
    rows = np.empty((len(people), *shape), dtype=np.float64)
    for row, person in zip(rows[..., None], people, strict=True):
        flat = np.asarray(getattr(person, field), dtype=np.float64)
        if flat.size != np.prod(shape, dtype=int):
            raise DataError(
                f'person {person.person_id!r}: {flat.size} values in {field}, expected {shape}'
            )
        row[..., 0] = flat.reshape(shape)
    return rows
