# SPDX-License-Identifier: Apache-2.0
"""What is to come of one person, in points of the body: weighed futures around the likeliest one.

Stage: volume. Two models speak: CacheFlow of all futures, MotionDEQ of the likeliest. As far as
the latter sees, it says where the futures' mean is, and they keep their spread around it; beyond,
they keep the last shift. Whether that pays is measured by `motion-predictor evaluate volume`.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from motion_predictor_ros.compiled import compiled
from motion_predictor_ros.prediction.covariance import joint_speeds
from motion_predictor_ros.volume.body import BodyShape

_ACCELERATION_FRAMES = 3


@dataclass(frozen=True)
class Outlook:
    """Futures of one person, and what says how far off they may be.

    Attributes:
        scale: Size of the person relative to the layout's body.
        times_s: After the observation.
        now: [m] observed last.
        ways: [m] futures, each beginning with what was observed last.
        weights: They sum to one.
        log_density: [nat] ranks futures.
        mean: [m] of the futures.
        deviation: [m] root mean square of the futures around it.
        shift: [m] how far the likeliest future was from their mean before they were moved.
        speeds: [m/s] observed last.
        accelerations: [m/s^2] observed last.
    """

    scale: float
    times_s: Float64[np.ndarray, ' time']
    now: Float64[np.ndarray, 'point xyz=3']
    ways: Float64[np.ndarray, 'future time+1 point xyz=3']
    weights: Float64[np.ndarray, ' future']
    log_density: Float64[np.ndarray, ' future']
    mean: Float64[np.ndarray, 'time point xyz=3']
    deviation: Float64[np.ndarray, 'time point']
    shift: Float64[np.ndarray, 'time point']
    speeds: Float64[np.ndarray, ' point']
    accelerations: Float64[np.ndarray, ' point']

    @property
    def futures(self) -> Float64[np.ndarray, 'future time point xyz=3']:
        """What may come [m]."""
        return self.ways[:, 1:]


def outlook(
    shape: BodyShape,
    observed: Float64[np.ndarray, 'time joint xyz=3'],
    period_s: float,
    futures: Float64[np.ndarray, 'future horizon joint xyz=3'],
    weights: Float64[np.ndarray, ' future'],
    log_density: Float64[np.ndarray, ' future'],
    times_s: Float64[np.ndarray, ' horizon'],
    likeliest: Float64[np.ndarray, 'some joint xyz=3'] | None = None,
) -> Outlook:
    """Put futures around the likeliest one.

    Args:
        observed: [m] on the model clock, `period_s` apart, newest last.
        times_s: Of the futures, and of the likeliest one as far as it goes.
        likeliest: [m]; None leaves the futures where they are.
    """
    scale = shape.scale(observed[-1])
    past = shape.points(observed, scale)
    ways = _ways(shape, past[-1], futures, scale)
    mean, deviation = _moments(ways, weights)
    shift = np.zeros_like(mean)
    if likeliest is not None:
        seen = min(len(likeliest), len(mean))
        shift[:seen] = shape.points(likeliest[:seen], scale) - mean[:seen]
        shift[seen:] = shift[seen - 1]
    ways[:, 1:] += shift
    return Outlook(
        scale=scale,
        times_s=times_s,
        now=past[-1],
        ways=ways,
        weights=weights,
        log_density=log_density,
        mean=mean + shift,
        deviation=deviation,
        shift=np.linalg.norm(shift, axis=-1),
        speeds=joint_speeds(past, period_s),
        accelerations=_accelerations(past, period_s),
    )


def _ways(
    shape: BodyShape,
    now: Float64[np.ndarray, 'point xyz=3'],
    futures: Float64[np.ndarray, 'future time joint xyz=3'],
    scale: float,
) -> Float64[np.ndarray, 'future time+1 point xyz=3']:
    """Let the points of futures begin at the observation [m]."""
    count, times, joints, _ = futures.shape
    ways = np.empty((count, 1 + times, len(now), 3))
    ways[:, 0] = now
    ways[:, 1:, :joints] = futures
    ways[:, 1:, joints:] = shape.tip_points(futures, scale)
    return ways


@compiled
def _moments(
    ways: Float64[np.ndarray, 'future time+1 point xyz=3'],
    weights: Float64[np.ndarray, ' future'],
) -> tuple[Float64[np.ndarray, 'time point xyz=3'], Float64[np.ndarray, 'time point']]:
    """Return the futures' mean and their root mean square distance from it [m]."""
    futures, times, count, _ = ways.shape
    mean, squares = np.zeros((times, count, 3)), np.zeros((times, count))
    for future in range(futures):
        mean += weights[future] * ways[future]
    for future in range(futures):
        for time in range(1, times):
            for point in range(count):
                x = ways[future, time, point, 0] - mean[time, point, 0]
                y = ways[future, time, point, 1] - mean[time, point, 1]
                z = ways[future, time, point, 2] - mean[time, point, 2]
                squares[time, point] += weights[future] * (x * x + y * y + z * z)
    return mean[1:], np.sqrt(squares[1:])


def _accelerations(
    past: Float64[np.ndarray, 'time point xyz=3'], period_s: float
) -> Float64[np.ndarray, ' point']:
    """Return the second difference over a few frames, where noise weighs little [m/s^2]."""
    step = min(_ACCELERATION_FRAMES, (len(past) - 1) // 2)
    if step < 1:
        return np.zeros(past.shape[1])
    second = past[-1] - 2.0 * past[-1 - step] + past[-1 - 2 * step]
    return np.linalg.norm(second, axis=-1) / (step * period_s) ** 2
