# SPDX-License-Identifier: Apache-2.0
"""Bodies of weighted futures, or of a region, as capsules at a few times.

Stage: volume. What stands between two given times is covered: a capsule is as much thicker as its
ends move until the next one takes over, so that no volume misses what a body sweeps.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from motion_predictor_ros.volume.body import BodyShape


@dataclass(frozen=True)
class Bodies:
    """Capsules of one person.

    Attributes:
        starts, ends: [m] of the segments.
        radii: [m].
        weights: Probability of each future.
        times_s: After the observation.
    """

    starts: Float64[np.ndarray, 'future pose capsule xyz=3']
    ends: Float64[np.ndarray, 'future pose capsule xyz=3']
    radii: Float64[np.ndarray, 'future pose capsule']
    weights: Float64[np.ndarray, ' future']
    times_s: Float64[np.ndarray, ' pose']

    @property
    def bounds(self) -> tuple[Float64[np.ndarray, 'xyz=3'], Float64[np.ndarray, 'xyz=3']]:
        """Lowest and highest corner of a box around everything [m]."""
        reach = self.radii[..., None]
        axes = (0, 1, 2)
        low = np.minimum(self.starts, self.ends) - reach
        high = np.maximum(self.starts, self.ends) + reach
        return low.min(axis=axes), high.max(axis=axes)

    def at(self, index: int) -> 'Bodies':
        """Return the capsules of one pose."""
        one = slice(index, index + 1)
        return Bodies(
            self.starts[:, one],
            self.ends[:, one],
            self.radii[:, one],
            self.weights,
            self.times_s[one],
        )


def bodies(
    shape: BodyShape,
    points: Float64[np.ndarray, 'future time point xyz=3'],
    weights: Float64[np.ndarray, ' future'],
    times_s: Float64[np.ndarray, ' time'],
    scale: float = 1.0,
    inflation: Float64[np.ndarray, 'time point'] | None = None,
    every: int = 1,
) -> Bodies:
    """Put capsules around points that move in straight lines from one time to the next.

    Args:
        points: [m], of `BodyShape.points`.
        inflation: [m] how far off each point may be; none by default.
        every: How many times share one set of capsules, made thicker by what points move around
            the middle one. One keeps them all.
    """
    middles, reach = _shared(points, every)
    centres = points[:, middles]
    if inflation is not None:
        reach = reach + _largest(inflation, every)
    first, last = shape.capsules.T
    thicker = np.maximum(reach[..., first], reach[..., last])
    return Bodies(
        starts=centres[:, :, first],
        ends=centres[:, :, last],
        radii=scale * shape.radii + thicker,
        weights=weights,
        times_s=times_s[middles],
    )


def _middles(times: int, every: int) -> np.ndarray:
    """Return the middle one of each group of `every` consecutive times."""
    firsts = np.arange(0, times, every)
    return (firsts + np.minimum(firsts + every, times) - 1) // 2


def _shared(
    points: Float64[np.ndarray, 'future time point xyz=3'], every: int
) -> tuple[np.ndarray, Float64[np.ndarray, 'future pose point']]:
    """Return the middle times, and how far points go from there until half way to the next group.

    Lines are straight, so the farthest places are given times or the half-way points.
    """
    times = points.shape[1]
    middles = _middles(times, every)
    half = 0.5 * (points[:, 1:] + points[:, :-1])
    reach = np.zeros((len(points), len(middles), points.shape[2]))
    for group, middle in enumerate(middles):
        first, last = group * every, min((group + 1) * every, times)
        places = np.concatenate(
            [points[:, first:last], half[:, max(first - 1, 0) : min(last, times - 1)]], axis=1
        )
        away = np.linalg.norm(places - points[:, middle : middle + 1], axis=-1)
        reach[:, group] = away.max(axis=1)
    return middles, reach


def _largest(
    inflation: Float64[np.ndarray, 'time point'], every: int
) -> Float64[np.ndarray, 'pose point']:
    """Return the largest inflation of each group; it may grow until half way to the next one."""
    later = np.concatenate([inflation[1:], inflation[-1:]])
    largest = np.maximum(inflation, later)
    firsts = range(0, len(inflation), every)
    return np.stack([largest[first : first + every].max(axis=0) for first in firsts])
