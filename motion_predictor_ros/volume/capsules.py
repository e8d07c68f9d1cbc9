# SPDX-License-Identifier: Apache-2.0
"""Bodies of weighted futures as capsules at a few times.

Stage: volume. What stands between two given times is covered: a capsule is as much thicker as its
ends move until the next one takes over, so that no volume misses what a body sweeps.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Float64, Int64

from motion_predictor_ros.volume import kernels
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
        kernels.widen_bounds(corners, self.starts, self.ends, self.radii)
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
    kernels.sweep(
        np.ascontiguousarray(points), middles, every, margins, shape.capsules, scale * shape.radii,
        np.empty(points.shape[2]), starts, ends, radii,
    )  # fmt: skip
    return Bodies(starts, ends, radii, weights, times_s[middles])


def _middles(times: int, every: int) -> Int64[np.ndarray, ' pose']:
    """Return the middle one of each group of `every` consecutive times."""
    firsts = np.arange(0, times, every)
    return (firsts + np.minimum(firsts + every, times) - 1) // 2


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
