# SPDX-License-Identifier: Apache-2.0
"""From a tracker's message to people in the model's joints, refusing what cannot be true.

Stage: skeleton. Each message type has a `Source` that knows its fields; the checks of people and
joints are the same for all and stand here. Sources use messages only as objects with fields, so
that generated messages, those read from a bag and plain namespaces decode alike.

Three things can be wrong, with three results: a message (`SkeletonFormatError`), a person who is
there but cannot be used (`Observation.rejected`), and a joint or a detection that costs no person
(`Observation.filtered`).
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
from jaxtyping import Bool, Float32, Float64

from motion_predictor_ros.config import SOURCES, SkeletonConfig
from motion_predictor_ros.conventions import NS_PER_S
from motion_predictor_ros.errors import ConfigError, SkeletonFormatError
from motion_predictor_ros.registry import ParameterGroups
from motion_predictor_ros.skeleton.completion import Inference, shipped_proportions
from motion_predictor_ros.skeleton.frame import (
    Observation,
    Rejection,
    SkeletonFrame,
    TrackingState,
)
from motion_predictor_ros.skeleton.layout import JointMap, SkeletonLayout, load_joint_map
from motion_predictor_ros.skeleton.plausibility import BodyCheck, joints_filtered

_REFUSALS = {
    'empty_id': 'has no person_id; does the source track people?',
    'duplicate_id': 'in the message more than once; kept the first',
    'lost': 'the tracker says it is gone',
    'searching': "not seen in this frame; positions are the tracker's guess, not an observation",
    'too_many_people': 'beyond the first of parameter "skeleton.max_people"',
    'non_finite': 'infinite positions; NaN is how a joint is left out',
    'bad_confidence': 'no joint has a confidence in 0..1; are they percent?',
    'no_joints': 'not one joint was observed',
}
"""Why a person cannot be used."""

_NO_OBSERVATION = {TrackingState.LOST: 'lost', TrackingState.SEARCHING: 'searching'}

MAX_LAG_NS = NS_PER_S
"""A person further behind the newest of the message is too old to be used."""

_HUMAN_WORDS = frozenset(
    (
        *('person', 'people', 'human', 'pedestrian', 'man', 'men', 'woman', 'women', 'adult'),
        *('boy', 'girl', 'child', 'children', 'kid', 'baby', 'toddler', 'worker', 'operator'),
        *('cyclist', 'rider', 'face', 'head'),
    )
)
"""Detections of a class with one of these words, or its plural, are people without a skeleton."""

_ROUNDING = 1e-3
"""Confidences beyond 0..1 by less are rounding errors."""


@dataclass(frozen=True)
class RawSkeleton:
    """One person as the source describes them.

    Attributes:
        joints: How the source's joints become the model's.
        positions: [m] in the source's order; NaN where a joint was not seen.
        confidences: 0..1; 0 where a joint was not seen. None or all NaN: the source states none.
        stamp_ns: Of this person; 0 if it is the message's.
    """

    joints: JointMap
    positions: Float64[np.ndarray, 'seen xyz=3']
    confidences: Float32[np.ndarray, ' seen'] | None = None
    tracking: TrackingState = TrackingState.TRACKED
    stamp_ns: int = 0


@dataclass(frozen=True)
class DetectedClass:
    """What an object detector says that it found.

    Attributes:
        name: Of the class; empty if it names none.
        has_skeleton: Whether the detection has human joints.
    """

    name: str
    has_skeleton: bool


@dataclass(frozen=True)
class SourceConfig:
    """A source's own parameters, `sources.NAME.*`; a source without any takes this class."""


ConfigT = TypeVar('ConfigT', bound=SourceConfig)


