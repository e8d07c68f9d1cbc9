# SPDX-License-Identifier: Apache-2.0
"""From a tracker's message to people in the model's joints, refusing what cannot be true.

Stage: skeleton. Each kind of message has a `Source` that knows its fields; what is asked of people
is the same for all and stands here. Sources look at messages only as objects with fields, so that
generated messages, those read from a bag and plain namespaces decode alike.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
from jaxtyping import Float32, Float64

from motion_predictor_ros.config import SOURCES, SkeletonConfig
from motion_predictor_ros.conventions import NS_PER_S
from motion_predictor_ros.errors import SkeletonFormatError
from motion_predictor_ros.registry import ParameterGroups
from motion_predictor_ros.skeleton.completion import Inference, shipped_proportions
from motion_predictor_ros.skeleton.frame import (
    Observation,
    Rejection,
    SkeletonFrame,
    TrackingState,
)
from motion_predictor_ros.skeleton.joint_map import JointMap
from motion_predictor_ros.skeleton.layout import SkeletonLayout

_NO_OBSERVATION = {
    TrackingState.LOST: ('lost', 'the tracker says it is gone'),
    TrackingState.SEARCHING: (
        'searching',
        "not seen in this frame; positions are the tracker's guess, not an observation",
    ),
}


@dataclass(frozen=True)
class RawSkeleton:
    """One person as the source describes them.

    Attributes:
        joints: Says how the source's joints become the model's.
        positions: [m] in the source's order; NaN where a joint was not seen.
        confidences: 0..1; 0 where a joint was not seen.
    """

    joints: JointMap
    positions: Float64[np.ndarray, 'seen xyz=3']
    confidences: Float32[np.ndarray, ' seen']
    tracking: TrackingState = TrackingState.TRACKED


@dataclass(frozen=True)
class SourceConfig:
    """A source's own parameters, `sources.NAME.*`; a source without any takes this class."""


ConfigT = TypeVar('ConfigT', bound=SourceConfig)
SourceT = TypeVar('SourceT', bound='type[Source[Any]]')


class Source(ABC, Generic[ConfigT]):
    """Decodes one message type.

    Attributes:
        msgtype: ROS type of the messages.
        topic: Where the messages always come; empty: parameter `input_topic`.
        static_topic: Where messages for `update_static_transforms` come; empty: there are none.
        has_shared_type: Whether messages of this type are common for other ends, so that a bag's
            topic of this type need not be a source.
    """

    msgtype: ClassVar[str]
    topic: ClassVar[str] = ''
    static_topic: ClassVar[str] = ''
    has_shared_type: ClassVar[bool] = False

    def __init__(self, layout: SkeletonLayout, config: SkeletonConfig, own: ConfigT) -> None:
        """Set up.

        Args:
            layout: The model's.
            own: The source's own parameters.

        Raises:
            ConfigError: `config` names a layout that does not say how it becomes the model's.
        """
        self.layout, self.config, self.own = layout, config, own
        self._inference = Inference(layout, shipped_proportions())

    @abstractmethod
    def header(self, msg: Any, received_ns: int) -> tuple[int, str]:
        """Return when people were seen [ns] and in which frame; '' if the message cannot say.

        Raises:
            SkeletonFormatError: Nothing in the message can be used.
        """

    @abstractmethod
    def people(self, msg: Any) -> Iterable[tuple[str, Any]]:
        """List who is in the message: an id, and whatever `see` needs."""

    @abstractmethod
    def see(self, who: str, person: Any) -> RawSkeleton:
        """Read one person.

        Raises:
            SkeletonFormatError: This person cannot be used.
        """

    def update_static_transforms(self, msg: Any) -> None:
        """Take in what a source says apart from its observations."""

    def decode(self, msg: Any, received_ns: int = 0) -> Observation | None:
        """Turn a message into people whose joints are in the model's order.

        Args:
            received_ns: Stands in for the stamp of a message that has none because it is empty.

        Returns:
            None if the message says nothing about people yet.

        Raises:
            SkeletonFormatError: `bad_stamp`, `unknown_frame` or `layout_mismatch`; nothing in the
                message can be used. Faults of single people are in `Observation.rejected` instead.
        """
        stamp_ns, frame_id = self.header(msg, received_ns)
        if frame_id:
            self._check_frame(frame_id)
        people: list[SkeletonFrame] = []
        rejected: list[Rejection] = []
        seen_ids: set[str] = set()
        for person_id, person in self.people(msg):
            try:
                _check_identity(person_id, seen_ids)
                sighting = self.see(f'person {person_id!r}', person)
                _check_tracking(sighting.tracking, person_id)
                self._check_room(person_id, len(people))
                people.append(self._frame(person_id, stamp_ns, sighting))
            except SkeletonFormatError as error:
                rejected.append(Rejection(person_id, error.reason, str(error)))
        if people:
            self._check_frame(frame_id)
        return Observation(stamp_ns, frame_id, tuple(people), tuple(rejected))

    def _check_frame(self, frame_id: str) -> None:
        expected = self.config.frame
        if not frame_id or (expected and frame_id != expected):
            raise SkeletonFormatError(
                'unknown_frame',
                f'header.frame_id is {frame_id!r}, expected {expected or "a name"!r}; see '
                'parameter "skeleton.frame"',
            )

    def _check_room(self, person_id: str, accepted: int) -> None:
        if accepted >= self.config.max_people:
            raise SkeletonFormatError(
                'too_many_people',
                f'person {person_id!r}: beyond the first {self.config.max_people}; see parameter '
                '"skeleton.max_people"',
            )

    def _frame(self, person_id: str, stamp_ns: int, sighting: RawSkeleton) -> SkeletonFrame:
        """Turn a sighting into the model's joints; those the source never has are put in place."""
        who = f'person {person_id!r}'
        joints = sighting.joints
        _check_numbers(sighting, who)
        missing = np.isnan(sighting.positions).any(axis=1) | (sighting.confidences == 0)
        seen = np.where(missing[:, None], np.nan, sighting.positions)
        positions, confidences = joints.apply(seen, sighting.confidences)
        here = ~np.isnan(positions[:, 0])
        _check_extent(positions[here], int(joints.given.sum()), who, self.config)
        inferred = self._inference.fill(positions, ~joints.given)
        return SkeletonFrame(
            person_id,
            stamp_ns,
            positions,
            confidences,
            sighting.tracking,
            inferred if inferred.any() else None,
        )


