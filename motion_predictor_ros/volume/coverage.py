# SPDX-License-Identifier: Apache-2.0
"""The coverage volume: the likeliest futures, made thicker by a calibrated radius.

Stage: volume. Of the futures the densest are taken until their weights sum to 1 - alpha; a few of
them that differ most, drawn in towards the mean, and the mean itself stand for all. A future that
comes true is scored by
    s = min over kept k of max over t and points of |X - X_k| / g(t)
and r_alpha is a conformal quantile of s over people the models had not seen (`calibration.py`).
Bodies of kept futures with radii larger by r_alpha g(t) then contain the whole future body with
probability >= 1 - alpha, jointly over times and parts, as long as the person in view is
exchangeable with those: no more is promised.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from motion_predictor_ros.prediction.uncertainty import joint_speeds
from motion_predictor_ros.runtime.jit import compiled
from motion_predictor_ros.volume.body import BodyShape
from motion_predictor_ros.volume.capsules import Bodies, bodies

_ACCELERATION_FRAMES = 3


@dataclass(frozen=True)
class BodyForecast:
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


def body_forecast(
    shape: BodyShape,
    observed: Float64[np.ndarray, 'time joint xyz=3'],
    period_s: float,
    futures: Float64[np.ndarray, 'future horizon joint xyz=3'],
    weights: Float64[np.ndarray, ' future'],
    log_density: Float64[np.ndarray, ' future'],
    times_s: Float64[np.ndarray, ' horizon'],
    likeliest: Float64[np.ndarray, 'some joint xyz=3'] | None = None,
) -> BodyForecast:
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
    return BodyForecast(
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


def densest(
    weights: Float64[np.ndarray, ' future'],
    log_density: Float64[np.ndarray, ' future'],
    share: float,
) -> Int64[np.ndarray, ' some']:
    """Return the densest futures whose weights sum to at least `share`, at least one."""
    order = np.argsort(-log_density, kind='stable')
    enough = int(np.searchsorted(np.cumsum(weights[order]), share - 1e-12)) + 1
    return order[: min(enough, len(order))]


@dataclass(frozen=True)
class ScenarioSelection:
    """Which futures stand for all.

    Attributes:
        breadth: How far from their mean futures stand, of where they were drawn.
        most: So many at most, as different from one another as can be: the radius is larger than
            what lies between them, and each costs time.
    """

    breadth: float
    most: int


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

    def of(self, body_forecast: BodyForecast) -> Float64[np.ndarray, 'time point']:
        """Return g [m], to be multiplied by a calibrated radius."""
        seen = np.clip(features(body_forecast), self.lows, self.highs)
        return np.exp((seen - self.means) / self.scales @ self.slopes + self.offsets)


def features(body_forecast: BodyForecast) -> Float64[np.ndarray, 'time point feature']:
    """Return what g depends on."""
    time = np.log(body_forecast.times_s / 0.3)[:, None]
    speed, mean = np.log(body_forecast.speeds + 0.1), np.log(body_forecast.speeds.mean() + 0.1)
    deviation = body_forecast.deviation
    columns = (
        time,
        time**2,
        speed,
        mean,
        np.log(body_forecast.speeds.max() + 0.1),
        speed * time,
        mean * time,
        np.log(body_forecast.accelerations + 0.5),
        np.log(body_forecast.accelerations.mean() + 0.5),
        np.log(deviation + 0.02),
        np.log(deviation.mean(axis=1, keepdims=True) + 0.02),
        np.log(body_forecast.shift + 0.02),
    )
    return np.stack([np.broadcast_to(each, deviation.shape) for each in columns], axis=-1)


def kept_futures(
    body_forecast: BodyForecast, level: float, choice: ScenarioSelection, times: int
) -> Float64[np.ndarray, 'some time point xyz=3']:
    """Return the mean, and what is kept of the first `times` times of the densest futures [m]."""
    mean = body_forecast.mean[None, :times]
    if choice.breadth == 0.0 or choice.most == 1:
        return mean
    dense = densest(body_forecast.weights, body_forecast.log_density, level)
    away = choice.breadth * (body_forecast.futures[dense, :times] - mean)
    kept = _apart(away, min(choice.most - 1, len(away)))
    return np.concatenate([mean, mean + away[kept]])


def _apart(
    places: Float64[np.ndarray, 'some time point xyz=3'], count: int
) -> Int64[np.ndarray, ' count']:
    """Choose, one after the other, the farthest from zero and from all that were chosen."""
    flat = places.reshape(len(places), -1)
    inner = flat @ flat.T
    own = inner.diagonal()
    least2, chosen = own.copy(), np.empty(count, dtype=np.int64)
    for place in range(count):
        chosen[place] = farthest = int(least2.argmax())
        least2 = np.minimum(least2, own + own[farthest] - 2.0 * inner[farthest])
    return chosen


def score(
    kept: Float64[np.ndarray, 'some time point xyz=3'],
    truth: Float64[np.ndarray, 'time point xyz=3'],
    spread: Float64[np.ndarray, 'time point'],
) -> float:
    """Return s of a future that came true."""
    off = np.linalg.norm(kept - truth, axis=-1) / spread
    return float(off.max(axis=(1, 2)).min())


def region(
    shape: BodyShape,
    body_forecast: BodyForecast,
    kept: Float64[np.ndarray, 'some time point xyz=3'],
    spread: Float64[np.ndarray, 'time point'],
    radius: float,
    window_s: tuple[float, float],
    every: int = 1,
) -> Bodies:
    """Return the coverage volume within a window of time, as capsules.

    Args:
        spread: g at the times of `kept`.
        radius: r_alpha.
        window_s: From, to; times outside that are needed to sweep up to its ends are taken too.
    """
    points, times_s = with_now(body_forecast, kept)
    inflation = radius * np.concatenate([spread[:1], spread])
    first, last = window_frames(times_s, window_s)
    weights = np.full(len(points), 1.0 / len(points))
    return bodies(
        shape,
        points[:, first:last],
        weights,
        times_s[first:last],
        body_forecast.scale,
        inflation[first:last],
        every,
    )


def with_now(
    body_forecast: BodyForecast, futures: Float64[np.ndarray, 'some time point xyz=3']
) -> tuple[Float64[np.ndarray, 'some time+1 point xyz=3'], Float64[np.ndarray, ' time+1']]:
    """Let futures begin at the observation, so that what is swept from there on counts."""
    now = np.broadcast_to(body_forecast.now, (len(futures), 1, *body_forecast.now.shape))
    times_s = np.concatenate([[0.0], body_forecast.times_s[: futures.shape[1]]])
    return np.concatenate([now, futures], axis=1), times_s


def window_frames(
    times_s: Float64[np.ndarray, ' time'], window_s: tuple[float, float]
) -> tuple[int, int]:
    """Return the first time and the one after the last that together enclose the window."""
    first = int(np.searchsorted(times_s, window_s[0] + 1e-9, side='right')) - 1
    last = int(np.searchsorted(times_s, window_s[1] - 1e-9, side='left')) + 1
    return max(first, 0), min(last, len(times_s))
