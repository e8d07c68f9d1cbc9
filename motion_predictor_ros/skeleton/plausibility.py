# SPDX-License-Identifier: Apache-2.0
"""Recognise joints that no body has, bodies of no human size, and windows of no person.

Stage: skeleton. `BodyCheck` judges one pose by the reference bones of the layout, `JointFilter` by
the person's own bones and motion, `Plausibility` a whole window: people who stand on their heads,
or whose left and right are swapped. A single joint at fault is taken as not seen; it never costs
its person.
"""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float64, Int64

from motion_predictor_ros.conventions import NS_PER_S
from motion_predictor_ros.errors import SkeletonFormatError
from motion_predictor_ros.skeleton.completion import LIMBS, Inference, shipped_proportions
from motion_predictor_ros.skeleton.frame import (
    BoneLengths,
    JointMask,
    Motion,
    Observation,
    Pose,
    Rejection,
    SkeletonFrame,
    Window,
)
from motion_predictor_ros.skeleton.layout import SkeletonLayout

UPWARDS = {
    f'{sign}{name}': factor * axis
    for name, axis in zip('xyz', np.eye(3), strict=True)
    for sign, factor in (('', 1.0), ('-', -1.0))
}

_CLEARLY_M = 0.1
"""Hips below ankles, and neck below hips, by this much is upside down [m]."""

_BACKWARDS_M = {True: 0.05, False: 0.08}
"""Mirrored if knees, feet and head together point back by this much [m]; less is known of those
whose feet are not seen. docs/sources.md says how often that errs."""

_IN_LINE = 0.3
"""Cosine between trunk and legs above which a person is not bent over."""

_ODD_LIMB = 1.6
"""Limbs longer or shorter than usual by this factor are no person's, so nothing is concluded."""

_SWEEPS = 30
"""A chain of a few joints needs a few."""

_NEEDED = ('pelvis', 'head', 'neck', *(name for bone in LIMBS for name in bone))


