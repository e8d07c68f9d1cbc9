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

from motion_predictor_ros.volume.body import BodyShape
from motion_predictor_ros.volume.capsules import Bodies, bodies
from motion_predictor_ros.volume.outlook import Outlook


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
class Choice:
    """Which futures stand for all.

    Attributes:
        breadth: How far from their mean futures stand, of where they were drawn.
        most: So many at most, as different from one another as can be: the radius is larger than
            what lies between them, and each costs time.
    """

    breadth: float
    most: int


def kept_futures(
    outlook: Outlook, level: float, choice: Choice, times: int
) -> Float64[np.ndarray, 'some time point xyz=3']:
    """Return the mean, and what is kept of the first `times` times of the densest futures [m]."""
    mean = outlook.mean[None, :times]
    if choice.breadth == 0.0 or choice.most == 1:
        return mean
    dense = densest(outlook.weights, outlook.log_density, level)
    away = choice.breadth * (outlook.futures[dense, :times] - mean)
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
    outlook: Outlook,
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
    points, times_s = with_now(outlook, kept)
    inflation = radius * np.concatenate([spread[:1], spread])
    first, last = window_frames(times_s, window_s)
    weights = np.full(len(points), 1.0 / len(points))
    return bodies(
        shape,
        points[:, first:last],
        weights,
        times_s[first:last],
        outlook.scale,
        inflation[first:last],
        every,
    )


def with_now(
    outlook: Outlook, futures: Float64[np.ndarray, 'some time point xyz=3']
) -> tuple[Float64[np.ndarray, 'some time+1 point xyz=3'], Float64[np.ndarray, ' time+1']]:
    """Let futures begin at the observation, so that what is swept from there on counts."""
    now = np.broadcast_to(outlook.now, (len(futures), 1, *outlook.now.shape))
    times_s = np.concatenate([[0.0], outlook.times_s[: futures.shape[1]]])
    return np.concatenate([now, futures], axis=1), times_s


def window_frames(
    times_s: Float64[np.ndarray, ' time'], window_s: tuple[float, float]
) -> tuple[int, int]:
    """Return the first time and the one after the last that together enclose the window."""
    first = int(np.searchsorted(times_s, window_s[0] + 1e-9, side='right')) - 1
    last = int(np.searchsorted(times_s, window_s[1] - 1e-9, side='left')) + 1
    return max(first, 0), min(last, len(times_s))
