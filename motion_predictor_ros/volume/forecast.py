# SPDX-License-Identifier: Apache-2.0
"""The futures of one person's body, centred on the likeliest one.

Stage: volume. Reads a prediction and its futures, returns points of the body: joints and the tips
of hands. As far as MotionDEQ predicts, the futures' mean is moved onto its prediction; beyond
that the last shift is kept.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from motion_predictor_ros.prediction.uncertainty import joint_speeds
from motion_predictor_ros.volume.body import BodyShape
from motion_predictor_ros.volume.capsules import Bodies, bodies


@dataclass(frozen=True)
class BodyForecast:
    """Futures of one person in the frame of the observation.

    Attributes:
        scale: Size of the person relative to the layout's body.
        times_s: After the observation; the first is zero.
        paths: [m] futures, each from the observed pose on.
        weights: They sum to one.
        likeliest: [m] mean of the paths; until MotionDEQ's horizon its prediction.
        speeds: [m/s] of the points, observed last.
    """

    scale: float
    times_s: Float64[np.ndarray, ' time']
    paths: Float64[np.ndarray, 'future time point xyz=3']
    weights: Float64[np.ndarray, ' future']
    likeliest: Float64[np.ndarray, 'time point xyz=3']
    speeds: Float64[np.ndarray, ' point']

    @property
    def now(self) -> Float64[np.ndarray, 'point xyz=3']:
        """Points observed last [m]."""
        return self.likeliest[0]

    def future_bodies(
        self, shape: BodyShape, window_s: tuple[float, float], every: int = 1
    ) -> Bodies:
        """Return the bodies of all futures, swept through a window."""
        first, last = window_frames(self.times_s, window_s)
        points, times_s = self.paths[:, first:last], self.times_s[first:last]
        return bodies(shape, points, self.weights, times_s, self.scale, every=every)

    def likeliest_body(
        self, shape: BodyShape, window_s: tuple[float, float], every: int = 1
    ) -> Bodies:
        """Return the body of the likeliest future, swept through a window."""
        return self.swept(shape, self.likeliest, window_s, every)

    def swept(
        self,
        shape: BodyShape,
        path: Float64[np.ndarray, 'some point xyz=3'],
        window_s: tuple[float, float],
        every: int = 1,
    ) -> Bodies:
        """Return the body of this person on any path, swept through a window.

        Args:
            path: [m] at `times_s`, as far as it goes.
        """
        times_s = self.times_s[: len(path)]
        first, last = window_frames(times_s, window_s)
        points = path[None, first:last]
        return bodies(shape, points, np.ones(1), times_s[first:last], self.scale, every=every)


def body_forecast(
    shape: BodyShape,
    observed: Float64[np.ndarray, 'time joint xyz=3'],
    period_s: float,
    futures: Float64[np.ndarray, 'future horizon joint xyz=3'],
    weights: Float64[np.ndarray, ' future'],
    horizons_s: Float64[np.ndarray, ' horizon'],
    likeliest: Float64[np.ndarray, 'some joint xyz=3'] | None = None,
    until_s: float = np.inf,
) -> BodyForecast:
    """Move futures onto the likeliest one.

    Args:
        observed: [m] on the model clock, `period_s` apart, newest last.
        horizons_s: Of the futures, and of the likeliest one as far as it goes.
        likeliest: [m]; None leaves the futures where they are.
        until_s: Times after the first one that is not before this are left out.
    """
    last = int(np.searchsorted(horizons_s, until_s - 1e-9)) + 1
    futures, horizons_s = futures[:, :last], horizons_s[:last]
    scale = shape.scale(observed[-1])
    past = shape.points(observed, scale)
    count, times, joints, _ = futures.shape
    paths = np.empty((count, 1 + times, past.shape[1], 3))
    paths[:, 0] = past[-1]
    paths[:, 1:, :joints] = futures
    paths[:, 1:, joints:] = shape.tip_points(futures, scale)
    mean: np.ndarray = np.tensordot(weights, paths, axes=1)
    if likeliest is not None:
        known = min(len(likeliest), times)
        shift = np.empty((times, *mean.shape[1:]))
        shift[:known] = shape.points(likeliest[:known], scale) - mean[1 : known + 1]
        shift[known:] = shift[known - 1]
        paths[:, 1:] += shift
        mean[1:] += shift
    mean[0] = past[-1]
    return BodyForecast(
        scale=scale,
        times_s=np.concatenate([[0.0], horizons_s]),
        paths=paths,
        weights=weights,
        likeliest=mean,
        speeds=joint_speeds(past, period_s),
    )


def window_frames(
    times_s: Float64[np.ndarray, ' time'], window_s: tuple[float, float]
) -> tuple[int, int]:
    """Return the first time and the one after the last that together enclose the window."""
    first = int(np.searchsorted(times_s, window_s[0] + 1e-9, side='right')) - 1
    last = int(np.searchsorted(times_s, window_s[1] - 1e-9, side='left')) + 1
    return max(first, 0), min(last, len(times_s))
