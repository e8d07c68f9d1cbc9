# SPDX-License-Identifier: Apache-2.0
"""Peak memory: exact on graphs made by hand, and less for a fixed point."""

import dataclasses
import json

import pytest
import torch
from models import TINY
from torch.utils.checkpoint import checkpoint

from motion_predictor_ros.bench.memory import LiveBytes, bench_memory
from motion_predictor_ros.cli.main import main
from motion_predictor_ros.training.recipe import EquilibriumConfig, MotionDEQRecipe

CPU = torch.device('cpu')
SIZE = 1000 * 8  # bytes of each tensor below, float64
RECIPE = MotionDEQRecipe(
    model=TINY, equilibrium=EquilibriumConfig(solver_steps=3, hinge_weight=0.3)
)


def leaf() -> torch.Tensor:
    return torch.rand(1000).requires_grad_()


@pytest.fixture
def float32_as_trained(float64_by_default: None) -> None:
    torch.set_default_dtype(torch.float32)


def test_a_chain_keeps_what_its_backward_needs_alive() -> None:
    start = leaf()
    with LiveBytes() as count:
        end = start.exp().sin().cos()  # kept: exp(x) and sin(exp(x)), and the result itself
    assert count.alive == count.peak == 3 * SIZE
    del end
    assert count.alive == 0 and count.peak == 3 * SIZE


def test_without_a_graph_an_intermediate_is_released_at_once() -> None:
    """The control of the test above."""
    start = leaf()
    with torch.no_grad(), LiveBytes() as count:
        end = start.exp().sin().cos()
    assert count.alive == SIZE and count.peak == 2 * SIZE
    del end


def test_a_view_counts_as_the_whole_storage_it_keeps_alive() -> None:
    start = leaf()
    with LiveBytes() as count:
        half = start.sin()[:10]
    assert count.alive == SIZE
    del half
    assert count.alive == 0


def test_one_graph_after_the_other_needs_less_than_both_at_once() -> None:
    start = leaf()
    with LiveBytes() as in_turn:
        for _ in range(3):
            start.sin().sin().sum().backward()
            start.grad = None
    with LiveBytes() as at_once:
        (start.sin().sin().sum() + start.sin().sin().sum()).backward()
    assert in_turn.alive == 0 and in_turn.peak < at_once.peak - SIZE // 2


def test_what_a_checkpoint_builds_again_counts() -> None:
    def deep(x: torch.Tensor) -> torch.Tensor:
        for _ in range(20):
            x = x.sin()
        return x

    start = leaf()
    with LiveBytes() as forward:
        end = checkpoint(deep, start, use_reentrant=False).sum()
    assert forward.alive < 2 * SIZE
    with LiveBytes() as backward:
        end.backward()
    assert backward.peak > 15 * SIZE


def test_counting_does_not_change_the_gradient() -> None:
    start = leaf()
    start.exp().sin().sum().backward()
    plain, start.grad = start.grad, None
    with LiveBytes():
        start.exp().sin().sum().backward()
    assert start.grad is not None and plain is not None and torch.equal(start.grad, plain)


@pytest.mark.usefixtures('float32_as_trained')
def test_a_fixed_point_keeps_less_memory_than_unrolled_layers() -> None:
    report = bench_memory(RECIPE, 6, CPU)
    assert report['ratio']['esl8'] > report['ratio']['eqmotion_style'] > 1.5
    own, parts = report['peak_bytes'], report['parts']
    assert own['esl8'] > 8 * parts['cell']
    assert parts['cell'] <= own['motion_deq_kept'] < 2 * parts['cell']  # one graph at a time
    assert own['motion_deq'] < own['motion_deq_kept']
    assert report['parameters']['esl8'] == report['parameters']['motion_deq']


@pytest.mark.usefixtures('float32_as_trained')
def test_the_peak_does_not_depend_on_how_long_the_solver_ran_but_on_the_batch() -> None:
    longer = dataclasses.replace(
        RECIPE, equilibrium=dataclasses.replace(RECIPE.equilibrium, solver_steps=9)
    )
    peak = bench_memory(RECIPE, 4, CPU)['peak_bytes']['motion_deq']
    assert bench_memory(longer, 4, CPU)['peak_bytes']['motion_deq'] == peak
    assert (
        bench_memory(RECIPE, 8, CPU)['peak_bytes']['motion_deq'] > 1.8 * peak
    )  # gradients do not grow


@pytest.mark.usefixtures('float32_as_trained')
def test_the_command_prints_json_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['bench', 'memory', '--batch', '2', '--device', 'cpu', '--json']) == 0
    report = json.loads(capsys.readouterr().out)
    assert report['ratio']['eqmotion_style'] > 2.3 and report['ratio']['esl8'] > 4.1
    assert main(['bench', 'memory', '--batch', '2', '--device', 'cpu']) == 0
    assert 'EqMotion style' in capsys.readouterr().out


def test_an_empty_batch_is_refused() -> None:
    with pytest.raises(SystemExit, match='2'):
        main(['bench', 'memory', '--batch', '0'])
