# SPDX-License-Identifier: Apache-2.0
"""What is compiled for float32 on a CPU gives what torch gives in float64."""

import copy

import pytest
import torch

from motion_predictor_ros.density.cache_flow.cpu.flow import fold_pull
from motion_predictor_ros.density.cache_flow.cpu.gru import Recurrence
from motion_predictor_ros.density.cache_flow.flow import Flow


@pytest.mark.parametrize(('steps', 'given', 'batch'), [(7, 7, 1), (7, 1, 1), (7, 1, 3), (7, 7, 3)])
def test_compiled_states_are_those_of_torch(steps: int, given: int, batch: int) -> None:
    torch.manual_seed(0)
    hidden = 10  # not a multiple of what is unrolled
    weight, bias = torch.randn(3 * hidden, hidden), torch.randn(3 * hidden)
    entered = torch.randn(given, batch, 4 * hidden)
    wanted = Recurrence.of(weight, bias).states(entered, steps)  # float64: torch's own
    with torch.no_grad():
        found = Recurrence.of(weight.float(), bias.float()).states(entered.float(), steps)
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-6)
    assert float((found[0] - found[-1]).abs().max()) > 1e-2  # control: states do change


@pytest.mark.parametrize('scheme', ['rk4', 'midpoint'])
def test_the_folded_inverse_flow_is_the_flow_to_rounding(scheme: str) -> None:
    torch.manual_seed(0)
    flow = Flow(4, 'mlp', 16, scheme, 3).requires_grad_(False)
    for parameter in flow.parameters():
        parameter.mul_(1.5)
    x = torch.randn(5, 4)
    place, log_volume = flow.pull(x)
    z, log_det = fold_pull(copy.deepcopy(flow).float())(x.float())
    torch.testing.assert_close(z.double(), place, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(log_det.double(), log_volume, rtol=1e-5, atol=1e-5)
    assert float((place - x).abs().max()) > 1e-2 and float(log_volume.abs().max()) > 1e-2


def test_what_cannot_be_folded_is_the_flow_itself() -> None:
    for flow in (Flow(4, 'unet', 4, 'rk4', 2).float(), Flow(4, 'mlp', 8, 'rk4', 2)):
        assert fold_pull(flow) == flow.pull