class Plausibility:
    """Judges whole windows of the body18 layout; a mistake in the set-up turns all of them.

    A single odd frame is a cartwheel or noise. Other layouts are not judged.

    Args:
        up: Which axis points up, such as 'z' or '-y'; 'unknown' judges only left and right.
    """

    def __init__(self, layout: SkeletonLayout, up: str) -> None:
        self._names = layout.joint_names
        self._index = {name: joint for joint, name in enumerate(self._names)}
        self._able = set(_NEEDED) | {'l_foot', 'r_foot'} <= set(self._index)
        self._up_name = up
        self._bones, self._parents = BoneLimits(layout), layout.parents
        depths = self._bones.depths
        by_depth = np.argsort(depths, kind='stable').tolist()
        self._outwards = [joint for joint in by_depth if depths[joint]]
        self._up = UPWARDS.get(up)
        self._limb_ends = [[self._index.get(limb[end], 0) for limb in LIMBS] for end in (0, 1)]
        self._limits_of = lru_cache(maxsize=64)(self._bone_limits_of)  # lengths change rarely

    def fault(self, window: Window) -> tuple[str, str] | None:
        """Return the reason and a message if this cannot be a person as they are; else None."""
        if not self._able or not self._sees(window, _NEEDED) or not self._has_limbs(window):
            return None
        if self._up is not None and self.inverted(window.positions).all():
            return 'upside_down', (
                'feet above hips above neck for a whole window, along '
                f'{self._up_name} of the frame; expected {self._up_name} to point up: set '
                'parameters "fixed_frame" and "extrinsic", or "skeleton.up"'
            )
        if not self.upright(window.positions).all():
            return None
        feet = self._sees(window, ('l_foot', 'r_foot'))
        if self.ahead(window.positions, feet).mean() < -_BACKWARDS_M[feet]:
            return 'mirrored', (
                'knees, feet and head point backwards, so left and right are swapped: does the '
                'camera mirror its image, is "extrinsic" or TF left-handed, does '
                '"skeleton.source_layout" match the tracker?'
            )
        return None

    def limit_bones(
        self, window: Window, positions: Float64[np.ndarray, 'horizon joint xyz=3']
    ) -> Float64[np.ndarray, 'horizon joint xyz=3'] | None:
        """Shorten predicted bones to 1.5 times their own length; None if none is longer.

            x_c <- x_p + min(1, 1.5 l / |x_c - x_p|) (x_c - x_p),  from the root outwards,

        for each bone from p to c, l long; what hangs on c moves along.
        """
        limits = self._bone_limits(window)
        parents, children = self._bones.bones.T
        bones = positions[:, children] - positions[:, parents]
        lengths = np.linalg.norm(bones, axis=-1)
        if not (lengths > limits).any():
            return None
        factors = np.where(lengths > limits, limits / np.maximum(lengths, 1e-9), 1.0)
        shortened = (bones * factors[..., None]).swapaxes(0, 1)
        offsets = dict(zip(children.tolist(), shortened, strict=True))
        limited = positions.copy()
        for joint in self._outwards:
            limited[:, joint] = limited[:, self._parents[joint]] + offsets[joint]
        return limited

    def limit_filled(self, window: Window) -> Window | tuple[str, ...]:
        """Move joints that were filled, not observed, to within 1.5 bones of their neighbours.

            x_f <- x_f + (1 - 1.5 l / |x_f - x_n|) (x_n - x_f),  repeated over all bones,

        for a filled joint f and a neighbour n; two filled ones share the way. Observed joints
        stay; the places of joints that were never in sight do not count. The set of poses that
        fit is convex, so this converges where one exists.

        Returns:
            The joints of the bones that are too long all the same at the end of the window, if
            there are any.
        """
        limits, seen = self._bone_limits(window), window.seen
        parents, children = self._bones.bones.T
        is_seen = seen[parents] & seen[children]
        bones, positions = np.flatnonzero(is_seen), window.positions.copy()
        share = _shares(window.observed, self._bones.bones)
        for sweep in range(_SWEEPS if share.any() else 0):
            ends = positions[:, children[bones]] - positions[:, parents[bones]]
            long = np.linalg.norm(ends, axis=-1) > limits[bones]
            if not (long & share[:, bones].any(axis=-1)).any():
                break
            for bone in bones[long.any(axis=0)][:: 1 - 2 * (sweep % 2)].tolist():
                parent, child = self._bones.bones[bone]
                apart = positions[:, child] - positions[:, parent]
                length = np.maximum(np.linalg.norm(apart, axis=-1, keepdims=True), 1e-9)
                excess = apart * np.maximum(1.0 - 0.95 * limits[bone] / length, 0.0)
                positions[:, parent] += share[:, bone, :1] * excess
                positions[:, child] -= share[:, bone, 1:] * excess
        last = positions[-1]
        long = np.linalg.norm(last[children] - last[parents], axis=-1) > limits
        faulty = self._bones.bones[long & is_seen]
        if len(faulty):
            return tuple(self._names[joint] for joint in np.unique(faulty))
        return dataclasses.replace(window, positions=positions)

    def _bone_limits(self, window: Window) -> BoneLengths:
        """Return 1.5 times the own length of each bone; inf where it is unknown [m].

        Lengths that are not known yet come from the reference, in the scale of the others.
        """
        own = window.bone_lengths
        if own is None or np.isnan(own).all():
            parents, children = self._bones.bones.T
            ends = window.positions[:, children] - window.positions[:, parents]
            observed = window.observed[:, children] & window.observed[:, parents]
            own = _median_lengths(np.where(observed, np.linalg.norm(ends, axis=-1), np.nan), 1)
        return self._limits_of(own.tobytes())

    def _bone_limits_of(self, lengths: bytes) -> BoneLengths:
        own = np.frombuffer(lengths)
        ratios = own / self._bones.reference
        if not np.isnan(ratios).all():
            own = np.where(np.isnan(own), np.nanmedian(ratios) * self._bones.reference, own)
        limits = (1.0 + _STRETCH) * (1.0 - 1e-3) * own  # float32 on the wire
        return np.where(np.isnan(limits), np.inf, limits)

    def upright(self, positions: Motion) -> Bool[np.ndarray, ' time']:
        """Return when trunk and legs are about in line; else the front is unclear."""
        at = {name: positions[:, joint] for name, joint in self._index.items()}
        trunk = (at['l_shoulder'] + at['r_shoulder']) / 2 - at['pelvis']
        legs = at['pelvis'] - (at['l_ankle'] + at['r_ankle']) / 2
        lengths = np.linalg.norm(trunk, axis=-1) * np.linalg.norm(legs, axis=-1)
        return np.asarray((trunk * legs).sum(axis=-1) > _IN_LINE * lengths)

    def ahead(self, positions: Motion, feet: bool) -> Float64[np.ndarray, ' time']:
        """Return how far knees, head and, if asked, feet stand ahead of the body [m]."""
        at = {name: positions[:, joint] for name, joint in self._index.items()}
        shoulders = (at['l_shoulder'] + at['r_shoulder']) / 2
        left = at['l_hip'] - at['r_hip'] + at['l_shoulder'] - at['r_shoulder']
        facing = np.cross(left, shoulders - at['pelvis'])
        facing /= np.maximum(np.linalg.norm(facing, axis=-1, keepdims=True), 1e-9)
        parts = at['head'] - shoulders
        for side in 'lr':
            knee, ankle = at[f'{side}_knee'], at[f'{side}_ankle']
            parts = parts + (knee - (at[f'{side}_hip'] + ankle) / 2) / 2
            if feet:
                parts = parts + (at[f'{side}_foot'] - ankle) / 2
        forwards: Float64[np.ndarray, ' time'] = (parts * facing).sum(axis=-1)
        return forwards

    def inverted(self, positions: Motion) -> Bool[np.ndarray, ' time']:
        """Return when a person is upside down."""
        assert self._up is not None
        heights = positions @ self._up
        height = {name: heights[:, joint] for name, joint in self._index.items()}
        hips = (height['l_hip'] + height['r_hip']) / 2
        ankles = (height['l_ankle'] + height['r_ankle']) / 2
        return np.asarray(
            (hips < ankles - _CLEARLY_M) & (height['neck'] < height['pelvis'] - _CLEARLY_M)
        )

    def _sees(self, window: Window, names: tuple[str, ...]) -> bool:
        """Tell whether joints were seen themselves; a neck may be inferred, feet may not."""
        seen = window.seen
        if window.inferred is not None and 'l_foot' in names:
            seen = seen & ~window.inferred
        return bool(seen[[self._index[name] for name in names]].all())

    def _has_limbs(self, window: Window) -> bool:
        ends = window.positions[-1][self._limb_ends]
        lengths = np.linalg.norm(ends[0] - ends[1], axis=-1)
        odd = lengths / max(lengths.sum(), 1e-9) / shipped_proportions().limbs
        return bool((odd < _ODD_LIMB).all() and (odd > 1 / _ODD_LIMB).all())


