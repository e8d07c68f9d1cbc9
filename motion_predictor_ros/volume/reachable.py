# SPDX-License-Identifier: Apache-2.0
"""Where a person can get at a bounded speed, whatever they do: the fall-back without learning.

Stage: volume. Every point stays within e + v t of where it was last observed, t counted from that
observation: v = 2.0 m/s for arms, 1.6 m/s for the rest, the approach speeds of ISO 13855. People
who run break that bound (feet do at a walk), so a calibration says by which factor speeds had to
grow to hold for as many people as the level asks; without one the factor is 1.
"""

import numpy as np
from jaxtyping import Float64

from motion_predictor_ros.config import VolumeConfig
from motion_predictor_ros.errors import DataError
from motion_predictor_ros.volume.body import BodyShape
from motion_predictor_ros.volume.capsules import Bodies, bodies


def point_speeds(shape: BodyShape, config: VolumeConfig) -> Float64[np.ndarray, ' point']:
    """Return how fast points are taken to be [m/s]."""
    return np.where(shape.upper, config.upper_speed_m_s, config.body_speed_m_s)


def reachable_bodies(
    shape: BodyShape,
    pose: Float64[np.ndarray, 'joint xyz=3'],
    times_s: Float64[np.ndarray, ' pose'],
    config: VolumeConfig,
    *,
    factor: float = 1.0,
    age_s: float = 0.0,
) -> Bodies:
    """Return what can be reached at each time; sets grow, so the last time of a window is enough.

    Args:
        pose: [m] last observed; NaN where a joint was not. Such a joint is somewhere within its
            bones' reach of the nearest one that was.
        factor: On all speeds.
        age_s: How old the observation is: times count from now [s].

    Raises:
        DataError: No joint was observed.
    """
    scale = shape.scale(pose)
    placed, away = _placed(shape, pose, scale)
    points = shape.points(placed, scale)
    speeds = factor * point_speeds(shape, config)
    errors = _point_errors(shape, away, scale)
    inflation = config.measurement_error_m + np.outer(times_s + age_s, speeds) + errors
    # One by one: `bodies` lets each last until the next, but what is reached later is not yet.
    reached = [
        bodies(shape, points[None, None], np.ones(1), times_s[[time]], scale, inflation[[time]])
        for time in range(len(times_s))
    ]
    return Bodies(
        np.concatenate([part.starts for part in reached], axis=1),
        np.concatenate([part.ends for part in reached], axis=1),
        np.concatenate([part.radii for part in reached], axis=1),
        np.ones(1),
        times_s,
    )


def needed_factor(
    shape: BodyShape,
    now: Float64[np.ndarray, 'point xyz=3'],
    later: Float64[np.ndarray, 'time point xyz=3'],
    times_s: Float64[np.ndarray, ' time'],
    config: VolumeConfig,
) -> float:
    """Return by which factor speeds had to grow to reach all of `later` [m] from `now`."""
    moved = np.linalg.norm(later - now, axis=-1) - config.measurement_error_m
    return float((np.maximum(moved, 0.0) / np.outer(times_s, point_speeds(shape, config))).max())


def _placed(
    shape: BodyShape, pose: Float64[np.ndarray, 'joint xyz=3'], scale: float
) -> tuple[Float64[np.ndarray, 'joint xyz=3'], Float64[np.ndarray, ' joint']]:
    """Put unobserved joints where the nearest observed one is, and return their error [m]."""
    joints = len(pose)
    away = np.where(np.isfinite(pose).all(axis=-1), 0.0, np.inf)
    if not np.isfinite(away).any():
        raise DataError('no joint was observed: there is no place from which to reach')
    placed = pose.copy()
    for _ in range(joints if away.any() else 0):
        for (parent, child), length in zip(shape.layout.bones, scale * shape.lengths, strict=True):
            for known, other in ((parent, child), (child, parent)):
                if away[known] + length < away[other]:
                    placed[other], away[other] = placed[known], away[known] + length
    return placed, away


def _point_errors(
    shape: BodyShape, away: Float64[np.ndarray, ' joint'], scale: float
) -> Float64[np.ndarray, ' point']:
    """Return how far off points may be, of joints that may be `away` from where they were put [m].

    The direction in which the tip of such a joint points is unknown.
    """
    errors = shape.of_points(away)
    tips = len(shape.layout.joint_names)
    unsure = errors[tips:] > 0.0
    errors[tips:] += np.where(unsure, 2.0 * scale * shape.tip_lengths, 0.0)
    return errors
