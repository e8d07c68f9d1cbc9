# SPDX-License-Identifier: Apache-2.0
"""A live node that is too slow gives up futures, then rate, says so, and takes them back."""

from collections.abc import Callable
from pathlib import Path

import pytest
from cache_flow_models import write_density
from motion_predictor_ros.msg import PredictedMotionArray, WeightedFuturesArray
from ros.graph import PERIOD_NS, START_NS, Diagnostics, Graph, Process, skeletons, stamp_ns

from motion_predictor_ros.config import DensityConfig

CROWD = tuple(f'person_{number}' for number in range(12))
LATE_S = 0.01  # twelve people take longer, nobody at all does not


@pytest.fixture(scope='module')
def density(tmp_path_factory: pytest.TempPathFactory) -> DensityConfig:
    return write_density(tmp_path_factory.mktemp('density'), enabled='always')


@pytest.fixture(scope='module')
def node(
    launch: Callable[..., Process], model: Path, density: DensityConfig, graph: Graph
) -> Process:
    given = {f'density.{name}': value for name, value in vars(density).items()}
    given |= {'prediction.weights': model, 'max_rate_hz': 30.0, 'stale_after_s': 0.5}
    given |= {'degradation.late_s': LATE_S, 'degradation.hold_s': 1.0}
    options = [word for name, value in given.items() for word in ('-p', f'{name}:={value}')]
    process = launch('predictor_node', '--ros-args', *options)
    process.wait_for('predicting from /skeletons')
    graph.wait_for_input()
    return process


def test_a_node_that_is_too_slow_says_what_it_gives_up_and_takes_it_back(
    graph: Graph, node: Process
) -> None:
    diagnostics, now_ns = Diagnostics(graph), START_NS
    futures = graph.collect(WeightedFuturesArray, '/weighted_futures')
    figures = {'degradation_level': '', 'message': ''}
    for _ in range(100):
        for _ in range(25):
            now_ns += PERIOD_NS
            graph.say(skeletons(now_ns, CROWD), pause_s=0.04)
        figures = diagnostics.next()
        if figures['degradation_level'] == '4 of 4':
            break
    assert figures['degradation'] == 'at most 8 answers a second' and figures['level'] == '1'
    assert 'too slow: at most 8' in figures['message']
    for name in ('fewer futures', 'no futures', 'at most 15', 'at most 8'):
        assert node.output.count(f'too slow: {name}') == 1
    assert int(figures['degradation_after_ns']) <= now_ns
    assert {f'stage.{name}_ms_p99' for name in ('skeleton', 'prediction', 'publish')} <= set(
        figures
    )
    assert not futures or len(futures[-1].persons[0].weights) < 20
    for _ in range(400):
        for _ in range(10):
            now_ns += PERIOD_NS
            graph.say(skeletons(now_ns, ()), pause_s=0.04)
        if 'fast enough' in node.output:
            break
    assert 'fast enough: at most 15 answers a second given up' in node.output


def test_no_more_than_the_bound_is_published(graph: Graph, node: Process) -> None:
    diagnostics = Diagnostics(graph)
    before = diagnostics.drops()
    received = graph.collect(PredictedMotionArray, '/predicted_motion')
    graph.match()
    begin_ns = START_NS + 10**12
    stamps = [begin_ns + index * 10_000_000 for index in range(100)]  # 100 a second, by stamps
    for each in stamps:
        graph.say(skeletons(each, ()), pause_s=0.03)
    counts: dict[str, int] = {}

    def all_accounted() -> bool:
        after = diagnostics.drops()
        for name in ('rate_limited', 'superseded'):
            counts[name] = after.get(name, 0) - before.get(name, 0)
        counts['answered'] = len({stamp_ns(each) for each in received} & set(stamps))
        return sum(counts.values()) == len(stamps)

    graph.until(all_accounted, what='what became of each observation')
    assert 0 < counts['answered'] <= 31 and counts['rate_limited'] > 0


def test_a_rate_at_which_everybody_would_be_stale_is_refused(graph: Graph, node: Process) -> None:
    assert graph.set('max_rate_hz', 20.0).successful
    refused = graph.set('max_rate_hz', 2.0)
    assert not refused.successful and 'stale_after_s' in refused.reason
