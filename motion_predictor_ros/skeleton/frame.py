# SPDX-License-Identifier: Apache-2.0
"""Observations between the stages: one person at one time, all people of a message, one window.

Stage: skeleton. `Source.decode` returns an `Observation`, `PersonBuffer` turns its frames into a
`Window`; next stage: prediction.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64

from motion_predictor_ros.conventions import NS_PER_S
from motion_predictor_ros.errors import SkeletonFormatError

Pose = Float64[np.ndarray, 'joint xyz=3']
"""Positions of one person at one time [m]; NaN where a joint was not observed."""

Motion = Float64[np.ndarray, 'time joint xyz=3']
"""Positions of one person over time [m]."""

JointMask = Bool[np.ndarray, ' joint']
BoneLengths = Float64[np.ndarray, ' bone']
"""Length of each bone [m]; NaN where unknown."""


class TrackingState(IntEnum):
    """What the tracker says of a person; the values are those of Skeleton.msg."""

    UNKNOWN = 0
    TRACKED = 1
    SEARCHING = 2
    LOST = 3


class Validity(IntEnum):
    """Whether a prediction may be used; the values are those of PredictedMotion.msg."""

    OK = 0
    WARMING_UP = 1
    INCOMPLETE = 2
    OUT_OF_DISTRIBUTION = 3
    NOT_CONVERGED = 4
    STALE = 5


@dataclass(frozen=True)
class SkeletonFrame:
    """One person at one time, joints in the order of the model's layout.

    Attributes:
        stamp_ns: Of this person; a tracker may lag behind the observation's stamp.
        positions: [m] in the observation's frame; NaN where a joint was not observed.
        confidences: 0..1; 0 where a joint was not observed.
        inferred: Joints that the source never gives and that were put in place by the others, with
            confidence 0; None if there are none.
        bone_lengths: [m] this person's own, in the order of the layout's bones; NaN where not
            known yet, None before `JointFilter`.
    """

    person_id: str
    stamp_ns: int
    positions: Pose
    confidences: Float32[np.ndarray, ' joint']
    tracking: TrackingState = TrackingState.TRACKED
    inferred: JointMask | None = None
    bone_lengths: BoneLengths | None = None


@dataclass(frozen=True)
class Rejection:
    """Something that was left out: a message, a person, a detection or some joints.

    Attributes:
        person_id: Empty if the source gives none, or if the whole message was refused.
        reason: Key under which it is counted.
    """

    person_id: str
    reason: str
    message: str


@dataclass(frozen=True)
class Observation:
    """All people of one message, in one frame.

    Attributes:
        stamp_ns: Newest time at which people were observed.
        rejected: People whom the source lists and who cannot be used: they are there, but it is
            not known where.
        filtered: What was left out without costing a person: single joints, other classes, frames
            of the robot.
        estimated: Whether the stamp was estimated, because an empty message has none.
        joint_names: Joints in the order of the people's arrays; empty: those of the layout.
    """

    stamp_ns: int
    frame_id: str
    people: tuple[SkeletonFrame, ...]
    rejected: tuple[Rejection, ...] = ()
    filtered: tuple[Rejection, ...] = ()
    estimated: bool = False
    joint_names: tuple[str, ...] = ()

    @classmethod
    def from_arrays(
        cls,
        stamp_s: float,
        joint_names: Sequence[str],
        people: Mapping[str, Pose],
        frame_id: str = 'world',
    ) -> 'Observation':
        """Return an observation that `Pipeline.step` takes as it takes a message.

        Args:
            stamp_s: When people were observed, in seconds [s]; positive.
            joint_names: All joints of parameter `skeleton.layout`, in any order; others are
                ignored.
            people: Positions by id [m]; NaN where a joint was not observed. z points up, else set
                parameter `skeleton.up`: only a frame in which up points down is noticed.

        Raises:
            SkeletonFormatError: The stamp is no finite number, or positions have another shape.
        """
        try:
            is_finite = math.isfinite(stamp_s)
        except TypeError:
            is_finite = False
        if not is_finite:
            raise SkeletonFormatError('bad_stamp', f'stamp_s is {stamp_s!r}, expected seconds')
        try:
            items = people.items()
        except AttributeError as error:
            text = f'people is a {type(people).__name__}, expected positions by id'
            raise SkeletonFormatError('layout_mismatch', text) from error
        stamp_ns = round(stamp_s * NS_PER_S)
        arrays = {key: _positions(key, value, len(joint_names)) for key, value in items}
        frames = tuple(
            SkeletonFrame(
                person_id,
                stamp_ns,
                positions,
                (~np.isnan(positions).any(axis=1)).astype(np.float32),
            )
            for person_id, positions in arrays.items()
        )
        return cls(stamp_ns, frame_id, frames, joint_names=tuple(joint_names))


def _positions(person_id: str, values: Any, joints: int) -> Pose:
    """Return one person's positions as an array, or raise `SkeletonFormatError`."""
    try:
        positions = np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        text = f'person {person_id!r}: positions [joint, xyz] are no numbers: {error}'
        raise SkeletonFormatError('layout_mismatch', text) from error
    if positions.shape != (joints, 3):
        raise SkeletonFormatError(
            'layout_mismatch',
            f'person {person_id!r}: positions have shape {positions.shape}, expected [joint, xyz] '
            f'of {joints} joints: {(joints, 3)}',
        )
    return positions


@dataclass(frozen=True)
class Window:
    """One person's last second on the model clock, ending at the observation's stamp.

    Attributes:
        positions: [m], always finite; oldest frame first, the last one at `stamp_ns`.
        observed: True where the value rests on an observation, False where it was filled.
        confidences: 0..1, 0 where filled.
        restarted: The person's history began anew since the previous window (gap, jump, first
            window): state carried over from earlier windows is void.
        inferred: Joints that the source never gives, put in place by the others; None if it gives
            them all.
        bone_lengths: [m] the person's own; see `SkeletonFrame`.

    A joint that was out of sight stands where its nearest seen neighbour does, never observed.
    """

    person_id: str
    stamp_ns: int
    positions: Motion
    observed: Bool[np.ndarray, 'time joint']
    confidences: Float32[np.ndarray, 'time joint']
    restarted: bool
    inferred: JointMask | None = None
    bone_lengths: BoneLengths | None = None

    @property
    def seen(self) -> JointMask:
        """Which joints were in sight; the others are where the nearest seen one is."""
        return np.asarray(self.observed.any(axis=0))


@dataclass(frozen=True)
class NotReady:
    """Why a person has no window yet."""

    person_id: str
    stamp_ns: int
    validity: Validity
    reason: str
