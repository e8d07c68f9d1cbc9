# SPDX-License-Identifier: Apache-2.0
"""Shared by the tests of this folder: processes, a node of the test, messages, a model."""

import dataclasses
import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
import torch
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.srv import ChangeState, GetState
from motion_predictor_ros.msg import Skeleton, SkeletonArray
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue, SetParametersResult
from rcl_interfaces.srv import DescribeParameters, GetParameters, SetParameters
from rclpy.executors import SingleThreadedExecutor
from std_msgs.msg import Header
from trials.feeder import match

from motion_predictor_ros.checkpoint import save_checkpoint
from motion_predictor_ros.data.synthetic import Walker
from motion_predictor_ros.prediction.motion_deq.model import MotionDEQ, MotionDEQConfig
from motion_predictor_ros.skeleton.layout import SkeletonLayout

LAYOUT = SkeletonLayout.load('body18')
PERIOD_NS = 40_000_000
START_NS = 1_700_000_000_000_000_000
WINDOW = 25
NODE = '/motion_predictor'
_POSE = Walker(0).pose(0.0)
_POSE -= [*_POSE[0, :2], 1.0]


def tiny_model(path: Path) -> Path:
    """Write a model that answers fast and means nothing."""
    torch.manual_seed(0)
    config = MotionDEQConfig(joints=18, past=WINDOW, future=25, channels=8, patterns=8)
    module = MotionDEQ(config)
    module.out.weight.data *= 0.1
    tensors = {name: tensor.float() for name, tensor in module.state_dict().items()}
    tensors['residual_speeds'] = torch.zeros(1, 18, dtype=torch.float32)
    tensors['residual_variance'] = torch.full((1, 25, 18), 0.01, dtype=torch.float32)
    names = list(LAYOUT.joint_names)
    header = {'kind': 'motion_deq', 'config': dataclasses.asdict(config), 'joint_names': names}
    save_checkpoint(path, {**header, 'training': {}}, tensors)
    return path