class Source(ABC, Generic[ConfigT]):
    """Decodes one message type.

    `@SOURCES.register(NAME, CONFIG)` registers a source: parameter `source` chooses it; its own
    parameters are `sources.NAME.*`.

    Args:
        layout: The model's.
        parameters: `sources.NAME.*` of this source.

    Raises:
        ConfigError: The layout of the joints is not named, or does not say how it becomes the
            model's.

    Attributes:
        msgtype: ROS type of the messages, such as `zed_msgs/msg/ObjectsStamped`.
        topic: Where the messages always come; empty: parameter `input_topic`.
        static_topic: Where messages for `update_static_transforms` come; empty: there are none.
        has_shared_type: Whether messages of this type are common for other ends, so that a bag's
            topic of this type need not be a source.
        joint_layout: Layout of the source's joints unless `skeleton.source_layout` names one;
            empty: the user must name it; None: each message says, and there is no `joints`.
        joints: How the source's joints become the model's.
    """

    msgtype: ClassVar[str]
    topic: ClassVar[str] = ''
    static_topic: ClassVar[str] = ''
    has_shared_type: ClassVar[bool] = False
    joint_layout: ClassVar[str | None] = None
    joints: JointMap

    def __init__(
        self, layout: SkeletonLayout, config: SkeletonConfig, parameters: ConfigT
    ) -> None:
        self.layout, self.config, self.parameters = layout, config, parameters
        if self.joint_layout is not None:
            self.joints = load_joint_map(self._layout_of_joints(self.joint_layout), layout)
        self._inference = Inference(layout, shipped_proportions())
        self._body = BodyCheck(layout, config.min_extent_m, config.max_extent_m)
        self._classes = {
            name.strip().casefold() for name in config.classes.split(',') if name.strip()
        }

    @abstractmethod
    def people(self, msg: Any) -> Iterable[tuple[str, Any]]:
        """List the people in a message: id, and what `decode_person` reads."""

    @abstractmethod
    def decode_person(self, label: str, person: Any) -> RawSkeleton:
        """Decode one person.

        Raises:
            SkeletonFormatError: This person cannot be used.
        """

    def header(self, msg: Any, received_ns: int) -> tuple[int, str]:
        """Return when people were seen [ns] and in which frame; '' if the message cannot say.

        Raises:
            SkeletonFormatError: Nothing in the message can be used.
        """
        return stamp_of(msg.header.stamp), msg.header.frame_id

    def detected_class(self, person: Any) -> DetectedClass | None:
        """Return the class of an entry of `people`; None where a source lists people only."""
        return None

    def is_estimated(self, msg: Any) -> bool:
        """Whether the message has no stamp, so that `header` estimates one."""
        return False

    def update_static_transforms(self, msg: Any) -> None:
        """Update from a message beside the observations, such as /tf_static."""

    def decode(self, msg: Any, received_ns: int = 0) -> Observation | None:
        """Turn a message into people whose joints are in the model's order.

        Args:
            received_ns: When the message came, for messages that are empty and have no stamp.

        Returns:
            None if the message says nothing about people yet.

        Raises:
            SkeletonFormatError: `bad_stamp`, `unknown_frame` or `layout_mismatch`; nothing in the
                message can be used. Faults of single people are in `Observation.rejected` instead.
        """
        stamp_ns, frame_id = self.header(msg, received_ns)
        frame_id = frame_id.lstrip('/')
        if frame_id:
            self._check_frame(frame_id)
        people: list[SkeletonFrame] = []
        rejected: list[Rejection] = []
        filtered: list[Rejection] = []
        seen_ids: set[str] = set()
        for person_id, person in self.people(msg):
            other = self._other_class(person)
            if other is not None:
                filtered.append(other)
                continue
            try:
                if not person_id or person_id in seen_ids:
                    raise _refusal(person_id, 'duplicate_id' if person_id else 'empty_id')
                seen_ids.add(person_id)
                skeleton = self._tracked(person_id, person, len(people))
                people.append(self._frame(person_id, stamp_ns, skeleton, filtered))
            except SkeletonFormatError as error:
                rejected.append(Rejection(person_id, error.reason, str(error)))
        if people and not frame_id:
            frame_id = self._configured_frame()
        groups = tuple(people), tuple(rejected), tuple(filtered)
        return Observation(stamp_ns, frame_id, *groups, estimated=self.is_estimated(msg))

    def numbered_joints(
        self, label: str, joints: Iterable[tuple[int, Any, float]], first: int = 0
    ) -> RawSkeleton:
        """Return a person whose joints are numbered as in the source's layout.

        Args:
            joints: Number, point [m] and confidence (NaN: not stated) of each joint that was seen.
            first: Number of the layout's first joint.

        Raises:
            SkeletonFormatError: `layout_mismatch`; the layout has no such joint.
        """
        layout = self.joints.source
        positions = np.full((len(layout.joint_names), 3), np.nan)
        confidences = np.zeros(len(positions), dtype=np.float32)
        for number, point, confidence in joints:
            if not 0 <= number - first < len(positions):
                raise SkeletonFormatError(
                    'layout_mismatch',
                    f'{label}: joint {number}, expected {first}..{first + len(positions) - 1}; '
                    f'does parameter "skeleton.source_layout" ({layout.name!r}) match the source?',
                )
            positions[number - first] = point.x, point.y, point.z
            confidences[number - first] = confidence
        return RawSkeleton(self.joints, positions, confidences)

    def _layout_of_joints(self, default: str) -> str:
        if not (self.config.source_layout or default):
            raise ConfigError(
                f'messages of {self.msgtype} do not say which joints they hold; set parameter '
                '"skeleton.source_layout" to a layout of config/skeletons or to a YAML file'
            )
        return self.config.source_layout or default

    def _check_frame(self, frame_id: str) -> None:
        expected = self.config.frame.lstrip('/')
        if expected and frame_id != expected:
            raise SkeletonFormatError(
                'unknown_frame',
                f'header.frame_id is {frame_id!r}, expected {expected!r}; see parameter '
                '"skeleton.frame"',
            )

    def _configured_frame(self) -> str:
        """Return the frame of a message that names none."""
        if not self.config.frame:
            raise SkeletonFormatError(
                'unknown_frame',
                "header.frame_id is '': the source names no frame; set parameter "
                '"skeleton.frame" to the frame that it means',
            )
        return self.config.frame.lstrip('/')

    def _other_class(self, person: Any) -> Rejection | None:
        """Return why a detection is no person; None if it is one.

        Human joints make a person of any class, unless `skeleton.classes` says otherwise; without
        them it is one if its class is.
        """
        detected = self.detected_class(person)
        if detected is None or not detected.name.strip():
            return None
        name = detected.name.strip().casefold()
        if name in self._classes if self._classes else detected.has_skeleton or _is_human(name):
            return None
        if detected.has_skeleton:
            text = f'class {detected.name[:80]!r} is not in parameter "skeleton.classes"'
            return Rejection('', 'class_filtered', f'{text}; taken as no person')
        text = f'class {detected.name[:80]!r} without a human skeleton; taken as no person'
        return Rejection('', 'other_class', text)

    def _tracked(self, person_id: str, person: Any, accepted: int) -> RawSkeleton:
        """Decode a person who is observed now, and not one too many."""
        skeleton = self.decode_person(f'person {person_id!r}', person)
        if skeleton.tracking in _NO_OBSERVATION:
            raise _refusal(person_id, _NO_OBSERVATION[skeleton.tracking])
        if accepted >= self.config.max_people:
            raise _refusal(person_id, 'too_many_people')
        return skeleton

    def _frame(
        self, person_id: str, stamp_ns: int, skeleton: RawSkeleton, filtered: list[Rejection]
    ) -> SkeletonFrame:
        """Map a skeleton to the model's joints, without those that no body has.

        Joints that the source never gives are inferred.

        Args:
            filtered: Gets a line for each reason why joints were left out.
        """
        label, joints = f'person {person_id!r}', skeleton.joints
        person_ns = _person_stamp(skeleton, stamp_ns, label)
        given, confidences, faults = _usable_joints(skeleton)
        positions, sure = joints.apply(given, confidences)
        impossible = partial(self._body.impossible, label=label)
        for reason, find in (
            ('joint_same_place', self._body.coincident),
            ('joint_bone_length', impossible),
        ):
            mask = find(positions)
            positions[mask], sure[mask] = np.nan, 0.0
            if mask.any():
                faults[reason] = _names(self.layout, mask)
        if np.isnan(positions[:, 0]).all():
            kinds = {'joint_non_finite': 'non_finite', 'joint_confidence': 'bad_confidence'}
            reasons = [kinds[reason] for reason in kinds if reason in faults]
            raise _refusal(person_id, reasons[0] if reasons else 'no_joints')
        filtered += [joints_filtered(person_id, *fault) for fault in faults.items()]
        inferred = self._inference.fill(positions, ~joints.given)
        by_inference = inferred if inferred.any() else None
        seen = positions, sure, skeleton.tracking
        return SkeletonFrame(person_id, person_ns, *seen, inferred=by_inference)


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


