# SPDX-License-Identifier: Apache-2.0
"""A live monitor in a process of its own, told of people by the test, truly and falsely."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticStatus
from message_faults import faults
from motion_predictor_ros.msg import (
    LiveScore,
    PredictedMotionArray,
    ProbabilityVolume,
    ProbabilityVolumeArray,
)
from ros.graph import (
    LAYOUT,
    PERIOD_NS,
    START_NS,
    Diagnostics,
    Graph,
    Process,
    skeletons,
    stamp_ns,
)
from std_msgs.msg import Header

from motion_predictor_ros.prediction.types import Prediction, ScenePrediction
from motion_predictor_ros.ros.encode import encode_prediction
from motion_predictor_ros.skeleton.frame import Validity

HORIZONS_S = 0.04 * np.arange(1, 11)
OFF_M = 0.3
STEPS = 60
QUICK = {'independent_s': '0.4', 'significance': '0.05', 'rate_hz': '25.0'}


class Teller:
    """Publishes what a predictor and its planners' outputs would."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        create = graph.node.create_publisher
        self.motion = create(PredictedMotionArray, '/predicted_motion', 50)
        self.volumes = create(ProbabilityVolumeArray, '/probability_volumes', 50)
        self.step = 0

    def ready(self) -> bool:
        told = (self.motion, self.volumes)
        return all(each.get_subscription_count() for each in told)

    def walk(self, count: int, covered: bool) -> None:
        """Let anna walk; what is said of her is OFF_M off, in a volume that is there or not."""
        for _ in range(count):
            now_ns = START_NS + self.step * PERIOD_NS
            self._graph.say(skeletons(now_ns), pause_s=0.005)
            self.motion.publish(encode_prediction(predicted(now_ns), 0.01))
            self.volumes.publish(kept_free(now_ns, covered))
            self._graph.spin(0.01)
            self.step += 1


def predicted(now_ns: int, frame_id: str = 'world') -> ScenePrediction:
    now = np.array(skeletons(now_ns).persons[0].positions, dtype=np.float64).reshape(-1, 3)
    drift = np.zeros((len(HORIZONS_S), 1, 3))
    drift[:, 0, 0] = 0.5 * HORIZONS_S
    drift[:, 0, 1] = OFF_M
    person = Prediction('anna', now_ns, Validity.OK, positions=now + drift)
    return ScenePrediction(now_ns, frame_id, 'told', LAYOUT.joint_names, HORIZONS_S, (person,))


def kept_free(now_ns: int, covered: bool) -> ProbabilityVolumeArray:
    """A voxel as large as a house."""
    volume = ProbabilityVolume(
        person_id='anna',
        promise='coverage',
        level=0.9,
        horizon=0.4,
        thresholds=[0.0],
        origins=[-50.0, -50.0, -50.0],
        voxel_sizes=[200.0],
        shapes=[1, 1, 1],
        window_starts=[0.0],
        window_ends=[0.4],
        window_voxels=[1],
        voxels=[0],
        probabilities=[1.0],
        covered=[int(covered)],
    )
    stamp = Time(sec=now_ns // 10**9, nanosec=now_ns % 10**9)
    return ProbabilityVolumeArray(header=Header(stamp=stamp, frame_id='world'), persons=[volume])


@pytest.fixture(scope='module')
def node(launch: Callable[..., Process], graph: Graph) -> Process:
    options = [word for key, value in QUICK.items() for word in ('-p', f'score.{key}:={value}')]
    process = launch('monitor_node', '--ros-args', *options)
    process.wait_for('scoring predictions of /skeletons')
    graph.wait_for_input('/motion_monitor')
    return process


@pytest.fixture(scope='module')
def scores(graph: Graph, node: Process) -> list[LiveScore]:
    return graph.collect(LiveScore, '/live_score')


@pytest.fixture(scope='module')
def diagnostics(graph: Graph, node: Process) -> Diagnostics:
    return Diagnostics(graph)


@pytest.fixture(scope='module')
def teller(graph: Graph, scores: Any) -> Teller:
    made = Teller(graph)
    graph.until(made.ready, what='the monitor')
    graph.match('/motion_monitor')
    return made


def newest(graph: Graph, scores: list[LiveScore], teller: Teller) -> LiveScore:
    """Wait for what is said of everything told so far."""
    last_ns = START_NS + (teller.step - 1) * PERIOD_NS
    graph.until(lambda: scores and stamp_ns(scores[-1]) == last_ns, 30.0, 'the newest score')
    return scores[-1]


def test_before_the_first_score_the_status_says_so(diagnostics: Diagnostics) -> None:
    found = diagnostics.next()
    assert found['message'] == 'nothing scored yet'
    assert int(found['level']) == DiagnosticStatus.WARN[0]


def test_correct_coverage_raises_no_alarm(
    graph: Graph, scores: list[LiveScore], teller: Teller, diagnostics: Diagnostics
) -> None:
    teller.walk(STEPS, covered=True)
    score = newest(graph, scores, teller)
    (volume,) = score.coverages
    assert (volume.of, volume.share, volume.low) == ('volume', 1.0, False)
    assert volume.level == pytest.approx(0.9) and volume.horizon == pytest.approx(0.4)
    assert volume.independent < volume.windows and score.predictions > STEPS / 2
    np.testing.assert_allclose(score.mpjpe, OFF_M, atol=1e-4)
    np.testing.assert_allclose(score.horizons, HORIZONS_S, atol=1e-6)
    assert not score.warning_text and score.header.frame_id == 'world'
    found = diagnostics.next()
    assert (
        found['message'] == 'coverage as expected'
        and int(found['level']) == DiagnosticStatus.OK[0]
    )
    assert float(found['mpjpe_mm.320']) == pytest.approx(1000 * OFF_M, abs=0.1)


def test_low_coverage_raises_the_alarm(
    graph: Graph, scores: list[LiveScore], teller: Teller, diagnostics: Diagnostics, node: Process
) -> None:
    teller.walk(STEPS, covered=False)
    score = newest(graph, scores, teller)
    (volume,) = score.coverages
    assert volume.low and volume.share <= volume.alarm_at < 0.9
    assert 'expected 90 %' in score.warning_text
    found = diagnostics.next()
    assert (
        found['message'] == score.warning_text and int(found['level']) == DiagnosticStatus.WARN[0]
    )
    assert 'low_coverage: volumes until 0.4 s covered' in node.output


def test_malformed_messages_are_counted_and_outputs_have_no_fault(
    graph: Graph, scores: list[LiveScore], teller: Teller, diagnostics: Diagnostics, node: Process
) -> None:
    now_ns = START_NS + teller.step * PERIOD_NS
    teller.motion.publish(encode_prediction(predicted(now_ns, 'camera'), 0.01))
    graph.until(lambda: 'drops.malformed' in diagnostics.next(), what='a drop')
    assert 'set the same "fixed_frame" for both nodes' in node.output
    for each in scores:
        assert faults(each, now_ns) == []
    assert node.stop()[0] == 0
