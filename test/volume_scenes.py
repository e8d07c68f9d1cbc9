# SPDX-License-Identifier: Apache-2.0
"""People who wander, for tests of volumes."""

import numpy as np

from motion_predictor_ros.bench.volume import standing
from motion_predictor_ros.volume.body import BodyShape
from motion_predictor_ros.volume.calibration import Calibration, HorizonCalibration, ModelDigests
from motion_predictor_ros.volume.coverage import (
    FEATURES,
    BodyForecast,
    ScenarioSelection,
    Spread,
    body_forecast,
)

SHAPE = BodyShape.load('body18')
STANDING = standing(SHAPE)
PERIOD_S = 0.04


def wandering(
    futures: int, times: int, speed: float = 1.0, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Return points [future, time, point, 3] and their times [s]."""
    random = np.random.default_rng(seed)
    steps = random.normal(0.0, speed * PERIOD_S, (futures, times, len(STANDING), 3))
    positions = STANDING + np.cumsum(steps, axis=1)
    return SHAPE.points(positions), PERIOD_S * np.arange(times)


def looking_ahead(futures: int = 8, times: int = 25, seed: int = 0) -> BodyForecast:
    """Return futures of somebody who stood still."""
    random = np.random.default_rng(seed)
    way = random.normal(0.0, 0.5, (futures, 1, 1, 3)) * np.array([1.0, 1.0, 0.1])
    times_s = PERIOD_S * np.arange(1, times + 1)
    positions = STANDING + way * times_s[:, None, None]
    positions += random.normal(0.0, 0.01, positions.shape)
    return body_forecast(
        SHAPE,
        np.repeat(STANDING[None], 25, axis=0),
        PERIOD_S,
        positions,
        np.full(futures, 1.0 / futures),
        random.normal(size=futures),
        times_s,
    )


def linear_spread() -> Spread:
    """Return g = time in units of 0.3 s, whatever else is seen."""
    size = len(FEATURES)
    slopes = np.zeros(size)
    slopes[0] = 1.0
    return Spread(
        np.zeros(len(SHAPE.point_names)),
        slopes,
        np.zeros(size),
        np.ones(size),
        np.full(size, -100.0),
        np.full(size, 100.0),
    )


def calibration(scores: np.ndarray, horizon_s: float = 1.0) -> Calibration:
    """Return a calibration of one horizon with these scores at two levels."""
    until = HorizonCalibration(
        horizon_s,
        (0.9, 0.95),
        ScenarioSelection(0.3, 8),
        linear_spread(),
        np.stack([np.sort(scores)] * 2),
        np.full(len(scores), 1.0),
    )
    return Calibration('made_up@0', ModelDigests('d', 'c', 'p'), False, (until,), {})
