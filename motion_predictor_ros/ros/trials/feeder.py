# SPDX-License-Identifier: Apache-2.0
"""Feed a live node with made-up people and note what it answers, for trials of the node."""

import subprocess
import time
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import rclpy
from rclpy.executors import SingleThreadedExecutor
from visualization_msgs.msg import Marker, MarkerArray

from motion_predictor_ros.conventions import NS_PER_S
from motion_predictor_ros.data.synthetic import JOINT_NAMES, Walker
from motion_predictor_ros.errors import MotionPredictorError
from motion_predictor_ros.msg import (
    PredictedMotion,
    PredictedMotionArray,
    Skeleton,
    SkeletonArray,
)
from motion_predictor_ros.ros.encode import encode_header
from motion_predictor_ros.ros.trials.children import PATIENCE_S

RATE_HZ = 30.0
_DEPTH = 200
_MATCHING_S = 0.5


@dataclass(frozen=True)
class Heard:
    """One message of the node.

    Attributes:
        at_s: When it came, on the monotonic clock.
        stamp_ns: What its header says.
        validities: Of everybody in it; empty for markers.
        markers: Whether it draws something, rather than predict or delete.
        said_ns: When the node published it; topics arrive in an order of their own.
    """

    at_s: float
    stamp_ns: int
    validities: tuple[int, ...]
    markers: bool = False
    said_ns: int = 0

    @property
    def stale(self) -> bool:
        """Whether it says that everybody is STALE."""
        return PredictedMotion.STALE in self.validities


class Feeder:
    """A place of its own in the ROS graph.

    Attributes:
        sent_s: When each observation was published, on the monotonic clock, by its stamp [ns].
        heard: What the node said, in the order in which it came.
    """

    def __init__(self, domain_id: int, *, markers: bool = False) -> None:
        """Join the graph.

        Args:
            markers: Whether to listen to markers, too.
        """
        self._context = rclpy.Context()
        rclpy.init(context=self._context, domain_id=domain_id)
        self.node = rclpy.create_node('motion_predictor_trial', context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._publisher = self.node.create_publisher(SkeletonArray, 'skeletons', _DEPTH)
        subscribe = self.node.create_subscription
        subscribe(PredictedMotionArray, 'predicted_motion', self._on_predicted, _DEPTH)
        if markers:
            subscribe(MarkerArray, 'markers', self._on_markers, _DEPTH)
        self.sent_s: dict[int, float] = {}
        self.heard: list[Heard] = []

    def close(self) -> None:
        """Leave the graph."""
        self._executor.shutdown()
        self.node.destroy_node()
        self._context.try_shutdown()

    def wait_for(self, process: subprocess.Popen[bytes]) -> None:
        """Return when the node listens and can be heard.

        Raises:
            MotionPredictorError: It ended, or was not found in time.
        """
        end_s = time.monotonic() + PATIENCE_S
        while not (
            self._publisher.get_subscription_count()
            and self.node.count_publishers('predicted_motion')
        ):
            if process.poll() is not None or time.monotonic() > end_s:
                raise MotionPredictorError('the node did not start; see its output above')
            self.listen(0.05)
        self.listen(_MATCHING_S)

    def send(self, people: Mapping[str, Walker], time_s: float) -> int:
        """Publish everybody where they are at `time_s`, stamped now; return the stamp [ns]."""
        persons = [_skeleton(who, person, time_s) for who, person in people.items()]
        return self.say(persons, JOINT_NAMES)

    def say(self, persons: Sequence[Skeleton], joint_names: Sequence[str]) -> int:
        """Publish these people, stamped now; return the stamp [ns]."""
        now_ns = int(self.node.get_clock().now().nanoseconds)
        message = SkeletonArray(
            header=encode_header(now_ns, 'world'),
            layout='body18',
            joint_names=list(joint_names),
            persons=list(persons),
        )
        self.sent_s[now_ns] = time.monotonic()
        self._publisher.publish(message)
        return now_ns

    def feed(self, people: Mapping[str, Walker], seconds: float) -> list[int]:
        """Publish at `RATE_HZ` for a while, and listen; return the stamps [ns]."""
        begin_s, stamps = time.monotonic(), []
        for index in range(max(round(seconds * RATE_HZ), 1)):
            self.listen(begin_s + index / RATE_HZ - time.monotonic())
            stamps.append(self.send(people, time.monotonic()))
        return stamps

    def listen(self, seconds: float) -> None:
        """Take in what comes for a while."""
        end_s = time.monotonic() + seconds
        while (left_s := end_s - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=left_s)

    def _on_predicted(self, message: Any, info: Any) -> None:
        validities = tuple(person.validity for person in message.persons)
        said_ns = info['source_timestamp']
        made_ns = stamp_ns(message)
        self.heard.append(Heard(time.monotonic(), made_ns, validities, said_ns=said_ns))

    def _on_markers(self, message: Any, info: Any) -> None:
        shown = [each for each in message.markers if each.action == Marker.ADD]
        if shown:
            said_ns = info['source_timestamp']
            made_ns = stamp_ns(shown[0])
            self.heard.append(Heard(time.monotonic(), made_ns, (), True, said_ns))


def _skeleton(who: str, person: Walker, time_s: float) -> Skeleton:
    flat = array('f')
    flat.extend(person.pose(time_s).ravel().tolist())
    return Skeleton(person_id=who, tracking_state=Skeleton.TRACKING_TRACKED, positions=flat)


def stamp_ns(message: Any) -> int:
    """Return the stamp in a message's header [ns]."""
    stamp = message.header.stamp
    return int(stamp.sec * NS_PER_S + stamp.nanosec)