HEIGHT_M = 1.75
"""Height of the adult whose bones a layout's file gives [m]."""

_STRETCH = 0.5
"""A bone may look longer by this share of its length, and no more."""

_UNKNOWN_SLACK_M = 0.1
"""Added while a person's own bone lengths are unknown: trackers place joints differently [m]."""

_SAME_PLACE_M = 1e-6
"""Joints nearer to each other are at one place [m]."""

_LARGEST = 1.35
"""Scale of the largest person, 2.35 m tall, who bounds what few joints cannot [-]."""

_KEPT_LENGTHS = 31
_ENOUGH_LENGTHS = 5
"""So many observations of a bone make its own length; its last `_KEPT_LENGTHS` count."""

_SHORT = 0.8
"""A bone whose ratio to the reference is below this share of the others' was mistaken, if it is
too long ever after: its joint hid behind another."""

_JOINT_SPEED_M_S, _JOINT_NOISE_M = 10.0, 0.05
"""A joint that moves further than this relative to its body, for one frame, was not seen."""

_SOON_S = 0.3
"""An older position of a joint does not limit the present one [s]."""

_FEW = 6
"""With fewer joints than this, the body's own motion is unknown."""


class BoneLimits:
    """How far apart the joints of one layout can be.

    For joints i and j, with the bones b of length l_b on the way between them,

        |x_i - x_j| <= sum_b l_b + 0.5 max_b l_b,

    which is 1.5 times its length for two ends of one bone.
    """

    def __init__(self, layout: SkeletonLayout) -> None:
        self.bones = np.array(layout.bones, dtype=np.int64).reshape(-1, 2)
        lengths = layout.lengths or (np.nan,) * len(self.bones)
        self.reference: BoneLengths = np.array(lengths, dtype=np.float64)
        self._on_path = layout.bones_between()
        self.depths: Int64[np.ndarray, ' joint'] = self._on_path[layout.root].sum(axis=-1)

    def limits(self, lengths: BoneLengths) -> Float64[np.ndarray, 'joint joint']:
        """Return the greatest distances for bones of these lengths [m]; inf where one is NaN."""
        known = np.where(np.isnan(lengths), np.inf, lengths)
        on_path = np.where(self._on_path, known, 0.0)
        return np.asarray(on_path.sum(axis=-1) + _STRETCH * on_path.max(axis=-1, initial=0.0))

    def lengths(self, pose: Pose) -> BoneLengths:
        """Return how long bones look [m]; NaN where an end was not seen."""
        ends = pose[self.bones]
        return np.asarray(np.linalg.norm(ends[:, 0] - ends[:, 1], axis=-1))

    def scale(self, pose: Pose) -> float:
        """Return the median ratio to the reference; NaN if no bone was seen."""
        ratios = self.lengths(pose) / self.reference
        ratios = ratios[~np.isnan(ratios)]
        return float(np.median(ratios)) if len(ratios) else float('nan')

    def outside(self, pose: Pose, limits: Float64[np.ndarray, 'joint joint']) -> JointMask:
        """Find the fewest joints without which all others are near enough to each other.

        The joint that conflicts with most others goes first; of equal ones that of the longest
        bones. Where nothing tells them apart, all of them go.
        """
        gaps = np.linalg.norm(pose[:, None] - pose[None], axis=-1)
        conflict = gaps > limits  # False for NaN
        removed = np.zeros(len(pose), dtype=bool)
        if not conflict.any():
            return removed
        stretch = self._mean_stretch(gaps, limits)
        while conflict.any():
            count = conflict.sum(axis=0)
            worst = count == count.max()
            worst &= stretch >= stretch[worst].max() - 1e-9
            removed |= worst
            conflict[worst], conflict[:, worst] = False, False
        return removed

    def _mean_stretch(
        self, gaps: Float64[np.ndarray, 'joint joint'], limits: Float64[np.ndarray, 'joint joint']
    ) -> Float64[np.ndarray, ' joint']:
        """Return the mean of |bone| / limit over the bones of each joint that were seen."""
        total, count = np.zeros(len(gaps)), np.zeros(len(gaps))
        for parent, child in self.bones:
            ratio = gaps[parent, child] / limits[parent, child]
            if not np.isnan(ratio):
                total[[parent, child]] += ratio
                count[[parent, child]] += 1
        return np.asarray(total / np.maximum(count, 1))


