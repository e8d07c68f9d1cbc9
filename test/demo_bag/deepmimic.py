# SPDX-License-Identifier: Apache-2.0
"""Make the demo bag: people of DeepMimic's motion clips walk, dance and fall over our stage.

The output is that of a tracker. The clips are those that the
PyPI package pybullet ships (zlib licence); it is looked for, never imported. Every run gives the
same bag.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from demo_bag.motion_clip import (
    JOINT_NAMES,
    RATE_HZ,
    MotionClip,
    followed,
    joint_positions,
    placed,
    read_clip,
)
from jaxtyping import Float64

from motion_predictor_ros.conventions import NS_PER_S
from motion_predictor_ros.data.bags import SKELETON_ARRAY, BagWriter, typestore
from motion_predictor_ros.errors import DataError

TOPIC = '/skeletons'
FRAME_ID = 'world'
START_NS = 1_700_000_000 * NS_PER_S
DELAY_NS = 5_000_000
"""From the light on the sensor to the log [ns]."""
PAUSE_FRAMES = RATE_HZ
_TRACKED = 1  # Skeleton.TRACKING_TRACKED


@dataclass(frozen=True)
class Actor:
    """One person of a scene.

    Attributes:
        clips: Played in turn; a clip named n times runs n cycles.
        x_m, y_m: Where the person starts.
        yaw_deg: Rotation of the first frame; 0 faces +x.
    """

    person_id: str
    clips: tuple[str, ...]
    x_m: float
    y_m: float
    yaw_deg: float


SCENES: tuple[tuple[Actor, ...], ...] = (
    (Actor('walker', ('walk',) * 7, -3.8, -1.5, 0.0),),
    (Actor('runner', ('run',) * 2 + ('walk',) * 4 + ('kick',), -6.0, -0.5, 0.0),),
    (Actor('riser', ('getup_facedown',) + ('walk',) * 4, 2.0, 1.5, 180.0),),
    (Actor('jumper', ('jump',) * 5, -2.5, 1.0, 0.0),),
    (
        Actor('dancer', ('dance_b',) * 4, 0.0, 1.2, -90.0),
        Actor('passer_by', ('walk',) * 8, -4.8, -2.2, 0.0),
    ),
    (Actor('fighter', ('punch', 'kick', 'spinkick', 'punch', 'kick'), -1.0, -1.0, 0.0),),
)


@dataclass(frozen=True)
class ConvertSummary:
    """Summary of the written bag."""

    seconds: float
    messages: int
    people: int
    bytes: int

    def __str__(self) -> str:
        """Return the summary in one line."""
        return (
            f'{self.seconds:.1f} s, {self.messages} messages, {self.people} people, '
            f'{self.bytes / 1e6:.2f} MB'
        )


def convert_deepmimic(source: Path | None, out: Path) -> ConvertSummary:
    """Write the demo bag, replacing the file `out` if it is a .mcap that exists.

    Args:
        source: Folder of humanoid3d_*.txt; None takes that of an installed pybullet.

    Raises:
        DataError: A clip is missing or malformed, or pybullet is not installed.
        BagError: The bag cannot be written.
    """
    folder = _installed_clips() if source is None else source
    names = {clip for scene in SCENES for actor in scene for clip in actor.clips}
    clips = {name: read_clip(folder / f'humanoid3d_{name}.txt') for name in sorted(names)}
    count = 0
    with BagWriter(out, mcap=True, replace=True) as bag:
        for people in _frames(clips):
            stamp_ns = START_NS + count * NS_PER_S // RATE_HZ
            bag.write(TOPIC, SKELETON_ARRAY, stamp_ns + DELAY_NS, _message(stamp_ns, people))
            count += 1
    return ConvertSummary(count / RATE_HZ, count, sum(map(len, SCENES)), _size(out))


def _installed_clips() -> Path:
    spec = find_spec('pybullet_data')
    if spec is None or not spec.submodule_search_locations:
        raise DataError(
            'no motion clips: `pip install pybullet`, which ships them, or pass --source the '
            'folder that holds humanoid3d_walk.txt'
        )
    return Path(spec.submodule_search_locations[0], 'data', 'motions')


def _frames(
    clips: dict[str, MotionClip],
) -> Iterator[dict[str, Float64[np.ndarray, 'joint xyz=3']]]:
    """Yield the people of each frame, with empty frames between the scenes."""
    for scene in SCENES:
        moves = {actor.person_id: joint_positions(_performance(actor, clips)) for actor in scene}
        for frame in range(max(map(len, moves.values()))):
            yield {person: move[frame] for person, move in moves.items() if frame < len(move)}
        yield from ({} for _ in range(PAUSE_FRAMES))


def _performance(actor: Actor, clips: dict[str, MotionClip]) -> MotionClip:
    first, *rest = (clips[name] for name in actor.clips)
    start = placed(first, actor.x_m, actor.y_m, np.deg2rad(actor.yaw_deg))
    return reduce(followed, rest, start)


def _message(stamp_ns: int, people: dict[str, Float64[np.ndarray, 'joint xyz=3']]) -> Any:
    types = typestore().types
    stamp = types['builtin_interfaces/msg/Time'](*divmod(stamp_ns, NS_PER_S))
    persons = [
        types['motion_predictor_ros/msg/Skeleton'](
            person_id=person,
            tracking_state=_TRACKED,
            positions=positions.astype(np.float32).reshape(-1),
            confidences=np.ones(len(positions), dtype=np.float32),
        )
        for person, positions in people.items()
    ]
    return types[SKELETON_ARRAY](
        header=types['std_msgs/msg/Header'](stamp=stamp, frame_id=FRAME_ID),
        layout='body18',
        joint_names=list(JOINT_NAMES),
        persons=persons,
    )


def _size(path: Path) -> int:
    files = path.rglob('*') if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