def _is_human(name: str) -> bool:
    """Whether a class is of people; one without a word, such as '0', may be."""
    words = re.findall(r'[^\W\d_]+', name)
    return not words or any({word, word.removesuffix('s')} & _HUMAN_WORDS for word in words)


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


def _refusal(person_id: str, reason: str) -> SkeletonFormatError:
    return SkeletonFormatError(reason, f'person {person_id!r}: {_REFUSALS[reason]}')


def _person_stamp(skeleton: RawSkeleton, message_ns: int, label: str) -> int:
    """Return when this person was observed [ns]."""
    lag_s = (message_ns - (skeleton.stamp_ns or message_ns)) / NS_PER_S
    if lag_s < 0:
        raise SkeletonFormatError('bad_stamp', f'{label}: {-lag_s:.3f} s ahead of the message')
    if lag_s > MAX_LAG_NS / NS_PER_S:
        text = f'{label}: {lag_s:.3f} s behind the newest, at most {MAX_LAG_NS / NS_PER_S:g} s'
        raise SkeletonFormatError('old_track', text)
    return skeleton.stamp_ns or message_ns


def _usable_joints(
    skeleton: RawSkeleton,
) -> tuple[Float64[np.ndarray, 'seen xyz=3'], Float32[np.ndarray, ' seen'], dict[str, list[str]]]:
    """Return positions, NaN without those that cannot be, confidences in 0..1, and the faults.

    Those are names of joints by reason.
    """
    used = skeleton.joints.weights.any(axis=0)
    positions = skeleton.positions.copy()
    there = used & ~np.isnan(positions).any(axis=1)
    confidences = skeleton.confidences
    if confidences is None or np.isnan(confidences[there]).all():  # the source states none
        confidences = np.ones(len(positions), dtype=np.float32)
    good = (confidences >= -_ROUNDING) & (confidences <= 1 + _ROUNDING)  # False for NaN
    candidates = {
        'joint_non_finite': np.isinf(positions).any(axis=1),
        'joint_at_origin': (positions == 0).all(axis=1),
        'joint_confidence': ~good,
    }
    masks = {name: there & mask for name, mask in candidates.items() if (there & mask).any()}
    confidences = np.where(good, np.clip(confidences, 0, 1), 0).astype(np.float32)
    unseen = np.any([~there, confidences == 0, *masks.values()], axis=0)
    positions[unseen] = np.nan
    layout = skeleton.joints.source
    return positions, confidences, {name: _names(layout, mask) for name, mask in masks.items()}


def _names(layout: SkeletonLayout, mask: Bool[np.ndarray, ' joint']) -> list[str]:
    return [layout.joint_names[joint] for joint in np.flatnonzero(mask)]
