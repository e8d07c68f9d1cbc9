# SPDX-License-Identifier: Apache-2.0
"""Read people in bags as recordings at an even rate, and split them by time.

Only what was observed is kept: a clip ends where a joint was not observed, a person jumped, or
their history began anew. Joints that a source never has are inferred as in the pipeline.
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
from motion_predictor_ros.data.recordings import Piece, Recordings, join_clips
from motion_predictor_ros.errors import DataError
from motion_predictor_ros.skeleton.buffer import MIN_SPACING_S
from motion_predictor_ros.skeleton.frame import SkeletonFrame, Window
from motion_predictor_ros.skeleton.layout import SkeletonLayout
from motion_predictor_ros.skeleton.plausibility import Plausibility
from motion_predictor_ros.skeleton.resample import resample

SPLITS = ('train', 'val', 'test')
"""In the order of time."""

_SHARES = (0.6, 0.75)
_APART_S = 1.0
_CHECKED_S = 1.0


@dataclass
class _Track:
    """Observations of one person without a restart.

    Attributes:
        times_s: On one clock for all bags, which never goes back.
    """

    person: str
    times_s: list[float] = field(default_factory=list)
    frames: list[SkeletonFrame] = field(default_factory=list)


@dataclass(frozen=True)
class Segment:
    """One person at an even rate, every joint observed.

    Attributes:
        person: Bag and id.
        begin_s: On one clock for all bags.
        positions: [m].
    """

    person: str
    begin_s: float
    positions: Float64[np.ndarray, 'time joint xyz=3']

    def times_s(self, rate_hz: float) -> Float64[np.ndarray, ' time']:
        """Return the time of each frame [s]."""
        return self.begin_s + np.arange(len(self.positions)) / rate_hz


@dataclass(frozen=True)
class Segments:
    """All people in some bags.

    Attributes:
        lost_s: Seconds of people that could not be used, by reason.
    """

    rate_hz: float
    segments: tuple[Segment, ...]
    lost_s: dict[str, float]


def read_segments(
    bags: Sequence[Path], topic: str, config: PipelineConfig, source: str, rate_hz: float
) -> Segments:
    """Read all people in bags of any source, as the pipeline observes them.

    Raises:
        BagError: A bag cannot be read, or it is not clear what is meant.
        MotionPredictorError: The model, the layout or the source cannot be used.
    """
    density = dataclasses.replace(config.density, enabled='never')
    volume = dataclasses.replace(config.volume, enabled='never')
    config = dataclasses.replace(config, density=density, volume=volume)
    layout = SkeletonLayout.load(config.skeleton.layout)
    plausibility = Plausibility(layout, config.skeleton.up)
    segments: list[Segment] = []
    lost_s: dict[str, float] = defaultdict(float)
    begin_s = 0.0
    for number, bag in enumerate(bags):
        tracks = _tracks(bag, f'{number}:{bag.stem}', topic, config, source, begin_s)
        begin_s = max((track.times_s[-1] for track in tracks), default=begin_s)
        for track in tracks:
            segments += _segments(track, rate_hz, plausibility, lost_s)
    return Segments(rate_hz, tuple(segments), lost_s)


def _tracks(
    bag: Path, name: str, topic: str, config: PipelineConfig, source: str, begin_s: float
) -> list[_Track]:
    """Follow all people until they leave, jump, or time jumps back."""
    restarted: set[str] = set()
    recorded = open_source(
        bag, topic, config, source, on_restart=lambda restart: restarted.add(restart.person_id)
    )
    pipeline, tracks = recorded.pipeline, list[_Track]()
    current: dict[tuple[int, str], _Track] = {}
    newest_ns, shift_ns = None, round(begin_s * NS_PER_S)
    for record in recorded.messages:
        restarted.clear()
        is_accepted = pipeline.observe(record.message, record.stamp_ns)
        observation = pipeline.skeleton.latest
        if not is_accepted or observation is None:
            continue
        stamp_ns = observation.stamp_ns
        if newest_ns is None or stamp_ns < newest_ns:
            shift_ns += (newest_ns or 0) - stamp_ns
        newest_ns = stamp_ns
        for person in observation.people:
            key = pipeline.skeleton.resets, person.person_id
            if key not in current or person.person_id in restarted:
                current[key] = _Track(f'{name}/{person.person_id}')
                tracks.append(current[key])
            current[key].times_s.append((stamp_ns + shift_ns) / NS_PER_S)
            current[key].frames.append(person)
    return tracks


def _segments(
    track: _Track, rate_hz: float, plausibility: Plausibility, lost_s: dict[str, float]
) -> Iterator[Segment]:
    """Resample one track and cut it where a joint was not observed."""
    stamps_s = np.array(track.times_s)
    spaced = np.concatenate([[True], np.diff(stamps_s) >= MIN_SPACING_S])
    stamps_s = stamps_s[spaced]
    positions = np.array([frame.positions for frame in track.frames])[spaced]
    if len(stamps_s) < 2 or np.isnan(positions).all(axis=(0, 2)).any():
        lost_s['joints never observed'] += float(stamps_s[-1] - stamps_s[0])
        return
    confidences = np.array([frame.confidences for frame in track.frames])[spaced]
    times_s = np.arange(stamps_s[0], stamps_s[-1], 1.0 / rate_hz)
    values, observed, _ = resample(stamps_s, positions, confidences, times_s)
    complete = np.asarray(observed.all(axis=1))
    lost_s['joints not observed'] += float((~complete).sum()) / rate_hz
    for first, last in _runs(complete):
        segment = Segment(track.person, float(times_s[first]), values[first:last])
        fault = _fault(segment, track.frames[0], rate_hz, plausibility)
        if fault:
            lost_s[fault] += (last - first) / rate_hz
        else:
            yield segment


def _runs(complete: Bool[np.ndarray, ' time']) -> list[tuple[int, int]]:
    """Return first and one past the last of each run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], complete, [False]])))
    return [(int(first), int(last)) for first, last in edges.reshape(-1, 2)]


