# SPDX-License-Identifier: Apache-2.0
"""A live node with a density model: futures come at their own rate and are those of a replay."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cache_flow_models import TINY, write_density
from motion_predictor_ros.msg import PredictedMotionArray, WeightedFuturesArray
from ros.graph import PERIOD_NS, START_NS, Diagnostics, Graph, Process, skeletons, stamp_ns
from visualization_msgs.msg import MarkerArray

from motion_predictor_ros.config import DensityConfig, PipelineConfig, PredictionConfig
from motion_predictor_ros.density.wire import decode_futures
from motion_predictor_ros.pipeline import Pipeline

COUNT = 60


@pytest.fixture(scope='module')
def density(tmp_path_factory: pytest.TempPathFactory) -> DensityConfig:
    return write_density(tmp_path_factory.mktemp('density'), enabled='always')


@pytest.fixture(scope='module')
def node(
    launch: Callable[..., Process], model: Path, density: DensityConfig, graph: Graph
) -> Process:
    given = {f'density.{name}': value for name, value in vars(density).items()}
    given |= {'prediction.weights': model, 'published_futures': 7, 'futures_stride': 2}
    given |= {'degradation.enabled': 'false'}  # however slow this machine is now
    options = [word for name, value in given.items() for word in ('-p', f'{name}:={value}')]
    process = launch('predictor_node', '--ros-args', *options)
    process.wait_for('predicting from /skeletons')
    graph.wait_for_input()
    return process


@pytest.fixture(scope='module')
def received(graph: Graph, node: Process) -> list[Any]:
    """Everything of one walk of two people, each observation waited for."""
    found = graph.collect(WeightedFuturesArray, '/weighted_futures')
    graph.collect(MarkerArray, '/markers')
    answers = graph.collect(PredictedMotionArray, '/predicted_motion')
    graph.match()
    for index in range(COUNT):
        at_ns = START_NS + index * PERIOD_NS
        graph.say(skeletons(at_ns, ('anna', 'ben')))
        graph.until(lambda at_ns=at_ns: answers and stamp_ns(answers[-1]) == at_ns)
    graph.until(lambda: len(found) >= 5, what='weighted futures')
    graph.spin(0.5)
    return found


def test_futures_come_at_their_own_rate_thinned_as_asked(received: list[Any]) -> None:
    assert 5 <= len(received) <= 9  # 1.4 s at 5 Hz, after warming up
    for message in received:
        found = decode_futures(message)
        assert found.person_ids == ('anna', 'ben') and message.model.startswith('tiny@')
        assert found.positions.shape == (2, 7, TINY.future // 2, 18, 3)
        np.testing.assert_allclose(found.horizons_s, 0.08 * np.arange(1, 4), rtol=1e-6)
        np.testing.assert_allclose(found.weights.sum(1), 1.0, rtol=1e-6)
        assert message.importance_samples == 200 and message.header.frame_id == 'world'


def test_live_futures_are_those_of_a_replay(
    received: list[Any], model: Path, density: DensityConfig
) -> None:
    torch.set_default_dtype(torch.float32)  # as in the node's process
    prediction = PredictionConfig(weights=str(model), device='cpu')
    pipeline = Pipeline.load(PipelineConfig(prediction=prediction, density=density))
    replayed = {}
    for index in range(COUNT):
        scene = pipeline.step(skeletons(START_NS + index * PERIOD_NS, ('anna', 'ben')))
        if scene is not None and scene.futures is not None:
            replayed[scene.prediction.stamp_ns] = scene.futures.thinned(7, 2)
    common = [(each, replayed[stamp_ns(each)]) for each in received if stamp_ns(each) in replayed]
    assert len(common) >= 3
    for message, offline in common:
        live = decode_futures(message)
        np.testing.assert_allclose(live.positions, offline.positions, atol=1e-5)
        np.testing.assert_array_equal(live.cached, offline.cached)
    first, second = common[0][1], common[1][1]
    assert np.abs(first.positions - second.positions).max() > 1e-2  # others would be seen


def test_diagnostics_name_the_density_model(
    graph: Graph, received: list[Any], node: Process
) -> None:
    figures = Diagnostics(graph).next()
    assert 'tiny@' in figures['density'] and int(figures['futures_drawn']) >= len(received)
    assert float(figures['novelty']) > 0 and float(figures['effective_sample_size']) >= 1


def test_how_many_futures_are_drawn_and_published_can_change(
    graph: Graph, received: list[Any], node: Process
) -> None:
    now_ns = START_NS + COUNT * PERIOD_NS
    for name, count in (('density.futures', 3), ('published_futures', 2)):
        assert graph.set(name, count).successful

        def drawn(count: int = count) -> bool:
            nonlocal now_ns
            graph.say(skeletons(now_ns, ('anna', 'ben')), pause_s=0.06)
            now_ns += PERIOD_NS
            return len(received[-1].persons[0].weights) == count

        assert len(received[-1].persons[0].weights) != count
        graph.until(drawn, what=f'{count} futures')
    assert not graph.set('density.weights', 'other').successful
