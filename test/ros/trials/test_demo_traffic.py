# SPDX-License-Identifier: Apache-2.0
"""Everything that a node says while part of the demo is played, with all that can be switched on.

moveit_msgs, nav2_msgs and tf2_msgs are built from our definitions of what is written and read.
"""

import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from foreign_messages import DEFINITIONS, make, types
from message_faults import faults
from ros.graph import Graph, Process
from ros.traffic_recorder import register
from rosbags.convert.converter import migrate_bytes
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from motion_predictor_ros.data.bags import BagMessage, BagWriter, read_messages, typestore
from motion_predictor_ros.resources import share_file

pytestmark = pytest.mark.slow

BEGIN_S, LENGTH_S = 38.2, 3.0  # two people
PEOPLE = {'dancer', 'passer_by'}
OUTPUTS = (
    'probability_cloud', 'obstacle_cloud', 'occupancy_grid', 'collision_objects', 'speed_limit',
)  # fmt: skip
TOPICS = (
    '/predicted_motion', '/weighted_futures', '/markers', '/probability_volumes',
    '/probability_cloud', '/obstacle_cloud', '/occupancy_grid', '/volume_markers',
    '/collision_object', '/speed_limit', '/diagnostics',
)  # fmt: skip
OWN_CLOCK = {'/diagnostics', '/speed_limit'}  # these say when they were said


def excerpt(out: Path) -> set[int]:
    """Write the part that is played, and where the robot stands; return the stamps in it."""
    stamps = set()
    with BagWriter(out) as writer:
        begin_ns = None
        for each in read_messages(share_file('demo', 'demo.mcap')):
            begin_ns = each.stamp_ns if begin_ns is None else begin_ns
            if 0.0 <= (each.stamp_ns - begin_ns) / 1e9 - BEGIN_S < LENGTH_S:
                if not stamps:
                    write_robot(writer, each.stamp_ns)
                writer.write(each.topic, each.msgtype, each.stamp_ns, each.raw)
                stamps.add(stamp_of(each.message.header))
    return stamps


def write_robot(writer: BagWriter, stamp_ns: int) -> None:
    translation = make('geometry_msgs/Vector3', x=3.0, y=0.0, z=0.0)
    turn = make('geometry_msgs/Quaternion', x=0.0, y=0.0, z=0.0, w=1.0)
    seconds, rest = divmod(stamp_ns, 10**9)
    stamp = make('builtin_interfaces/Time', sec=seconds, nanosec=rest)
    placed = make(
        'geometry_msgs/TransformStamped',
        header=make('std_msgs/Header', stamp=stamp, frame_id='world'),
        child_frame_id='base_link',
        transform=make('geometry_msgs/Transform', translation=translation, rotation=turn),
    )
    told = make('tf2_msgs/TFMessage', transforms=[placed])
    kind = 'tf2_msgs/msg/TFMessage'
    raw = bytes(types().serialize_cdr(told, kind))
    writer.write('/tf_static', kind, stamp_ns, raw)


def stamp_of(header: Any) -> int:
    return int(header.stamp.sec) * 10**9 + int(header.stamp.nanosec)