class BodyCheck:
    """Judges one pose by the reference bones alone; without a reference by its extent.

    Args:
        min_m: Height of the smallest person [m].
        max_m: Height of the largest person, for the units; see `SkeletonConfig` [m].
    """

    def __init__(self, layout: SkeletonLayout, min_m: float, max_m: float) -> None:
        self.bones = BoneLimits(layout)
        self._min_m, self._max_m = min_m, max_m
        self._known = not np.isnan(self.bones.reference).all()

    def impossible(self, pose: Pose, label: str) -> JointMask:
        """Find joints where this body cannot have them; NaN joints are not judged.

        Raises:
            SkeletonFormatError: `implausible_size`; most bones are of no human size.
        """
        if not self._known:
            return self._far(pose, label)
        scale = self._scale(pose, label)
        limits = self.bones.limits(scale * self.bones.reference) + _UNKNOWN_SLACK_M
        return self.bones.outside(pose, limits)

    def coincident(self, pose: Pose) -> JointMask:
        """Find joints at exactly the place of one nearer to the root.

        Trackers put joints without a place at one point, such as -1 -1 -1, or at the root.
        """
        at_one_place = np.linalg.norm(pose[:, None] - pose[None], axis=-1) <= _SAME_PLACE_M
        ranks = np.argsort(np.argsort(self.bones.depths, kind='stable'))
        return np.asarray((at_one_place & (ranks[:, None] > ranks[None])).any(axis=1))

    def _scale(self, pose: Pose, label: str) -> float:
        scale = self.bones.scale(pose)
        if not np.isnan(scale) and not self._is_human(scale):
            # One joint may be at fault where few bones were seen.
            scales = [self.bones.scale(_without(pose, int(joint))) for joint in _seen(pose)]
            human = [value for value in scales if np.isnan(value) or self._is_human(value)]
            if not human:
                raise SkeletonFormatError(
                    'implausible_size',
                    f'{label}: its bones make a body of {scale * HEIGHT_M:.3g} m, expected '
                    f'{self._min_m:g} to {self._max_m:g} m; are positions in metres, '
                    'not in millimetres? See parameters "skeleton.min_extent_m" and '
                    '"skeleton.max_extent_m"',
                )
            scale = human[0]
        return min(scale, _LARGEST) if not np.isnan(scale) else _LARGEST

    def _is_human(self, scale: float) -> bool:
        return self._min_m <= scale * HEIGHT_M <= self._max_m

    def _far(self, pose: Pose, label: str) -> JointMask:
        """Find joints too far from the middle of a body of unknown bones."""
        seen = _seen(pose)
        reach = np.full(len(pose), np.nan)
        reach[seen] = np.linalg.norm(pose[seen] - np.median(pose[seen], axis=0), axis=-1)
        if len(seen) and np.median(reach[seen]) > self._max_m:
            raise SkeletonFormatError(
                'implausible_size',
                f'{label}: half of its joints are more than {self._max_m:g} m from its middle; '
                'are positions in metres, not in millimetres? See parameter '
                '"skeleton.max_extent_m"',
            )
        return np.asarray(reach > self._max_m)


