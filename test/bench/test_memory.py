# SPDX-License-Identifier: Apache-2.0
"""Bytes held for backward: exact on graphs made by hand, and less for a fixed point."""

import dataclasses
import json

import pytest
import torch
from models import TINY

from motion_predictor_ros.bench.memory import SavedBytes, bench_memory
from motion_predictor_ros.cli.main import main
from motion_predictor_ros.errors import ConfigError
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


def test_a_chain_holds_one_tensor_per_link() -> None:
    start = leaf()
    with SavedBytes() as count:
        end = start.exp().sin().cos()  # saves exp(x), its result, and what sin and cos were given
    # What sin was given is what exp returned: one storage, two holders.
    assert count.alive == count.peak == count.total == 2 * SIZE
    del end
    assert count.alive == 0 and count.peak == 2 * SIZE


def test_ignored_tensors_do_not_count() -> None:
    start = leaf()
    with SavedBytes() as all_of_it:
        kept = start.sin().sin()
    with SavedBytes([start]) as rest:
        also = start.sin().sin()
    assert all_of_it.alive - rest.alive == SIZE == rest.alive
    del kept, also


def test_a_view_counts_as_the_whole_storage_it_keeps_alive() -> None:
    start = leaf()
    with SavedBytes([start]) as count:
        half = start.sin()[:10].sin()
    assert count.alive == SIZE
    del half


def test_backward_lets_go_and_the_peak_stays() -> None:
    start = leaf()
    with SavedBytes([start]) as count:
        for _ in range(3):
            start.sin().sin().sum().backward()
            assert count.alive == 0
    assert count.peak == SIZE and count.total == 3 * SIZE


def test_two_graphs_at_once_hold_twice_as_much() -> None:
    """The control of the test above: the same work, but both graphs alive."""
    start = leaf()
    with SavedBytes([start]) as count:
        (start.sin().sin().sum() + start.sin().sin().sum()).backward()
    assert count.peak == 2 * SIZE and count.alive == 0


def test_a_retained_graph_counts_until_it_is_freed() -> None:
    start = leaf()
    with SavedBytes([start]) as count:
        end = start.sin().sin().sum()
        end.backward(retain_graph=True)
        assert count.alive == SIZE
        end.backward()
        assert count.alive == 0


def test_a_result_that_autograd_saves_does_not_leak() -> None:
    start = leaf()
    with SavedBytes() as count:
        end = start.exp()
    assert count.alive == SIZE
    del end
    assert count.alive == 0


def test_counting_does_not_change_the_gradient() -> None:
    start = leaf()
    start.exp().sin().sum().backward()
    plain, start.grad = start.grad, None
    with SavedBytes():
        start.exp().sin().sum().backward()
    assert start.grad is not None and plain is not None and torch.equal(start.grad, plain)


@pytest.mark.usefixtures('float32_as_trained')
def test_a_fixed_point_keeps_less_memory_than_unrolled_layers() -> None:
    report = bench_memory(RECIPE, 6, CPU)
    assert report['ratio']['esl8'] > report['ratio']['eqmotion_style'] > 1.5
    assert report['saved_bytes']['esl8'] > 8 * report['parts']['cell']
    own, parts = report['saved_bytes'], report['parts']
    assert parts['cell'] <= own['motion_deq_kept'] < 2 * parts['cell']  # one graph at a time
    assert own['motion_deq'] < own['motion_deq_kept']
    assert report['parameters']['esl8'] == report['parameters']['motion_deq']


@pytest.mark.usefixtures('float32_as_trained')
def test_the_peak_does_not_depend_on_how_long_the_solver_ran_but_on_the_batch() -> None:
    longer = dataclasses.replace(
        RECIPE, equilibrium=dataclasses.replace(RECIPE.equilibrium, solver_steps=9)
    )
    peak = bench_memory(RECIPE, 4, CPU)['saved_bytes']['motion_deq']
    assert bench_memory(longer, 4, CPU)['saved_bytes']['motion_deq'] == peak
    assert bench_memory(RECIPE, 8, CPU)['saved_bytes']['motion_deq'] > 1.9 * peak


@pytest.mark.usefixtures('float32_as_trained')
def test_the_command_prints_json_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['bench', 'memory', '--batch', '2', '--device', 'cpu', '--json']) == 0
    report = json.loads(capsys.readouterr().out)
    assert report['ratio']['eqmotion_style'] > 2.3 and report['ratio']['esl8'] > 4.1
    assert main(['bench', 'memory', '--batch', '2', '--device', 'cpu']) == 0
    assert 'EqMotion style' in capsys.readouterr().out


def test_an_empty_batch_is_refused() -> None:
    with pytest.raises(ConfigError, match='at least one'):
        bench_memory(RECIPE, 0, CPU)
