# SPDX-License-Identifier: Apache-2.0
"""A GRU for inference: one matrix product and two sigmoids a step, nothing allocated.

Stage: density. The hidden state h is kept as u = (h + 1) / 2. As tanh(a) = 2 sigmoid(2 a) - 1, a
step of torch.nn.GRU with the gates reset r, update k and candidate s becomes
    [r k s] = [b_r b_k b_s] + u W                   r, k <- sigmoid
    u      <- lerp(sigmoid(x_s + r s), u, k)
The factors 2 and the shifts by 1 are folded into the weights and biases.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Recurrence:
    """The hidden-to-hidden part of a GRU.

    Attributes:
        weight: W, from u to the gates (reset, update, candidate).
        bias: Of the gates.
    """

    weight: Float[Tensor, 'hidden gates']
    bias: Float[Tensor, ' gates']

    @classmethod
    def of(
        cls, weight: Float[Tensor, 'gates hidden'], bias: Float[Tensor, ' gates']
    ) -> 'Recurrence':
        """Fold `weight_hh` and `bias_hh` of a torch.nn.GRU."""
        transposed = _with_doubled_candidate(weight.mT)
        return cls(
            (2.0 * transposed).contiguous(), _with_doubled_candidate(bias) - transposed.sum(0)
        )

    def input_map(
        self, weight: Float[Tensor, 'inputs gates'], bias: Float[Tensor, '*batch gates']
    ) -> tuple[Float[Tensor, 'inputs gate_input'], Float[Tensor, '*batch gate_input']]:
        """Return matrix and bias from an input to the gate inputs that `states` takes.

        Args:
            weight: `weight_ih` of the GRU, transposed.
            bias: `bias_ih`.
        """
        hidden = len(self.weight)
        gates, candidate = _with_doubled_candidate(weight).split([2 * hidden, hidden], dim=-1)
        matrix = torch.cat([gates, torch.zeros_like(candidate), candidate], dim=-1)
        gates, candidate = _with_doubled_candidate(bias).split([2 * hidden, hidden], dim=-1)
        state_gates, state_candidate = self.bias.split([2 * hidden, hidden])
        parts = [gates + state_gates, state_candidate.expand_as(candidate), candidate]
        return matrix, torch.cat(parts, dim=-1)

    def states(
        self, gate_inputs: Float[Tensor, 'batch gate_input'], steps: int
    ) -> Float[Tensor, 'step batch hidden']:
        """Return u after each step, from h = 0, under a constant input.

        Args:
            gate_inputs: The input after `input_map`.
        """
        hidden, batch = len(self.weight), len(gate_inputs)
        bias, candidate_input = gate_inputs.split([3 * hidden, hidden], dim=1)
        states = gate_inputs.new_empty(steps, batch, hidden)
        state = gate_inputs.new_full((batch, hidden), 0.5)
        products, candidate = gate_inputs.new_empty(batch, 3 * hidden), torch.empty_like(state)
        gates, state_candidate = products.split([2 * hidden, hidden], dim=1)
        reset, update = gates.chunk(2, dim=1)
        for after in states.unbind():
            torch.addmm(bias, state, self.weight, out=products)
            gates.sigmoid_()
            torch.addcmul(candidate_input, reset, state_candidate, out=candidate).sigmoid_()
            state = torch.lerp(candidate, state, update, out=after)
        return states


def _with_doubled_candidate(
    values: Float[Tensor, '*batch gates'],
) -> Float[Tensor, '*batch gates']:
    """Return values of the gates with those of the candidate, the last third, times two."""
    factor = torch.ones_like(values[..., :1]).expand_as(values).clone()
    factor[..., 2 * values.shape[-1] // 3 :] = 2.0
    return values * factor
