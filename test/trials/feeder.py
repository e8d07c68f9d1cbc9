# SPDX-License-Identifier: Apache-2.0
"""Publish synthetic people to a live node and collect its answers, for trials."""

import math
import subprocess
import time
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import rclpy
from motion_predictor_ros.msg import (
    PredictedMotion,
    PredictedMotionArray,
    Skeleton,
    SkeletonArray,
)
from rcl_interfaces.srv import ListParameters
from rclpy.executors import Executor, SingleThreadedExecutor
from rclpy.node import Node
from visualization_msgs.msg import Marker, MarkerArray

from motion_predictor_ros.conventions import NS_PER_S
from motion_predictor_ros.data.synthetic import JOINT_NAMES, Walker
from motion_predictor_ros.errors import MotionPredictorError
from motion_predictor_ros.ros.encode import encode_header
from motion_predictor_ros.ros.tools.demo import TIMEOUT_S

RATE_HZ = 30.0
_DEPTH = 200
_ASK_AGAIN_S = 1.0
"""An answer is lost if the node has not found the client yet."""


@dataclass(frozen=True)
class Answer:
    """One message of the node.

    Attributes:
        at_s: Time of reception, on the monotonic clock [s].
        stamp_ns: Stamp of its header.
        validities: Validity of each person in it; empty for markers.
        markers: Whether it adds markers, rather than predicts or deletes.
        published_ns: Time of publishing; the order between topics is not kept by DDS.
    """

    at_s: float
    stamp_ns: int
    validities: tuple[int, ...]
    markers: bool = False
    published_ns: int = 0

    @property
    def stale(self) -> bool:
        """Whether all persons in it are STALE; a single one may be held while others are seen."""
        return bool(self.validities) and set(self.validities) == {PredictedMotion.STALE}


def match(node: Node, executor: Executor, name: str, timeout_s: float = TIMEOUT_S) -> None:
    """Wait until the node `name` has matched every end that `node` has created so far.

    A service answers only if both ends of its client are found. They are announced after those
    created before, reliably and in order: once it answers, no message is lost.

    Raises:
        TimeoutError: It does not answer.
    """
    client = node.create_client(ListParameters, f'{name}/list_parameters')
    end_s, asked_s, answer = time.monotonic() + timeout_s, -math.inf, None
    while answer is None or not answer.done():
        now_s = time.monotonic()
        if now_s > end_s:
            raise TimeoutError(f'{name} does not answer')
        if client.service_is_ready() and now_s > asked_s + _ASK_AGAIN_S:
            answer, asked_s = client.call_async(ListParameters.Request()), now_s
        executor.spin_once(timeout_sec=0.02)
    node.destroy_client(client)


class Feeder:
    """A node of the trial: publisher of observations, subscriber of answers.

    Attributes:
        sent_s: Time of publishing of each observation, on the monotonic clock, by its stamp [ns].
        answers: Messages of the node, in the order of reception.
    """

    def __init__(self, domain_id: int, *, markers: bool = False) -> None:
        """Create the node.

        Args:
            markers: Whether to subscribe to markers too.
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
        self.answers: list[Answer] = []

    def close(self) -> None:
        """Destroy the node."""
        self._executor.shutdown()
        self.node.destroy_node()
        self._context.try_shutdown()

    def wait_for(self, process: subprocess.Popen[bytes]) -> None:
        """Wait until the node is subscribed and publishes.

        Raises:
            MotionPredictorError: It ended, or was not discovered in time.
        """
        end_s = time.monotonic() + TIMEOUT_S
        while not (
            self._publisher.get_subscription_count()
            and self.node.count_publishers('predicted_motion')
        ):
            if process.poll() is not None or time.monotonic() > end_s:
                raise MotionPredictorError('the node did not start; see its output above')
            self.spin(0.05)
        match(self.node, self._executor, '/motion_predictor')

    def send(self, people: Mapping[str, Walker], time_s: float) -> int:
        """Publish all people as they are at `time_s`, stamped now; return the stamp [ns]."""
        persons = [_skeleton(person_id, person, time_s) for person_id, person in people.items()]
        return self.publish(persons, JOINT_NAMES)

    def publish(self, persons: Sequence[Skeleton], joint_names: Sequence[str]) -> int:
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

    def feed(
        self, people: Mapping[str, Walker], seconds: float, rate_hz: float = RATE_HZ
    ) -> list[int]:
        """Publish at a rate for a while, spinning in between; return the stamps [ns]."""
        begin_s, stamps = time.monotonic(), []
        for index in range(max(round(seconds * rate_hz), 1)):
            self.spin(begin_s + index / rate_hz - time.monotonic())
            stamps.append(self.send(people, time.monotonic()))
        return stamps

    def spin(self, seconds: float) -> None:
        """Process callbacks for a while."""
        end_s = time.monotonic() + seconds
        while (left_s := end_s - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=left_s)

    def _on_predicted(self, message: Any, info: Any) -> None:
        validities = tuple(person.validity for person in message.persons)
        answer = Answer(
            time.monotonic(), stamp_ns(message), validities, published_ns=info['source_timestamp']
        )
        self.answers.append(answer)

    def _on_markers(self, message: Any, info: Any) -> None:
        added = [marker for marker in message.markers if marker.action == Marker.ADD]
        if added:
            published_ns = info['source_timestamp']
            self.answers.append(
                Answer(time.monotonic(), stamp_ns(added[0]), (), True, published_ns)
            )


def _skeleton(person_id: str, person: Walker, time_s: float) -> Skeleton:
    flat = array('f')
    flat.extend(person.pose(time_s).ravel().tolist())
    return Skeleton(person_id=person_id, tracking_state=Skeleton.TRACKING_TRACKED, positions=flat)


def encode_persons(message: SimpleNamespace) -> list[Skeleton]:
    """Encode the people of a message that was read from a bag or made by the fuzzer."""
    return [
        Skeleton(
            person_id=person.person_id,
            tracking_state=person.tracking_state,
            positions=np.asarray(person.positions).tolist(),
            confidences=np.asarray(person.confidences).tolist(),
        )
        for person in message.persons
    ]


def stamp_ns(message: Any) -> int:
    """Return the stamp in a message's header [ns]."""
    stamp = message.header.stamp
    return int(stamp.sec * NS_PER_S + stamp.nanosec)
