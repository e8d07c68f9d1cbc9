# SPDX-License-Identifier: Apache-2.0
"""Two cameras, two predictors in namespaces of their own: neither hears the other."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import yaml
from diagnostic_msgs.msg import DiagnosticArray
from motion_predictor_ros.msg import PredictedMotionArray, SkeletonArray
from ros.graph import PERIOD_NS, START_NS, Graph, Process, skeletons, stamp_ns
from ros.launch_stand_in import resolve

from motion_predictor_ros.resources import share_file

TWO_CAMERAS = share_file('launch', 'two_cameras.launch.py')
SIDES = ('left', 'right')
EXTRINSICS = {'left_extrinsic': '0 -1 1.2 0 0 0 1', 'right_extrinsic': '0 2 1.2 0 0 0 1'}
SHIFTS_M = ((0.0, -1.0, 1.2), (0.0, 2.0, 1.2))


def test_two_cameras_really_run_side_by_side(
    graph: Graph, processes: Callable[..., Process], model: Path, tmp_path: Path
) -> None:
    parameters = tmp_path / 'tiny.yaml'
    tiny = {'prediction': {'weights': str(model)}, 'density': {'enabled': 'never'}}
    parameters.write_text(yaml.safe_dump({'/**': {'ros__parameters': tiny}}), encoding='utf-8')
    given = {'params_file': str(parameters), 'fixed_frame': 'cell'}
    commands = resolve(TWO_CAMERAS, **given, **EXTRINSICS).commands
    nodes = [processes(command.line(tmp_path)) for command in commands]
    heard = {
        side: graph.collect(PredictedMotionArray, f'/{side}/predicted_motion') for side in SIDES
    }
    told = graph.collect(DiagnosticArray, '/diagnostics')
    cameras = {
        side: graph.node.create_publisher(SkeletonArray, f'/{side}/skeletons', 10)
        for side in SIDES
    }
    for side, node in zip(SIDES, nodes, strict=True):
        node.wait_for(f'predicting from /{side}/skeletons')
        graph.match(f'/{side}/motion_predictor')
    begin_ns = START_NS + 3600 * 10**9

    def predicted() -> bool:
        nonlocal begin_ns
        begin_ns += PERIOD_NS
        for side, camera in cameras.items():
            camera.publish(skeletons(begin_ns, (side,), frame_id=f'{side}_camera'))
        graph.spin(0.02)
        return all(each and each[-1].persons[0].positions for each in heard.values())

    graph.until(predicted, what='predictions of both')
    for side, shift_m in zip(SIDES, SHIFTS_M, strict=True):
        check_prediction(heard[side][-1], side, shift_m)
    names = {f'/{side}/motion_predictor: prediction' for side in SIDES}
    graph.until(lambda: names <= {status.name for each in told for status in each.status})
    assert [node.stop()[0] for node in nodes] == [0, 0]


def check_prediction(
    message: PredictedMotionArray, side: str, shift_m: tuple[float, float, float]
) -> None:
    """What one camera sees stands in the cell where that camera stands."""
    assert message.header.frame_id == 'cell'
    assert [person.person_id for person in message.persons] == [side]  # not the other's
    own = skeletons(stamp_ns(message), (side,)).persons[0].positions
    moved = np.array(own).reshape(-1, 3) + np.array(shift_m)
    np.testing.assert_allclose(
        np.array(message.persons[0].observed).reshape(-1, 3), moved, atol=1e-4
    )
