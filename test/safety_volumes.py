# SPDX-License-Identifier: Apache-2.0
"""Volumes of a synthetic person, for tests of outputs."""

from typing import Any

import numpy as np
from volume_scenes import PERIOD_S, SHAPE, STANDING, calibration

from motion_predictor_ros.config import VolumeConfig
from motion_predictor_ros.density.types import Futures
from motion_predictor_ros.prediction.types import Prediction
from motion_predictor_ros.skeleton.frame import Validity, Window
from motion_predictor_ros.volume.predictor import VolumePredictor
from motion_predictor_ros.volume.types import SafetyVolume

STAMP_NS = 1_700_000_000_123_456_789
CONFIG = VolumeConfig(level=0.95, horizon_s=1.0, voxel_m=0.1)
_PREDICTOR = VolumePredictor(SHAPE, calibration(np.linspace(0.2, 2.0, 60)), CONFIG, PERIOD_S)


def volume(
    person_id: str = 'anna',
    shift_m: tuple[float, float, float] = (0.0, 0.0, 0.0),
    *,
    validity: Validity = Validity.OK,
    stamp_ns: int = STAMP_NS,
) -> SafetyVolume:
    """Return the volume of a standing person; the reachable set unless validity is OK."""
    pose = STANDING + np.array(shift_m)
    random = np.random.default_rng(0)
    times_s = PERIOD_S * np.arange(1, 51)
    way = random.normal(0.0, 0.3, (1, 10, 1, 1, 3)) * times_s[:, None, None]
    weights = random.dirichlet(np.ones(10))[None]
    futures = Futures(
        person_ids=(person_id,),
        stamp_ns=np.array([stamp_ns]),
        horizons_s=times_s,
        positions=pose + way,
        weights=weights,
        log_density=np.log(weights),
        cached=np.zeros((1, 10), dtype=np.int64),
        effective_sample_size=np.array([80.0]),
        importance_samples=1000,
        novelty=np.array([0.5]),
    )
    past = np.repeat(pose[None], 25, axis=0)
    seen = np.ones(past.shape[:2], dtype=bool)
    window = Window(person_id, stamp_ns, past, seen, seen.astype(np.float32), restarted=False)
    prediction = Prediction(
        person_id,
        stamp_ns,
        validity,
        '' if validity == Validity.OK else 'because',
        window=window,
        positions=past,
    )
    found = _PREDICTOR.assess(prediction, futures, pose, frame_id='map')
    assert found.validity == validity, found.reason
    return found


def decode_cloud(cloud: Any) -> np.ndarray:
    """Decode a PointCloud2 of float32 and uint32 fields, as a structured array."""
    numpy_types = {7: '<f4', 6: '<u4'}  # sensor_msgs/PointField
    dtype = np.dtype([(field.name, numpy_types[field.datatype]) for field in cloud.fields])
    return np.frombuffer(bytes(cloud.data), dtype=dtype)
