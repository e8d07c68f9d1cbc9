# SPDX-License-Identifier: Apache-2.0
"""The model with folded weights gives the answers of the model as it was trained."""

import pytest
import torch
from cache_flow_models import TINY
from models import MotionDEQConfig, people
from torch import Tensor, nn

from motion_predictor_ros.density.body_frame import BodyFrame
from motion_predictor_ros.density.cache_flow.flow import Flow
from motion_predictor_ros.density.cache_flow.inference import (
    FusedCacheFlow,
    FusedInverseFlow,
    Recurrence,
)
from motion_predictor_ros.density.cache_flow.model import CacheFlow

FRAME = BodyFrame(18, 0, 1, 4)
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


def played_plainly(module: CacheFlow, x: Tensor, past: Tensor) -> Tensor:
    """Return poses [person, future, horizon, joint, xyz]."""
    repeated = past.repeat_interleave(x.shape[1], dim=0)
    return module.decode(x.flatten(0, 1), repeated).unflatten(0, x.shape[:2])


@pytest.mark.parametrize(('dtype', 'close'), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
def test_futures_are_played_as_by_the_module(dtype: torch.dtype, close: float) -> None:
    module, (past, leaving), x = lively(dtype), entered(dtype), latents(dtype)
    poses = played_plainly(module, x, past)
    plain = poses.flatten(3) @ leaving[:, None]
    fused = FusedCacheFlow(module).decode_local(x, past, leaving)
    torch.testing.assert_close(fused, plain, atol=close, rtol=0)
    other = FusedCacheFlow(module).decode_local(x.flip(0), past, leaving)
    assert float((other - fused).abs().max()) > 1e-1


@pytest.mark.parametrize('scheme', ['rk4', 'midpoint'])
@pytest.mark.parametrize('steps', [3, 8])
def test_the_inverse_flow_with_folded_times_is_the_flow(scheme: str, steps: int) -> None:
    torch.manual_seed(0)
    flow = Flow(4, 16, scheme, steps).requires_grad_(False)
    for parameter in flow.parameters():
        parameter.mul_(1.5)
    x = torch.randn(5, 4)
    z, log_det = flow.pull(x)
    found_z, found_log_det = FusedInverseFlow(flow)(x)
    torch.testing.assert_close(found_z, z, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(found_log_det, log_det, rtol=1e-10, atol=1e-10)
    assert float((z - x).abs().max()) > 1e-2 and float(log_det.abs().max()) > 1e-2  # controls


def test_the_recurrence_is_torchs() -> None:
    torch.manual_seed(0)
    gru = nn.GRU(7, 5).requires_grad_(False)
    frames = torch.randn(6, 2, 7)
    recurrence = Recurrence.of(gru.weight_hh_l0, gru.bias_hh_l0)
    matrix, bias = recurrence.input_map(gru.weight_ih_l0.mT, gru.bias_ih_l0)
    states = 2.0 * recurrence.states(frames[0] @ matrix + bias, 6) - 1.0
    torch.testing.assert_close(states, gru(frames[:1].expand(6, -1, -1))[0])
    assert float((states[0] - states[-1]).abs().max()) > 1e-2  # control: states do change