@pytest.fixture(scope='module')
def recorded(
    foreign: dict[str, str],
    processes: Callable[..., Process],
    graph: Graph,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[dict[str, list[BagMessage]], set[int]]:
    """What was said on each topic, and the stamps of what was played."""
    folder = tmp_path_factory.mktemp('traffic')
    stamps = excerpt(folder / 'part.mcap')
    given = {f'outputs.{name}.enabled': 'true' for name in OUTPUTS}
    given |= {'volume.enabled': 'always', 'use_sim_time': 'true', 'density.enabled': 'always'}
    options = [word for name, value in given.items() for word in ('-p', f'{name}:={value}')]
    module = [sys.executable, '-m']
    node = processes(
        [*module, 'motion_predictor_ros.ros.predictor_node', '--ros-args', *options], foreign
    )
    node.wait_for('predicting from /skeletons')
    bag = folder / 'said.mcap'
    recorder = processes([*module, 'ros.traffic_recorder', str(bag), *TOPICS, '--ros-args',
                          '-p', 'use_sim_time:=true'], foreign)  # fmt: skip
    for topic in TOPICS:
        recorder.wait_for(f'recording {topic} ')
    graph.spin(0.5)
    play = [*module, 'motion_predictor_ros.ros.tools.play_bag', str(folder / 'part.mcap')]
    slowly = ['--rate', '0.5', '--wait-for-subscribers', '2']
    assert processes([*play, *slowly], foreign).wait(120.0) == 0
    graph.spin(1.0)
    assert graph.transition('deactivate')
    graph.spin(1.0)
    assert 'internal_error' not in node.output, node.output
    for each in (node, recorder):
        assert each.stop()[0] == 0
    register()
    found = defaultdict(list)
    for message in read_messages(bag):
        found[message.topic].append(message)
    return found, stamps


def test_every_output_was_published(
    recorded: tuple[dict[str, list[BagMessage]], set[int]],
) -> None:
    found, _ = recorded
    assert {topic for topic in TOPICS if not found[topic]} == set()
    told = [each.message for each in found['/probability_volumes']]
    assert {person.person_id for each in told for person in each.persons} == PEOPLE
    assert {person.validity for each in told for person in each.persons} >= {0, 1}


def test_nothing_has_a_fault(recorded: tuple[dict[str, list[BagMessage]], set[int]]) -> None:
    found, stamps = recorded
    assert wrong(found, stamps, lambda each: each.message) == {}


def wrong(
    found: dict[str, list[BagMessage]], stamps: set[int], read: Callable[[BagMessage], Any]
) -> dict[str, set[str]]:
    """Return what is wrong on each topic."""
    seen = defaultdict(set)
    for topic, messages in found.items():
        last_ns = time.time_ns() if topic in OWN_CLOCK else max(stamps)
        for each in messages:
            if faulty := checked(read(each), last_ns):
                seen[topic].update(faulty)
    return dict(seen)


def checked(message: Any, now_ns: int) -> list[str]:
    """Return faults; diagnostics have no frame, and no stamp before simulated time begins."""
    found = faults(message, now_ns)
    return [each for each in found if not each.startswith('DiagnosticArray: no ')]


def test_stamps_are_those_of_observations(
    recorded: tuple[dict[str, list[BagMessage]], set[int]],
) -> None:
    found, stamps = recorded
    for topic in set(found) - OWN_CLOCK:
        for message in (each.message for each in found[topic]):
            headers = [each.header for each in getattr(message, 'markers', [message])]
            assert {stamp_of(each) for each in headers} <= stamps, topic


def test_moveit_and_nav2_get_messages_they_accept(
    recorded: tuple[dict[str, list[BagMessage]], set[int]],
) -> None:
    found, _ = recorded
    objects = [each.message for each in found['/collision_object']]
    added = {each.id for each in objects if each.operation == 0}
    removed = {each.id for each in objects if each.operation == 1}
    assert {name.split('/')[1] for name in added} == PEOPLE and removed == added  # at the end
    for each in objects:
        assert bool(len(each.primitives)) == (each.operation == 0)
    limits = [each.message for each in found['/speed_limit']]
    assert all(each.percentage and 20.0 <= each.speed_limit <= 100.0 for each in limits)


def ros_1() -> tuple[Typestore, Typestore]:
    """Return what ROS 2 and ROS 1 know, with our messages and the foreign ones."""
    one = get_typestore(Stores.ROS1_NOETIC)
    ours = {
        f'motion_predictor_ros/msg/{path.stem}': path.read_text(encoding='utf-8')
        for path in share_file('msg').glob('*.msg')
    }
    new: dict[str, Any] = {}
    for name, text in {**ours, **DEFINITIONS}.items():
        if name not in one.types:
            new |= get_types_from_msg(text, name)
    one.register(new)
    return typestore(), one


def test_nothing_has_a_fault_as_ros_1_either(
    recorded: tuple[dict[str, list[BagMessage]], set[int]],
) -> None:
    (found, stamps), (two, one) = recorded, ros_1()

    def read(each: BagMessage) -> Any:
        kind = each.msgtype
        raw = migrate_bytes(two, one, kind, kind, {}, each.raw, src_is2=True, dst_is2=False)
        back = one.deserialize_ros1(raw, kind)
        if hasattr(back, 'header'):
            assert stamp_of(back.header) == stamp_of(each.message.header)
        return back

    few = {topic: messages[:: max(1, len(messages) // 5)] for topic, messages in found.items()}
    assert wrong(few, stamps, read) == {}


def test_a_fault_in_the_recording_is_found(
    recorded: tuple[dict[str, list[BagMessage]], set[int]],
) -> None:
    found, stamps = recorded
    said = [each.message for each in found['/predicted_motion']]
    message = next(each for each in said if len(each.persons[0].positions))
    assert 'future' in str(checked(message, min(stamps)))
    message.persons[0].positions = np.full_like(message.persons[0].positions, np.nan)
    assert 'not finite' in str(checked(message, max(stamps)))
