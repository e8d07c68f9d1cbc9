# SPDX-License-Identifier: Apache-2.0
"""A process with a real node for every source: python -m ros.foreign_nodes WEIGHTS."""

import sys
from contextlib import suppress
from typing import Any

import rclpy
from rclpy._rclpy_pybind11 import RCLError
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.parameter import Parameter
from ros import tf2_stand_in
from ros.foreign_cases import CASES, DEPTH, FIXED, LISTENERS, ROBOT, topic

from motion_predictor_ros.ros.predictor_node import PredictorNode


def start(namespace: str, **given: Any) -> PredictorNode:
    """Start a node; that of the robot reads the transforms of its namespace."""
    remapped = [w for name in ('tf', 'tf_static') for w in ('-r', f'/{name}:=/{ROBOT}/{name}')]
    options = {'cli_args': ['--ros-args', *remapped]} if namespace == ROBOT else {}
    given |= {'density.enabled': 'never', 'degradation.enabled': False, 'queue': DEPTH}
    heard = f'qos_overrides.{topic(given["source"])}.subscription'
    given |= {f'{heard}.reliability': 'reliable', f'{heard}.depth': DEPTH}
    overrides = [Parameter(name, value=value) for name, value in given.items()]
    node = PredictorNode(namespace=namespace, parameter_overrides=overrides, **options)
    node.start()
    return node


def main(weights: str) -> None:
    rclpy.init()
    executor = SingleThreadedExecutor()
    for source, layout in CASES.items():
        own = {} if source in ('zed', 'azure_kinect') else {'skeleton.source_layout': layout}
        executor.add_node(start(source, source=source, **{'prediction.weights': weights}, **own))
    given = {'source': 'zed', 'input_topic': topic('zed'), 'fixed_frame': FIXED}
    for namespace in LISTENERS:
        if namespace == 'tf2_frames':
            sys.modules['tf2_ros'] = tf2_stand_in
        executor.add_node(start(namespace, **given, **{'prediction.weights': weights}))
    assert len(tf2_stand_in.listeners) == 1
    with suppress(ExternalShutdownException, KeyboardInterrupt, RCLError):
        executor.spin()
    for node in executor.get_nodes():
        node.close()


if __name__ == '__main__':
    main(sys.argv[1])
