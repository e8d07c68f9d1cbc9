# SPDX-License-Identifier: Apache-2.0
"""Record topics to an mcap, where `ros2 bag` is not installed.

Messages are stored as they came, without being decoded. Their types are found in the graph, so a
topic may be named before anybody publishes it. The file grows where it was asked for, and what is
older than a second can be read though the recorder be killed.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import rclpy
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.utilities import remove_ros_args

from motion_predictor_ros.data.bags import BagWriter, typestore
from motion_predictor_ros.errors import BagError
from motion_predictor_ros.ros.process import ros, spin
from motion_predictor_ros.ros.tools.play_bag import message_class

_LOOK_AROUND_S = 0.1
_FLUSH_S = 0.5


class Recorder(Node):  # type: ignore[misc]
    """Writes every message of its topics, at the time of the node's clock.

    Attributes:
        counts: Messages written, by topic.
        failure: Why recording ended early; empty if it did not.
    """

    def __init__(self, topics: Sequence[str], writer: BagWriter) -> None:
        super().__init__('record_bag')
        self.counts: Counter[str] = Counter()
        self.failure = ''
        self._writer = writer
        self._pending = {self.resolve_topic_name(topic) for topic in topics}
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(_LOOK_AROUND_S, self._look_around, clock=steady)
        self.create_timer(_FLUSH_S, self._flush, clock=steady)

    def _look_around(self) -> None:
        """Subscribe to what has appeared."""
        for topic, (msgtype, *_) in self.get_topic_names_and_types():
            if topic in self._pending:
                self._pending.remove(topic)
                self._subscribe(topic, msgtype)

    def _subscribe(self, topic: str, msgtype: str) -> None:
        kind = message_class(self, topic, msgtype)
        if kind is None:
            return
        if msgtype not in typestore().fielddefs:
            self.get_logger().warning(f'skipped {topic}: no definition of {msgtype} to store')
            return

        def store(raw: bytes) -> None:
            self._store(topic, msgtype, raw)

        self.create_subscription(kind, topic, store, self._qos(topic), raw=True)
        self.get_logger().info(f'recording {topic} [{msgtype}]')

    def _qos(self, topic: str) -> QoSProfile:
        """Ask for reliable, unless a publisher offers less: it would never be heard."""
        offered = [each.qos_profile for each in self.get_publishers_info_by_topic(topic)]
        less = any(each.reliability == ReliabilityPolicy.BEST_EFFORT for each in offered)
        kind = ReliabilityPolicy.BEST_EFFORT if less else ReliabilityPolicy.RELIABLE
        return QoSProfile(depth=1000, reliability=kind)

    def _store(self, topic: str, msgtype: str, raw: bytes) -> None:
        if self.failure:
            return
        try:
            self._writer.write(topic, msgtype, self.get_clock().now().nanoseconds, raw)
            self.counts[topic] += 1
        except BagError as error:
            self._fail(error)

    def _flush(self) -> None:
        try:
            self._writer.flush()
        except BagError as error:
            self._fail(error)

    def _fail(self, error: BagError) -> None:
        self.failure = str(error)
        self.get_logger().error(self.failure)
        rclpy.try_shutdown()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser('record_bag', description=__doc__)
    parser.add_argument('out', type=Path, help='file to write, ending in .mcap')
    parser.add_argument('topics', nargs='+', help='topics to record')
    parser.add_argument('--seconds', type=float, default=float('inf'), help='end after so long')
    return parser


def main(args: Sequence[str] | None = None) -> int:
    """Record until a signal; return 2 if the bag cannot be written."""
    given = sys.argv[1:] if args is None else list(args)
    options = _parser().parse_args(remove_ros_args(args=[sys.argv[0], *given])[1:])
    with ros(args):
        try:
            with BagWriter(options.out, in_place=True) as writer:
                recorder = Recorder(options.topics, writer)
                spin(recorder, options.seconds)
                failure = recorder.failure
        except BagError as error:
            failure = str(error)
            print(f'error: {failure}', file=sys.stderr)  # noqa: T201
        else:
            for topic in sorted({*options.topics, *recorder.counts}):
                print(f'{recorder.counts[topic]:7d}  {topic}')  # noqa: T201
    return 2 if failure else 0


if __name__ == '__main__':
    sys.exit(main())
