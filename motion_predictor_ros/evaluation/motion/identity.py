# SPDX-License-Identifier: Apache-2.0
"""How often people change their ids when they cross, by the tracker's ids or by their motion.

Two recorded walkers cross. A synthetic tracker loses both while they are close, as cameras do, and
then assigns new, exchanged or correct ids.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from rich.console import Console

from motion_predictor_ros.config import SkeletonConfig
from motion_predictor_ros.conventions import NS_PER_S
from motion_predictor_ros.data.recordings import Recordings
from motion_predictor_ros.errors import DataError
from motion_predictor_ros.evaluation.tables import print_table
from motion_predictor_ros.scoring.metrics import Poses, Windows
from motion_predictor_ros.skeleton.frame import Observation, SkeletonFrame
from motion_predictor_ros.skeleton.layout import SkeletonLayout
from motion_predictor_ros.skeleton.tracking import Identities

CLOSE_M = 0.7
LOST_S = 0.4
PASSING_M = 0.4
_WALKS_M_S = 0.6


def evaluate_identity(
    recordings: Recordings, seed: int = 0, crossings: int = 60
) -> dict[str, Any]:
    """Return switches of ids per minute and person, by how ids are given.

    Raises:
        DataError: Fewer than two clips of walking people.
    """
    layout = SkeletonLayout.load('body18')
    walks = list(_walks(recordings))
    if len(walks) < 2:
        raise DataError('fewer than two clips of walking people')
    report: dict[str, Any] = {'walks': len(walks), 'crossings': crossings, 'switches': {}}
    for name, associate in (('tracker', False), ('associate', True)):
        rng = np.random.default_rng(seed)
        switches, minutes, all_restarts = 0, 0.0, 0
        for _ in range(crossings):
            first, second = rng.choice(len(walks), size=2, replace=False)
            people = _cross(walks[first], walks[second], rng)
            changes, restarts_reported = _follow(people, recordings.fps, layout, associate, rng)
            switches, all_restarts = switches + changes, all_restarts + restarts_reported
            minutes += 2 * people.shape[1] / recordings.fps / 60
        report['switches'][name] = {
            'per_minute': switches / minutes,
            'count': switches,
            'restarts_said': all_restarts,
        }
    report['minutes'] = minutes
    return report


def _walks(recordings: Recordings) -> Iterator[Poses]:
    """Yield clips of walking people, at 25 Hz or the recording's rate."""
    for clip in recordings.clips:
        path = recordings.positions[clip.start : clip.start + clip.length].astype(np.float64)
        way_m = float(np.linalg.norm(path[-1, 0, :2] - path[0, 0, :2]))
        if way_m > _WALKS_M_S * clip.length / recordings.fps and way_m > 1.5:
            yield path


def _cross(one: Poses, other: Poses, rng: np.random.Generator) -> Windows:
    """Lay two walks across each other at any angle; they pass at arm's length in the middle."""
    length = min(len(one), len(other))
    turned = []
    for path in (one, other):
        begin = (len(path) - length) // 2
        path = path[begin : begin + length]
        way = path[-1, 0, :2] - path[0, 0, :2]
        angle = rng.uniform(0, 2 * np.pi) - np.arctan2(way[1], way[0])
        cos, sin = np.cos(angle), np.sin(angle)
        turn = np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
        middle = path[length // 2, 0] * [1.0, 1.0, 0.0]
        turned.append((path - middle) @ turn.T)
    side = rng.uniform(0, 2 * np.pi)
    turned[1] = turned[1] + PASSING_M * np.array([np.cos(side), np.sin(side), 0.0])
    return np.stack(turned)


def _follow(
    people: Windows, fps: float, layout: SkeletonLayout, associate: bool, rng: np.random.Generator
) -> tuple[int, int]:
    """Return the numbers of id switches and of reported restarts."""
    identities = Identities(layout, associate, SkeletonConfig().forget_after_s)
    apart_m = np.linalg.norm(people[0, :, 0, :2] - people[1, :, 0, :2], axis=-1)
    close = np.flatnonzero(apart_m < CLOSE_M)
    lost_from = int(close[0]) if len(close) else people.shape[1]
    lost_to = lost_from + round(LOST_S * fps)
    after = (('3', '4'), ('2', '1'), ('1', '2'))[int(rng.integers(3))]
    last: list[str] = ['', '']
    switches, restart_count = 0, 0
    for frame in range(0, people.shape[1], max(round(fps / 25), 1)):
        if lost_from <= frame < lost_to:
            continue
        ids = ('1', '2') if frame < lost_from else after
        stamp_ns = round((1.0 + frame / fps) * NS_PER_S)
        confidences = np.ones(people.shape[2], dtype=np.float32)
        people_at = tuple(
            SkeletonFrame(person_id, stamp_ns, positions, confidences)
            for person_id, positions in zip(ids, people[:, frame], strict=True)
        )
        followed, restarts = identities.follow(Observation(stamp_ns, 'world', people_at))
        restart_count += len(restarts)
        for place, person in enumerate(followed.people):
            switches += bool(last[place]) and last[place] != person.person_id
            last[place] = person.person_id
    return switches, restart_count


def print_identity(report: Mapping[str, Any], console: Console) -> None:
    """Print one row per way of giving ids."""
    title = f'{report["crossings"]} crossings, {report["minutes"]:.1f} minutes of people'
    rows = {
        name: {
            'switches per minute': counts['per_minute'],
            'switches': counts['count'],
            'reported restarts': counts['restarts_said'],
        }
        for name, counts in report['switches'].items()
    }
    print_table(rows, title, 'ids by', console, form='.2f')
