# SPDX-License-Identifier: Apache-2.0
"""A process that tells planners about two people, then about nobody, then is silent.

usage: planner_node.py {people,missing}
"""

import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from safety_volumes import volume

from motion_predictor_ros.errors import ConfigError
from motion_predictor_ros.registry import ParameterGroups
from motion_predictor_ros.ros.outputs.base import (
    OUTPUTS,
    OutputContext,
    PlannerOutputs,
)
from motion_predictor_ros.ros.parameters import declare, read
from motion_predictor_ros.ros.topics import QosWatch
from motion_predictor_ros.skeleton.frame import Validity

ALWAYS = ('probability_cloud', 'occupancy_grid', 'obstacle_cloud')
FRAMES = 40
PERIOD_S = 0.1


@dataclass(frozen=True)
class Config:
    outputs: ParameterGroups = field(default_factory=OUTPUTS.default_config)


def main(kind: str) -> None:
    """Publish people until there is a subscriber of /leave, and 2 s of nobody, at 10 Hz."""
    rclpy.init()
    names = ALWAYS if kind == 'people' else ('collision_objects',)
    node = rclpy.create_node('planner_node', parameter_overrides=[
        Parameter(f'outputs.{name}.enabled', value=True) for name in names
    ])  # fmt: skip
    declare(node, Config())
    try:
        context = OutputContext(node, 1.0, None, QosWatch(node))
        outputs = PlannerOutputs(read(node, Config).outputs, context)
    except ConfigError as error:
        print(f'refused: {error}', flush=True)
        return
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    volume()  # compiles
    print('ready', flush=True)
    while not node.count_subscribers('/go'):
        executor.spin_once(timeout_sec=0.05)
    frame = 0
    while frame < FRAMES:
        frame += frame != FRAMES // 2 - 1 or node.count_subscribers('/leave')
        stamp_ns = time.time_ns()
        people = [
            volume('anna', stamp_ns=stamp_ns),
            volume('ben', (4.0, 0.0, 0.0), validity=Validity.INCOMPLETE, stamp_ns=stamp_ns),
        ]
        outputs.publish(people if frame < FRAMES // 2 else [], stamp_ns, 'map', 0.01)
        end_s = time.monotonic() + PERIOD_S
        while (left_s := end_s - time.monotonic()) > 0:
            executor.spin_once(timeout_sec=left_s)
    old_ns = (time.time_ns() // 10**9 - 4) * 10**9  # periods of all rates begin there
    stale = [volume('anna', validity=Validity.STALE, stamp_ns=old_ns)]
    for age_s in (5.0, 5.01, 5.5):  # told again and again, as time goes by
        outputs.publish(stale, old_ns, 'map', age_s)
    print('done', flush=True)
    while node.count_subscribers('/go'):
        executor.spin_once(timeout_sec=0.05)
    outputs.close()
    node.destroy_node()
    print('closed', flush=True)


if __name__ == '__main__':
    main(sys.argv[1])
