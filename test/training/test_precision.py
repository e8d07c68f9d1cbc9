# SPDX-License-Identifier: Apache-2.0
"""Pairs in bfloat16 change gradients little, and only while they are asked for."""

import torch
from torch import Tensor, nn

from motion_predictor_ros.prediction.motion_deq.layers import PairModule, pair_distances
from motion_predictor_ros.prediction.motion_deq.model import MotionDEQ, MotionDEQConfig
from motion_predictor_ros.runtime.process_memory import disable_malloc_trim
from motion_predictor_ros.training.motion_deq import pairs_in


def model() -> MotionDEQ:
    torch.manual_seed(1)
    shape = MotionDEQConfig(joints=6, past=5, future=4, channels=8, patterns=8)
    return MotionDEQ(shape).float()


def gradients(module: MotionDEQ, dtype: torch.dtype | None) -> Tensor:
    positions = torch.randn(3, 5, 6, 3, generator=torch.Generator().manual_seed(2)).float()
    module.zero_grad()
    with pairs_in(module, dtype):
        state = module.lift(positions)
        for _ in range(3):
            state = module.cell(state, module.encode(positions))
        module.offsets(state).square().mean().backward()
    found = [p.grad.flatten() for p in module.parameters() if p.grad is not None]
    return torch.cat(found)


def test_gradients_in_bfloat16_point_the_same_way() -> None:
    module = model()
    exact, rough = gradients(module, None), gradients(module, torch.bfloat16)
    assert not torch.equal(exact, rough)  # control: it did compute something else
    assert float((exact - rough).norm() / exact.norm()) < 0.05


def test_the_dtype_of_pairs_is_restored_afterwards() -> None:
    module = model()
    try:
        with pairs_in(module, torch.bfloat16):
            inside = [p.pair_dtype for p in module.modules() if isinstance(p, PairModule)]
            raise KeyError
    except KeyError:
        pass
    assert len(inside) == 2
    assert set(inside) == {torch.bfloat16}
    assert {p.pair_dtype for p in module.modules() if isinstance(p, PairModule)} == {None}


def test_modules_without_pairs_are_left_alone() -> None:
    with pairs_in(nn.Linear(2, 2), torch.bfloat16):
        pass


def test_the_gradient_of_distances_equals_finite_differences() -> None:
    geometry = torch.randn(2, 3, 4, 3, dtype=torch.float64, requires_grad=True)
    # The distance of a joint to itself has no gradient: the root's slope is cut off there.
    others = 1.0 - torch.eye(4, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda g: pair_distances(g) * others, geometry)
    explicit = (geometry[..., :, None, :] - geometry[..., None, :, :]).norm(dim=-1)
    torch.testing.assert_close(pair_distances(geometry) * others, explicit * others)


def test_glibc_keeps_what_is_freed() -> None:
    assert disable_malloc_trim()
