# SPDX-License-Identifier: Apache-2.0
"""A process with a real node for every source: python -m ros.foreign_nodes WEIGHTS."""

import sys
from contextlib import suppress

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.parameter import Parameter
from ros.foreign_cases import CASES

from motion_predictor_ros.ros.predictor_node import PredictorNode


def main(weights: str) -> None:
    rclpy.init()
    executor = SingleThreadedExecutor()
    for source, layout in CASES.items():
        given = {'source': source, 'prediction.weights': weights, 'density.enabled': 'never'}
        given['degradation.enabled'] = False
        if source not in ('zed', 'azure_kinect'):
            given['skeleton.source_layout'] = layout
        overrides = [Parameter(name, value=value) for name, value in given.items()]
        node = PredictorNode(namespace=source, parameter_overrides=overrides)
        node.start()
        executor.add_node(node)
    with suppress(ExternalShutdownException, KeyboardInterrupt):
        executor.spin()
    for node in executor.get_nodes():
        node.close()


if __name__ == '__main__':
    main(sys.argv[1])
