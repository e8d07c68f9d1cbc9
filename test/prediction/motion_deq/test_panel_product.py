# SPDX-License-Identifier: Apache-2.0
"""Products in panels are products, whatever is left over of rows and whether or not they fit."""

import pytest
import torch

from motion_predictor_ros.prediction.motion_deq.cpu.panel_product import PanelProduct
from motion_predictor_ros.runtime.simd import LANES

PANEL = 4 * LANES


@pytest.mark.parametrize('rows', [1, 5, 6, 20])
@pytest.mark.parametrize('columns', [PANEL, 3 * PANEL, PANEL + 8])
def test_panels_multiply_as_the_library_does(rows: int, columns: int) -> None:
    torch.manual_seed(0)
    left, weight, bias = (
        torch.randn(*shape, dtype=torch.float32) for shape in ((rows, 9), (9, columns), (columns,))
    )
    product = PanelProduct(weight, bias)
    assert product.fits == (LANES == 16 and columns % PANEL == 0)
    guarded = torch.full((rows + 1, columns), torch.nan, dtype=torch.float32)
    product(left, guarded[:rows])
    exact = left.double() @ weight.double() + bias.double()
    torch.testing.assert_close(guarded[:rows].double(), exact, rtol=1e-5, atol=1e-5)
    assert guarded[rows:].isnan().all()  # nothing beyond the rows was written
    PanelProduct(weight)(left, guarded[:rows])
    assert float((guarded[:rows] - exact).abs().max()) > 0.1  # control: without the bias