def register_source(
    name: str, msgtype: str, config_class: type[SourceConfig] = SourceConfig
) -> Callable[[SourceT], SourceT]:
    """Register a source: it is chosen by parameter `source`, its parameters are `sources.NAME.*`.

    Args:
        msgtype: ROS type of its messages, such as `zed_msgs/msg/ObjectsStamped`.
    """

    def register(source_class: SourceT) -> SourceT:
        source_class.msgtype = msgtype
        return SOURCES.register(name, config_class)(source_class)

    return register


def make_source(
    name: str,
    layout: SkeletonLayout,
    config: SkeletonConfig,
    sources: ParameterGroups | None = None,
) -> Source[Any]:
    """Return the source of this name.

    Args:
        sources: Own parameters of every source; default: their defaults.

    Raises:
        ConfigError: There is none, or its parameters do not suffice.
    """
    source_class: type[Source[Any]] = SOURCES[name]
    return source_class(layout, config, getattr(sources or SOURCES.default_config(), name))


def stamp_of(stamp: Any) -> int:
    """Return a message's stamp [ns].

    Raises:
        SkeletonFormatError: `bad_stamp`; it is not filled, or malformed.
    """
    sec, nanosec = int(stamp.sec), int(stamp.nanosec)
    stamp_ns = sec * NS_PER_S + nanosec
    if sec < 0 or not 0 <= nanosec < NS_PER_S or stamp_ns == 0:
        raise SkeletonFormatError(
            'bad_stamp',
            f'header.stamp is {sec} s + {nanosec} ns; expected a positive time with nanosec below '
            '1e9; does the source fill the stamp?',
        )
    return stamp_ns


def sure_of(positions: Float64[np.ndarray, 'seen xyz=3']) -> Float32[np.ndarray, ' seen']:
    """Return the confidences of a source that states none: 1 where a joint was seen."""
    return (~np.isnan(positions).any(axis=1)).astype(np.float32)


def _check_identity(person_id: str, seen_ids: set[str]) -> None:
    if not person_id:
        raise SkeletonFormatError(
            'empty_id', 'a person has no person_id; does the source track people?'
        )
    if person_id in seen_ids:
        raise SkeletonFormatError(
            'duplicate_id', f'person {person_id!r}: in the message more than once; kept the first'
        )
    seen_ids.add(person_id)


def _check_tracking(state: TrackingState, person_id: str) -> None:
    if state in _NO_OBSERVATION:
        reason, message = _NO_OBSERVATION[state]
        raise SkeletonFormatError(reason, f'person {person_id!r}: {message}')


def _check_numbers(sighting: RawSkeleton, who: str) -> None:
    used = sighting.joints.weights.any(axis=0)
    confidences = sighting.confidences[used]
    good = (confidences >= 0) & (confidences <= 1)  # False for NaN
    if not good.all():
        raise SkeletonFormatError(
            'bad_confidence', f'{who}: confidences {confidences[~good]}; expected 0..1'
        )
    positions = sighting.positions[used]
    if np.isinf(positions[~np.isnan(positions).any(axis=1)]).any():
        raise SkeletonFormatError(
            'non_finite', f'{who}: infinite positions; NaN is how a joint is left out'
        )


def _check_extent(
    seen: Float64[np.ndarray, 'some xyz=3'], joints: int, who: str, config: SkeletonConfig
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
