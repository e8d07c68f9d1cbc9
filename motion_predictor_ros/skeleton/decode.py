# SPDX-License-Identifier: Apache-2.0
"""Read a SkeletonArray message, refusing what cannot be true and saying why.

Stage: skeleton. A pure function of one message: whether it agrees with the one before (its frame,
its stamp) is for those who remember. A fault of the message raises; a fault of one person drops
that person only, so that one broken track does not hide the others.
"""

from typing import Any

import numpy as np
from jaxtyping import Float32, Float64, Int64

from motion_predictor_ros.config import SkeletonConfig
from motion_predictor_ros.conventions import NS_PER_S
from motion_predictor_ros.errors import SkeletonFormatError
from motion_predictor_ros.skeleton.frame import (
    Observation,
    Rejection,
    SkeletonFrame,
    TrackingState,
)
from motion_predictor_ros.skeleton.layout import SkeletonLayout

_NO_OBSERVATION = {
    TrackingState.LOST: ('lost', 'the tracker says it is gone'),
    TrackingState.SEARCHING: (
        'searching',
        "not seen in this frame; positions are the tracker's guess, not an observation",
    ),
}


def decode(msg: Any, layout: SkeletonLayout, config: SkeletonConfig) -> Observation:
    """Turn a message into people whose joints are in the layout's order.

    Args:
        msg: Anything with the fields of SkeletonArray.msg: a generated message, one read from a
            bag, or a plain namespace.

    Raises:
        SkeletonFormatError: `bad_stamp`, `unknown_frame` or `layout_mismatch`; nothing in the
            message can be used. Faults of single people are in `Observation.rejected` instead.
    """
    stamp_ns = _stamp_ns(msg.header.stamp)
    frame_id = _frame_id(msg.header.frame_id, config)
    order, received = _order(msg, layout)
    people: list[SkeletonFrame] = []
    rejected: list[Rejection] = []
    seen_ids: set[str] = set()
    for person in msg.persons:
        try:
            _check_identity(person.person_id, seen_ids)
            _check_tracking(person)
            _check_room(person.person_id, len(people), config)
            people.append(_person(person, stamp_ns, order, received, config))
        except SkeletonFormatError as error:
            rejected.append(Rejection(person.person_id, error.reason, str(error)))
    return Observation(stamp_ns, frame_id, tuple(people), tuple(rejected))


def _stamp_ns(stamp: Any) -> int:
    sec, nanosec = int(stamp.sec), int(stamp.nanosec)
    stamp_ns = sec * NS_PER_S + nanosec
    if sec < 0 or not 0 <= nanosec < NS_PER_S or stamp_ns == 0:
        raise SkeletonFormatError(
            'bad_stamp',
            f'header.stamp is {sec} s + {nanosec} ns; expected a positive time with nanosec below '
            '1e9; does the source fill the stamp?',
        )
    return stamp_ns


def _frame_id(frame_id: str, config: SkeletonConfig) -> str:
    if not frame_id or (config.frame and frame_id != config.frame):
        raise SkeletonFormatError(
            'unknown_frame',
            f'header.frame_id is {frame_id!r}, expected {config.frame or "a name"!r}; see '
            'parameter "skeleton.frame"',
        )
    return frame_id


def _order(msg: Any, layout: SkeletonLayout) -> tuple[Int64[np.ndarray, ' joint'], int]:
    """Return where each joint stands in the message, and how many joints it holds."""
    names = tuple(msg.joint_names) or layout.joint_names
    if not len(msg.joint_names) and msg.layout not in ('', layout.name):
        raise SkeletonFormatError(
            'layout_mismatch',
            f'the message has layout {msg.layout!r} and no joint_names; expected parameter '
            f'"skeleton.layout" ({layout.name!r}), or joint_names to match by',
        )
    return layout.order_from(names), len(names)


