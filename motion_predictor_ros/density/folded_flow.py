# SPDX-License-Identifier: Apache-2.0
"""The inverse flow as inference runs it on a CPU, for the few futures whose density is asked for.

Stage: density. What `Flow.pull` does with an MLP, to rounding. Time is known beforehand, so what
it makes of scales and shifts is kept; value and tangents of a layer are rows of one product.
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
        self._velocity = velocity
        layers = [each for each in velocity.layers if isinstance(each, torch.nn.Linear)]
        self._weights = [each.weight.mT.contiguous() for each in layers]
        self._biases = [each.bias for each in layers]
        self._out = velocity.out.weight.mT.contiguous()
        self._films: dict[float, list[tuple[np.ndarray, np.ndarray]]] = {}

    @torch.no_grad()
    def __call__(
        self, y: Float[Tensor, 'batch latent'], time: float
    ) -> tuple[Float[Tensor, 'batch latent'], Float[Tensor, ' batch']]:
        """Return the velocity and the trace."""
        batch, latent = y.shape
        # A row for the value, then one for each tangent.
        rows = torch.eye(latent + 1, latent, dtype=y.dtype).roll(1, 0).repeat(batch, 1, 1)
        rows[:, 0] = y
        for weight, (scale, shift) in zip(self._weights, self._film(time), strict=True):
            rows = (rows.flatten(0, 1) @ weight).unflatten(0, (batch, latent + 1))
            bend(rows.numpy(), scale, shift)
        speed = torch.addmm(self._velocity.out.bias, rows[:, 0], self._out)
        return speed, (rows[:, 1:] * self._velocity.out.weight).sum((1, 2))

    def _film(self, time: float) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return what multiplies each layer's product, and what is added then."""
        if time not in self._films:
            parts = self._velocity.films(torch.tensor([time], dtype=self._out.dtype))
            folded = []
            for bias, film in zip(self._biases, parts, strict=True):
                scale, shift = film[0].chunk(2)
                folded.append(((1.0 + scale).numpy(), (bias * (1.0 + scale) + shift).numpy()))
            self._films[time] = folded
        return self._films[time]


@compiled
def bend(
    rows: Float32[np.ndarray, 'batch value_tangents hidden'],
    scale: Float32[np.ndarray, ' hidden'],
    shift: Float32[np.ndarray, ' hidden'],
) -> None:
    """Bend each value and multiply its tangents by the slope there, in place."""
    batch, count, hidden = rows.shape
    slope = np.empty(hidden, np.float32)
    for each in range(batch):
        value = rows[each, 0]
        for c in range(hidden):
            inner = value[c] * scale[c] + shift[c]
            gate = sigmoid(inner)
            value[c] = inner * gate
            slope[c] = gate * (np.float32(1.0) + inner * (np.float32(1.0) - gate)) * scale[c]
        for tangent in range(1, count):
            row = rows[each, tangent]
            for c in range(hidden):
                row[c] *= slope[c]
