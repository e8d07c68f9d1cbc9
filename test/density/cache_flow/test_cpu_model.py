# SPDX-License-Identifier: Apache-2.0
"""What inference folds together gives the answers of the formulas as they stand."""

import numpy as np
import pytest
import torch
from cache_flow_models import TINY
from models import MotionDEQConfig, people
from torch import Tensor, nn

from motion_predictor_ros.density.body_frame import HeadingFrame
from motion_predictor_ros.density.cache_flow.cpu.gru import Recurrence
from motion_predictor_ros.density.cache_flow.cpu.model import FusedCacheFlow
from motion_predictor_ros.density.cache_flow.model import CacheFlow
from motion_predictor_ros.runtime.threads import WorkerPool

FRAME = HeadingFrame(18, 0, 1, 4)
OBSERVED = people(3, MotionDEQConfig(joints=18, past=TINY.past))


def lively(dtype: torch.dtype = torch.float64) -> CacheFlow:
    torch.manual_seed(0)
    module = CacheFlow(TINY).to(dtype).eval().requires_grad_(False)
    for parameter in module.parameters():
        parameter.add_(0.2 * torch.randn_like(parameter))
    module.factorisation.mean.normal_()
    module.factorisation.scale.uniform_(0.5, 2.0)
    return module


def entered(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    placement = FRAME.place(OBSERVED[:, -1].to(dtype))
    return FRAME.enter(OBSERVED.to(dtype), placement), FRAME.leaving(placement.rotation)


def latents(dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(3, 4, TINY.latent, generator=torch.Generator().manual_seed(3)).to(dtype)


ORIGIN = np.array([[1.0, 2.0, 0.0], [-3.0, 0.5, 0.0], [1e5, 0.0, 0.0]])


def played(module: CacheFlow, *given: Tensor, ways: Tensor | None = None) -> Tensor:
    """Return positions about the origin, as folded weights play them."""
    places = FusedCacheFlow(module, FRAME.root).decode(*given, ORIGIN, ways)
    return torch.from_numpy(places - np.tile(ORIGIN, FRAME.joints)[:, None, None])


def played_plainly(module: CacheFlow, x: Tensor, past: Tensor) -> Tensor:
    """Return poses [person, future, horizon, joint, xyz]."""
    repeated = past.repeat_interleave(x.shape[1], dim=0)
    return module.decode(x.flatten(0, 1), repeated).unflatten(0, x.shape[:2])


def test_people_are_shared_out_to_threads_and_futures_stay_to_the_last_bit() -> None:
    module, (past, leaving), x = (
        lively(torch.float32),
        entered(torch.float32),
        latents(torch.float32),
    )
    given = x, past, leaving, ORIGIN
    alone = FusedCacheFlow(module, FRAME.root).decode(*given)
    shared = FusedCacheFlow(module, FRAME.root, WorkerPool(2))
    for _ in range(5):
        np.testing.assert_array_equal(shared.decode(*given), alone)
    assert not np.array_equal(alone[0], alone[1])  # control: people differ


@pytest.mark.parametrize(('dtype', 'close'), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_an_observation_is_read_as_by_the_module(dtype: torch.dtype, close: float) -> None:
    module, (past, _) = lively(dtype), entered(dtype)
    plain, fused = module.observe(past), FusedCacheFlow(module, 0).observe(past)
    for name in vars(plain):
        torch.testing.assert_close(getattr(fused, name), getattr(plain, name), atol=close, rtol=0)
    other = FusedCacheFlow(module, 0).observe(past.flip(1))
    assert float((other.means - plain.means).abs().max()) > 1e-2


@pytest.mark.parametrize(('dtype', 'close'), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
def test_futures_are_played_as_by_the_module(dtype: torch.dtype, close: float) -> None:
    module, (past, leaving), x = lively(dtype), entered(dtype), latents(dtype)
    poses = played_plainly(module, x, past)
    plain = poses.flatten(3) @ leaving[:, None]
    fused = played(module, x, past, leaving)
    torch.testing.assert_close(fused, plain.double(), atol=close, rtol=0)
    other = played(module, x.flip(0), past, leaving)
    assert float((other - fused).abs().max()) > 1e-1


@pytest.mark.parametrize(('dtype', 'close'), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_a_future_is_encoded_as_by_the_module(dtype: torch.dtype, close: float) -> None:
    module, (past, _) = lively(dtype), entered(dtype)
    future = people(3, MotionDEQConfig(joints=18, past=TINY.future)).to(dtype)
    plain, fused = module.latent(past, future), FusedCacheFlow(module, 0).latent(past, future)
    torch.testing.assert_close(fused, plain, atol=close, rtol=0)
    other = FusedCacheFlow(module, 0).latent(past, future.flip(1))
    assert float((other - plain).abs().max()) > 1e-2


def test_given_ways_replace_the_decoded_root() -> None:
    module, (past, leaving), x = lively(), entered(), latents()
    ways = torch.randn(3, 4, TINY.future, 3)
    poses = played_plainly(module, x, past)
    poses[:, :, :, FRAME.root] = past[:, None, -1:, FRAME.root] + ways
    plain = poses.flatten(3) @ leaving[:, None]
    fused = played(module, x, past, leaving, ways=ways)
    torch.testing.assert_close(fused, plain, atol=1e-10, rtol=0)


def test_the_recurrence_is_torchs() -> None:
    torch.manual_seed(0)
    gru = nn.GRU(7, 5).requires_grad_(False)
    frames = torch.randn(6, 2, 7)
    recurrence = Recurrence.of(gru.weight_hh_l0, gru.bias_hh_l0)
    matrix, bias = recurrence.entry(gru.weight_ih_l0.mT, gru.bias_ih_l0)
    states = 2.0 * recurrence.states(frames @ matrix + bias, 6) - 1.0
    torch.testing.assert_close(states, gru(frames)[0])
    held = 2.0 * recurrence.states(frames[:1] @ matrix + bias, 6) - 1.0
    torch.testing.assert_close(held, gru(frames[:1].expand(6, -1, -1))[0])
    assert float((held - states).abs().max()) > 1e-2
