# SPDX-License-Identifier: Apache-2.0
"""Bodies of weighted futures as capsules at a few times.

Stage: volume. What stands between two given times is covered: a capsule is as much thicker as its
ends move until the next one takes over, so that no volume misses what a body sweeps.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Float64, Int64

from motion_predictor_ros.runtime.jit import compiled
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

    @cached_property
    def bounds(self) -> tuple[Float64[np.ndarray, 'xyz=3'], Float64[np.ndarray, 'xyz=3']]:
        """Lowest and highest corner of a box around everything [m]."""
        low, high = _bounds(self.starts, self.ends, self.radii)
        return low, high

    def inflated(self, margin_m: float) -> 'Bodies':
        """Return thicker capsules."""
        return replace(self, radii=self.radii + margin_m)

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
    middles = _middles(points.shape[1], every)
    if inflation is None:
        wide = np.zeros((len(middles), points.shape[2]))
    else:
        wide = _largest(inflation, every)
    starts, ends, radii = _swept(
        np.ascontiguousarray(points), middles, every, wide, shape.capsules, scale * shape.radii
    )
    return Bodies(starts, ends, radii, weights, times_s[middles])


@compiled
def _bounds(
    starts: Float64[np.ndarray, 'future pose capsule xyz=3'],
    ends: Float64[np.ndarray, 'future pose capsule xyz=3'],
    radii: Float64[np.ndarray, 'future pose capsule'],
) -> Float64[np.ndarray, 'two xyz=3']:
    corners = np.empty((2, 3))
    corners[0], corners[1] = np.inf, -np.inf
    futures, poses, capsules = radii.shape
    for future in range(futures):
        for pose in range(poses):
            for capsule in range(capsules):
                reach = radii[future, pose, capsule]
                for axis in range(3):
                    one, two = (
                        starts[future, pose, capsule, axis],
                        ends[future, pose, capsule, axis],
                    )
                    corners[0, axis] = min(corners[0, axis], min(one, two) - reach)
                    corners[1, axis] = max(corners[1, axis], max(one, two) + reach)
    return corners


def _middles(times: int, every: int) -> Int64[np.ndarray, ' pose']:
    """Return the middle one of each group of `every` consecutive times."""
    firsts = np.arange(0, times, every)
    return (firsts + np.minimum(firsts + every, times) - 1) // 2


@compiled
def _swept(
    points: Float64[np.ndarray, 'future time point xyz=3'],
    middles: Int64[np.ndarray, ' pose'],
    every: int,
    wide: Float64[np.ndarray, 'pose point'],
    capsules: Int64[np.ndarray, 'capsule 2'],
    thick: Float64[np.ndarray, ' capsule'],
) -> tuple[
    Float64[np.ndarray, 'future pose capsule xyz=3'],
    Float64[np.ndarray, 'future pose capsule xyz=3'],
    Float64[np.ndarray, 'future pose capsule'],
]:
    """Return starts, ends and radii of capsules at the middle times.

    Args:
        wide: [m] to add at each point.
        thick: [m] radii of the body.
    """
    futures, poses, parts = len(points), len(middles), len(capsules)
    starts = np.empty((futures, poses, parts, 3))
    ends = np.empty((futures, poses, parts, 3))
    radii = np.empty((futures, poses, parts))
    reach = np.empty(points.shape[2])
    for future in range(futures):
        for pose, middle in enumerate(middles):
            _reach(points[future], middle, pose * every, every, reach)
            here = points[future, middle]
            for part in range(parts):
                first, last = capsules[part]
                for axis in range(3):
                    starts[future, pose, part, axis] = here[first, axis]
                    ends[future, pose, part, axis] = here[last, axis]
                more = max(reach[first] + wide[pose, first], reach[last] + wide[pose, last])
                radii[future, pose, part] = thick[part] + more
    return starts, ends, radii


@compiled
def _reach(points, middle, first, every, reach):  # type: ignore[no-untyped-def]
    """Find how far points go from the middle time until half way to the next group [m].

    Lines are straight, so the farthest places are given times or the half-way points.
    """
    times, count, _ = points.shape
    last = min(first + every, times)
    reach[:] = 0.0
    for half in range(max(2 * first - 1, 0), min(2 * last, 2 * times - 1)):
        low, high = half // 2, (half + 1) // 2
        for point in range(count):
            away2 = 0.0
            for axis in range(3):
                place = 0.5 * (points[low, point, axis] + points[high, point, axis])
                away2 += (place - points[middle, point, axis]) ** 2
            reach[point] = max(reach[point], away2)
    reach[:] = np.sqrt(reach)


def _largest(
    inflation: Float64[np.ndarray, 'time point'], every: int
) -> Float64[np.ndarray, 'pose point']:
    """Return the largest inflation of each group; it may grow until half way to the next one."""
    later = np.concatenate([inflation[1:], inflation[-1:]])
    largest = np.maximum(inflation, later)
    firsts = range(0, len(inflation), every)
    return np.stack([largest[first : first + every].max(axis=0) for first in firsts])


Swept = tuple[
    Float64[np.ndarray, 'part xyz=3'],
    Float64[np.ndarray, 'part xyz=3'],
    Float64[np.ndarray, ' part'],
]


def swept_capsules(bodies: Bodies) -> Swept:
    """Return starts, ends and radii of one capsule per part [m]."""
    parts = bodies.radii.shape[-1]
    starts = bodies.starts.reshape(-1, parts, 3)
    ends = bodies.ends.reshape(-1, parts, 3)
    start = 0.5 * (starts.min(axis=0) + starts.max(axis=0))
    end = 0.5 * (ends.min(axis=0) + ends.max(axis=0))
    away = np.maximum(np.linalg.norm(starts - start, axis=-1), np.linalg.norm(ends - end, axis=-1))
    return start, end, (away + bodies.radii.reshape(-1, parts)).max(axis=0)
