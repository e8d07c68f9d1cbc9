# SPDX-License-Identifier: Apache-2.0
"""g(t): how far off points are, relative to one another, before a radius is calibrated.

Stage: volume. A fast arm is predicted worse than a standing foot, two seconds worse than one half:
errors are held against g, so that one calibrated number serves all people, points and times,
    log g = a_point + b . features(time, speeds, accelerations, spread of the futures)
The better g, the smaller the volume; coverage does not depend on it. Features are held within what
was seen when g was fitted.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from motion_predictor_ros.volume.outlook import Outlook

FEATURES = (
    'log time',
    'log time squared',
    'log speed of the point',
    'log mean speed',
    'log largest speed',
    'log speed of the point * log time',
    'log mean speed * log time',
    'log acceleration of the point',
    'log mean acceleration',
    'log deviation of the futures',
    'log mean deviation of the futures',
    'log shift of the futures',
)


@dataclass(frozen=True)
class Spread:
    """A fitted g, up to a factor.

    Attributes:
        offsets: Of log g at each point.
        slopes: Of log g in each feature, of unit variance when fitted.
        means, scales: Of features when fitted.
        lows, highs: Features are held between these.
    """

    offsets: Float64[np.ndarray, ' point']
    slopes: Float64[np.ndarray, ' feature']
    means: Float64[np.ndarray, ' feature']
    scales: Float64[np.ndarray, ' feature']
    lows: Float64[np.ndarray, ' feature']
    highs: Float64[np.ndarray, ' feature']

    def of(self, outlook: Outlook) -> Float64[np.ndarray, 'time point']:
        """Return g [m], to be multiplied by a calibrated radius."""
        seen = np.clip(features(outlook), self.lows, self.highs)
        return np.exp((seen - self.means) / self.scales @ self.slopes + self.offsets)


def features(outlook: Outlook) -> Float64[np.ndarray, 'time point feature']:
    """Return what g depends on."""
    time = np.log(outlook.times_s / 0.3)[:, None]
    speed, mean = np.log(outlook.speeds + 0.1), np.log(outlook.speeds.mean() + 0.1)
    deviation = outlook.deviation
    columns = (
        time,
        time**2,
        speed,
        mean,
        np.log(outlook.speeds.max() + 0.1),
        speed * time,
        mean * time,
        np.log(outlook.accelerations + 0.5),
        np.log(outlook.accelerations.mean() + 0.5),
        np.log(deviation + 0.02),
        np.log(deviation.mean(axis=1, keepdims=True) + 0.02),
        np.log(outlook.shift + 0.02),
    )
    return np.stack([np.broadcast_to(each, deviation.shape) for each in columns], axis=-1)
