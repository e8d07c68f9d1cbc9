# SPDX-License-Identifier: Apache-2.0
"""The inverse flow as inference runs it on a CPU, for the few futures whose density is asked for.

Stage: density. What `Flow.pull` does with an MLP, to rounding. Time is known beforehand, so what
it makes of scales and shifts is kept; an evaluation is one compiled call.
"""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from motion_predictor_ros.compiled import compiled
from motion_predictor_ros.density.flow import Flow, MLPVelocity, even_times, integrate
from motion_predictor_ros.vector_math import sigmoid

Pull = Callable[[Tensor], tuple[Tensor, Tensor]]
"""From x to z and log|det dz/dx|."""


def fold_pull(flow: Flow) -> Pull:
    """Return the inverse flow; folded if it is an MLP in float32 on the CPU."""
    weight = next(flow.parameters())
    fits = weight.dtype == torch.float32 and weight.device.type == 'cpu'
    if not (fits and isinstance(flow.velocity, MLPVelocity)):
        return flow.pull
    velocity, backwards = FoldedVelocity(flow.velocity), even_times(flow.steps)[::-1]
    return lambda x: integrate(velocity, x, backwards, flow.scheme)


class FoldedVelocity:
    """v(y, t) and the trace of dv/dy, of an MLP whose weights will not change any more."""

    @torch.no_grad()
    def __init__(self, velocity: MLPVelocity) -> None:
        layers = [each for each in velocity.layers if isinstance(each, torch.nn.Linear)]
        self._velocity, self._biases = velocity, [each.bias for each in layers]
        first, *rest = (each.weight.mT.contiguous().numpy() for each in layers)
        out = velocity.out
        self._weights = first, np.stack(rest), out.weight.mT.contiguous().numpy()
        self._out_bias = out.bias.numpy()
        self._films: dict[float, Float32[np.ndarray, 'layer two hidden']] = {}

    @torch.no_grad()
    def __call__(
        self, y: Float[Tensor, 'batch latent'], time: float
    ) -> tuple[Float[Tensor, 'batch latent'], Float[Tensor, ' batch']]:
        """Return the velocity and the trace."""
        speed, trace = torch.empty_like(y), y.new_empty(len(y))
        places = y.contiguous().numpy()
        rates(
            places, *self._weights, self._out_bias, self._film(time), speed.numpy(), trace.numpy()
        )
        return speed, trace

    def _film(self, time: float) -> Float32[np.ndarray, 'layer two hidden']:
        """Return what multiplies each layer's product, and what is added then."""
        if time not in self._films:
            parts = self._velocity.films(torch.tensor([time], dtype=torch.float32))
            folded = []
            for bias, film in zip(self._biases, parts, strict=True):
                scale, shift = film[0].chunk(2)
                folded.append(torch.stack([1.0 + scale, bias * (1.0 + scale) + shift]))
            self._films[time] = torch.stack(folded).numpy()
        return self._films[time]


@compiled
def rates(
    places: Float32[np.ndarray, 'batch latent'],
    first: Float32[np.ndarray, 'latent hidden'],
    rest: Float32[np.ndarray, 'layer-1 hidden hidden'],
    last: Float32[np.ndarray, 'hidden latent'],
    bias: Float32[np.ndarray, ' latent'],
    film: Float32[np.ndarray, 'layer two hidden'],
    speed: Float32[np.ndarray, 'batch latent'],
    trace: Float32[np.ndarray, ' batch'],
) -> None:
    """Write velocity and trace of each row; value and tangents are rows that layers turn."""
    latent, hidden = first.shape
    rows, turned = (
        np.empty((1 + latent, hidden), np.float32),
        np.empty((1 + latent, hidden), np.float32),
    )
    for each in range(len(places)):
        rows[0] = np.float32(0.0)
        for k in range(latent):
            rows[1 + k] = first[k]
            for c in range(hidden):
                rows[0, c] += places[each, k] * first[k, c]
        _bend(rows, film[0, 0], film[0, 1])
        for layer in range(len(rest)):
            turned[:] = np.float32(0.0)
            for k in range(hidden):
                weight = rest[layer, k]
                for row in range(1 + latent):
                    share, out = rows[row, k], turned[row]
                    for c in range(hidden):
                        out[c] += share * weight[c]
            _bend(turned, film[1 + layer, 0], film[1 + layer, 1])
            rows, turned = turned, rows
        speed[each], trace[each] = bias, np.float32(0.0)
        for k in range(hidden):
            for d in range(latent):
                speed[each, d] += rows[0, k] * last[k, d]
                trace[each] += rows[1 + d, k] * last[k, d]


@compiled
def _bend(rows, scale, shift):  # type: ignore[no-untyped-def]
    """Bend the value and multiply its tangents by the slope there, in place."""
    value, one = rows[0], np.float32(1.0)
    for c in range(len(value)):
        inner = value[c] * scale[c] + shift[c]
        gate = sigmoid(inner)
        value[c] = inner * gate
        slope = gate * (one + inner * (one - gate)) * scale[c]
        for tangent in range(1, len(rows)):
            rows[tangent, c] *= slope
