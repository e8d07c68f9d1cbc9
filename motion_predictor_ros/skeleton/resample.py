# SPDX-License-Identifier: Apache-2.0
"""Interpolate joints seen at uneven times onto the even times of the model clock.

Stage: skeleton. The weights depend on the stamps alone and are the same for every axis: what comes
out turns and shifts with the room, as the equivariant model behind it needs. Limiters that look at
the values (monotone splines, per-axis filters) would break that.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Float64

BRIDGE_S = 0.11
"""Samples up to this far apart (10 Hz, with some jitter) say what happened between them [s]."""

SAME_TIME_S = 1e-6
"""Times this close are equal; stamps are rounded to nanoseconds [s]."""


class Resampled(NamedTuple):
    """One person on the model clock.

    Attributes:
        positions: [m], always finite.
        observed: True where the value rests on observations.
        confidences: 0 where it does not.
    """

    positions: Float64[np.ndarray, 'time joint xyz=3']
    observed: Bool[np.ndarray, 'time joint']
    confidences: Float32[np.ndarray, 'time joint']


def resample(
    stamps_s: Float64[np.ndarray, ' sample'],
    positions: Float64[np.ndarray, 'sample joint xyz=3'],
    confidences: Float32[np.ndarray, 'sample joint'],
    times_s: Float64[np.ndarray, ' time'],
) -> Resampled:
    """Interpolate at `times_s`.

    A value rests on observations if the samples of that joint around it are at most `BRIDGE_S`
    apart, or if one was taken at that very time. Others are filled: straight across a gap, held
    beyond the ends.

    Args:
        stamps_s: Increasing.
        positions: NaN where a joint was not observed; each joint is observed at least once.
    """
    shape = (len(times_s), positions.shape[1])
    out, sure = np.empty((*shape, 3)), np.empty(shape, dtype=np.float32)
    observed = np.empty(shape, dtype=bool)
    for joints, rows in _groups(~np.isnan(positions[..., 0])):
        clock = _Brackets(stamps_s[rows], times_s)
        out[:, joints] = clock.cubic(positions[rows][:, joints])
        observed[:, joints] = clock.observed[:, None]
        sure[:, joints] = clock.linear(confidences[rows][:, joints])
    sure[~observed] = 0
    return Resampled(out, observed, sure)


def _groups(
    seen: Bool[np.ndarray, 'sample joint'],
) -> list[tuple[slice | list[int], slice | Bool[np.ndarray, ' sample']]]:
    """Pair joints with the samples in which exactly they were seen: mostly, all with all."""
    if seen.all():
        return [(slice(None), slice(None))]
    patterns: dict[bytes, list[int]] = {}
    for joint, column in enumerate(seen.T):
        patterns.setdefault(column.tobytes(), []).append(joint)
    return [(joints, seen[:, joints[0]]) for joints in patterns.values()]


class _Brackets:
    """For each wanted time the two samples around it; beyond the ends the nearest one is held."""

    def __init__(
        self, stamps_s: Float64[np.ndarray, ' sample'], times_s: Float64[np.ndarray, ' time']
    ) -> None:
        left = np.searchsorted(stamps_s, times_s, side='right') - 1
        self._left = np.clip(left, 0, max(len(stamps_s) - 2, 0))
        self._right = np.minimum(self._left + 1, len(stamps_s) - 1)
        self._stamps_s = stamps_s
        before_s, after_s = stamps_s[self._left], stamps_s[self._right]
        self._span_s = after_s - before_s
        held_s = np.clip(times_s, before_s, after_s)
        self._part = (held_s - before_s) / np.where(self._span_s > 0, self._span_s, 1.0)
        off_s = np.minimum(np.abs(times_s - before_s), np.abs(times_s - after_s))
        between = (held_s == times_s) & (self._span_s <= BRIDGE_S)
        self.observed: Bool[np.ndarray, ' time'] = between | (off_s <= SAME_TIME_S)

    def linear(
        self, samples: Float32[np.ndarray, 'sample some']
    ) -> Float64[np.ndarray, 'time some']:
        part = self._part[:, None]
        straight: Float64[np.ndarray, 'time some']
        straight = (1 - part) * samples[self._left] + part * samples[self._right]
        return straight

    def cubic(
        self, samples: Float64[np.ndarray, 'sample some xyz=3']
    ) -> Float64[np.ndarray, 'time some xyz=3']:
        """Interpolate by cubic Hermite with central-difference slopes, straight across gaps.

        x(u) = (1-u) x0 + u x1 + u (1-u) [(1-u) (h m0 - d) + u (d - h m1)], with d = x1 - x0, h the
        time between the samples, m their slopes and u in 0..1 the place between them. The
        bracket, left out across gaps, would overshoot there.
        """
        curve: Float64[np.ndarray, 'time some xyz=3']
        part, span_s = self._part[:, None, None], self._span_s[:, None, None]
        before, after = samples[self._left], samples[self._right]
        curve = (1 - part) * before + part * after
        if len(samples) > 1:
            slopes, step = np.gradient(samples, self._stamps_s, axis=0), after - before
            bend = (1 - part) * (span_s * slopes[self._left] - step)
            bend += part * (step - span_s * slopes[self._right])
            curve += np.where(span_s <= BRIDGE_S, part * (1 - part), 0.0) * bend
        return curve