@dataclass
class _History:
    """What a person's joints did lately.

    Attributes:
        lengths: [m] the last `_KEPT_LENGTHS` of each bone, oldest overwritten first; NaN: none.
        counts: How often each bone was seen.
        own: [m] their medians; NaN while a bone was seen too seldom.
        accepted: [m] where each joint was last accepted, and when [ns].
        refused: [m] where joints were refused in the last observation; else NaN.
        strange: How many observations in a row had another body.
        long: For how many observations in a row each bone has had an end that was too far away.
    """

    lengths: Float64[np.ndarray, 'sample bone']
    counts: Int64[np.ndarray, ' bone']
    own: BoneLengths
    accepted: Pose
    stamps_ns: Int64[np.ndarray, ' joint']
    refused: Pose
    long: Int64[np.ndarray, ' bone']
    newest_ns: int
    seen: int = 0
    strange: int = 0


class JointFilter:
    """Marks joints as not seen that contradict the person's own bones and motion.

    A bone longer than 1.5 times its own length, the median of its last observations, and a joint
    that leaves its body for one frame: both are errors of the tracker. A joint that stays at the
    new place is accepted there with the next frame.
    """

    def __init__(self, layout: SkeletonLayout, forget_after_s: float) -> None:
        self._bones = BoneLimits(layout)
        self._names = layout.joint_names
        self._inference = Inference(layout, shipped_proportions())
        self._forget_ns = round(forget_after_s * NS_PER_S)
        self._people: dict[str, _History] = {}

    def apply(self, observation: Observation) -> Observation:
        """Return the observation without impossible joints, each counted in `filtered`."""
        oldest_ns = observation.stamp_ns - self._forget_ns
        self._people = {
            person_id: history
            for person_id, history in self._people.items()
            if history.newest_ns >= oldest_ns
        }
        people: list[SkeletonFrame] = []
        rejected, filtered = [*observation.rejected], [*observation.filtered]
        for frame in observation.people:
            checked, faults = self._check(frame)
            filtered += faults
            if checked is None:
                rejected.append(_no_joints(frame.person_id))
            else:
                people.append(checked)
        return dataclasses.replace(
            observation, people=tuple(people), rejected=tuple(rejected), filtered=tuple(filtered)
        )

    def _check(self, frame: SkeletonFrame) -> tuple[SkeletonFrame | None, list[Rejection]]:
        history = self._people.get(frame.person_id)
        if history is None:
            history = self._people[frame.person_id] = _new_history(frame, self._bones)
        if frame.stamp_ns <= history.newest_ns and history.seen:
            return frame, []  # a tracker that lags repeats itself: its buffer ignores it
        pose = frame.positions
        given = np.ones(len(pose), bool) if frame.inferred is None else ~frame.inferred
        measured = np.where(given[:, None], pose, np.nan)
        long = self._too_long(measured, history)
        jumped = self._jumped(np.where(long[:, None], np.nan, measured), frame, history)
        unseen = long | jumped
        faults = [
            joints_filtered(
                frame.person_id, reason, [self._names[j] for j in np.flatnonzero(mask)]
            )
            for reason, mask in (('joint_bone_length', long), ('joint_jump', jumped))
            if mask.any()
        ]
        self._remember(np.where(unseen[:, None], np.nan, measured), measured, frame, history)
        frame = dataclasses.replace(frame, bone_lengths=history.own)
        if not unseen.any():
            return frame, []
        if (unseen | np.isnan(measured[:, 0])).all():
            return None, faults
        return self._without(frame, unseen), faults

    def _too_long(self, measured: Pose, history: _History) -> JointMask:
        """Find joints too far from the others for this person's bones.

        Many of them in several observations in a row: another person has this id now, or the
        tracker mistook the size before. Then the lengths are measured anew; so is a single bone
        whose own length is short for this body, after as many observations as make it.
        """
        long = self._bones.outside(measured, self._bones.limits(history.own))
        is_seen = ~np.isnan(self._bones.lengths(measured))
        history.long = np.where(is_seen, history.long + 1, history.long)
        history.long[is_seen & ~long[self._bones.bones].any(axis=1)] = 0
        ratios = history.own / self._bones.reference
        is_short = ~(ratios >= _SHORT * np.nanmedian(ratios)) if history.long.any() else False
        mistaken = is_short & (history.long >= _KEPT_LENGTHS)
        history.lengths[:, mistaken], history.own = np.nan, np.where(mistaken, np.nan, history.own)
        history.counts[mistaken], history.long[mistaken] = 0, 0
        is_strange = long.sum() > (~np.isnan(measured[:, 0])).sum() // 4
        history.strange = history.strange + 1 if is_strange else 0
        if history.strange < _ENOUGH_LENGTHS:
            return long
        history.lengths[:], history.counts[:], history.strange = np.nan, 0, 0
        history.own = np.full_like(history.own, np.nan)
        history.accepted[:] = np.nan
        return np.zeros_like(long)

    def _without(self, frame: SkeletonFrame, unseen: JointMask) -> SkeletonFrame:
        """Take joints out, and infer those that are always inferred from what is left."""
        positions, confidences = frame.positions.copy(), frame.confidences.copy()
        positions[unseen], confidences[unseen] = np.nan, 0.0
        if frame.inferred is not None:
            positions[frame.inferred] = np.nan
            self._inference.fill(positions, frame.inferred)
        return dataclasses.replace(frame, positions=positions, confidences=confidences)

    def _jumped(self, pose: Pose, frame: SkeletonFrame, history: _History) -> JointMask:
        """Find joints that leave their body, unless they were refused at about the same place."""
        since_s = (frame.stamp_ns - history.stamps_ns) / NS_PER_S
        moved = pose - history.accepted
        known = ~np.isnan(moved[:, 0]) & (since_s <= _SOON_S)
        nothing = np.zeros(len(pose), dtype=bool)
        if not known.any():
            return nothing
        few = known.sum() < _FEW
        body = np.zeros(3) if few else np.median(moved[known], axis=0)
        limit_m = _JOINT_SPEED_M_S * since_s + _JOINT_NOISE_M
        jumped = known & (np.linalg.norm(moved - body, axis=-1) > limit_m)
        if not few and jumped.sum() > known.sum() // 4:
            return nothing  # the whole body did: a turn, or another person
        frame_s = (frame.stamp_ns - history.newest_ns) / NS_PER_S
        again = np.linalg.norm(pose - history.refused - body * (not few), axis=-1)
        return np.asarray(jumped & ~(again <= _JOINT_SPEED_M_S * frame_s + _JOINT_NOISE_M))

    def _remember(
        self, accepted: Pose, measured: Pose, frame: SkeletonFrame, history: _History
    ) -> None:
        seen = ~np.isnan(accepted[:, 0])
        history.accepted[seen], history.stamps_ns[seen] = accepted[seen], frame.stamp_ns
        history.refused = np.where(seen[:, None], np.nan, measured)
        history.newest_ns = frame.stamp_ns
        lengths = self._bones.lengths(accepted)
        measured_bones = np.flatnonzero(~np.isnan(lengths))
        rows = history.counts[measured_bones] % _KEPT_LENGTHS
        history.lengths[rows, measured_bones] = lengths[measured_bones]
        history.counts[measured_bones] += 1
        history.seen += 1
        if history.seen <= _KEPT_LENGTHS or history.seen % 8 == 0:
            history.own = _median_lengths(history.lengths, _ENOUGH_LENGTHS)