def _check_identity(person_id: str, seen_ids: set[str]) -> None:
    if not person_id:
        raise SkeletonFormatError('empty_id', 'a person has no person_id')
    if person_id in seen_ids:
        raise SkeletonFormatError(
            'duplicate_id', f'person {person_id!r}: in the message more than once; kept the first'
        )
    seen_ids.add(person_id)


def _check_tracking(person: Any) -> None:
    try:
        state = TrackingState(person.tracking_state)
    except ValueError:
        raise SkeletonFormatError(
            'bad_tracking_state',
            f'person {person.person_id!r}: tracking_state {person.tracking_state}; expected one '
            f'of {[f"{known.value} {known.name}" for known in TrackingState]}',
        ) from None
    if state in _NO_OBSERVATION:
        reason, message = _NO_OBSERVATION[state]
        raise SkeletonFormatError(reason, f'person {person.person_id!r}: {message}')


def _check_room(person_id: str, accepted: int, config: SkeletonConfig) -> None:
    if accepted >= config.max_people:
        raise SkeletonFormatError(
            'too_many_people',
            f'person {person_id!r}: beyond the first {config.max_people}; see parameter '
            '"skeleton.max_people"',
        )


def _person(
    person: Any,
    stamp_ns: int,
    order: Int64[np.ndarray, ' joint'],
    received: int,
    config: SkeletonConfig,
) -> SkeletonFrame:
    """Read one person; joints with NaN or confidence 0 count as not observed."""
    who = f'person {person.person_id!r}'
    _check_lengths(person, received, who)
    positions = np.asarray(person.positions, dtype=np.float64).reshape(-1, 3)[order]
    confidences = _confidences(person.confidences, order, who)
    missing = np.isnan(positions).any(axis=1) | (confidences == 0)
    positions[missing] = np.nan
    confidences[missing] = 0
    if np.isinf(positions).any():
        raise SkeletonFormatError(
            'non_finite', f'{who}: infinite positions; NaN is how a joint is left out'
        )
    _check_extent(positions[~missing], len(order), who, config)
    return SkeletonFrame(
        person.person_id, stamp_ns, positions, confidences, TrackingState(person.tracking_state)
    )


def _check_lengths(person: Any, received: int, who: str) -> None:
    if len(person.positions) != 3 * received:
        raise SkeletonFormatError(
            'wrong_length',
            f'{who}: {len(person.positions)} position values, expected 3 x {received} joints; '
            'does parameter "skeleton.layout" match the tracker?',
        )
    if len(person.confidences) not in (0, received):
        raise SkeletonFormatError(
            'wrong_length',
            f'{who}: {len(person.confidences)} confidences, expected none or {received}',
        )


def _confidences(
    values: Any, order: Int64[np.ndarray, ' joint'], who: str
) -> Float32[np.ndarray, ' joint']:
    if not len(values):
        return np.ones(len(order), dtype=np.float32)
    confidences: Float32[np.ndarray, ' joint'] = np.asarray(values, dtype=np.float32)[order]
    good = (confidences >= 0) & (confidences <= 1)  # False for NaN
    if not good.all():
        raise SkeletonFormatError(
            'bad_confidence', f'{who}: confidences {confidences[~good]}; expected 0..1'
        )
    return confidences


def _check_extent(
    seen: Float64[np.ndarray, 'seen xyz=3'], joints: int, who: str, config: SkeletonConfig
) -> None:
    """Refuse skeletons of no human size; the smallest is known only once half is seen."""
    if not len(seen):
        raise SkeletonFormatError('no_joints', f'{who}: not one joint was observed')
    extent = float(np.linalg.norm(seen - np.median(seen, axis=0), axis=1).max())  # [m]
    low = config.min_extent_m if 2 * len(seen) >= joints else 0.0
    if not low <= extent <= config.max_extent_m:
        raise SkeletonFormatError(
            'implausible_size',
            f'{who}: reaches {extent:.3g} m from its middle, expected {low} to '
            f'{config.max_extent_m} m; is the source in millimetres? See parameters '
            '"skeleton.min_extent_m" and "skeleton.max_extent_m"',
        )
