# SPDX-License-Identifier: Apache-2.0
"""A graph answers what its function would, and a function that cannot be one is refused."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from pretend_gpu import CUDA, PretendGPU, pretended_gpu
from torch import Tensor

from motion_predictor_ros.config import DensityConfig, PredictionConfig
from motion_predictor_ros.density.predictor import CacheFlowPredictor
from motion_predictor_ros.errors import ConfigError
from motion_predictor_ros.prediction.streaming import MotionDEQPredictor
from motion_predictor_ros.runtime.cuda_graph import Graphs, pad_batch_to_power_of_two


@pytest.fixture
def gpu() -> Iterator[PretendGPU]:
    with pretended_gpu() as gpu:
        yield gpu


def people(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, 3, generator=torch.Generator().manual_seed(seed))


def scaled(factor: float, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    """Return something made in place, something looked up and something that was given."""
    total = torch.zeros_like(x)
    total.add_(x * factor)
    total[:, 0] = y
    return total, x.sum(1), y


def test_a_graph_answers_what_its_function_would(gpu: PretendGPU) -> None:
    graphs = Graphs(scaled)
    for factor, count, seed in ((2.0, 3, 0), (2.0, 3, 1), (2.0, 4, 2), (-1.0, 3, 3), (2.0, 1, 4)):
        given = people(count, seed), torch.rand(count)
        found = graphs(factor, *(each.to(CUDA) for each in given))
        for own, wanted in zip(found, scaled(factor, *given), strict=True):
            torch.testing.assert_close(own.cpu(), wanted)


def test_a_replay_is_one_launch_and_leaves_earlier_answers_alone(gpu: PretendGPU) -> None:
    calls = []

    def counted(way: None, x: Tensor) -> tuple[Tensor, ...]:
        calls.append(len(x))
        for _ in range(50):
            x = x + 1.0
        return (x,)

    graphs, given = Graphs(counted), people(3).to(CUDA)
    (first,) = graphs(None, given)
    kept, warm = first.cpu(), len(calls)
    before = gpu.launches
    (second,) = graphs(None, 2.0 * given)
    assert gpu.launches - before < 12 and len(calls) == warm
    torch.testing.assert_close(first.cpu(), kept)
    torch.testing.assert_close(second.cpu(), 2.0 * people(3) + 50.0)
    graphs(None, people(4).to(CUDA))
    assert len(calls) == warm and set(calls) == {4}  # three are answered in the graph of four
    graphs(None, people(5).to(CUDA))
    assert len(calls) == 2 * warm  # control: more people take another one


def asks(way: None, x: Tensor) -> tuple[Tensor, ...]:
    return (x if float(x.sum()) > 0.0 else -x,)


def chooses(way: None, x: Tensor) -> tuple[Tensor, ...]:
    return (x[x[:, 0] > 0.0],)


def brings(way: None, x: Tensor) -> tuple[Tensor, ...]:
    return (x * torch.arange(3.0).to(x.device),)


def indexes(way: None, x: Tensor) -> tuple[Tensor, ...]:
    return (x[:, [0, 1]] + x[[0], :2],)


def sends(way: None, x: Tensor) -> tuple[Tensor, ...]:
    return (torch.where(x > 0.0, 0.0, x),)


@pytest.mark.parametrize('function', [asks, chooses, brings, indexes, sends])
def test_what_waits_for_the_gpu_cannot_be_captured(
    gpu: PretendGPU, function: Callable[..., tuple[Tensor, ...]]
) -> None:
    given = people(2).to(CUDA)
    function(None, given)  # control: without a graph it may
    with pytest.raises(ConfigError, match='cuda_graph'):
        Graphs(function)(None, given)


def test_the_pretended_gpu_refuses_what_a_real_one_would(gpu: PretendGPU) -> None:
    here, there = people(2), people(2).to(CUDA)
    with pytest.raises(RuntimeError, match='same device'):
        here + there
    with pytest.raises(RuntimeError, match='numpy'):
        there.numpy()
    torch.testing.assert_close((there + here.to(CUDA)).cpu(), 2.0 * here)  # control


@pytest.mark.parametrize('count', [1, 2, 3, 5, 8, 9])
def test_people_who_fill_up_change_nobodys_answer(count: int) -> None:
    sizes = []

    def alone(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        sizes.append(len(x))
        return (2.0 * x + y[:, None],)

    given = people(count), torch.rand(count)
    (found,) = pad_batch_to_power_of_two(alone, given)
    torch.testing.assert_close(found, 2.0 * given[0] + given[1][:, None], rtol=0, atol=0)
    assert sizes == [{1: 1, 2: 2, 3: 4, 5: 8, 8: 8, 9: 16}[count]]


def test_a_function_that_mixes_people_is_seen() -> None:
    (found,) = pad_batch_to_power_of_two(lambda x: (x - x.mean(0),), (people(3),))
    assert float((found - (people(3) - people(3).mean(0))).abs().max()) > 1e-2


@pytest.mark.parametrize(
    ('load', 'config'),
    [
        (MotionDEQPredictor.load, PredictionConfig(device='cpu', cuda_graph=True)),
        (CacheFlowPredictor.load, DensityConfig(device='cpu', cuda_graph=True)),
    ],
)
def test_graphs_without_a_gpu_are_refused(load: Callable[..., Any], config: object) -> None:
    with pytest.raises(ConfigError, match=r'"(prediction|density).cuda_graph" needs a GPU'):
        load(config)
