# SPDX-License-Identifier: Apache-2.0
"""CacheFlow for inference: products of weights that no observation changes are computed once.

Stage: density. Plain torch, the same on a CPU and a GPU; results equal those of `CacheFlow` to
rounding. Folded are
    x to the decoder's gates      whitening, basis, mean and input weights into one matrix
    last frames to the gates      into one matrix, applied once per person
    states to positions           the rotation out of the body frame into the output layer
    time to the inverse flow      FiLM scales and shifts into the weights of each evaluation
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from motion_predictor_ros.density.body_frame import PastPoses
from motion_predictor_ros.density.cache_flow.flow import Flow, Latents, even_times, integrate
from motion_predictor_ros.density.cache_flow.model import CacheFlow
from motion_predictor_ros.runtime.threads import limit_blas


class FusedCacheFlow:
    """A trained CacheFlow with frozen weights."""

    @torch.no_grad()
    def __init__(self, module: CacheFlow) -> None:
        """Fold the weights."""
        limit_blas()
        self._module = module
        self._fold_decoder(module)
        self._inverse_flow = FusedInverseFlow(module.flow)

    def _fold_decoder(self, module: CacheFlow) -> None:
        vae, factorisation = module.vae, module.factorisation
        self._decoder = Recurrence.of(vae.decoder.state.weight, vae.decoder.state.bias)
        to_gates = vae.decoder.input.weight.mT
        behaviour, start = to_gates.split([len(factorisation.mean), vae.decoder.hidden])
        bias = vae.decoder.input.bias + factorisation.mean @ behaviour + vae.start.bias @ start
        spread = factorisation.scale[:, None] * factorisation.basis.mT
        self._latent_map, _ = self._decoder.input_map(spread @ behaviour, bias)
        self._pose_map, self._bias = self._decoder.input_map(vae.start.weight.mT @ start, bias)
        # h = 2 u - 1
        self._offset = (2.0 * vae.offset.weight.mT).contiguous()
        self._offset_bias = vae.offset.bias - vae.offset.weight.sum(1)

    def pull(self, x: Latents) -> tuple[Latents, Float[Tensor, ' batch']]:
        """Return z = f^-1(x) and log|det dz/dx| [nat]."""
        return self._inverse_flow(x)

    @torch.no_grad()
    def decode_local(
        self,
        x: Float[Tensor, 'batch future latent'],
        past: PastPoses,
        leaving: Float[Tensor, 'batch size value'],
    ) -> Float[Tensor, 'batch future horizon value']:
        """Decode x from the last observed poses, relative to the origins of the people [m].

        Args:
            leaving: Linear map from a pose in the body frame to joint positions in input axes.

        Returns:
            Flat joint positions in input axes [m].
        """
        (people, futures), config = x.shape[:2], self._module.config
        last = past[:, -config.seen :].flatten(1)
        pose_inputs = torch.addmm(self._bias, last, self._pose_map)
        gate_inputs = torch.addmm(
            pose_inputs.repeat_interleave(futures, dim=0), x.flatten(0, 1), self._latent_map
        )
        states = self._decoder.states(gate_inputs, config.future)
        # Step by step, which copies nothing for one person.
        states = states.unflatten(1, (people, futures)).transpose(0, 1).flatten(1, 2)
        # positions = (last pose + offset) leaving
        start = (past[:, -1].flatten(1) + self._offset_bias)[:, None] @ leaving
        positions = torch.baddbmm(start, states, self._offset @ leaving)
        return positions.unflatten(1, (config.future, futures)).transpose(1, 2)


@dataclass(frozen=True)
class Recurrence:
    """The hidden-to-hidden part of a GRU: one matrix product and two sigmoids per step.

    The hidden state h is kept as u = (h + 1) / 2. As tanh(a) = 2 sigmoid(2 a) - 1, a step of
    torch.nn.GRU with the gates reset r, update k and candidate s becomes
        [r k s] = [b_r b_k b_s] + u W                   r, k <- sigmoid
        u      <- lerp(sigmoid(x_s + r s), u, k)
    The factors 2 and the shifts by 1 are folded into the weights and biases.

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


class FusedInverseFlow:
    """f^-1 of `Flow` with its evaluation times known in advance.

    A layer after FiLM with scale s_t and shift b_t at time t is a plain linear layer:
        (W y + b) (1 + s_t) + b_t = W_t y + c_t,   W_t = diag(1 + s_t) W,   c_t = b (1 + s_t) + b_t
    The trace of dv/dy comes from all tangents, pushed through the layers beside the value.
    """

    @torch.no_grad()
    def __init__(self, flow: Flow) -> None:
        self._flow = flow
        weight = flow.velocity.out.weight
        self._times = even_times(flow.steps)[::-1]
        self._layers: dict[float, list[tuple[Tensor, Tensor]]] = {}
        for time in _evaluation_times(self._times):
            films = flow.velocity.films(torch.full_like(flow.velocity.out.bias[:1], time))
            self._layers[time] = [
                _fold_film(layer.weight, layer.bias, film[0])
                for layer, film in zip(flow.velocity.linear_layers, films, strict=True)
            ]
        self._out, self._out_bias = weight.mT.contiguous(), flow.velocity.out.bias

    def __call__(self, x: Latents) -> tuple[Latents, Float[Tensor, ' batch']]:
        """Return z and log|det dz/dx| [nat]."""
        return integrate(self._velocity_and_trace, x, self._times, self._flow.scheme)

    def _velocity_and_trace(
        self, y: Latents, time: float
    ) -> tuple[Latents, Float[Tensor, ' batch']]:
        tangents: Tensor | None = None
        for weight, bias in self._layers[time]:
            inner = torch.addmm(bias, y, weight)
            gate = torch.sigmoid(inner)
            y = inner * gate
            # d silu(a) / da = g + a g (1 - g) = g + y - y g
            slope = torch.addcmul(gate + y, y, gate, value=-1.0)[:, None]
            tangents = slope * (weight if tangents is None else tangents @ weight)
        assert tangents is not None
        trace = (tangents * self._out.mT).sum((1, 2))
        return torch.addmm(self._out_bias, y, self._out), trace


def _evaluation_times(times: Sequence[float]) -> set[float]:
    """Return where `integrate` evaluates the velocity, to the last bit."""
    steps = [(begin, end - begin) for begin, end in itertools.pairwise(times)]
    return {begin + part * step for begin, step in steps for part in (0.0, 0.5, 1.0)}


def _fold_film(
    weight: Float[Tensor, 'outputs inputs'],
    bias: Float[Tensor, ' outputs'],
    film: Float[Tensor, ' twice_outputs'],
) -> tuple[Float[Tensor, 'inputs outputs'], Float[Tensor, ' outputs']]:
    """Return W_t, transposed, and c_t."""
    scale, shift = film.chunk(2)
    scale = 1.0 + scale
    return (weight.mT * scale).contiguous(), bias * scale + shift
