# SPDX-License-Identifier: Apache-2.0
"""People on random walks, for tests of volumes."""

import numpy as np

from motion_predictor_ros.data.synthetic import STANDING
from motion_predictor_ros.volume.body import BodyShape
from motion_predictor_ros.volume.calibration import (
    SHARES,
    Calibration,
    HorizonCalibration,
    ModelDigests,
)
from motion_predictor_ros.volume.forecast import BodyForecast, body_forecast
from motion_predictor_ros.volume.level_sets import WINDOWS_S, Ranking

SHAPE = BodyShape.load('body18')
PERIOD_S = 0.04


def wandering(
    futures: int, times: int, speed: float = 1.0, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Return points [future, time, point, 3] and their times [s]."""
    random = np.random.default_rng(seed)
    steps = random.normal(0.0, speed * PERIOD_S, (futures, times, len(STANDING), 3))
    positions = STANDING + np.cumsum(steps, axis=1)
    return SHAPE.points(positions), PERIOD_S * np.arange(times)


def forecast_of(
    futures: int = 8, times: int = 50, seed: int = 0, spread: float = 0.5
) -> BodyForecast:
    """Return futures of somebody who stood still and goes off in straight lines."""
    random = np.random.default_rng(seed)
    way = random.normal(0.0, spread, (futures, 1, 1, 3)) * np.array([1.0, 1.0, 0.1])
    times_s = PERIOD_S * np.arange(1, times + 1)
    positions = STANDING + way * times_s[:, None, None]
    positions += random.normal(0.0, 0.01, positions.shape)
    return body_forecast(
        SHAPE,
        np.repeat(STANDING[None], 25, axis=0),
        PERIOD_S,
        positions,
        np.full(futures, 1.0 / futures),
        times_s,
    )


RANKING = Ranking(0.2, (0.0, 0.3), (0.7, 0.3), 0.5)


def calibration(reach_m: np.ndarray, horizon_s: float = 1.0) -> Calibration:
    """Return a calibration of clips whose bodies went so far from the likeliest one.

    Of each body a half of the space is there, the rest evenly on the way to `reach_m`.
    """
    windows_s = tuple(window_s for window_s in WINDOWS_S if window_s[1] <= horizon_s + 1e-9)
    lowest = -reach_m[:, None] * np.array([0.25, 0.5, 1.0, 2.0])[: len(windows_s)]
    profiles = lowest[..., None] * np.maximum(1.0 - 2.0 * np.array(SHARES), 0.0)
    until = HorizonCalibration(
        horizon_s,
        windows_s,
        (0.1,) * len(windows_s),
        RANKING,
        profiles,
        np.linspace(0.0, 2.0, len(reach_m)),
        np.full(len(reach_m), 1.0),
        np.full(len(reach_m), 1.0),
    )
    return Calibration('made_up@0', ModelDigests('d', 'c', 'p'), False, (until,), {})
