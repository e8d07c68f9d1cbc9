# SPDX-License-Identifier: Apache-2.0
"""Bodies of weighted futures as capsules at a few times.

Stage: volume. What stands between two given times is covered: a capsule is as much thicker as its
ends move until the next one takes over, so that no volume misses what a body sweeps.
"""

from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np
from jaxtyping import Float64, Int64

from motion_predictor_ros.runtime.jit import compiled, inlined
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
        corners = np.repeat([[np.inf], [-np.inf]], 3, axis=1)
        _widen(corners, self.starts, self.ends, self.radii)
        return corners[0], corners[1]

    def inflated(self, margin_m: float) -> 'Bodies':
        """Return thicker capsules."""
        return replace(self, radii=self.radii + margin_m)

    def at(self, poses: slice | Int64[np.ndarray, ' pose']) -> 'Bodies':
        """Return the capsules of some poses."""
        places = self.starts[:, poses], self.ends[:, poses], self.radii[:, poses]
        return Bodies(*places, self.weights, self.times_s[poses])


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
        margins = np.zeros((len(middles), points.shape[2]))
    else:
        margins = _largest(inflation, every)
    shape_of_radii = len(points), len(middles), len(shape.capsules)
    starts, ends = (np.empty((*shape_of_radii, 3)) for _ in range(2))
    radii = np.empty(shape_of_radii)
    _sweep(
        np.ascontiguousarray(points), middles, every, margins, shape.capsules, scale * shape.radii,
        np.empty(points.shape[2]), starts, ends, radii,
    )  # fmt: skip
    return Bodies(starts, ends, radii, weights, times_s[middles])


@compiled
def _widen(
    corners: Float64[np.ndarray, 'two xyz=3'],
    starts: Float64[np.ndarray, 'future pose capsule xyz=3'],
    ends: Float64[np.ndarray, 'future pose capsule xyz=3'],
    radii: Float64[np.ndarray, 'future pose capsule'],
) -> None:
    """Widen a box to hold all capsules."""
    futures, poses, capsules = radii.shape
    for future in range(futures):
        for pose in range(poses):
            for capsule in range(capsules):
                reach = radii[future, pose, capsule]
                for axis in range(3):
                    one = starts[future, pose, capsule, axis]
                    two = ends[future, pose, capsule, axis]
                    corners[0, axis] = min(corners[0, axis], min(one, two) - reach)
                    corners[1, axis] = max(corners[1, axis], max(one, two) + reach)


def _middles(times: int, every: int) -> Int64[np.ndarray, ' pose']:
    """Return the middle one of each group of `every` consecutive times."""
    firsts = np.arange(0, times, every)
    return (firsts + np.minimum(firsts + every, times) - 1) // 2


@compiled
def _sweep(
    points: Float64[np.ndarray, 'future time point xyz=3'],
    middles: Int64[np.ndarray, ' pose'],
    every: int,
    margins: Float64[np.ndarray, 'pose point'],
    capsules: Int64[np.ndarray, 'capsule 2'],
    body_radii: Float64[np.ndarray, ' capsule'],
    reach: Float64[np.ndarray, ' point'],
    starts: Float64[np.ndarray, 'future pose capsule xyz=3'],
    ends: Float64[np.ndarray, 'future pose capsule xyz=3'],
    radii: Float64[np.ndarray, 'future pose capsule'],
) -> None:
    """Write starts, ends and radii of capsules at the middle times.

    Args:
        margins: [m] to add at each point.
        body_radii: [m] radii of the body.
        reach: Workspace.
    """
    for future in range(len(points)):
        for pose in range(len(middles)):
            middle = middles[pose]
            _reach(points[future], middle, pose * every, every, reach)
            for part in range(len(capsules)):
                first, last = capsules[part, 0], capsules[part, 1]
                for axis in range(3):
                    starts[future, pose, part, axis] = points[future, middle, first, axis]
                    ends[future, pose, part, axis] = points[future, middle, last, axis]
                margin = max(
                    reach[first] + margins[pose, first], reach[last] + margins[pose, last]
                )
                radii[future, pose, part] = body_radii[part] + margin


@partial(inlined, early=True)
def _reach(
    points: Float64[np.ndarray, 'time point xyz=3'],
    middle: int,
    first: int,
    every: int,
    reach: Float64[np.ndarray, ' point'],
) -> None:
    """Write how far points go from the middle time until half way to the next group [m].

    Lines are straight, so the farthest places are given times or the half-way points.
    """
    times, count, _ = points.shape
    last = min(first + every, times)
    begin, end = max(2 * first - 1, 0), min(2 * last, 2 * times - 1)
    for point in range(count):
        farthest2 = 0.0
        for half in range(begin, end):
            low, high = half // 2, (half + 1) // 2
            away2 = 0.0
            for axis in range(3):
                place = 0.5 * (points[low, point, axis] + points[high, point, axis])
                away = place - points[middle, point, axis]
                away2 += away * away
            farthest2 = max(farthest2, away2)
        reach[point] = np.sqrt(farthest2)


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
