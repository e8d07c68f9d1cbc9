# SPDX-License-Identifier: Apache-2.0
"""Play a rosbag2, with its own time on /clock, where `ros2 bag` is not installed."""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import rclpy
from lifecycle_msgs.srv import GetState
from rclpy.client import Client
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSProfile
from rosgraph_msgs.msg import Clock

from motion_predictor_ros.conventions import NS_PER_S
from motion_predictor_ros.data.bags import read_messages, topic_types
from motion_predictor_ros.errors import BagError, ConfigError
from motion_predictor_ros.ros.encode import encode_header
from motion_predictor_ros.ros.process import Spinner, parse, ros
from motion_predictor_ros.ros.topics import message_class

_TICK_NS = 10_000_000
_MATCHING_TIMEOUT_S = 15.0
_SETTLE_S = 0.3
"""Until the other side of a match has noticed it too, and the last message has arrived."""

_POLL_S = 0.1
_ANSWER_S = 1.0
_REMIND_S = 10.0


class BagClock:
    """Recorded time, running at `rate` times the wall's, published as it advances."""

    def __init__(self, node: Node, spinner: Spinner, rate: float, publish: bool) -> None:
        self._spinner, self._rate = spinner, rate
        self._publisher = node.create_publisher(Clock, '/clock', 10) if publish else None
        self._now_ns = self._begin_ns = 0
        self._begin_s = 0.0

    def start(self, stamp_ns: int) -> None:
        """Set the clock."""
        self._now_ns = self._begin_ns = stamp_ns
        self._begin_s = time.monotonic()

    def wait_until(self, stamp_ns: int) -> bool:
        """Tick until the recorded time has come; return False if ROS ended before."""
        while rclpy.ok():
            self._now_ns = max(self._now_ns, min(self._now_ns + _TICK_NS, stamp_ns))
            passed_s = (self._now_ns - self._begin_ns) / NS_PER_S / self._rate
            self._spinner.until(self._begin_s + passed_s)
            if self._publisher is not None and rclpy.ok():
                self._publisher.publish(Clock(clock=encode_header(self._now_ns, '').stamp))
            if self._now_ns >= stamp_ns:
                return rclpy.ok()
        return False


def open_publishers(
    node: Node, bag: Path, topics: Sequence[str], with_clock: bool
) -> dict[str, Publisher]:
    """Make a publisher for every topic that can be played.

    Raises:
        BagError: There is none.
    """
    publishers: dict[str, Publisher] = {}
    for topic, msgtype in topic_types(bag).items():
        if topics and topic not in topics:
            continue
        if with_clock and topic == '/clock':
            continue  # ours replaces it
        kind = installed_class(node, topic, msgtype)
        if kind is not None:
            qos = QoSProfile(depth=100)
            if is_latched(topic):
                qos.durability = DurabilityPolicy.TRANSIENT_LOCAL
            publishers[topic] = node.create_publisher(kind, topic, qos)
    if not publishers:
        chosen = f' among {list(topics)}' if topics else ''
        raise BagError(f'{bag}: no topic that can be played{chosen}')
    return publishers


def is_latched(topic: str) -> bool:
    """Return whether late subscribers expect the old messages of a topic: static transforms."""
    return topic.endswith('/tf_static')


def installed_class(node: Node, topic: str, msgtype: str) -> Any:
    """Return the class of a message type, or None with a warning if it is not installed."""
    try:
        return message_class(msgtype, topic)
    except ConfigError as error:
        node.get_logger().warning(f'skipped {topic}: {msgtype} is not installed ({error})')
        return None


def play(
    bag: Path, publishers: dict[str, Publisher], clock: BagClock, topics: Sequence[str]
) -> int:
    """Publish the bag once, in recorded time; return the number of messages.

    Raises:
        BagError: The bag is damaged; what lies before has been played.
    """
    count = 0
    for message in read_messages(bag, topics or None):
        publisher = publishers.get(message.topic)
        if publisher is None:
            continue
        if not count:
            clock.start(message.stamp_ns)
        if not clock.wait_until(message.stamp_ns):
            break
        publisher.publish(message.raw)
        count += 1
    return count


