# SPDX-License-Identifier: Apache-2.0
"""Record topics to an mcap, where `ros2 bag` is not installed.

Messages are stored as they came, without being decoded. Their types are taken from the ROS graph,
so a topic may be named before it has a publisher. The file grows in its final place: if the
recorder is killed, all but the last half second can be read.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import rclpy
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

from motion_predictor_ros.data.bags import BagWriter, typestore
from motion_predictor_ros.errors import BagError
from motion_predictor_ros.ros.process import parse, ros, spin, steady_timer
from motion_predictor_ros.ros.tools.play_bag import installed_class, is_latched

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
        self._before_clock: list[tuple[str, str, bytes]] = []
        steady_timer(self, _LOOK_AROUND_S, self._look_around)
        steady_timer(self, _FLUSH_S, self._flush)

    def _look_around(self) -> None:
        """Subscribe to what has appeared."""
        for topic, (msgtype, *_) in self.get_topic_names_and_types():
            if topic in self._pending:
                self._pending.remove(topic)
                self._subscribe(topic, msgtype)

    def _subscribe(self, topic: str, msgtype: str) -> None:
        kind = installed_class(self, topic, msgtype)
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
        """Ask for as much as all publishers offer: a subscriber that asks for more gets nothing.

        A topic that is latched by convention is asked for as such, though its publisher comes
        later: otherwise what it sends first would be lost.
        """
        offers = [info.qos_profile for info in self.get_publishers_info_by_topic(topic)]
        reliable = all(offer.reliability != ReliabilityPolicy.BEST_EFFORT for offer in offers)
        latched = (
            all(offer.durability == DurabilityPolicy.TRANSIENT_LOCAL for offer in offers)
            if offers
            else is_latched(topic)
        )
        return QoSProfile(
            depth=1000,
            reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
            durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
        )

    def _store(self, topic: str, msgtype: str, raw: bytes) -> None:
        """Write a message; one that comes before simulated time has begun waits for it."""
        if self.failure:
            return
        now_ns = self.get_clock().now().nanoseconds
        self._before_clock.append((topic, msgtype, raw))
        if not now_ns:
            return
        messages, self._before_clock = self._before_clock, []
        try:
            for topic, msgtype, raw in messages:
                self._writer.write(topic, msgtype, now_ns, raw)
                self.counts[topic] += 1
        except BagError as error:
            self._fail(error)

    def report_unwritten(self) -> None:
        """Warn of messages that came while simulated time had not begun."""
        if self._before_clock and not self.failure:
            self.get_logger().warning(
                f'{len(self._before_clock)} messages are not recorded: use_sim_time is true and '
                'nothing is published on /clock'
            )

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
    options = parse(_parser(), args)
    with ros(args):
        try:
            with BagWriter(options.out, in_place=True) as writer:
                recorder = Recorder(options.topics, writer)
                spin(recorder, options.seconds)
                recorder.report_unwritten()
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
