# SPDX-License-Identifier: Apache-2.0
"""A GRU as inference runs it: no graph, nothing allocated in a step, as few operations as can be.

Stage: density. The state h is kept as u = (h + 1) / 2. With tanh(a) = 2 sigmoid(2a) - 1, a step is
then one matrix product and two sigmoids; the twos and ones are folded into weights and biases:
    [r k s] = [g_r g_k b_s] + u W         r, k <- sigmoid
    u      <- lerp(sigmoid(g_s + r s), u, k)
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from motion_predictor_ros.density.cache_flow.cpu.gru_kernels import (
    ROWS,
    states_of_many,
    states_of_one,
)
from motion_predictor_ros.runtime.simd import LANES


@dataclass(frozen=True)
class Recurrence:
    """The part of a GRU that does not see its input.

    Attributes:
        weight: W, from u to the three gates.
        bias: Of the three gates.
    """

    weight: Float[Tensor, 'hidden gates']
    bias: Float[Tensor, ' gates']

    @classmethod
    def of(
        cls, weight: Float[Tensor, 'gates hidden'], bias: Float[Tensor, ' gates']
    ) -> 'Recurrence':
        """Fold the weights of torch.nn.GRU from state to gates (reset, keep, new)."""
        turned = _doubled(weight.mT)
        return cls((2.0 * turned).contiguous(), _doubled(bias) - turned.sum(0))

    def entry(
        self, weight: Float[Tensor, 'inputs gates'], bias: Float[Tensor, '*batch gates']
    ) -> tuple[Float[Tensor, 'inputs entry'], Float[Tensor, '*batch entry']]:
        """Return matrix and bias that turn an input into what `states` takes.

        Args:
            weight: From input to gates.
            bias: Of the same.
        """
        hidden = len(self.weight)
        gates, new = _doubled(weight).split([2 * hidden, hidden], dim=-1)
        matrix = torch.cat([gates, torch.zeros_like(new), new], dim=-1)
        gates, new = _doubled(bias).split([2 * hidden, hidden], dim=-1)
        own_gates, own_new = self.bias.split([2 * hidden, hidden])
        return matrix, torch.cat([gates + own_gates, own_new.expand_as(new), new], dim=-1)

    def states(
        self, entered: Float[Tensor, 'given batch entry'], steps: int
    ) -> Float[Tensor, 'step batch hidden']:
        """Return u after each step, from h = 0.

        Args:
            entered: Inputs through `entry`; one for each step, or one that never changes.
        """
        hidden, batch = len(self.weight), entered.shape[1]
        on_cpu = entered.device.type == 'cpu' and entered.dtype == torch.float32
        if on_cpu and not torch.is_grad_enabled():
            return self._compiled_states(entered, steps)
        own_given, new_given = entered.split([3 * hidden, hidden], dim=2)
        repeats = steps if len(entered) == 1 else 1
        states = entered.new_empty(steps, batch, hidden)
        state = entered.new_full((batch, hidden), 0.5)
        own, new = entered.new_empty(batch, 3 * hidden), torch.empty_like(state)
        gates, new_own = own.split([2 * hidden, hidden], dim=1)
        reset, keep = gates.chunk(2, dim=1)
        rows = zip(
            own_given.unbind() * repeats,
            new_given.unbind() * repeats,
            states.unbind(),
            strict=True,
        )
        for bias, given, after in rows:
            torch.addmm(bias, state, self.weight, out=own)
            gates.sigmoid_()
            torch.addcmul(given, reset, new_own, out=new).sigmoid_()
            state = torch.lerp(new, state, keep, out=after)
        return states

    def _compiled_states(
        self, entered: Float[Tensor, 'given batch entry'], steps: int
    ) -> Float[Tensor, 'step batch hidden']:
        """Return what `states` does, in float32 on a CPU."""
        hidden, batch = len(self.weight), entered.shape[1]
        if batch == 1 and len(entered) == steps:
            states = entered.new_empty(steps, 1, hidden)
            weight = self.weight.contiguous().numpy()
            rows = entered.contiguous().view(steps, 4, hidden)
            states_of_one(rows.numpy(), weight, states[:, 0].numpy())
            return states
        packed = self.packed_entry(entered)
        workspace = entered.new_empty(steps, packed.shape[2], packed.shape[1] * LANES)
        states_of_many(packed, self.packed, workspace.numpy())
        return workspace[:, :batch, :hidden]

    @cached_property
    def packed(self) -> Float32[np.ndarray, 'panel hidden gates']:
        """W as compiled loops read it, float32: its gates for a register's width of states."""
        return _in_panels(self.weight.unflatten(1, (3, -1))).transpose(1, 0, 2).copy()

    def packed_entry(
        self, entered: Float[Tensor, 'given batch entry']
    ) -> Float32[np.ndarray, 'given panel rows width']:
        """Return what `states` takes as compiled loops read it, with rows to spare."""
        given, batch, _ = entered.shape
        panels = _in_panels(entered.flatten(0, 1).unflatten(1, (4, -1)))
        rows = panels.reshape(given, batch, *panels.shape[1:]).transpose(0, 2, 1, 3)
        packed = np.zeros((given, rows.shape[1], -(-batch // ROWS) * ROWS, rows.shape[3]), 'f4')
        packed[:, :, :batch] = rows
        return packed


def _in_panels(
    values: Float[Tensor, 'row gate hidden'],
) -> Float32[np.ndarray, 'row panel width']:
    """Return for each register's width of states what belongs to it, gate by gate, x -log2(e)."""
    scaled = values.numpy() * np.float32(-math.log2(math.e))
    rows, gates, hidden = scaled.shape
    panels = -(-hidden // LANES)
    workspace = np.zeros((rows, gates, panels * LANES), np.float32)
    workspace[:, :, :hidden] = scaled
    parts = workspace.reshape(rows, gates, panels, LANES).transpose(0, 2, 1, 3)
    return parts.reshape(rows, panels, gates * LANES)


def _doubled(values: Float[Tensor, '*batch gates']) -> Float[Tensor, '*batch gates']:
    """Return values of gates, the last third times two."""
    factor = torch.ones_like(values[..., :1]).expand_as(values).clone()
    factor[..., 2 * values.shape[-1] // 3 :] = 2.0
    return values * factor