def wait_for_active(node: Node, spinner: Spinner, names: Sequence[str]) -> None:
    """Wait until lifecycle nodes are active, however long; log every ten seconds what is not."""
    for name in names:
        client = node.create_client(GetState, f'{name}/get_state')
        reminded_s = time.monotonic()
        while rclpy.ok() and (state := _lifecycle_state(client, spinner)) != 'active':
            if time.monotonic() - reminded_s > _REMIND_S:
                reminded_s = time.monotonic()
                node.get_logger().info(f'waiting for {name} to be active: it {state}')
            spinner.until(time.monotonic() + _POLL_S)
        node.destroy_client(client)


def _lifecycle_state(client: Client, spinner: Spinner) -> str:
    """Return 'active', or a clause that says what the node is instead."""
    if not client.service_is_ready():
        return 'is not there'
    future, end_s = client.call_async(GetState.Request()), time.monotonic() + _ANSWER_S
    while rclpy.ok() and not future.done() and time.monotonic() < end_s:
        spinner.until(time.monotonic() + _POLL_S)
    if not future.done():
        client.remove_pending_request(future)
        return 'does not answer yet: it is being configured'
    label = future.result().current_state.label
    return 'active' if label == 'active' else f'is {label}'


def _wait_for_subscribers(
    node: Node, spinner: Spinner, publishers: dict[str, Publisher], wanted: int
) -> None:
    end_s = time.monotonic() + _MATCHING_TIMEOUT_S
    while (
        rclpy.ok()
        and sum(publisher.get_subscription_count() for publisher in publishers.values()) < wanted
    ):
        if time.monotonic() > end_s:
            node.get_logger().warning(f'fewer than {wanted} subscribers; playing all the same')
            return
        spinner.until(time.monotonic() + 0.02)
    spinner.until(time.monotonic() + _SETTLE_S)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser('play_bag', description=__doc__)
    parser.add_argument('bag', type=Path, help='rosbag2 folder, .mcap or .db3')
    parser.add_argument('--rate', type=_positive, default=1.0, help='play faster or slower')
    parser.add_argument('--loop', action='store_true', help='begin again at the end')
    parser.add_argument('--topics', nargs='+', default=[], help='play only these')
    parser.add_argument('--no-clock', action='store_true', help='do not publish /clock')
    parser.add_argument(
        '--wait-for-active',
        action='append',
        default=[],
        metavar='NODE',
        help='begin when this lifecycle node is active, however long that takes; repeatable',
    )
    begin = parser.add_mutually_exclusive_group()
    begin.add_argument(
        '--wait-for-subscribers',
        type=int,
        default=1,
        metavar='N',
        help=f'begin when N subscribers are there, at the latest after {_MATCHING_TIMEOUT_S:g} s',
    )
    begin.add_argument('--delay', type=float, metavar='S', help='begin after S seconds instead')
    return parser


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float('inf'):
        raise argparse.ArgumentTypeError(f'must be a number above 0, got {text}')
    return value


def run(options: argparse.Namespace, node: Node) -> None:
    """Play as the options say, until the end or a signal.

    Raises:
        BagError: The bag cannot be played, or not to its end.
    """
    spinner = Spinner(node)
    clock = BagClock(node, spinner, options.rate, not options.no_clock)
    publishers = open_publishers(node, options.bag, options.topics, not options.no_clock)
    wait_for_active(node, spinner, options.wait_for_active)
    if options.delay is None:
        _wait_for_subscribers(node, spinner, publishers, options.wait_for_subscribers)
    else:
        spinner.until(time.monotonic() + options.delay)
    while rclpy.ok():
        count = play(options.bag, publishers, clock, options.topics)
        if rclpy.ok():
            node.get_logger().info(f'played {count} messages on {", ".join(publishers)}')
        if not options.loop:
            break
    for publisher in publishers.values():
        if rclpy.ok():
            publisher.wait_for_all_acked(Duration(seconds=2))
    spinner.until(time.monotonic() + _SETTLE_S)


def main(args: Sequence[str] | None = None) -> int:
    """Play; return 2 if the bag cannot be played, 0 at its end or on a signal."""
    options = parse(_parser(), args)
    with ros(args):
        node = rclpy.create_node('play_bag')
        try:
            run(options, node)
        except BagError as error:
            node.get_logger().error(str(error))
            return 2
        finally:
            node.destroy_node()
    return 0


if __name__ == '__main__':
    sys.exit(main())
