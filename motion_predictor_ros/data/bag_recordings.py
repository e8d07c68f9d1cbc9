# SPDX-License-Identifier: Apache-2.0
"""People in bags become recordings on an even clock, told apart by when they were seen.

Stands beside the line. Only what was really observed is kept: a clip ends where a joint was out of
sight, a person jumped, or their history began anew. Joints that a source never gives are taken as
the pipeline puts them in place.
"""

import dataclasses
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float64

from motion_predictor_ros.config import PipelineConfig
from motion_predictor_ros.conventions import NS_PER_S
from motion_predictor_ros.data.bag_sources import open_source
from motion_predictor_ros.data.recordings import Recordings, join_clips
from motion_predictor_ros.errors import DataError
from motion_predictor_ros.skeleton.buffer import MIN_SPACING_S
from motion_predictor_ros.skeleton.frame import SkeletonFrame, Window
from motion_predictor_ros.skeleton.layout import SkeletonLayout
from motion_predictor_ros.skeleton.plausibility import Plausibility
from motion_predictor_ros.skeleton.resample import resample

SPLITS = ('train', 'val', 'test')
"""Earliest first: what is learnt from, what chooses, what judges."""

_SHARES = (0.6, 0.75)
_APART_S = 1.0
_LOOK_S = 1.0


@dataclass
class _Stay:
    """One person, seen without a break.

    Attributes:
        times_s: On one clock for all bags, which never goes back.
    """

    person: str
    times_s: list[float] = field(default_factory=list)
    frames: list[SkeletonFrame] = field(default_factory=list)


@dataclass(frozen=True)
class RawSkeleton:
    """One person on an even clock, every joint observed.

    Attributes:
        person: Bag and id.
        begin_s: On one clock for all bags.
        positions: [m].
    """

    person: str
    begin_s: float
    positions: Float64[np.ndarray, 'time joint xyz=3']


@dataclass(frozen=True)
class RawSkeletons:
    """Everybody in some bags.

    Attributes:
        lost_s: Seconds of people that could not be used, by reason.
    """

    rate_hz: float
    seen: tuple[RawSkeleton, ...]
    lost_s: dict[str, float]


def people_in(
    bags: Sequence[Path], topic: str, config: PipelineConfig, source: str, rate_hz: float
) -> RawSkeletons:
    """Read everybody in bags of any source, as the pipeline sees them.

    Raises:
        BagError: A bag cannot be read, or it is not clear what is meant.
        MotionPredictorError: The model, the layout or the source cannot be used.
    """
    density = dataclasses.replace(config.density, enabled='never')
    volume = dataclasses.replace(config.volume, enabled='never')
    config = dataclasses.replace(config, density=density, volume=volume)
    layout = SkeletonLayout.load(config.skeleton.layout)
    plausible = Plausibility(layout, config.skeleton.up)
    found: list[RawSkeleton] = []
    lost: dict[str, float] = defaultdict(float)
    begin_s = 0.0
    for number, bag in enumerate(bags):
        stays = _stays(bag, f'{number}:{bag.stem}', topic, config, source, begin_s)
        begin_s = max((each.times_s[-1] for each in stays), default=begin_s)
        for stay in stays:
            found += _sightings(stay, rate_hz, plausible, lost)
    return RawSkeletons(rate_hz, tuple(found), lost)


def _stays(
    bag: Path, name: str, topic: str, config: PipelineConfig, source: str, begin_s: float
) -> list[_Stay]:
    """Follow everybody until they leave, jump, or time jumps back."""
    void: set[str] = set()
    recorded = open_source(
        bag, topic, config, source, on_restart=lambda restart: void.add(restart.person_id)
    )
    pipeline, done = recorded.pipeline, list[_Stay]()
    current: dict[tuple[int, str], _Stay] = {}
    newest_ns, shift_ns = None, round(begin_s * NS_PER_S)
    for each in recorded.messages:
        void.clear()
        if not pipeline.observe(each.message, each.stamp_ns) or pipeline.skeleton.latest is None:
            continue
        stamp_ns = pipeline.skeleton.latest.stamp_ns
        if newest_ns is None or stamp_ns < newest_ns:
            shift_ns += (newest_ns or 0) - stamp_ns
        newest_ns = stamp_ns
        for person in pipeline.skeleton.latest.people:
            key = pipeline.skeleton.resets, person.person_id
            if key not in current or person.person_id in void:
                current[key] = _Stay(f'{name}/{person.person_id}')
                done.append(current[key])
            current[key].times_s.append((stamp_ns + shift_ns) / NS_PER_S)
            current[key].frames.append(person)
    return done