def skeletons(
    stamp_ns: int, people: Sequence[str] = ('anna',), frame_id: str = 'world'
) -> SkeletonArray:
    """Return people who drift along x at 0.5 m/s, two metres apart."""
    drift_m = 0.5 * (stamp_ns - START_NS) / 1e9
    persons = []
    for index, person_id in enumerate(people):
        positions = _POSE + np.array([drift_m % 100, 2.0 * index, 1.0])
        flat = positions.astype(np.float32).ravel().tolist()
        persons.append(Skeleton(person_id=person_id, tracking_state=1, positions=flat))
    stamp = Time(sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
    return SkeletonArray(
        header=Header(stamp=stamp, frame_id=frame_id),
        joint_names=list(LAYOUT.joint_names),
        persons=persons,
    )


def stamp_ns(message: Any) -> int:
    return message.header.stamp.sec * 10**9 + message.header.stamp.nanosec


class Process:
    """An executable of the package in a child process; its output goes to a file."""

    def __init__(
        self, command: Sequence[str], log: Path, domain: int, changes: Mapping[str, str]
    ) -> None:
        env = {**os.environ, 'ROS_DOMAIN_ID': str(domain), 'PYTHONUNBUFFERED': '1', **changes}
        self._log = log
        with log.open('w') as file:
            self._popen = subprocess.Popen(command, stdout=file, stderr=file, env=env)

    @property
    def output(self) -> str:
        return self._log.read_text(encoding='utf-8')

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def alive(self) -> bool:
        return self._popen.poll() is None

    def tell(self, number: int) -> None:
        self._popen.send_signal(number)

    def wait_for(self, text: str, timeout_s: float = 300.0) -> None:
        end_s = time.monotonic() + timeout_s
        while text not in self.output:
            assert self.alive, f'ended before saying {text!r}:\n{self.output}'
            assert time.monotonic() < end_s, f'missing from the output: {text!r}\n{self.output}'
            time.sleep(0.02)

    def wait(self, timeout_s: float = 300.0) -> int:
        return self._popen.wait(timeout_s)

    def stop(self, number: int = signal.SIGINT) -> tuple[int, float]:
        """Signal it; return its exit code and the processor time it took to end [s]."""
        before_s = _processor_s(self._popen.pid) if self.alive else 0.0
        ended_s = _ended_processor_s()
        if self.alive:
            self._popen.send_signal(number)
        try:
            code = self._popen.wait(120.0)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            raise
        return code, _ended_processor_s() - ended_s - before_s


def _processor_s(pid: int) -> float:
    """Read the processor time that a process took so far [s]."""
    fields = Path(f'/proc/{pid}/stat').read_text(encoding='utf-8').rpartition(')')[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf('SC_CLK_TCK')


def _ended_processor_s() -> float:
    """Return the processor time of all children that ended [s]."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return ended.ru_utime + ended.ru_stime


class Graph:
    """The test's node in the ROS graph."""

    def __init__(self, domain: int) -> None:
        self.domain = domain
        self._context = rclpy.Context()
        rclpy.init(context=self._context, domain_id=domain)
        self.node = rclpy.create_node('tester', context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._clients: dict[str, Any] = {}
        self._publisher = self.node.create_publisher(SkeletonArray, '/skeletons', 50)

    def close(self) -> None:
        self._executor.shutdown()
        self.node.destroy_node()
        self._context.try_shutdown()

    def collect(self, kind: Any, topic: str, qos: Any = 50) -> list[Any]:
        """Subscribe; messages are appended to the returned list while the graph spins."""
        received: list[Any] = []
        self.node.create_subscription(kind, topic, received.append, qos)
        return received

    def spin(self, seconds: float) -> None:
        end_s = time.monotonic() + seconds
        while (left_s := end_s - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=left_s)

    def until(self, condition: Callable[[], Any], timeout_s: float = 240.0, what: str = '') -> Any:
        """Spin until the condition holds, and return what it returned; the limit is a hang's."""
        end_s = time.monotonic() + timeout_s
        while not (result := condition()):
            assert time.monotonic() < end_s, f'timeout: {what or condition}'
            self._executor.spin_once(timeout_sec=0.02)
        return result

    def call(self, kind: Any, name: str, request: Any) -> Any:
        if name not in self._clients:
            self._clients[name] = self.node.create_client(kind, name)
        client = self._clients[name]
        self.until(client.service_is_ready, what=f'service {name}')
        future = client.call_async(request)
        self.until(future.done, what=f'answer of {name}')
        return future.result()

    def match(self, node: str = NODE) -> None:
        """Wait until a node has matched every end that this graph has created so far."""
        match(self.node, self._executor, node)

    def wait_for_input(self, node: str = NODE) -> None:
        self.until(self._publisher.get_subscription_count, what='a subscriber of /skeletons')
        self.match(node)

    def publish(self, message: Any) -> None:
        self._publisher.publish(message)

    def say(self, *messages: Any, pause_s: float = 0.01) -> None:
        for message in messages:
            self.publish(message)
            self.spin(pause_s)

    def walk(self, begin_ns: int, count: int = WINDOW, **kwargs: Any) -> int:
        """Publish a walk on the model clock; return its last stamp."""
        stamps = [begin_ns + index * PERIOD_NS for index in range(count)]
        self.say(*(skeletons(stamp, **kwargs) for stamp in stamps))
        return stamps[-1]

    def transition(self, label: str) -> bool:
        request = ChangeState.Request()
        request.transition.label = label
        return self.call(ChangeState, f'{NODE}/change_state', request).success

    def transition_by_id(self, number: int) -> bool:
        request = ChangeState.Request()
        request.transition.id = number
        return self.call(ChangeState, f'{NODE}/change_state', request).success

    def state(self) -> str:
        answer = self.call(GetState, f'{NODE}/get_state', GetState.Request())
        return answer.current_state.label

    def set(self, name: str, value: Any) -> SetParametersResult:
        parameter = Parameter(name=name, value=_value(value))
        request = SetParameters.Request(parameters=[parameter])
        return self.call(SetParameters, f'{NODE}/set_parameters', request).results[0]

    def get(self, names: Iterable[str]) -> list[Any]:
        request = GetParameters.Request(names=list(names))
        return self.call(GetParameters, f'{NODE}/get_parameters', request).values

    def describe(self, names: Iterable[str]) -> list[Any]:
        request = DescribeParameters.Request(names=list(names))
        return self.call(DescribeParameters, f'{NODE}/describe_parameters', request).descriptors


class Diagnostics:
    """The node's latest status, as text."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._received = graph.collect(DiagnosticArray, '/diagnostics')

    def next(self) -> dict[str, str]:
        """Wait for a status that was made from now on.

        Its stamp shows it. In simulated time the second one that comes is taken: what waits here
        has been read before, and no more than one is on its way.
        """
        since_ns = time.time_ns()
        self._graph.spin(0.05)
        before = len(self._received)

        def is_new() -> bool:
            count = len(self._received) - before
            return count > 1 or (count > 0 and stamp_ns(self._received[-1]) >= since_ns)

        self._graph.until(is_new, what='diagnostics')
        status = self._received[-1].status[0]
        values = {value.key: value.value for value in status.values}
        return {**values, 'message': status.message, 'level': str(status.level[0])}

    def drops(self) -> dict[str, int]:
        prefix = 'drops.'
        found = {k.removeprefix(prefix): v for k, v in self.next().items() if k.startswith(prefix)}
        return {key: int(value) for key, value in found.items()}


def _value(value: Any) -> ParameterValue:
    kinds = {
        bool: ('bool_value', ParameterType.PARAMETER_BOOL),
        int: ('integer_value', ParameterType.PARAMETER_INTEGER),
        float: ('double_value', ParameterType.PARAMETER_DOUBLE),
        str: ('string_value', ParameterType.PARAMETER_STRING),
    }
    field, kind = kinds[type(value)]
    return ParameterValue(type=kind, **{field: value})