def _fault(
    segment: Segment, frame: SkeletonFrame, rate_hz: float, plausibility: Plausibility
) -> str | None:
    """Return why a second of a segment is implausible; None if none is."""
    length = round(_CHECKED_S * rate_hz)
    for first in range(0, len(segment.positions) - length + 1, length):
        part = segment.positions[first : first + length]
        seen = np.ones(part.shape[:2], dtype=bool)
        confidences = seen.astype(np.float32)
        window = Window(frame.person_id, 0, part, seen, confidences, False, frame.inferred)
        fault = plausibility.fault(window)
        if fault is not None:
            return fault[0]
    return None


def split_by_time(
    read: Segments, joint_names: tuple[str, ...], attribution: tuple[str, ...]
) -> Recordings:
    """Split at two moments: the first 60 % of the frames trains, 15 % validates, 25 % tests.

    People observed at the same time are in the same split. A second after each cut is left out,
    so that no window of one split continues one of another.

    Raises:
        DataError: There is no segment.
    """
    _check_any(read)
    frames_s = np.concatenate([segment.times_s(read.rate_hz) for segment in read.segments])
    cuts_s = np.quantile(frames_s, _SHARES)
    begins_s = np.concatenate([[-np.inf], cuts_s + _APART_S])
    pieces = []
    for segment in read.segments:
        times_s = segment.times_s(read.rate_hz)
        for split, begin_s, end_s in zip(SPLITS, begins_s, [*cuts_s, np.inf], strict=True):
            part = segment.positions[(times_s >= begin_s) & (times_s < end_s)]
            if len(part):
                key = f'{segment.person}@{segment.begin_s:.2f}:{split}'
                pieces.append(Piece(key, segment.person, split, part))
    return join_clips(joint_names, read.rate_hz, pieces, attribution)


def all_for_test(read: Segments, joint_names: tuple[str, ...]) -> Recordings:
    """Put all segments into split `test`.

    Raises:
        DataError: There is no segment.
    """
    _check_any(read)
    pieces = [
        Piece(f'{segment.person}@{segment.begin_s:.2f}', segment.person, 'test', segment.positions)
        for segment in read.segments
    ]
    return join_clips(joint_names, read.rate_hz, pieces, ())


def _check_any(read: Segments) -> None:
    if not read.segments:
        reasons = ', '.join(f'{s:.1f} s {reason}' for reason, s in read.lost_s.items() if s)
        raise DataError(
            f'no person was observed with every joint; unusable: {reasons or "nothing"}'
        )
