# SPDX-License-Identifier: Apache-2.0
"""Averaged weights against the sum they stand for."""

from pathlib import Path

import pytest
import torch
from torch import nn

from motion_predictor_ros.checkpoint import load_checkpoint, save_checkpoint
from motion_predictor_ros.training.loop import WeightAverage, mix_with_start


def trained(decay: float, steps: int) -> tuple[nn.Linear, WeightAverage, list[torch.Tensor]]:
    torch.manual_seed(0)
    module = nn.Linear(3, 2)
    average = WeightAverage(module, decay)
    history = [module.weight.detach().clone()]
    for step in range(steps):
        with torch.no_grad():
            module.weight.add_(torch.randn_like(module.weight))
        average.update(step)
        history.append(module.weight.detach().clone())
    return module, average, history


def test_the_average_is_the_weighted_sum_of_all_weights() -> None:
    module, average, history = trained(0.9, 200)
    expected = history[0]
    for step, weight in enumerate(history[1:]):
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * weight
    with average.applied():
        assert (module.weight - expected).abs().max() < 1e-12
    assert torch.equal(module.weight, history[-1])  # control: outside the block they are back


def test_without_averaging_the_weights_themselves_are_kept() -> None:
    module, average, history = trained(0.0, 5)
    with average.applied():
        assert torch.equal(module.weight, history[-1])
    assert average.tensors() == {}


def test_a_restored_average_continues_where_it_stopped() -> None:
    module, average, _ = trained(0.9, 10)
    fresh = WeightAverage(module, 0.9)
    fresh.restore(average.tensors())
    with fresh.applied():
        taken = module.weight.detach().clone()
    with average.applied():
        assert torch.equal(module.weight, taken)
    with pytest.raises(KeyError):
        fresh.restore({})


def test_the_start_is_mixed_in_once_and_new_weights_count_as_zero_there(tmp_path: Path) -> None:
    start, end = tmp_path / 'start.safetensors', tmp_path / 'end.safetensors'
    header = {'kind': 'made_up'}
    save_checkpoint(start, header, {'a': torch.tensor([1.0])})
    save_checkpoint(end, header, {'a': torch.tensor([3.0]), 'new': torch.tensor([2.0])})
    mix_with_start(end, start, 0.0, 'made_up')
    assert load_checkpoint(end, 'made_up').tensors['a'].item() == 3.0  # control: no share
    for _ in range(2):  # a resumed run comes here again
        mix_with_start(end, start, 0.25, 'made_up')
        mixed = load_checkpoint(end, 'made_up')
        assert mixed.tensors['a'].item() == 2.5 and mixed.tensors['new'].item() == 1.5
        assert mixed.header['start_share'] == 0.25
