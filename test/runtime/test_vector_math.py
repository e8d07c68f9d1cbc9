# SPDX-License-Identifier: Apache-2.0
"""Compiled nonlinearities are those of torch, to float32's rounding."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from motion_predictor_ros.runtime.simd import sigmoid, silu


@pytest.mark.parametrize(
    ('compiled', 'plain'), [(silu, torch.nn.functional.silu), (sigmoid, torch.sigmoid)]
)
def test_values_are_those_of_torch(
    compiled: Callable[[np.float32], np.float32], plain: Callable[[Tensor], Tensor]
) -> None:
    values = torch.linspace(-80.0, 80.0, 2001).float()
    wanted = plain(values.double())
    found = torch.tensor([compiled(np.float32(each)) for each in values.tolist()]).double()
    # Relative to their size, numbers near zero carry the rounding of their exponent.
    torch.testing.assert_close(found, wanted, rtol=5e-6, atol=1e-30)
    near = values.abs() < 8.0
    torch.testing.assert_close(found[near], wanted[near], rtol=1e-6, atol=1e-30)
    with pytest.raises(AssertionError):  # control: the other half's values are others
        torch.testing.assert_close(found.flip(0), wanted, rtol=5e-6, atol=1e-30)


def test_beyond_the_range_of_exp_nothing_overflows() -> None:
    ends = [sigmoid(np.float32(each)) for each in (-1e4, 1e4)]
    assert ends == [pytest.approx(0.0, abs=1e-37), 1.0]
