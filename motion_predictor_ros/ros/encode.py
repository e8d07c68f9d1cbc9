# SPDX-License-Identifier: Apache-2.0
"""Encode predictions, futures and point clouds as messages.

`prediction/wire` and `density/wire` decode them. Arrays are filled through `array.frombytes`:
rclpy copies other sequences element by element.
"""

import math
from array import array

import numpy as np
from builtin_interfaces.msg import Time
from jaxtyping import Float64
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import Header

from motion_predictor_ros.conventions import NS_PER_S
from motion_predictor_ros.density.types import Futures
from motion_predictor_ros.msg import (
    PredictedMotion,
    PredictedMotionArray,
    WeightedFutures,
    WeightedFuturesArray,
)
from motion_predictor_ros.prediction.types import Prediction, ScenePrediction
from motion_predictor_ros.prediction.wire import UNIQUE_COLUMNS, UNIQUE_ROWS

XYZ_FIELDS = [('x', '<f4'), ('y', '<f4'), ('z', '<f4')]
_DATATYPES = {'f': PointField.FLOAT32, 'u': PointField.UINT32}


def encode_prediction(scene: ScenePrediction, age_s: float) -> PredictedMotionArray:
    """Encode the predictions of all people, with the stamp and frame of the observation."""
    return PredictedMotionArray(
        header=encode_header(scene.stamp_ns, scene.frame_id),
        age_s=age_s,
        model=scene.model,
        joint_names=list(scene.joint_names),
        horizons=float32s(scene.horizons_s),
        persons=[_encode_person(person) for person in scene.people],
    )


def encode_futures(futures: Futures, scene: ScenePrediction, age_s: float) -> WeightedFuturesArray:
    """Encode the futures of all people, with the stamp and frame of the observation.

    Args:
        scene: Predictions that answer the same observation.
    """
    return WeightedFuturesArray(
        header=encode_header(scene.stamp_ns, scene.frame_id),
        age_s=age_s,
        model=futures.model,
        joint_names=list(scene.joint_names),
        horizons=float32s(futures.horizons_s),
        importance_samples=futures.importance_samples,
        persons=[_encode_futures(futures, row) for row in range(len(futures.person_ids))],
    )


def encode_header(stamp_ns: int, frame_id: str) -> Header:
    """Encode a header."""
    sec, nanosec = divmod(stamp_ns, NS_PER_S)
    return Header(stamp=Time(sec=sec, nanosec=nanosec), frame_id=frame_id)


def encode_cloud(points: np.ndarray, stamp_ns: int, frame_id: str) -> PointCloud2:
    """Encode a structured array; without any points, the cloud still has its fields."""
    data, columns = array('B'), points.dtype.fields
    assert columns is not None
    data.frombytes(points.tobytes())
    return PointCloud2(
        header=encode_header(stamp_ns, frame_id),
        height=1,
        width=len(points),
        fields=[
            PointField(name=name, offset=offset, datatype=_DATATYPES[dtype.kind], count=1)
            for name, (dtype, offset, *_) in columns.items()
        ],
        is_bigendian=False,
        point_step=points.dtype.itemsize,
        row_step=points.nbytes,
        data=data,
        is_dense=True,
    )


def _encode_person(person: Prediction) -> PredictedMotion:
    observed = None if person.window is None else person.window.positions[-1]
    covariances = None
    if person.positions is not None and person.covariances is not None:
        covariances = person.covariances[..., UNIQUE_ROWS, UNIQUE_COLUMNS]
    return PredictedMotion(
        person_id=person.person_id,
        validity=int(person.validity),
        reason=person.reason,
        observed=float32s(observed),
        seen=[] if person.window is None else person.window.seen.tolist(),
        positions=float32s(person.positions),
        covariances=float32s(covariances),
        solver_steps=0 if person.solver is None else person.solver.steps,
        residual=math.nan if person.solver is None else person.solver.residual,
        warm=person.solver is not None and person.solver.warm,
    )


def _encode_futures(futures: Futures, row: int) -> WeightedFutures:
    validity, reason = futures.judge(row)
    predicted = futures.predicted_log_density
    return WeightedFutures(
        person_id=futures.person_ids[row],
        validity=int(validity),
        reason=reason,
        weights=float32s(futures.weights[row]),
        log_densities=float32s(futures.log_density[row]),
        cached=array('i', futures.cached[row].tolist()),
        positions=float32s(futures.positions[row]),
        predicted_log_density=float('nan') if predicted is None else float(predicted[row]),
        effective_sample_size=float(futures.effective_sample_size[row]),
        novelty=float(futures.novelty[row]),
    )


def float32s(values: Float64[np.ndarray, '...'] | None) -> 'array[float]':
    """Return numbers as message fields take them; empty for None."""
    flat = array('f')
    if values is not None:
        flat.frombytes(values.astype(np.float32).tobytes())
    return flat
