# SPDX-License-Identifier: Apache-2.0
"""A process that says one pose as every source does: python -m ros.foreign_publisher.

It publishes serialized messages of the generated types; whoever hears them reads real CDR bytes.
"""

import signal
import time

import rclpy
from foreign_messages import MAKERS, types
from ros.foreign_cases import CASES, FRAME, person, topic

from motion_predictor_ros.ros.sources import message_class
from motion_predictor_ros.skeleton.layout import SkeletonLayout
from motion_predictor_ros.skeleton.sources import SOURCES

PERIOD_NS, PAUSE_S = 40_000_000, 0.08  # stamps are even, however slow this machine is now


def main() -> None:
    rclpy.init()
    node = rclpy.create_node('foreign')
    publishers, names, people = {}, {}, {}
    for source, layout in CASES.items():
        kind = message_class(SOURCES[source].msgtype, source)
        publishers[source] = node.create_publisher(kind, topic(source), 10)
        names[source] = list(SkeletonLayout.load(layout).joint_names)
        people[source] = person(layout)
    stamp_ns = time.time_ns()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    while rclpy.ok():
        stamp_ns += PERIOD_NS
        for source, publisher in publishers.items():
            message = MAKERS[source](stamp_ns, FRAME, people[source], names[source])
            publisher.publish(bytes(types().serialize_cdr(message, SOURCES[source].msgtype)))
        time.sleep(PAUSE_S)


if __name__ == '__main__':
    main()
