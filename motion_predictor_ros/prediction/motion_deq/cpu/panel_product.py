# SPDX-License-Identifier: Apache-2.0
"""Products of many rows with one small matrix that never changes, in vector registers.

Stage: prediction. A library copies both factors into an order of its own each time; here the
matrix is put into panels once, and a few rows times a panel are sums that stay in registers. Where
that does not fit (another processor, another width) the library multiplies.
"""

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from motion_predictor_ros.runtime.jit import compiled
from motion_predictor_ros.runtime.simd import LANES, products

_ROWS, _REGISTERS = 6, 4
_PANEL = _REGISTERS * LANES

_of_rows, _of_row = products(_ROWS, _REGISTERS), products(1, _REGISTERS)


class PanelProduct:
    """x W + b of rows x."""

    def __init__(
        self,
        weight: Float[Tensor, 'inner out'],
        bias: Float[Tensor, ' out'] | None = None,
    ) -> None:
        """Put the matrix into panels; float32, on the CPU."""
        inner, out = weight.shape
        bias = weight.new_zeros(out) if bias is None else bias
        self._plain = weight.contiguous(), bias.contiguous()
        # With 16 registers of 8 numbers, as before AVX-512, so many sums would not fit.
        self.fits = LANES == 16 and out % _PANEL == 0
        self._panels = np.empty((0, inner, _PANEL), np.float32)
        if self.fits:
            panels = weight.reshape(inner, -1, _PANEL).transpose(0, 1).contiguous()
            self._panels = panels.numpy()
        self._bias = self._plain[1].numpy()

    def __call__(self, rows: Float[Tensor, 'row inner'], out: Float[Tensor, 'row out']) -> None:
        """Write the product."""
        weight, bias = self._plain
        if self.fits:
            multiply(rows.numpy(), self._panels, self._bias, out.numpy())
        else:
            torch.addmm(bias, rows, weight, out=out)


@compiled
def multiply(
    rows: Float32[np.ndarray, 'row inner'],
    panels: Float32[np.ndarray, 'panel inner width'],
    bias: Float32[np.ndarray, ' out'],
    out: Float32[np.ndarray, 'row out'],
) -> None:
    """Write x W + b, of contiguous arrays alone: strides are not looked at."""
    count, inner = rows.shape
    width, whole = out.shape[1], count - count % _ROWS
    for panel in range(len(panels)):
        at, matrix = panel * _PANEL, panels[panel]
        for row in range(0, whole, _ROWS):
            place = row * width + at
            _of_rows(bias, at, 0, rows, row * inner, inner, matrix, 0, inner, out, place, width)
        for row in range(whole, count):
            place = row * width + at
            _of_row(bias, at, 0, rows, row * inner, inner, matrix, 0, inner, out, place, width)
