# SPDX-License-Identifier: Apache-2.0
"""A process that says one pose as every source does: python -m ros.foreign_publisher.

It publishes serialized messages of the generated types; whoever hears them reads real CDR bytes.
"""

import signal
import time

import rclpy
from foreign_messages import MAKERS, types
from ros.foreign_cases import (
    BASE,
    CASES,
    DEPTH,
    FIXED,
    FRAME,
    MOUNT,
    MOUNTED,
    ROBOT,
    base_at,
    person,
    topic,
    transforms,
)

from motion_predictor_ros.config import SOURCES
from motion_predictor_ros.ros.topics import message_class, static_qos
from motion_predictor_ros.skeleton.layout import SkeletonLayout

PERIOD_NS, PAUSE_S = 40_000_000, 0.08  # stamps are even, however slow this machine is now
AHEAD = 12  # transforms come half a second before what is seen, so that none is missing


def main() -> None:
    rclpy.init()
    node = rclpy.create_node('foreign')
    publishers, names, people = {}, {}, {}
    for source, layout in CASES.items():
        kind = message_class(SOURCES[source].msgtype, source)
        publishers[source] = node.create_publisher(kind, topic(source), DEPTH)
        names[source] = list(SkeletonLayout.load(layout).joint_names)
        people[source] = person(layout)
    stamp_ns, tf_type = time.time_ns(), SOURCES['tf'].msgtype
    tf = message_class(tf_type, 'TF')
    mounted = bytes(types().serialize_cdr(transforms(BASE, FRAME, MOUNTED, stamp_ns), tf_type))
    node.create_publisher(tf, '/tf_static', static_qos()).publish(mounted)
    late = node.create_publisher(tf, f'/{ROBOT}/tf_static', static_qos())
    moving = [publishers['tf'], node.create_publisher(tf, f'/{ROBOT}/tf', DEPTH)]

    def drive(at_ns: int) -> None:
        driven = transforms(FIXED, BASE, base_at(at_ns), at_ns)
        for publisher in moving:
            publisher.publish(bytes(types().serialize_cdr(driven, tf_type)))

    for step in range(AHEAD + 1):
        drive(stamp_ns + step * PERIOD_NS)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    while rclpy.ok():
        stamp_ns += PERIOD_NS
        drive(stamp_ns + AHEAD * PERIOD_NS)
        for source, publisher in publishers.items():
            message = MAKERS[source](stamp_ns, FRAME, people[source], names[source])
            publisher.publish(bytes(types().serialize_cdr(message, SOURCES[source].msgtype)))
        if node.count_subscribers(MOUNT):
            late.publish(mounted)
        time.sleep(PAUSE_S)


if __name__ == '__main__':
    main()