def _sightings(
    stay: _Stay, rate_hz: float, plausible: Plausibility, lost: dict[str, float]
) -> Iterator[RawSkeleton]:
    """Put one stay on the even clock and cut it where a joint was not observed."""
    stamps_s = np.array(stay.times_s)
    spaced = np.concatenate([[True], np.diff(stamps_s) >= MIN_SPACING_S])
    stamps_s = stamps_s[spaced]
    positions = np.array([each.positions for each in stay.frames])[spaced]
    if len(stamps_s) < 2 or np.isnan(positions).all(axis=(0, 2)).any():
        lost['joints never seen'] += float(stamps_s[-1] - stamps_s[0])
        return
    confidences = np.array([each.confidences for each in stay.frames])[spaced]
    times_s = np.arange(stamps_s[0], stamps_s[-1], 1.0 / rate_hz)
    values, observed, _ = resample(stamps_s, positions, confidences, times_s)
    whole = np.asarray(observed.all(axis=1))
    lost['joints out of sight'] += float((~whole).sum()) / rate_hz
    for first, last in _runs(whole):
        sighting = RawSkeleton(stay.person, float(times_s[first]), values[first:last])
        fault = _fault(sighting, stay.frames[0], rate_hz, plausible)
        if fault:
            lost[fault] += (last - first) / rate_hz
        else:
            yield sighting


def _runs(whole: Bool[np.ndarray, ' time']) -> list[tuple[int, int]]:
    """Return first and one past the last of each run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], whole, [False]])))
    return [(int(first), int(last)) for first, last in edges.reshape(-1, 2)]


def _fault(
    sighting: RawSkeleton, like: SkeletonFrame, rate_hz: float, plausible: Plausibility
) -> str | None:
    """Return why this cannot be a person as they are, judged second by second."""
    length = round(_LOOK_S * rate_hz)
    for first in range(0, len(sighting.positions) - length + 1, length):
        part = sighting.positions[first : first + length]
        seen = np.ones(part.shape[:2], dtype=bool)
        sure = seen.astype(np.float32)
        window = Window(like.person_id, 0, part, seen, sure, False, like.inferred)
        fault = plausible.fault(window)
        if fault is not None:
            return fault[0]
    return None


def split_by_time(
    sightings: RawSkeletons, joint_names: tuple[str, ...], attribution: tuple[str, ...]
) -> Recordings:
    """Split at two moments: the first 60 % of what was seen trains, 15 % chooses, 25 % judges.

    People seen at the same time are in the same split. What lies within a second after a cut is
    left out, so that no window of one split continues one of another.

    Raises:
        DataError: Nobody was seen.
    """
    rate_hz, seen = sightings.rate_hz, sightings.seen
    if not seen:
        raise DataError(f'nobody was seen with every joint; could not be used: {_said(sightings)}')
    ends = np.concatenate(
        [each.begin_s + np.arange(len(each.positions)) / rate_hz for each in seen]
    )
    cuts = np.quantile(ends, _SHARES)
    begins = np.concatenate([[-np.inf], cuts + _APART_S])
    pieces = []
    for each in seen:
        times_s = each.begin_s + np.arange(len(each.positions)) / rate_hz
        for split, begin_s, end_s in zip(SPLITS, begins, [*cuts, np.inf], strict=True):
            part = each.positions[(times_s >= begin_s) & (times_s < end_s)]
            if len(part):
                pieces.append(
                    (f'{each.person}@{each.begin_s:.2f}:{split}', each.person, split, part)
                )
    return join_clips(joint_names, rate_hz, pieces, attribution)


def unsplit(sightings: RawSkeletons, joint_names: tuple[str, ...]) -> Recordings:
    """Keep everything together, to be judged.

    Raises:
        DataError: Nobody was seen.
    """
    if not sightings.seen:
        raise DataError(f'nobody was seen with every joint; could not be used: {_said(sightings)}')
    pieces = [
        (f'{each.person}@{each.begin_s:.2f}', each.person, 'test', each.positions)
        for each in sightings.seen
    ]
    return join_clips(joint_names, sightings.rate_hz, pieces, ())


def _said(sightings: RawSkeletons) -> str:
    return ', '.join(f'{s:.1f} s {why}' for why, s in sightings.lost_s.items() if s) or 'nothing'