def _shares(
    observed: Bool[np.ndarray, 'time joint'], bones: Int64[np.ndarray, 'bone end=2']
) -> Float64[np.ndarray, 'time bone end=2']:
    """Return how much of a correction the ends of each bone take: 0 where it was observed."""
    movable = (~observed[:, bones]).astype(np.float64)
    return np.asarray(movable / np.maximum(movable.sum(axis=-1, keepdims=True), 1.0))


def joints_filtered(person_id: str, reason: str, names: Iterable[str]) -> Rejection:
    """Say which joints of a person were taken as not seen, and why."""
    text = f'person {person_id!r}: {", ".join(names)} {_JOINT_FAULTS[reason]}; taken as not seen'
    return Rejection(person_id, reason, text)


_JOINT_FAULTS = {
    'joint_at_origin': "at 0 0 0, the tracker's word for a joint without a place",
    'joint_non_finite': 'at infinity',
    'joint_same_place': 'at exactly the place of another joint',
    'joint_confidence': 'with a confidence that is NaN or outside 0..1',
    'joint_bone_length': 'farther from its neighbours than 1.5 times the bone between them',
    'joint_jump': 'left the body for one frame',
}


def _median_lengths(lengths: Float64[np.ndarray, 'sample bone'], min_count: int) -> BoneLengths:
    """Return the median of each bone [m]; NaN where fewer than `min_count` were seen."""
    enough = (~np.isnan(lengths)).sum(axis=0) >= min_count
    median = np.full(lengths.shape[1], np.nan)
    if enough.any():
        median[enough] = np.nanmedian(lengths[:, enough], axis=0)
    return median


def _new_history(frame: SkeletonFrame, bones: BoneLimits) -> _History:
    unseen = np.full_like(frame.positions, np.nan)
    stamps_ns = np.full(len(unseen), frame.stamp_ns, dtype=np.int64)
    own = np.full(len(bones.bones), np.nan)
    lengths, counts = np.tile(own, (_KEPT_LENGTHS, 1)), np.zeros(len(own), dtype=np.int64)
    return _History(
        lengths, counts, own, unseen, stamps_ns, unseen.copy(), counts.copy(), frame.stamp_ns
    )


def _no_joints(person_id: str) -> Rejection:
    return Rejection(person_id, 'no_joints', f'person {person_id!r}: not one joint is possible')


def _seen(pose: Pose) -> Int64[np.ndarray, ' some']:
    return np.flatnonzero(~np.isnan(pose[:, 0]))


def _without(pose: Pose, joint: int) -> Pose:
    other = pose.copy()
    other[joint] = np.nan
    return other
